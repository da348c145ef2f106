"""Kombu's Redis transport, made to outlive what does not belong on the queue.

Anybody who can reach Redis can push to the list. Plain kombu stops on text that is no envelope,
and one whose body is broken stops it again at every start or holds a place in the worker for
ever. Here such things are looked at first, logged and dropped.
"""

from __future__ import annotations

import base64
import binascii
from queue import Empty
from typing import Any

from kombu.transport import redis

from worker.logs import get_logger
from worker.messages import strict_json

log = get_logger(__name__)


class Channel(redis.Channel):
    """Goes on to the next message when one is not even JSON."""

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """One client for as long as the channel has one pool of connections.

        Kombu makes another for every message it notes, which takes as long as a query.
        """
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[no-untyped-call]
        return self._kept

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except ValueError as error:  # popping has removed it already
            log.error("envelope_dropped", reason=str(error)[:200])
            raise Empty from error


class Transport(redis.Transport):
    """Redis, delivering only what a worker can take."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        fault = None if _is_chatter(queue) else envelope_fault(message)
        if fault is not None:
            log.error("envelope_dropped", reason=fault)
            return
        super()._deliver(message, queue)  # type: ignore[no-untyped-call]


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
        parts = strict_json(text)
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


def _is_chatter(queue: str) -> bool:
    """Whether workers talk to each other there; that is not for tasks."""
    return queue.endswith(".pidbox") or queue.startswith("celeryev")
