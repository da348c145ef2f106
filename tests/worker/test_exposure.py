from __future__ import annotations

import pytest

from worker.exposure import exposed
from worker.settings import load_settings

TLS = "sslmode=verify-full&sslrootcert=/etc/ca.pem"


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("BROKER_URL", "redis://:hush@redis.example/0", "Redis crosses the network to redis.exa"),
        ("BROKER_URL", "redis://:hush@192.168.1.9", "Redis crosses the network to 192.168.1.9"),
        ("BROKER_URL", "rediss://:hush@h?ssl_cert_reqs=none", "Whoever answers for h gets the"),
        ("BROKER_URL", "rediss://:hush@h?ssl_cert_reqs=CERT_NONE", "Whoever answers for h"),
        ("DATABASE_URL", "postgresql://u:hush@db.example/x", "may cross the network to db.exa"),
        ("DATABASE_URL", "postgresql://u:hush@db/x?sslmode=require", "may cross the network"),
        ("DATABASE_URL", "postgresql://u@db/x?password=hush", "may cross the network to db"),
        ("S3_ENDPOINT", "http://s3.example:9000", "Documents cross the network from s3.example"),
    ],
)
def test_what_others_could_read_on_the_way_is_one_sentence_without_the_password(
    variable: str, value: str, sentence: str
) -> None:
    (found,) = exposed(load_settings({f"SIGCTL_{variable}": value}))
    assert sentence in found
    assert "hush" not in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BROKER_URL", "redis://redis.example/0"),
        ("BROKER_URL", "redis://:hush@localhost/0"),
        ("BROKER_URL", "redis://:hush@127.0.0.9:6380/0"),
        ("BROKER_URL", "redis://:hush@[::1]:6380/0"),
        ("BROKER_URL", "rediss://:hush@redis.example/0"),
        ("BROKER_URL", "rediss://:hush@redis.example/0?ssl_ca_certs=/etc/ca.pem"),
        ("BROKER_URL", "rediss://:hush@h/0?ssl_cert_reqs=required"),
        ("DATABASE_URL", "sqlite:///sigctl.db"),
        ("DATABASE_URL", "postgresql://u:hush@localhost/x"),
        ("DATABASE_URL", "postgresql://u:hush@/x?host=/var/run/postgresql"),
        ("DATABASE_URL", "postgresql://u@db.example/x"),
        ("DATABASE_URL", f"postgresql://u:hush@db.example/x?{TLS}"),
        ("S3_ENDPOINT", "http://127.0.0.1:9000"),
        ("S3_ENDPOINT", "https://s3.example"),
    ],
)
def test_what_stays_here_or_is_encrypted_and_verified_is_fine(variable: str, value: str) -> None:
    assert exposed(load_settings({f"SIGCTL_{variable}": value})) == []


def test_nothing_is_exposed_by_default() -> None:
    assert exposed(load_settings({})) == []
