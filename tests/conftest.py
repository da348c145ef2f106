"""Fixtures shared by all tests: real servers, started when the first test asks for them.

`SIGCTL_TEST_REDIS_URL`, `SIGCTL_TEST_DATABASE_URL` (a PostgreSQL role that may create databases)
and `SIGCTL_TEST_S3_ENDPOINT` with `_S3_ACCESS_KEY`, `_S3_SECRET_KEY` name servers to use instead.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from sqlalchemy import URL, create_engine, make_url, text

from migrations.upgrade import head, upgrade
from storage.database import Sessions, make_engine, make_sessions
from storage.s3 import S3, S3Config
from storage.tables import Base
from tests.services import (
    PostgresServer,
    S3Server,
    Server,
    postgres_server,
    redis_server,
    s3_server,
)

if TYPE_CHECKING:
    from tests.retraining import Laboratory


@pytest.fixture(scope="session")
def redis_service() -> Iterator[str]:
    """The URL of the session's Redis."""
    given = os.environ.get("SIGCTL_TEST_REDIS_URL")
    if given:
        yield _own_database(given)
        return
    server = redis_server()
    yield f"redis://127.0.0.1:{server.port}/0"
    server.remove()


def _own_database(redis: str) -> str:
    """The given database, or in a parallel run one of the next, for tests empty it."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = int(urlsplit(redis).path.strip("/") or 0)
    return urlsplit(redis)._replace(path=f"/{first + worker}").geturl()


@pytest.fixture
def redis_url(redis_service: str) -> Iterator[str]:
    """A Redis database that is empty when the test begins."""
    with redis.Redis.from_url(redis_service) as client:
        client.flushdb()
        yield redis_service
        client.flushdb()


@pytest.fixture
def own_redis() -> Iterator[Server]:
    """A Redis for this test alone, with `.port`, `.stop()` and `.start()`; keeps its data."""
    server = redis_server()
    yield server
    server.remove()


class Databases:
    """Lends out databases on a PostgreSQL server, each built by the migrations and empty."""

    def __init__(self, admin: URL) -> None:
        self._admin = admin
        self._engine = create_engine(admin, isolation_level="AUTOCOMMIT")
        self._template = self.create("template0")
        self._idle: list[str] = []
        upgrade(self._template)

    @property
    def admin_address(self) -> str:
        """How libpq reaches the server."""
        return self._admin.set(drivername="postgresql").render_as_string(hide_password=False)

    def lend(self) -> str:
        """The URL of a migrated database without a row in it."""
        return self._idle.pop() if self._idle else self.create(self._name(self._template))

    def take_back(self, url: str) -> None:
        """Empties the database for the next test, which is ten times faster than making one.

        One that somebody still has open, or whose tables are not as they were, is dropped.
        """
        if self._left_alone(url) and emptied(url):
            self._idle.append(url)
        else:
            self.drop(url)

    def create(self, template: str) -> str:
        """The URL of a new copy of a database; a copy of its files is the fastest kind."""
        name = f"sigctl_test_{secrets.token_hex(6)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return self._admin.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        self._execute(f"DROP DATABASE IF EXISTS {self._name(url)} WITH (FORCE)")

    def close(self) -> None:
        for url in (*self._idle, self._template):
            self.drop(url)
        self._engine.dispose()

    def _left_alone(self, url: str) -> bool:
        clients = text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name")
        with self._engine.connect() as connection:
            for _ in range(50):  # a backend takes a moment to go after its client has left
                if connection.scalar(clients, {"name": self._name(url)}) == 0:
                    return True
                time.sleep(0.01)
        return False

    def _execute(self, statement: str) -> None:
        with self._engine.connect() as connection:
            connection.execute(text(statement))

    @staticmethod
    def _name(url: str) -> str:
        name = make_url(url).database
        assert name is not None
        return name


def emptied(url: str) -> bool:
    """Deletes every row; says whether the schema is still that of the newest migration."""
    tables = (table.name for table in reversed(Base.metadata.sorted_tables))
    statements = "; ".join(
        [
            "SET LOCAL session_replication_role = replica",  # the record refuses to be deleted
            *(f"DELETE FROM {name}" for name in tables),
            "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'",
        ]
    )
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        # One round trip on a bare connection: an engine would need ten.
        with psycopg.connect(address) as connection:
            connection.execute(statements)
            version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.Error:
        return False
    return version == (head(),)


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """The session's PostgreSQL."""
    given = os.environ.get("SIGCTL_TEST_DATABASE_URL")
    server = None if given else postgres_server()
    url = given or (server.url() if server else "")
    lender = Databases(make_url(url).set(drivername="postgresql+psycopg"))
    yield lender
    lender.close()
    if server is not None:
        server.server.remove()


@pytest.fixture
def postgres_url(databases: Databases) -> Iterator[str]:
    """A PostgreSQL database, built by the migrations and empty."""
    url = databases.lend()
    yield url
    databases.take_back(url)


@pytest.fixture
def empty_postgres_url(databases: Databases) -> Iterator[str]:
    """A PostgreSQL database without any tables."""
    url = databases.create("template0")
    yield url
    databases.drop(url)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for this test alone, with `.url()`, `.stop()` and `.start()`; not migrated."""
    server = postgres_server()
    yield server
    server.server.remove()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh SQLite database, built by the migrations."""
    path = tmp_path / "sigctl.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    """An SQLite database without any tables."""
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database: the test runs once on each kind."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """A database without any tables: the test runs once on each kind."""
    name = "empty_sqlite_url" if request.param == "sqlite" else "empty_postgres_url"
    return str(request.getfixturevalue(name))


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    """Sessions on a fresh, migrated database: the test runs once on each kind."""
    engine = make_engine(database_url)
    yield make_sessions(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real checkpoint with random weights: only the same picture is close to a picture."""
    return a_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.pt")


@pytest.fixture(scope="session")
def newer_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another such network, with another input, longer embeddings and figures of its own."""
    rates = {"skilled_eer": 0.1, "skilled_low": 0.05, "skilled_high": 0.2, "random_eer": 0.01}
    rates |= {"frr": 0.06, "far_skilled": 0.3}
    provenance = {
        "test": [{"protocol": "1:1", **rates}],
        "gates": {"passed": True, "failures": []},
        "corpora": ["made_up"],
        "recipe": {"name": "seed", "epochs": 2},
        "start": "0" * 64,
    }
    path = tmp_path_factory.mktemp("newer") / "newer.pt"
    how = {"size": (48, 64), "threshold": 0.06, "head": "places", "provenance": provenance}
    return a_checkpoint(path, seed=8, **how)


def a_checkpoint(
    path: Path,
    *,
    seed: int = 7,
    size: tuple[int, int] = (64, 96),
    threshold: float = 0.05,
    head: Any = "seed",
    provenance: dict[str, Any] | None = None,
) -> Path:
    """Write a checkpoint with random weights, of height and width `size`."""
    import torch  # takes seconds, which tests of the store need not pay

    from model.checkpoint import Checkpoint, save_checkpoint
    from model.preprocess import Preprocessing
    from model.scoring import Scoring
    from model.siamese import SiameseNet

    torch.manual_seed(seed)
    height, width = size
    checkpoint = Checkpoint(
        weights=SiameseNet("test_mambaout", head=head).eval().state_dict(),
        head=head,
        backbone="test_mambaout",
        size=width,
        threshold=threshold,
        preprocessing=Preprocessing(height=height, width=width),
        scoring=Scoring(thresholds={1: threshold}),
        provenance=provenance or {},
    )
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """A small service that has learnt something of its signers; tests work on copies of it."""
    from tests.retraining import laboratory

    return laboratory(tmp_path_factory.mktemp("laboratory"))


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A fresh bucket on an S3 server."""

    config: S3Config
    bucket: str

    def put(self, key: str, data: bytes) -> str:
        """Stores the bytes and returns their URI."""
        self.client().put_object(Bucket=self.bucket, Key=key, Body=data)
        return self.uri(key)

    def client(self) -> Any:
        """A boto3 client, for what the store itself does not offer."""
        return s3_of(self.config).client()

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"


@cache
def s3_of(config: S3Config) -> S3:
    """One client per server: making one takes a third of a second."""
    return S3(config)


def new_bucket(config: S3Config) -> Bucket:
    name = f"sigctl-test-{secrets.token_hex(6)}"
    s3_of(config).client().create_bucket(Bucket=name)
    return Bucket(config=config, bucket=name)


@pytest.fixture(scope="session")
def s3_service() -> Iterator[S3Config]:
    """How to reach the session's S3 server."""
    given = os.environ.get("SIGCTL_TEST_S3_ENDPOINT")
    if given:
        yield S3Config(
            endpoint=given,
            access_key=os.environ.get("SIGCTL_TEST_S3_ACCESS_KEY"),
            secret_key=os.environ.get("SIGCTL_TEST_S3_SECRET_KEY"),
        )
        return
    server = s3_server()
    yield config_of(server)
    server.server.remove()


@pytest.fixture
def s3(s3_service: S3Config) -> Bucket:
    """A fresh bucket: `.config`, `.bucket`, `.put(key, bytes)`, `.uri(key)`."""
    return new_bucket(s3_service)


@dataclass(frozen=True, kw_only=True)
class OwnBucket(Bucket):
    """A bucket on a server of its own, which can be stopped and started again."""

    server: S3Server

    def stop(self) -> None:
        self.server.stop()

    def start(self) -> None:
        self.server.start()


@pytest.fixture
def own_s3() -> Iterator[OwnBucket]:
    """A fresh bucket on an S3 server for this test alone, with `.stop()` and `.start()`."""
    server = s3_server()
    bucket = new_bucket(config_of(server))
    yield OwnBucket(config=bucket.config, bucket=bucket.bucket, server=server)
    server.server.remove()


def config_of(server: S3Server) -> S3Config:
    """How to reach the server; one retry, so that a test in which it is away does not drag on."""
    return S3Config(
        endpoint=server.endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
        read_timeout=60,
        retries=1,
    )
