"""A sign-off: what the heads of all chains were at one moment, kept where the database is not.

Whoever holds it can tell later that the record was cut off or replaced as a whole, which the
record itself cannot show.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from storage.errors import InvalidSignOff
from storage.seal import Key, Keys, stored_time
from storage.tables import utc_now
from storage.verification import Places, Report, Seen, heads_in

FORMAT = "sigctl sign-off 1"


def signed_off(
    report: Report, key: Key, since: datetime | None, until: datetime | None
) -> dict[str, Any]:
    """The document about a period that was verified, with a seal of its own."""
    document = {
        "format": FORMAT,
        "signed_at": stored_time(utc_now()),
        "since": None if since is None else stored_time(since),
        "until": None if until is None else stored_time(until),
        "entries": report.entries,
        "decisions": report.decisions,
        "heads": [[head.chain, head.position, head.mac.hex()] for head in report.heads],
        "key_id": key.id,
    }
    return document | {"mac": _seal(key, document).hex()}


def places(document: Any, keys: Keys) -> Places:
    """The seals that the document says must still stand. Raises InvalidSignOff."""
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise InvalidSignOff(f"this is no sign-off: its format is not {FORMAT!r}")
    key = keys.by_id().get(str(document.get("key_id")))
    if key is None:
        raise InvalidSignOff("the sign-off names a key that is not among those that are set")
    bare = {name: value for name, value in document.items() if name != "mac"}
    if not hmac.compare_digest(_seal(key, bare).hex(), str(document.get("mac"))):
        raise InvalidSignOff("the sign-off has been changed since it was made")
    by, current = f"the sign-off of {document['signed_at']} UTC", key == keys.current
    return {
        (chain, position): Seen(mac=mac, by=by, current=current)
        for chain, position, mac in heads_in(document)
    }


def _seal(key: Key, document: Mapping[str, Any]) -> bytes:
    words = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hmac.digest(key.secret, b"sign-off" + words.encode(), "sha256")
