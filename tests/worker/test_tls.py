"""The connections to Redis, PostgreSQL and S3 are encrypted and verified where settings say so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from storage.database import database_errors, make_engine
from storage.errors import DatabaseUnavailable, StoreUnavailable
from tests.services import S3Server, s3_server
from tests.tls import Authority, behind_tls, make_authority
from worker.app import make_app
from worker.cli.work import reach
from worker.errors import BrokerUnavailable
from worker.exposure import exposed
from worker.runtime import make_images
from worker.settings import Settings


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls") / "other")


# Redis


@pytest.fixture
def redis_port(redis_url: str, authority: Authority) -> Iterator[int]:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with behind_tls(port, authority) as secure:
        yield secure


def ask_broker(url: str) -> Settings:
    """Send and count messages over the broker."""
    settings = Settings(broker_url=url, queue="over-tls")
    app = make_app(settings)
    try:
        reach(app, "Redis")
        app.send_task("sigctl.verify", kwargs={"job_id": "1"})
        with app.connection_for_read() as connection:
            assert connection.default_channel.client.llen("over-tls") == 1
    finally:
        app.close()
        make_app.cache_clear()
    return settings


def test_the_broker_is_spoken_to_over_tls_with_an_authority_of_ones_own(
    redis_port: int, authority: Authority
) -> None:
    settings = ask_broker(f"rediss://localhost:{redis_port}/0?ssl_ca_certs={authority.ca}")
    assert exposed(settings) == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_broker_that_cannot_be_verified_gets_nothing(
    redis_port: int, authority: Authority, stranger: Authority, host: str
) -> None:
    trusted = stranger if host == "localhost" else authority  # the certificate is for localhost
    for query in (f"?ssl_ca_certs={trusted.ca}", ""):
        with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
            ask_broker(f"rediss://{host}:{redis_port}/0{query}")


# PostgreSQL


@pytest.fixture
def secure_database(postgres_url: str, authority: Authority) -> Iterator[str]:
    """The URL of a database behind TLS, without its query."""
    address, _, rest = postgres_url.rpartition(":")
    port, _, name = rest.partition("/")
    user = address.rpartition("@")[0]
    with behind_tls(int(port), authority, postgres=True) as secure:
        yield f"{user}@localhost:{secure}/{name}"


def ask_database(url: str) -> None:
    engine = make_engine(url)
    try:
        with database_errors(), engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
            assert connection.connection.driver_connection.pgconn.ssl_in_use
    finally:
        engine.dispose()


def test_the_database_is_spoken_to_over_tls_with_an_authority_of_ones_own(
    secure_database: str, authority: Authority
) -> None:
    ask_database(f"{secure_database}?sslmode=verify-full&sslrootcert={authority.ca}")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_database_that_cannot_be_verified_gets_nothing(
    secure_database: str, authority: Authority, stranger: Authority, host: str
) -> None:
    trusted = stranger if host == "localhost" else authority
    url = secure_database.replace("localhost", host)
    with pytest.raises(DatabaseUnavailable, match="certificate") as caught:
        ask_database(f"{url}?sslmode=verify-full&sslrootcert={trusted.ca}")
    assert "\n" not in str(caught.value)


def test_a_database_without_tls_is_refused_where_tls_is_asked_for(
    postgres_url: str, authority: Authority
) -> None:
    with pytest.raises(DatabaseUnavailable, match="SSL"):
        ask_database(f"{postgres_url}?sslmode=verify-full&sslrootcert={authority.ca}")


# S3


@pytest.fixture(scope="module")
def secure_s3(authority: Authority) -> Iterator[S3Server]:
    server = s3_server("--cert", str(authority.certificate), "--key", str(authority.key))
    yield server
    server.server.remove()


def settings_of(server: S3Server, **more: object) -> Settings:
    return Settings.model_validate(
        {
            "s3_endpoint": f"https://localhost:{server.server.port}",
            "s3_access_key": server.access_key,
            "s3_secret_key": server.secret_key,
            "s3_retries": 0,
            "store": "s3://over-tls/x",
            **more,
        }
    )


def test_the_store_is_spoken_to_over_tls_with_an_authority_of_ones_own(
    secure_s3: S3Server, authority: Authority
) -> None:
    images = make_images(settings_of(secure_s3, s3_ca=authority.ca))
    images._s3.client().create_bucket(Bucket="over-tls")
    assert images.fetch(images.put(b"ink")) == b"ink"


@pytest.mark.parametrize("trusted", ["public", "stranger", "other name"])
def test_a_store_that_cannot_be_verified_gets_nothing(
    secure_s3: S3Server,
    authority: Authority,
    stranger: Authority,
    trusted: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    changes: dict[str, object] = {
        "public": {},
        "stranger": {"s3_ca": stranger.ca},
        "other name": {
            "s3_ca": authority.ca,
            "s3_endpoint": f"https://127.0.0.1:{secure_s3.server.port}",
        },
    }[trusted]
    images = make_images(settings_of(secure_s3, **changes))
    for act in (lambda: images.put(b"ink"), images.check):
        with pytest.raises(StoreUnavailable, match="SSLError"):
            act()


def test_certificates_that_are_none_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must name a file"):
        Settings.model_validate({"s3_ca": tmp_path / "none.pem"})
