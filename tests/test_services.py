from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psycopg
import pytest
import redis

from tests.services import Server, ServiceError, new_folder, postgres_server


def test_a_redis_that_is_started_again_still_has_its_data(own_redis):
    port = own_redis.port
    with redis.Redis(port=port) as client:
        client.set("key", "value")
        client.execute_command("SAVE")
    own_redis.stop()
    own_redis.start()
    assert own_redis.port == port
    with redis.Redis(port=port, decode_responses=True) as client:
        assert client.get("key") == "value"


def test_a_postgresql_asks_for_its_password(own_postgres):
    wrong = own_postgres.url().replace(own_postgres.password, "wrong").replace("+psycopg", "")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(wrong)


def test_each_test_gets_a_database_without_rows_or_numbers_of_the_last(databases):
    insert = "insert into signers values ('ada', now(), null)"
    for _ in range(2):
        url = databases.lend()
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            assert connection.execute("select count(*) from signers").fetchone() == (0,)
            connection.execute(insert)
        databases.take_back(url)


def test_a_database_that_somebody_still_has_open_is_not_lent_again(databases):
    url = databases.lend()
    with psycopg.connect(url.replace("+psycopg", "")):
        databases.take_back(url)
        other = databases.lend()
    assert other != url
    databases.take_back(other)


def test_a_server_that_does_not_start_shows_its_log():
    folder = new_folder("broken")
    server = Server(
        name="broken",
        folder=folder,
        command=lambda _port: [sys.executable, "-c", "raise SystemExit('no such thing')"],
        ready=lambda _port: False,
    )
    with pytest.raises(ServiceError, match="no such thing"):
        server.start()
    server.remove()
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_servers_go_with_a_session_that_is_killed():
    program = (
        "from tests.services import redis_server; import time;"
        "s = redis_server(); print(s.process.pid, s.folder, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as session:
        assert session.stdout is not None
        pid = int(session.stdout.readline().split()[0])
        assert alive(pid)
        session.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be collected does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide a folder from `nobody`")
def test_root_can_start_postgresql_from_where_nobody_may_look(monkeypatch):
    from tests import services

    hidden = services.Path.stat

    def closed(path, **kwargs):
        found = hidden(path, **kwargs)
        if path.name != "site-packages":
            return found
        return os.stat_result((found.st_mode & ~0o001, *found[1:]))

    monkeypatch.setattr(services.Path, "stat", closed)
    server = postgres_server()
    assert (server.server.folder / "programs").is_dir()
    server.server.remove()
