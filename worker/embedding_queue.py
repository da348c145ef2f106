"""References for the workers to embed: sent in chunks, and watched in the database until done.

The database tells what is done, not the queue: a chunk that is lost with Redis or its worker is
overdue some time later, and handed back to whoever sent it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from kombu.exceptions import OperationalError

from model.errors import ModelError
from storage import models
from storage.errors import StorageError
from worker.embedding import embed_references
from worker.logs import get_logger
from worker.signing import FIELD, is_genuine, signed
from worker.transactions import transaction

if TYPE_CHECKING:
    from worker.runtime import Runtime

EMBED_TASK = "sigctl.enrol.embed"
FIELDS = {"model", "references", FIELD}
CHUNK = 32
"""References in one task: a second of work, which is how long verification may wait for it."""
MOST = 1000
AHEAD = 2
"""Chunks that a worker has at a time."""
OVERDUE = 30.0
"""Seconds without any news of a chunk after which it is taken back."""
HALF = 5.0
"""The same where some of it was done: the rest is likely to have failed."""
POLL = 0.1

log = get_logger(__name__)


@dataclass(kw_only=True)
class _Sent:
    """A chunk that is out: how much of it is done, and when that was last news."""

    numbers: Sequence[int]
    done: int
    news: float


def embed(
    runtime: Runtime,
    model_id: str,
    missing: Sequence[int],
    crew: int,
    tell: Callable[[], None],
) -> list[int]:
    """Let so many workers embed the references; returns those that they did not."""
    waiting = deque(missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK))
    out: list[_Sent] = []
    left: list[int] = []
    while waiting or out:
        while waiting and len(out) < AHEAD * crew:
            chunk = waiting.popleft()
            if _send(runtime, model_id, chunk):
                out.append(_Sent(numbers=chunk, done=0, news=time.monotonic()))
            else:
                left += chunk
        time.sleep(POLL)
        with transaction(runtime.sessions) as session:
            numbers = [number for chunk in out for number in chunk.numbers]
            done = models.embedded(session, model_id, numbers)
        still = [chunk for chunk in out if not _ended(chunk, done)]
        if len(still) < len(out):
            left += [n for c in out if c not in still for n in c.numbers if n not in done]
            tell()
        out = still
    return left


def _ended(chunk: _Sent, done: set[int]) -> bool:
    """Whether all of the chunk is done, or nothing was heard of it for too long."""
    now, count = time.monotonic(), len(done.intersection(chunk.numbers))
    if count != chunk.done:
        chunk.done, chunk.news = count, now
    return count == len(chunk.numbers) or now - chunk.news > (HALF if count else OVERDUE)


def _send(runtime: Runtime, model_id: str, chunk: Sequence[int]) -> bool:
    from worker.app import make_app

    message = signed({"model": model_id, "references": list(chunk)}, runtime.settings.message_key)
    with suppress(OperationalError, OSError):
        make_app(runtime.settings).send_task(EMBED_TASK, kwargs=message)
        return True
    return False


def receive(message: Mapping[str, Any], runtime: Runtime) -> None:
    """Do what such a message asks for. Never raises: whoever sent it sees what is not done.

    Only a model that has something to do embeds anything, so nobody can make workers load others.
    """
    model_id, numbers = message.get("model"), message.get("references")
    if not is_genuine(message, runtime.settings.message_keys):
        log.error("message_forged", task=EMBED_TASK)
        return
    if message.keys() - FIELDS or not isinstance(model_id, str) or not _are_numbers(numbers):
        log.error("message_refused", task=EMBED_TASK)
        return
    try:
        if model_id not in runtime.models.lineup().embedding:
            log.warning("embedding_unwanted", model=model_id)
            return
        done = embed_references(
            numbers,
            sessions=runtime.sessions,
            images=runtime.images,
            embedder=runtime.models.get(model_id),
            max_pixels=runtime.settings.max_pixels,
        )
        log.info("embedded", model=model_id, references=done.new, lost=len(done.lost))
    except (ModelError, StorageError) as error:
        log.warning("not_embedded", model=model_id, code=error.code, reason=str(error))
    except Exception:
        log.exception("not_embedded", model=model_id)


def _are_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and len(value) <= MOST and all(type(n) is int for n in value)
