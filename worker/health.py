"""The worker's answers to whoever watches it: /live, /ready and /metrics over plain HTTP.

Live means that a restart would not help: the loops turn. It never depends on a service that is
away, or an outage would restart every worker. Ready means that a document sent now would be
decided. The answers name parts and codes, never an address, a job or a person.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from celery import bootsteps

from worker import metrics
from worker.errors import PortTaken
from worker.logs import get_logger
from worker.pulse import PULSE
from worker.readiness import Watch, watches
from worker.runtime import Runtime, get_runtime
from worker.settings import Settings

JSON = "application/json"
SLOW_CLIENT = 5.0

log = get_logger(__name__)


class HealthServer(ThreadingTCPServer):
    """Listens from the beginning and answers from `serve` on.

    Not before, because the prefork pool forks in between and threads do not survive that.
    """

    # No HTTPServer: that asks the name service who we are, which may take long.
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, settings: Settings, port: int, runtime: Runtime) -> None:
        self._settings, self._runtime = settings, runtime
        self._watches: list[Watch] = []
        self._stopping = False
        host = settings.health_host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise PortTaken(
                f"Nothing can listen on {host} port {port} ({error.strerror}):"
                " check SIGCTL_HEALTH_HOST and SIGCTL_HEALTH_PORT."
            ) from error

    def serve(self) -> None:
        """Answer from now on, until the process ends."""
        self._watches = watches(self._settings, self._runtime)
        threading.Thread(target=self.serve_forever, name="health", daemon=True).start()
        log.info("health_served", host=self._settings.health_host, port=self.server_address[1])

    def not_live(self) -> list[str]:
        """What a restart of this process would mend."""
        faults = (PULSE.fault(), self._runtime.fault())
        return [fault for fault in faults if fault is not None]

    def not_ready(self) -> list[str]:
        """What keeps a document that comes now from being decided."""
        stopping = "The worker is stopping." if self._stopping else None
        faults = (stopping, PULSE.absence(), *(watch.fault() for watch in self._watches))
        return self.not_live() + [fault for fault in faults if fault is not None]

    def retire(self) -> None:
        """Be no longer ready, and look at nothing more; live as long as jobs are finished."""
        self._stopping = True
        for watch in self._watches:
            watch.stop()

    def handle_error(self, *_: Any) -> None:
        """A client that went away is not worth a traceback."""
        log.debug("health_client_lost", exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: HealthServer
    server_version, sys_version = "sigctl", ""
    timeout = SLOW_CLIENT

    def do_GET(self) -> None:
        """Answer 200 when all is well and 503 when not."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._send(200, metrics.CONTENT_TYPE, metrics.exposition())
        elif path == "/live":
            self._tell("live", self.server.not_live())
        elif path == "/ready":
            self._tell("ready", self.server.not_ready())
        else:
            self._send(404, JSON, b'{"paths": ["/live", "/ready", "/metrics"]}\n')

    def _tell(self, name: str, faults: Sequence[str]) -> None:
        body = json.dumps({name: not faults, "faults": faults}).encode() + b"\n"
        self._send(503 if faults else 200, JSON, body)

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        """Probes come every few seconds; nobody wants to read of them."""
        log.debug("health_asked", request=format % values)


class HealthStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Part of Celery's worker: listens when it is made, answers once the pool has started."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, _worker: Any) -> bool:
        """Only where a port is set."""
        return get_runtime().settings.health_port is not None

    def create(self, _worker: Any) -> None:
        """Take the port, or refuse to start. Raises PortTaken."""
        runtime = get_runtime()
        port = runtime.settings.health_port
        self._server = HealthServer(runtime.settings, port or 0, runtime)

    def start(self, _worker: Any) -> None:
        """Begin to answer."""
        self._server.serve()

    def stop(self, _worker: Any) -> None:
        """Begin to end."""
        self._server.retire()

    terminate = stop
