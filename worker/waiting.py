"""What Redis knows of: messages that wait, those at work and those to be tried later."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kombu.exceptions import OperationalError

from worker.broker import LATER
from worker.errors import BrokerUnavailable
from worker.messages import by_name

if TYPE_CHECKING:
    from celery import Celery

AT_ONCE = 500


def named(app: Celery, queue: str, field: str) -> set[str]:
    """What the broker's messages of this queue name in `field`. Raises BrokerUnavailable.

    A message that moves while they are read may be missed, but for an instant. The lists are read
    from end to end: 100,000 messages take seconds.
    """
    with app.connection_for_read() as connection:
        try:
            found = _messages(connection.default_channel, queue)
            return {name for message in found if (name := _named(message, field)) is not None}
        except (OperationalError, OSError, *connection.connection_errors) as error:
            raise BrokerUnavailable("The broker does not answer.") from error


def _messages(channel: Any, queue: str) -> Iterator[Any]:
    client = channel.client
    for name in channel._lists([queue]):
        start = 0
        while texts := client.lrange(name, start, start + AT_ONCE - 1):
            yield from texts
            start += len(texts)
    for _, note in client.hscan_iter(channel.unacked_key, count=AT_ONCE):
        yield _first(note)
    for member, _ in client.zscan_iter(LATER, count=AT_ONCE):
        yield member.split(b"\n", 1)[1]


def _first(note: bytes) -> Any:
    """The message in kombu's note [message, exchange, routing key]."""
    try:
        return json.loads(note)[0]
    except (ValueError, LookupError, TypeError):
        return None


def _named(message: Any, field: str) -> str | None:
    try:
        found = json.loads(message) if isinstance(message, bytes) else message
        values, given, _ = json.loads(base64.b64decode(found["body"]))
        return str(by_name(values, given)[field])
    except (ValueError, LookupError, TypeError):  # not one of ours
        return None
