"""A store that has bad days: a proxy before a real S3 server that spoils a share of the reads."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


class FaultProxy(ThreadingHTTPServer):
    """Passes requests on to `target`; `share` of the reads meet one of the faults instead.

    A silent read hangs for `hang` seconds. `faults` counts what was done, by name.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, target: str, *, share: float, seed: int, hang: float = 5.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target)
        self.share, self.hang = share, hang
        self.faults: Counter[str] = Counter()
        self._rng, self._lock = random.Random(seed), threading.Lock()

    @property
    def endpoint(self) -> str:
        """What to give a client instead of the server's own address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def draw(self) -> str | None:
        """The fault that the next read meets, if any."""
        with self._lock:
            if self._rng.random() >= self.share:
                return None
            fault = self._rng.choice(list(FAULTS))
            self.faults[fault] += 1
            return fault

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is what faults are for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        fault = self.server.draw() if self.command == "GET" else None
        if fault in _WITHOUT_SERVER:
            _WITHOUT_SERVER[fault](self)
            return
        status, headers, data = self._ask(body)
        self.send_response_only(status)  # the date and the rest are the server's
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        size = next((v for n, v in headers if n.lower() == "content-length"), str(len(data)))
        self.send_header("Content-Length", size)
        self.end_headers()
        if fault == "truncated":
            data = data[: len(data) // 2]
            self.close_connection = True
        self.wfile.write(data)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        target = self.server.target
        upstream = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
        try:
            # With the client's Host, which its signature covers.
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self) -> None:
        """With RST instead of FIN: the client sees a reset, not an end."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()
        self.rfile.close()

    def be_silent(self) -> None:
        time.sleep(self.server.hang)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


_WITHOUT_SERVER: dict[str | None, Callable[[_Handler], None]] = {
    "500": lambda handler: handler.answer(500, b""),
    "503 Slow Down": lambda handler: handler.answer(503, SLOW_DOWN),
    "silence": _Handler.be_silent,
    "reset": _Handler.hang_up,
}
FAULTS = (*filter(None, _WITHOUT_SERVER), "truncated")


@contextmanager
def fault_proxy(target: str, *, share: float, seed: int, hang: float = 5.0) -> Iterator[FaultProxy]:
    """The proxy, running."""
    proxy = FaultProxy(target, share=share, seed=seed, hang=hang)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
