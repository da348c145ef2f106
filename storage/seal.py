"""A seal: the keyed hash of one entry of the record, of its place, and of the entry before it.

    seal = HMAC-SHA256(key, seal of the entry before || JSON of the entry)

The JSON is an array: chain, position, kind, subject, detail, key id, time, and the decision that
the entry attests, as an object without what is null. Every value is what the database stores: JSON
columns as their text, times as text in UTC to the microsecond, numbers so that they read back the
same. The seal before the first entry of a chain is 32 zero bytes.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import JSON, ColumnElement, Float, Text, cast, func, inspect, type_coerce
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import NullType

from storage.tables import Decision, UtcTime, to_json

FIRST = bytes(32)
COLUMNS = tuple(inspect(Decision).column_attrs.keys())
DOCUMENTS = {name for name in COLUMNS if isinstance(getattr(Decision, name).type, JSON)}
FLOATS = {name for name in COLUMNS if isinstance(getattr(Decision, name).type, Float)}


@dataclass(frozen=True, kw_only=True)
class Key:
    """What seals are made with; `id` tells keys apart and does not give them away."""

    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, words: str) -> Key:
        """The key that these words are."""
        secret = words.encode()
        return cls(id=hmac.digest(secret, b"sigctl key", "sha256").hex()[:16], secret=secret)


PUBLIC = Key(id="public", secret=b"")
"""What seals are made with where no key is set: they show accidents, but anybody can make them."""


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The key that seals are made with, and those that they may have been made with before."""

    current: Key = PUBLIC
    old: tuple[Key, ...] = ()

    def by_id(self) -> Mapping[str, Key]:
        """All keys that a seal may name; without a key at all is one of them."""
        return {key.id: key for key in (PUBLIC, *self.old, self.current)}


def seal(key: Key, previous: bytes, entry: Sequence[Any], row: Mapping[str, Any] | None) -> bytes:
    """The 32 bytes of the seal; `entry` holds chain, position, kind and so on up to the time."""
    return hmac.digest(key.secret, previous + _encoded([*entry, row]).encode(), "sha256")


def written(decision: Decision, sent: Mapping[str, Any]) -> dict[str, Any]:
    """A decision that an INSERT has just returned, as `whole` has what the database holds of it.

    JSON is the text that was `sent`, which no database rewrites.
    """
    held = decision.__dict__  # three times as fast as asking for the attributes
    found = {name: value for name in COLUMNS if (value := held.get(name)) is not None}
    for name in FLOATS & found.keys():  # SQLite returns a whole number as an integer here
        found[name] = float(found[name])
    for name in DOCUMENTS & found.keys():
        found[name] = to_json(sent[name])
    return found | {"decided_at": stored_time(decision.decided_at)}


def whole(names: Iterable[str], values: Iterable[Any]) -> dict[str, Any]:
    """The columns of a row that hold something."""
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def stored(dialect: str, column: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    """The column as the database holds it, made into nothing of Python's.

    SQLite keeps JSON and times as text; PostgreSQL is asked for the same text.
    """
    if dialect == "postgresql":
        if isinstance(column.type, JSON):
            return cast(column, Text).label(column.key)
        if isinstance(column.type, UtcTime):
            utc = func.timezone("UTC", column)
            return func.to_char(utc, "YYYY-MM-DD HH24:MI:SS.US").label(column.key)
    return type_coerce(column, NullType()).label(column.key)


@cache  # making them anew takes a tenth of the time that recording a decision does
def stored_decision(dialect: str) -> tuple[ColumnElement[Any], ...]:
    """All columns of a decision as the database holds them, in the order of `COLUMNS`."""
    return tuple(stored(dialect, getattr(Decision, name)) for name in COLUMNS)


def stored_time(moment: datetime) -> str:
    """A moment as `stored` gives it.

    >>> stored_time(datetime(2026, 11, 24, 9, 30, tzinfo=UTC))
    '2026-11-24 09:30:00.000000'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _foreign(value: object) -> object:
    """SQLite holds bytes anywhere, once somebody has put them there; they seal as nothing else."""
    return {"bytes": bytes(value).hex()} if isinstance(value, bytes | memoryview) else repr(value)


_encoded = json.JSONEncoder(separators=(",", ":"), default=_foreign).encode
