"""Kombu's Redis transport, made to outlive what does not belong on the queue.

Anybody who can reach Redis can push to the list. Plain kombu stops on text that is no envelope,
and one whose body is broken stops it again at every start or holds a place in the worker for
ever. Here such things are looked at first, logged and dropped.
"""

from __future__ import annotations

from queue import Empty
from typing import Any

from kombu.transport import redis

from worker.envelope import envelope_fault
from worker.logs import get_logger
from worker.messages import MAX_MESSAGE_BYTES

log = get_logger(__name__)


def _of_readable_length(reply: Any, **_: Any) -> Any:
    """What was popped; text that is no message stands for one too long to be parsed at all."""
    if reply and len(reply[1]) > MAX_MESSAGE_BYTES:
        return reply[0], f'"{len(reply[1])} bytes"'.encode()
    return reply


class Channel(redis.Channel):
    """Goes on to the next message when one is not even JSON."""

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """One client for as long as the channel has one pool of connections.

        Kombu makes another for every message it notes, which takes as long as a query.
        """
        if asynchronous:
            client = super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]
            client.set_response_callback("BRPOP", _of_readable_length)
            return client
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[no-untyped-call]
        return self._kept

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        # Nesting exhausts the stack before any limit is looked at. Popping has removed it already.
        except (ValueError, RecursionError) as error:
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


def _is_chatter(queue: str) -> bool:
    """Whether workers talk to each other there; that is not for tasks."""
    return queue.endswith(".pidbox") or queue.startswith("celeryev")
