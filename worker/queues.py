"""How many messages wait on the broker, by queue and priority, and how many workers hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.app import PRIORITIES, make_app, queues
from worker.broker import LATER
from worker.errors import BrokerUnavailable
from worker.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """Messages by (queue, priority).

    `held` are those that workers have taken and not finished, `later` those to be tried again.
    """

    waiting: Mapping[tuple[str, str], int]
    held: int
    later: int


class Queues:
    """The broker's queues, looked at over one connection that is kept.

    Kombu keeps a kilobyte of every connection that was ever made, and a worker looks every few
    seconds for months.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Any = None
        self._channel: Any = None

    def look(self) -> Backlog:
        """Ask the broker; another try connects anew. Raises BrokerUnavailable."""
        try:
            if self._channel is None:
                self._connection = make_app(self._settings).connection_for_read()
                self._channel = self._connection.channel()
            return self._look()
        except self._errors() as error:
            self.close()
            raise BrokerUnavailable(f"The broker does not answer: {error}") from error

    def close(self) -> None:
        """Let the connection go."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.collect()

    def _errors(self) -> tuple[type[Exception], ...]:
        connection = self._connection
        known = (connection.connection_errors, connection.channel_errors) if connection else ()
        return (OSError, *(error for errors in known for error in errors))

    def _look(self) -> Backlog:
        lists = {
            (queue, name): self._channel._q_for_pri(queue, step)
            for queue in queues(self._settings).values()
            for name, step in PRIORITIES.items()
        }
        with self._channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for key in lists.values():
                pipe.llen(key)
            pipe.hlen(self._channel.unacked_key).zcard(LATER)
            *lengths, held, later = pipe.execute()
        return Backlog(waiting=dict(zip(lists, lengths, strict=True)), held=held, later=later)


def look(settings: Settings) -> Backlog:
    """Ask once. Raises BrokerUnavailable."""
    found = Queues(settings)
    try:
        return found.look()
    finally:
        found.close()
