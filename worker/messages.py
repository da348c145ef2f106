"""What travels on the queue: ids and URIs, never images. `parse` is the only way in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from storage import jobs, signers
from storage.errors import StorageError
from storage.images import shown
from worker import signing
from worker.errors import InvalidMessage

TASK = "sigctl.verify"
MAX_URI = 2048
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 32  # far from where reading it back would exhaust the stack
MAX_DEPTH = 2 * MAX_METADATA_DEPTH
# A request whose metadata is full, each character escaped and then base64, takes a third of it.
MAX_MESSAGE_BYTES = 256 * 1024
LARGEST_INTEGER = 2**31 - 1  # what a PostgreSQL integer column holds

Region = tuple[int, int, int, int]

FIELDS = ("job_id", "signer_id", "document", "page", "region", "metadata")
_REQUIRED = FIELDS[:3]
_KNOWN = (*FIELDS, signing.FIELD)  # a worker without a key takes signed messages, too
_ID_RULES = {"job_id": jobs.check_id, "signer_id": signers.check_id}


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """One question: did `signer_id` sign `document`?

    `page` counts from 1; `region` is x, y, width, height in pixels of the upright page;
    `metadata` is the upstream system's own and is kept with the decision. `redelivered` is no
    field of the message: it says that the worker which had taken it before was lost.
    """

    job_id: str
    signer_id: str
    document: str
    page: int | None = None
    region: Region | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    redelivered: bool = False

    def as_row(self) -> dict[str, Any]:
        """The fields as columns of the job's row."""
        return {
            "id": self.job_id,
            "signer_id": self.signer_id,
            "document": self.document,
            "page": self.page,
            "region": self.region,
            "upstream": self.metadata,
        }

    def as_kwargs(self) -> dict[str, Any]:
        """The keyword arguments of the task, ready for JSON."""
        return {
            "job_id": self.job_id,
            "signer_id": self.signer_id,
            "document": self.document,
            "page": self.page,
            "region": None if self.region is None else list(self.region),
            "metadata": dict(self.metadata),
        }


def strict_json(text: str | bytes) -> Any:
    """The value of a JSON text, read as only one reader could: no name twice, no NaN.

    Raises ValueError, in a few words, also for a text that is too long, nested too deeply or holds
    a number of thousands of digits.
    """
    if len(text) > MAX_MESSAGE_BYTES:
        raise ValueError(f"{len(text)} bytes are more than the {MAX_MESSAGE_BYTES} of a message")
    try:
        value = json.loads(text, object_pairs_hook=_named_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _deeper_than(value, MAX_DEPTH):
        raise ValueError("nested too deeply")
    return value


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def parse(message: Mapping[str, Any]) -> VerifyRequest:
    """Check a message from anywhere. Raises InvalidMessage with one sentence."""
    missing = [name for name in _REQUIRED if message.get(name) is None]
    if missing:
        raise InvalidMessage(f"The message lacks {_and(missing)}.")
    extra = sorted(str(name) for name in message if name not in _KNOWN)
    if extra:
        raise InvalidMessage(
            f"The message has unknown fields: {', '.join(map(_short, extra))}."
            f" Known are {', '.join(FIELDS)}."
        )
    return VerifyRequest(
        job_id=check_id("job_id", message["job_id"]),
        signer_id=check_id("signer_id", message["signer_id"]),
        document=check_uri(message["document"]),
        page=check_page(message.get("page")),
        region=check_region(message.get("region")),
        metadata=check_metadata(message.get("metadata")),
    )


def check_id(name: str, value: object) -> str:
    """A `job_id` or `signer_id` that the store can keep; the store knows the rules."""
    if not isinstance(value, str):
        raise InvalidMessage(f"{name} must be text, not {_kind(value)}.")
    try:
        return _ID_RULES[name](value)
    except StorageError as error:
        raise InvalidMessage(f"{name} cannot be used: {error}.") from error


def check_uri(value: object) -> str:
    """The document's URI: s3://bucket/key or file:///path. What it may name, the store decides."""
    if not isinstance(value, str):
        raise InvalidMessage(f"document must be text, not {_kind(value)}.")
    if len(value) > MAX_URI:
        raise InvalidMessage(f"document is longer than {MAX_URI} characters.")
    if not value.isprintable():
        raise InvalidMessage(f"document contains control characters: {_shown(value)}.")
    try:
        parts = urlsplit(value)
    except ValueError:
        raise InvalidMessage(f"document is not a URI: {_shown(value)}.") from None
    if parts.scheme not in ("s3", "file"):
        raise InvalidMessage(
            f"document must be s3://bucket/key or file:///path, not {_shown(value)}."
        )
    if "@" in parts.netloc:
        raise InvalidMessage(f"document holds a user or password: {_shown(value)}.")
    if parts.scheme == "s3" and not (parts.netloc and parts.path.strip("/")):
        raise InvalidMessage(f"document names no bucket and key: {_shown(value)}.")
    if parts.scheme == "file" and (parts.netloc not in ("", "localhost") or not parts.path):
        raise InvalidMessage(f"document is not an absolute file URI: {_shown(value)}.")
    return value


def check_page(value: object) -> int | None:
    """The page, counted from 1; None is the first."""
    if value is None:
        return None
    if not _whole(value):
        raise InvalidMessage(f"page must be a whole number, not {_kind(value)}.")
    if not 1 <= value <= LARGEST_INTEGER:
        raise InvalidMessage(f"page counts from 1, so it cannot be {_short(value)}.")
    return value


def check_region(value: object) -> Region | None:
    """x, y, width, height in pixels: four whole numbers, none negative, a size above zero."""
    if value is None:
        return None
    shape = "region must be four whole numbers: x, y, width, height"
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(map(_whole, value)):
        raise InvalidMessage(f"{shape}; it is {_short(value)}.")
    x, y, width, height = value
    if min(x, y) < 0 or min(width, height) < 1:
        raise InvalidMessage(
            "region must begin at 0 or more and have a width and height of 1 or more;"
            f" it is {_short(value)}."
        )
    if max(value) > LARGEST_INTEGER:
        raise InvalidMessage(f"region reaches beyond any page; it is {_short(value)}.")
    return (x, y, width, height)


def check_metadata(value: object) -> dict[str, Any]:
    """A JSON object of at most 16 KiB, nested at most 32 deep."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidMessage(f"metadata must be a JSON object, not {_kind(value)}.")
    if _deeper_than(value, MAX_METADATA_DEPTH):
        raise InvalidMessage(f"metadata is nested more than {MAX_METADATA_DEPTH} deep.")
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError):
        raise InvalidMessage("metadata holds something that JSON cannot carry.") from None
    if "\\u0000" in text.replace("\\\\", ""):  # PostgreSQL's JSON refuses it
        raise InvalidMessage("metadata holds a NUL character, which cannot be stored.")
    if size > MAX_METADATA_BYTES:
        raise InvalidMessage(f"metadata takes {size} bytes; at most {MAX_METADATA_BYTES} are kept.")
    kept: dict[str, Any] = json.loads(text)
    return kept


def by_name(values: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a message whose task was called with positions, names or both."""
    return {**dict(zip(FIELDS, values, strict=False)), **named}


def usable_id(message: Mapping[str, Any], name: str) -> str | None:
    """The id in a message that could not be parsed, or None: enough to record the failure."""
    try:
        return check_id(name, message.get(name))
    except InvalidMessage:
        return None


def _deeper_than(value: object, depth: int) -> bool:
    if not isinstance(value, Mapping | list | tuple):
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    return depth == 0 or any(_deeper_than(item, depth - 1) for item in inner)


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text"}
    names |= {list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or nested without end
        text = "longer than can be shown"
    return text if len(text) <= 80 else text[:77] + "..."


def _shown(uri: str) -> str:
    """The sentence is recorded and logged, and a wrong URI may be one with a password."""
    return _short(shown(uri))


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:])
