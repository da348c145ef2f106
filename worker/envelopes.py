"""What may be taken off the list: messages of Celery's protocol 2, as JSON, of a sane size."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

MAX_BYTES = 256 * 1024
"""A request with all that it may hold takes a third of this."""


def envelope_fault(message: Any) -> str | None:
    """What is wrong with a message of Celery's protocol 2, in a few words; None for a good one.

    Whether its arguments make a request is for the task to say, which can record the failure.
    """
    if not isinstance(message, dict):
        return "no JSON object"
    headers, properties = message.get("headers"), message.get("properties")
    if not isinstance(headers, dict) or not _texts(headers, "task", "id"):
        return "headers lack task or id"
    if not isinstance(properties, dict) or not _texts(properties, "delivery_tag"):
        return "properties lack delivery_tag"
    route = properties.get("delivery_info")
    if not isinstance(route, dict) or not {"exchange", "routing_key"} <= route.keys():
        return "properties lack delivery_info"
    if message.get("content-type") != "application/json":
        return "content-type is not application/json"
    return _body_fault(message.get("body"), properties.get("body_encoding"))


def _body_fault(body: Any, encoding: Any) -> str | None:
    try:
        text = base64.b64decode(body, validate=True) if encoding == "base64" else body
        parts = json.loads(text)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        return "body cannot be decoded"
    if not isinstance(parts, list) or len(parts) != 3:
        return "body is not [arguments, keyword arguments, options]"
    values, named, options = parts
    if not isinstance(values, list) or not isinstance(named, dict):
        return "arguments are no list or keyword arguments no object"
    return None if options is None or isinstance(options, dict) else "options are no object"


def _texts(values: dict[str, Any], *names: str) -> bool:
    return all(isinstance(values.get(name), str) and values[name] for name in names)
