"""Signatures over messages, for a broker that others can write to as well.

With `SIGCTL_MESSAGE_KEY` set, a request carries one more field: HMAC-SHA256, under that key, of
the version, a line feed and the other fields as canonical JSON (RFC 8785). Every field is covered,
an unknown one too, so nothing can be added to a request that was seen on the queue. There is no
expiry: sent once more, a request meets its own decision, for the job's id is among the fields.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import rfc8785
from pydantic import SecretStr

from worker.errors import InvalidMessage

FIELD = "signature"
VERSION = "v1"


def signed(fields: Mapping[str, Any], key: SecretStr | None) -> dict[str, Any]:
    """The fields with their signature; as they are where there is no key.

    Raises InvalidMessage for metadata that has no canonical form: a whole number beyond 2**53.
    """
    if key is None:
        return dict(fields)
    try:
        return {**fields, FIELD: _signature(fields, key)}
    except ValueError as error:
        raise InvalidMessage(f"The message cannot be signed: {error}.") from error


def is_genuine(message: Mapping[str, Any], keys: Sequence[SecretStr]) -> bool:
    """Whether one of the keys signed exactly this message. Without keys every message is."""
    if not keys:
        return True
    fields = {name: value for name, value in message.items() if name != FIELD}
    claimed = message.get(FIELD)
    if not isinstance(claimed, str) or not claimed.isascii():  # compare_digest takes no other
        return False
    try:
        return any(hmac.compare_digest(_signature(fields, key), claimed) for key in keys)
    except (ValueError, RecursionError):
        return False


def _signature(fields: Mapping[str, Any], key: SecretStr) -> str:
    text = VERSION.encode() + b"\n" + rfc8785.dumps(dict(fields))
    return f"{VERSION}={hmac.digest(key.get_secret_value().encode(), text, 'sha256').hex()}"
