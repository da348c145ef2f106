"""The server of the health port by itself, without a worker around it."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.services import free_port
from worker.errors import PortTaken
from worker.health import HealthServer
from worker.pulse import PULSE
from worker.runtime import Runtime
from worker.settings import Settings


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[HealthServer]:
    host = getattr(request, "param", "127.0.0.1")
    settings = Settings(health_host=host)
    made = HealthServer(settings, free_port(), Runtime(settings))
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def faults(server: HealthServer, path: str) -> list[str]:
    host, port = server.server_address[:2]
    shown = f"[{host!s}]" if ":" in str(host) else host
    try:
        with urllib.request.urlopen(f"http://{shown!s}:{port}{path}", timeout=5) as answer:
            found: list[str] = json.load(answer)["faults"]
    except urllib.error.HTTPError as error:
        with error:
            found = json.load(error)["faults"]
    return found


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


IPV6 = pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here"))


@pytest.mark.parametrize("server", ["127.0.0.1", IPV6], indirect=True)
def test_it_answers_on_either_kind_of_address(server: HealthServer) -> None:
    PULSE.beat()
    assert faults(server, "/live") == []


def test_a_worker_that_is_stopping_is_live_but_not_ready(server: HealthServer) -> None:
    PULSE.beat()
    assert faults(server, "/ready") == []
    server.retire()
    assert faults(server, "/ready") == ["The worker is stopping."]
    assert faults(server, "/live") == []


def test_a_client_that_goes_away_or_talks_nonsense_does_no_harm(
    server: HealthServer, capfd: pytest.CaptureFixture[str]
) -> None:
    PULSE.beat()
    for words in (b"", b"\x00\xff\r\n\r\n", b"GET /live HTTP/1.0\r\n\r\n"):
        with socket.create_connection(server.server_address[:2]) as client:  # type: ignore[arg-type]
            client.sendall(words)
    assert faults(server, "/live") == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid"])
def test_an_address_that_cannot_be_had_is_said_in_a_sentence(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(health_host=host)
        with pytest.raises(PortTaken, match=f"Nothing can listen on {host} port {port}"):
            HealthServer(settings, port, Runtime(settings))
