"""Kombu's Redis transport, made so that no message is ever in nobody's hands.

Plain kombu takes a message off its list and notes afterwards that it has it; what is killed in
between is lost. It gives a message to another worker when an hour has passed, whether its holder
lives or not, and judges that by the clocks of the workers. It stops on text that is no envelope.

Here one script takes a message and notes it; the note is a lease, by the clock of Redis, that a
living worker renews; what is to be tried later waits in Redis, and not in a worker whose clock may
be wrong; and what does not belong on the list is set aside. The keys of lists and notes, and what
they hold, stay kombu's own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from queue import Empty
from time import monotonic
from typing import Any

from celery.worker import state
from kombu.transport import redis, virtual
from redis.exceptions import ConnectionError as ConnectionLost

from worker.envelope import envelope_fault
from worker.logs import get_logger
from worker.messages import MAX_MESSAGE_BYTES, strict_json

LATER = "sigctl.later"
DELAY = "sigctl_delay"
"""A header: seconds that a message shall wait before it is put on its list."""
DROPPED = "sigctl.dropped"
KEPT = 1000
"""So many of the texts that were no envelopes are kept in the list DROPPED, the newest first."""
RENEWALS = 4
"""A lease is renewed so many times before it would run out."""
AT_ONCE = 100
"""So many messages are put back at one look, of which there is one a second."""
LOOK_SECONDS = 0.25
"""An idle worker is woken by the first of its lists, and looks into the others this often."""

# The lists in the order of their urgency, then the notes, their index and the dropped texts. What
# cannot be an envelope is dropped at once; the rest is noted as kombu would.
TAKE = """
local lists = #KEYS - 3
local notes, index, dropped = KEYS[lists + 1], KEYS[lists + 2], KEYS[lists + 3]
for i = 1, lists do
  local text = redis.call('RPOP', KEYS[i])
  if text then
    local tag, route
    if #text <= tonumber(ARGV[1]) then
      local whole, message = pcall(cjson.decode, text)
      local properties = whole and type(message) == 'table' and message.properties
      if type(properties) == 'table' then
        tag, route = properties.delivery_tag, properties.delivery_info
      end
    end
    if type(tag) ~= 'string' or type(route) ~= 'table' or type(route.exchange) ~= 'string'
        or type(route.routing_key) ~= 'string' then
      redis.call('LPUSH', dropped, string.sub(text, 1, tonumber(ARGV[1])))
      redis.call('LTRIM', dropped, 0, tonumber(ARGV[2]) - 1)
      return {KEYS[i], string.sub(text, 1, tonumber(ARGV[1])), ''}
    end
    local names = cjson.encode({route.exchange, route.routing_key})
    redis.call('HSET', notes, tag, '[' .. text .. ',' .. string.sub(names, 2))
    redis.call('ZADD', index, redis.call('TIME')[1], tag)
    return {KEYS[i], text, tag}
  end
end
return nil
"""

# Only what is still noted: a message that was given to another worker is not ours to hold.
RENEW = """
for i = 1, #ARGV do
  redis.call('ZADD', KEYS[1], 'XX', redis.call('TIME')[1], ARGV[i])
end
"""

# A member is the name of the list and, behind a line break, the message.
PUT_LATER = """
redis.call('ZADD', KEYS[1], redis.call('TIME')[1] + ARGV[1], KEYS[2] .. '\\n' .. ARGV[2])
"""

PUT_DUE = """
local due = {'-inf', redis.call('TIME')[1], 'LIMIT', 0, ARGV[1]}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], unpack(due))) do
  local line = string.find(member, '\\n', 1, true)
  redis.call('ZREM', KEYS[1], member)
  redis.call('RPUSH', string.sub(member, 1, line - 1), string.sub(member, line + 1))
end
"""

EXPIRED = """
local before = redis.call('TIME')[1] - ARGV[1]
local page = {'WITHSCORES', 'LIMIT', 0, ARGV[2]}
local found = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', before, unpack(page))
local notes = {}
for i = 1, #found, 2 do
  table.insert(notes, {found[i], found[i + 1], redis.call('HGET', KEYS[1], found[i])})
end
return notes
"""

# Unless somebody else was quicker, or the holder has renewed its lease since it was looked at.
PUT_BACK = """
if ARGV[2] ~= '' and redis.call('ZSCORE', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
for i = 3, #KEYS do redis.call(ARGV[3], KEYS[i], ARGV[4]) end
return 1
"""

log = get_logger(__name__)


class QoS(redis.QoS):
    """The messages that this worker holds, and the leases on them."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Hold a message, which taking it has noted in Redis already."""
        virtual.QoS.append(self, message, delivery_tag)

    def renew(self) -> None:
        """Extend the leases on everything held."""
        held = [tag for tag in list(self._delivered) if tag not in self._dirty]
        if held:
            with self.channel.conn_or_acquire() as client:
                client.eval(RENEW, 1, self.unacked_index_key, *held)

    def restore_visible(self, *_: Any, **__: Any) -> None:
        """Put back what workers hold that have not renewed their leases, and what is due."""
        with self.channel.conn_or_acquire() as client:
            client.eval(PUT_DUE, 1, LATER, AT_ONCE)
            keys = (self.unacked_key, self.unacked_index_key)
            expired = client.eval(EXPIRED, 2, *keys, int(self.visibility_timeout), AT_ONCE)
            for tag, score, note in expired or ():
                if self._put_back(client, tag, note, score=score):
                    log.warning("message_of_a_lost_worker_returned", tag=_text(tag))

    def restore_unacked(self, client: Any = None) -> None:
        """Put back what is held, if the worker is stopping and Redis can still be reached.

        A worker that has only lost its connection goes on with what it holds. It cannot say so any
        more, and the leases run out; by then most of it is decided.
        """
        transport = self.channel.connection
        reachable = transport is not None and transport.client is not None
        if state.should_stop is not None and reachable:
            super().restore_unacked(client)
        self._delivered.clear()

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Put back one message; if `leftmost`, at the end of its list, for its process was lost."""
        with self.channel.conn_or_acquire(client) as connected:
            note = connected.hget(self.unacked_key, tag)
            self._put_back(connected, tag, note, leftmost=leftmost)

    def _put_back(
        self, client: Any, tag: Any, note: Any, *, score: Any = "", leftmost: bool = False
    ) -> bool:
        push = "LPUSH" if leftmost else "RPUSH"
        try:
            text, lists = self.channel.as_returned(note, lost=leftmost or bool(score))
        except (ValueError, LookupError, TypeError):  # somebody else wrote it
            text, lists, push = note, [DROPPED], "LPUSH"
        keys = (self.unacked_key, self.unacked_index_key, *lists)
        return bool(client.eval(PUT_BACK, len(keys), *keys, tag, score, push, text))


class Channel(redis.Channel):
    """Takes messages by script, and waits without taking."""

    QoS = QoS

    _kept: Any = None
    _waiting = False
    _in_poll: Any = None
    _brpop_sent_at: Any = None

    def as_returned(self, note: Any, *, lost: bool) -> tuple[str, list[str]]:
        """A noted message and the lists that it belongs to; marked if its holder was lost."""
        if note is None:
            return "", []
        message, exchange, routing_key = json.loads(note)
        message["properties"]["delivery_info"]["redelivered"] = lost
        priority = self._get_message_priority(message, reverse=False)
        queues = self._lookup(exchange, routing_key)
        return json.dumps(message), [self._q_for_pri(queue, priority) for queue in queues]

    def _create_client(self, asynchronous: bool = False) -> Any:
        """One client for as long as the channel has one pool of connections.

        Kombu makes another for every message it notes, which takes as long as a query. And on a
        channel that was closed with its lost connection it fails in a way that ends the worker.
        """
        if self.connection is None or self.connection.client is None:
            raise ConnectionLost("the channel was closed with its connection")
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()
        return self._kept

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        """Put a message on its list, or where it waits until it is due."""
        delay = (message.get("headers") or {}).pop(DELAY, None)
        if delay is None:
            super()._put(queue, message, **options)
            return
        name = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        with self.conn_or_acquire() as client:
            client.eval(PUT_LATER, 2, LATER, name, math.ceil(delay), json.dumps(message))

    def _lists(self, queues: Iterable[str]) -> list[str]:
        return [self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues]

    def _take(self, queues: Iterable[str]) -> tuple[Any, ...]:
        """The command that takes the most urgent message."""
        keys = [*self._lists(queues), self.unacked_key, self.unacked_index_key, DROPPED]
        return ("EVAL", TAKE, len(keys), *keys, MAX_MESSAGE_BYTES, KEPT)

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Ask for a message; or, after an answer of none, for a sign that there is one.

        The sign is a message moved to where it is. Unlike BRPOP it takes nothing.
        """
        if self._chats():
            super()._brpop_start(timeout)
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        first = self._lists(queues)[0]
        look = ("BLMOVE", first, first, "RIGHT", "RIGHT", LOOK_SECONDS)
        self._in_poll, self._brpop_sent_at = self.client.connection, monotonic()
        self.client.connection.send_command(*(look if self._waiting else self._take(queues)))

    def _brpop_read(self, **options: Any) -> bool:
        if self._chats():
            return bool(super()._brpop_read(**options))
        waited, self._waiting = self._waiting, False
        try:
            answer = self.client.parse_response(self.client.connection, "EVAL", **options)
        except self.connection_errors:
            self.client.connection.disconnect()  # the next round connects again
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if waited or answer is None:
            self._waiting = not waited
            raise Empty
        return self._taken(*answer)

    def _chats(self) -> bool:
        """Whether it waits for answers of workers, which are no tasks and not acknowledged."""
        return any(queue.endswith(".pidbox") for queue in self.active_queues)

    def _taken(self, source: bytes, text: bytes, tag: bytes) -> bool:
        queue = _text(source).rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        message, fault = _read(text)
        if fault is None:
            self.connection._deliver(message, queue)
            return True
        log.error("envelope_dropped", reason=fault, kept=DROPPED)
        if tag:
            self._drop(tag, text)
        raise Empty

    def _drop(self, tag: bytes, text: bytes) -> None:
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.lpush(DROPPED, text).ltrim(DROPPED, 0, KEPT - 1)
            pipe.zrem(self.unacked_index_key, tag).hdel(self.unacked_key, tag)
            pipe.execute()


class Transport(redis.Transport):
    """Redis, whose leases are renewed for as long as the worker lives."""

    Channel = Channel

    _renewal: Any = None
    cycle: Any

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Also renew the leases from the worker's loop, so that one which hangs loses them."""
        super().register_with_event_loop(connection, loop)
        if self._renewal is not None:
            self._renewal.cancel()
        timeout = connection.client.transport_options["visibility_timeout"]
        self._renewal = loop.call_repeatedly(timeout / RENEWALS, self._renew)

    def _renew(self) -> None:
        for channel in list(self.cycle._channels):
            try:
                channel.qos.renew()
            except channel.connection_errors as error:  # a later renewal is in time
                log.warning("lease_not_renewed", reason=type(error).__name__)


def _read(text: bytes) -> tuple[Any, str | None]:
    """A message and what is wrong with it."""
    try:
        message = strict_json(text)
    except ValueError as error:
        return None, f"no JSON: {error}"[:200]
    return message, envelope_fault(message)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
