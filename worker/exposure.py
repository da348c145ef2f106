"""Whether a password or a document leaves this machine where others can read it on the way."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qs, urlsplit

from worker.settings import Settings


def exposed(settings: Settings) -> list[str]:
    """A sentence for each connection to another machine that is not encrypted and verified."""
    found = (_broker(settings), _database(settings), _store(settings))
    return [sentence for sentence in found if sentence is not None]


def _broker(settings: Settings) -> str | None:
    parts = urlsplit(settings.broker_url or "")
    if not parts.password or _is_local(parts):
        return None
    if parts.scheme != "rediss":
        return (
            f"The password of Redis crosses the network to {parts.hostname} unencrypted;"
            " SIGCTL_BROKER_URL=rediss://... encrypts it."
        )
    if _last(parts, "ssl_cert_reqs", "required").lower() not in ("required", "cert_required"):
        return (
            f"Whoever answers for {parts.hostname} gets the password of Redis, since its"
            " certificate is not required; leave ssl_cert_reqs out of SIGCTL_BROKER_URL."
        )
    return None


def _database(settings: Settings) -> str | None:
    parts = urlsplit(settings.database_url)
    if parts.scheme.startswith("sqlite") or _is_local(parts):
        return None
    if not (parts.password or _last(parts, "password")):
        return None
    if _last(parts, "sslmode") == "verify-full":
        return None
    return (
        f"The password of PostgreSQL may cross the network to {parts.hostname} unencrypted or reach"
        " somebody else; ?sslmode=verify-full&sslrootcert=FILE in SIGCTL_DATABASE_URL prevents it."
    )


def _store(settings: Settings) -> str | None:
    parts = urlsplit(settings.s3_endpoint or "")
    if parts.scheme != "http" or _is_local(parts):
        return None
    return (
        f"Documents cross the network from {parts.hostname} unencrypted; an https://"
        " SIGCTL_S3_ENDPOINT encrypts them, and SIGCTL_S3_CA names the authority of its own."
    )


def _last(parts: SplitResult, name: str, default: str = "") -> str:
    return parse_qs(parts.query).get(name, [default])[-1]


def _is_local(parts: SplitResult) -> bool:
    """Whether the host is this machine: a loopback address, or none, which is a socket's path."""
    host = parts.hostname or _last(parts, "host")
    if host in ("", "localhost") or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
