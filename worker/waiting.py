"""Which jobs Redis knows of: those that wait, those at work and those to be tried later."""

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


def job_ids(app: Celery) -> set[str]:
    """The ids of all jobs that the broker has a message of. Raises BrokerUnavailable.

    A message that moves while they are read may be missed, but for an instant. The lists are read
    from end to end: 100,000 messages take seconds.
    """
    with app.connection_for_read() as connection:
        try:
            return set(filter(None, map(_job_id, _messages(connection.default_channel, app))))
        except (OperationalError, OSError, *connection.connection_errors) as error:
            raise BrokerUnavailable("The broker does not answer.") from error


def _messages(channel: Any, app: Celery) -> Iterator[Any]:
    client = channel.client
    for name in channel._lists([app.conf.task_default_queue]):
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


def _job_id(message: Any) -> str | None:
    try:
        found = json.loads(message) if isinstance(message, bytes) else message
        values, named, _ = json.loads(base64.b64decode(found["body"]))
        return str(by_name(values, named)["job_id"])
    except (ValueError, LookupError, TypeError):  # not one of ours
        return None
