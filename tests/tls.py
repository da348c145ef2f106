"""TLS for the tests: an authority of our own, and servers put behind a certificate of it.

The wheels' Redis and PostgreSQL are built without TLS. A forwarder speaks it for them, as a
sidecar does; what is tested is our end of the connection.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")  # PostgreSQL's protocol


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate authority, and a server's certificate for `localhost` that it signed."""

    ca: Path
    certificate: Path
    key: Path


def make_authority(folder: Path) -> Authority:
    """Skips the test where there is no openssl to make certificates with."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificates, is not installed")
    folder.mkdir(parents=True)
    made = Authority(ca=folder / "ca.pem", certificate=folder / "cert.pem", key=folder / "key.pem")
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    _run(
        [
            *(*new, "-subj", "/CN=sigctl test authority"),
            *("-keyout", str(folder / "ca.key"), "-out", str(made.ca)),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign"),
        ]
    )
    _run(
        [
            *(
                *new,
                "-subj",
                "/CN=localhost",
                "-CA",
                str(made.ca),
                "-CAkey",
                str(folder / "ca.key"),
            ),
            *("-keyout", str(made.key), "-out", str(made.certificate)),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        ]
    )
    return made


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def behind_tls(port: int, authority: Authority, *, postgres: bool = False) -> Iterator[int]:
    """Forwards a TLS port to a plain one of this machine; yields the TLS port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    links: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                link = socket.create_connection(("127.0.0.1", port))
                links.append(link)
                thread = threading.Thread(target=_answer, args=(client, link, context, postgres))
                thread.start()
                threads.append(thread)

    server = threading.Thread(target=serve)
    server.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    server.join()
    for link in links:  # clients keep connections in pools
        with contextlib.suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def _answer(
    client: socket.socket, link: socket.socket, context: ssl.SSLContext, postgres: bool
) -> None:
    client.settimeout(10)  # for the handshake
    with client, link, contextlib.suppress(OSError):
        if postgres:
            if client.recv(8, socket.MSG_WAITALL) != SSL_REQUEST:
                return  # a client that would go on unencrypted
            client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as secure:
            secure.settimeout(None)
            back = threading.Thread(target=_pump, args=(link, secure))
            back.start()
            _pump(secure, link)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
