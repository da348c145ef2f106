"""Passwords and keys planted in every setting that holds one come out of nothing that we print."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import psutil
import psycopg
import pytest
import redis
from pydantic import SecretStr

from tests.conftest import Databases
from tests.services import Server
from tests.worker.cli.conftest import Sigctl
from worker import client
from worker.cli.exits import Exit
from worker.cli.main import main
from worker.runtime import close_runtimes
from worker.settings import Settings, load_settings, variable_name

ROOT = Path(__file__).parents[3]
COMMANDS = [
    ["doctor"],
    ["doctor", "--settings"],
    ["doctor", "--json", "--settings", "--no-load"],
    ["worker"],
    ["worker", "--pool", "prefork"],
    ["enroll", "ada", "specimens"],
    ["verify", "ada", "specimens/1.png"],
    ["submit", "ada", "specimens/1.png"],
    ["submit", "ada", "s3://scans/1.png", "--wait", "--timeout", "1s"],
    ["signers", "list"],
    ["audit", "list"],
    ["audit", "export"],
    ["audit", "show", "1"],
    ["db", "current"],
    ["db", "upgrade"],
    ["requeue", "--older-than", "0s"],
]


def secrets_of(field: str) -> tuple[str, str]:
    """What is planted in a setting, and how it reads once a URL is decoded."""
    name = field.replace("_", "-")
    return f"hush%21{name}-and-more-of-it-than-needed", f"hush!{name}-and-more-of-it-than-needed"


def holds_a_secret(field: str) -> bool:
    kind = Settings.model_fields[field].annotation
    return field.endswith("_url") or SecretStr in (
        kind,
        *get_args(kind),
        *(inner for arg in get_args(kind) for inner in get_args(arg)),
    )


FIELDS = [field for field in Settings.model_fields if holds_a_secret(field)]
WORDS = [word for field in FIELDS for word in secrets_of(field)]


def planted(postgres: str, broker: str, endpoint: str) -> dict[str, str]:
    """Settings for servers at these host:port addresses, with a secret wherever one fits."""
    found = {field: secrets_of(field)[0] for field in FIELDS}
    found["database_url"] = f"postgresql://postgres:{found['database_url']}@{postgres}/postgres"
    found["broker_url"] = f"redis://:{found['broker_url']}@{broker}/0"
    found |= {
        "s3_endpoint": f"http://{endpoint}",
        "s3_access_key": "access",
        "store": "s3://signatures/store",
        "buckets": "scans",
        "s3_connect_timeout": "1",
        "s3_read_timeout": "1",
        "s3_retries": "0",
        "log_level": "debug",
    }
    return {variable_name(field): value for field, value in found.items()}


def leaks(text: str) -> set[str]:
    whole = "".join(text.split())  # a table may have broken a word in two
    return {word for word in WORDS if word in whole}


Run = Callable[..., str]


@pytest.fixture
def run(here: Path, specimens: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Call `sigctl --debug` with everything it prints, tracebacks and debug lines of libraries."""

    def call(*arguments: str) -> str:
        capfd.readouterr()
        main(["--debug", *arguments])
        captured = capfd.readouterr()
        return captured.out + captured.err

    return call


def test_every_setting_that_holds_a_secret_is_known_here() -> None:
    assert {"database_url", "broker_url", "s3_secret_key"} <= set(FIELDS)
    assert {"message_key", "message_old_keys"} <= set(FIELDS)
    env = planted("localhost:1", "localhost:1", "localhost:1")
    settings = load_settings(env)
    assert leaks("".join(env.values())) == {secrets_of(field)[0] for field in FIELDS}
    assert not leaks(repr(settings) + str(settings) + repr(settings.describe()))


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_prints_a_secret_while_the_servers_are_away(
    run: Run, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in planted("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    text = run(*command)
    assert text
    assert not leaks(text)


@pytest.fixture
def guarded(databases: Databases, own_redis: Server) -> dict[str, str]:
    """Settings with passwords that a real PostgreSQL and a real Redis refuse."""
    with redis.Redis(port=own_redis.port) as client:
        client.config_set("requirepass", "another one")
    with psycopg.connect(databases.admin_address) as connection:
        address = f"{connection.info.host}:{connection.info.port}"
    return planted(address, f"127.0.0.1:{own_redis.port}", "127.0.0.1:1")


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_prints_a_secret_that_the_servers_refuse(
    run: Run, guarded: dict[str, str], command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in guarded.items():
        monkeypatch.setenv(name, value)
    assert not leaks(run(*command))


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_prints_a_secret_where_only_the_database_can_be_reached(
    run: Run, guarded: dict[str, str], command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in guarded.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SIGCTL_DATABASE_URL")
    assert not leaks(run(*command))


def test_no_refused_setting_repeats_its_value(
    sigctl: Sigctl, specimens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in (*FIELDS, "s3_endpoint"):
        monkeypatch.setenv(variable_name(field), f"nothing://user:{secrets_of(field)[0]}@[")
    monkeypatch.setenv("SIGCTL_STORE", f"s3://user:{secrets_of('s3_secret_key')[0]}@bucket")
    for command in COMMANDS:
        if "--pool" in command:
            continue  # leaves its option in the environment
        done = sigctl(*command)
        assert done.code == Exit.SETUP
        assert not leaks(done.out + done.err)


@pytest.fixture
def opened(
    guarded: dict[str, str], databases: Databases, own_redis: Server
) -> Iterator[dict[str, str]]:
    """Settings with passwords that a real PostgreSQL and a real Redis accept."""
    role, database = "planted", databases.lend()
    password = secrets_of("database_url")[1]
    with psycopg.connect(databases.admin_address) as connection:
        connection.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{password}'")
    with redis.Redis(port=own_redis.port, password="another one") as client:
        client.config_set("requirepass", secrets_of("broker_url")[1])
    url = guarded["SIGCTL_DATABASE_URL"].replace("postgres:hush", f"{role}:hush")
    name = database.rpartition("/")[2]
    yield guarded | {"SIGCTL_DATABASE_URL": f"{url.rpartition('/')[0]}/{name}"}
    databases.take_back(database)
    with psycopg.connect(databases.admin_address) as connection:
        connection.execute(f"DROP ROLE {role}")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_log_export_or_process_list_shows_a_secret_of_a_worker_at_work(
    opened: dict[str, str],
    here: Path,
    specimens: Path,
    own_redis: Server,
    form: str,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = opened | {
        "SIGCTL_STORE": str(here / "store"),
        "SIGCTL_LOG_FORMAT": form,
        "SIGCTL_MAX_RETRIES": "0",
    }
    inherited = {k: v for k, v in os.environ.items() if k not in env}
    with (here / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "worker.cli.main", "worker", "--concurrency", "1", "--beat"],
            cwd=here,
            env=inherited | env | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        settings = load_settings({**env, "SIGCTL_CHECKPOINT": os.environ["SIGCTL_CHECKPOINT"]})
        for document in ((specimens / "1.png").as_uri(), "s3://scans/1.png"):
            job = client.submit("nobody", document, settings=settings)
            assert client.wait(job, timeout=200, settings=settings).error_code
        lines = shown_by_ps(worker.pid)
        own_redis.stop()
        await_line(here / "log", "onnection")
    finally:
        worker.send_signal(signal.SIGTERM)
        own_redis.start()
        worker.wait(60)
        close_runtimes()
    text = (here / "log").read_text()
    assert "unknown_signer" in text
    assert "worker.cli.main" in lines
    assert not leaks(text)
    assert not leaks(lines)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    for command in (["audit", "list"], ["audit", "export"], ["doctor", "--settings", "--no-load"]):
        printed = run(*command)
        assert "unknown_signer" in printed or "SIGCTL_MESSAGE_KEY" in printed
        assert not leaks(printed)


def shown_by_ps(pid: int) -> str:
    """What everybody on the machine can read of a process and its children."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return "\n".join(" ".join([*each.cmdline(), each.name()]) for each in family)


def await_line(path: Path, word: str) -> None:
    deadline = time.monotonic() + 60
    before = len(path.read_text())
    while word not in path.read_text()[before:] and time.monotonic() < deadline:
        time.sleep(0.1)
