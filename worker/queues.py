"""How many messages wait on the broker, by queue and priority, and how many workers hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kombu.connection import Connection

from worker.app import PRIORITIES, make_app, queues
from worker.errors import BrokerUnavailable
from worker.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """Messages by (queue, priority), and those that workers have taken and not finished."""

    waiting: Mapping[tuple[str, str], int]
    held: int


def look(settings: Settings) -> Backlog:
    """Ask the broker, on a connection of its own. Raises BrokerUnavailable."""
    with make_app(settings).connection_for_read() as connection:
        try:
            return _look(connection, settings)
        except (OSError, *connection.connection_errors, *connection.channel_errors) as error:
            raise BrokerUnavailable(f"The broker does not answer: {error}") from error


def _look(connection: Connection, settings: Settings) -> Backlog:
    channel = connection.channel()  # type: ignore[no-untyped-call]
    lists = {
        (queue, name): channel._q_for_pri(queue, step)
        for queue in queues(settings).values()
        for name, step in PRIORITIES.items()
    }
    with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
        for key in lists.values():
            pipe.llen(key)
        pipe.hlen(channel.unacked_key)
        *lengths, held = pipe.execute()
    return Backlog(waiting=dict(zip(lists, lengths, strict=True)), held=held)
