"""What stands around a request on the queue, looked at before Celery does.

Celery takes the headers of a message at their word: one of a wrong type stops the worker, and
stops it again at each start, since the message is never acknowledged.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from worker.messages import LARGEST_INTEGER, strict_json


def envelope_fault(message: Any) -> str | None:
    """What is wrong with a message of Celery's protocol 2, in a few words; None for a good one.

    Whether its arguments make a request is for the task to say, which can record the failure.
    """
    if not isinstance(message, dict):
        return "no JSON object"
    headers, properties = message.get("headers"), message.get("properties")
    if not isinstance(headers, dict) or not _texts(headers, "task", "id"):
        return "headers lack task or id"
    wrong = [name for name, good in HEADERS.items() if not good(headers.get(name))]
    if wrong:
        return f"headers have a wrong {wrong[0]}"
    if not isinstance(properties, dict) or not _texts(properties, "delivery_tag"):
        return "properties lack delivery_tag"
    route = properties.get("delivery_info")
    if not isinstance(route, dict) or not {"exchange", "routing_key"} <= route.keys():
        return "properties lack delivery_info"
    if message.get("content-type") != "application/json":
        return "content-type is not application/json"
    if str(message.get("content-encoding")).lower() != "utf-8":
        return "content-encoding is not utf-8"
    return _body_fault(message.get("body"), properties.get("body_encoding"))


def _body_fault(body: Any, encoding: Any) -> str | None:
    try:
        text = base64.b64decode(body, validate=True) if encoding == "base64" else body
        parts = strict_json(text)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        return "body cannot be decoded"
    if not isinstance(parts, list) or len(parts) != 3:
        return "body is not [arguments, keyword arguments, options]"
    values, named, options = parts
    if not isinstance(values, list) or not isinstance(named, dict):
        return "arguments are no list or keyword arguments no object"
    return None if options is None or isinstance(options, dict) else "options are no object"


def _texts(values: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(values.get(name), str) and values[name] for name in names)


def _absent(value: Any) -> bool:
    return value is None


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _count(value: Any) -> bool:
    return value is None or (type(value) is int and 0 <= value <= LARGEST_INTEGER)


def _moment(value: Any) -> bool:
    try:
        return value is None or datetime.fromisoformat(value) is not None
    except (TypeError, ValueError):
        return False


def _limits(value: Any) -> bool:
    numbers = int | float | None
    return value is None or (
        isinstance(value, list) and len(value) == 2 and all(isinstance(v, numbers) for v in value)
    )


HEADERS: dict[str, Callable[[Any], bool]] = {
    "retries": _count,
    "eta": _moment,
    "expires": _moment,
    "timelimit": _limits,
    "compression": _absent,
    "shadow": _text,
    "root_id": _text,
    "parent_id": _text,
    "group": _text,
    "argsrepr": _text,
    "kwargsrepr": _text,
    "origin": _text,
    # Nothing here stamps tasks; Celery would look each stamp up as a header.
    "stamped_headers": lambda value: value in (None, []),
    "stamps": lambda value: value in (None, {}),
}
"""The headers that Celery interprets, and what may stand there."""
