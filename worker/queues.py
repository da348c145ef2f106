"""How many messages wait on the broker, by queue and priority, and how many workers hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worker.app import PRIORITIES, make_app, queues
from worker.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """Messages by (queue, priority), and those that workers have taken and not finished."""

    waiting: Mapping[tuple[str, str], int]
    held: int


def look(settings: Settings) -> Backlog:
    """Ask the broker, on a connection of its own. Raises what kombu and redis do."""
    with make_app(settings).connection_for_read() as connection:
        connection.connect()
        channel = connection.channel()
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
