"""A system that sends jobs however the service is doing, and remembers what it sent and saw."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import redis
from sqlalchemy import select

from bench.service import Service
from storage.errors import StorageError
from storage.tables import Decision
from worker import client
from worker.errors import BrokerUnavailable
from worker.runtime import get_runtime
from worker.transactions import transaction

BARE = 0.2  # share of the jobs that are sent without a row
AGAIN = 0.1  # share of the messages that are sent twice or thrice
AWAY = (StorageError, redis.RedisError, OSError)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A job to be sent."""

    job_id: str
    signer_id: str
    document: str
    bare: bool
    times: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was decided, and when that was first seen (seconds, monotonic)."""

    result: str  # the verdict, or the code of an error
    decided_at: str
    seen: float


@dataclass(kw_only=True)
class Seen:
    """Decisions as they appeared; `changed` are jobs whose decision was another one later."""

    answers: dict[str, Answer] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)


def questions(
    documents: Sequence[tuple[str, str]], count: int, prefix: str, rng: random.Random
) -> list[Question]:
    """So many jobs about the documents (signer, URI) in turn, some bare, some sent again."""
    found = []
    for number in range(count):
        signer, document = documents[number % len(documents)]
        found.append(
            Question(
                job_id=f"{prefix}{number:05d}",
                signer_id=signer,
                document=document,
                bare=rng.random() < BARE,
                times=1 + (rng.random() < AGAIN) * rng.randint(1, 2),
            )
        )
    return found


class Upstream:
    """Sends at an even pace over `seconds`, from a thread of its own."""

    def __init__(self, service: Service, asked: Sequence[Question], seconds: float) -> None:
        self._service, self._asked = service, asked
        self._pause = seconds / len(asked)
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        self.sent: dict[str, float] = {}
        self.again = 0

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def is_sending(self) -> bool:
        """Whether there is more to send."""
        return self._thread.is_alive()

    def send_bare_again(self, decided: Mapping[str, Answer]) -> None:
        """Send what Redis alone knew of and has forgotten, as docs/messages.md asks."""
        for question in self._asked:
            if question.bare and question.job_id in self.sent and question.job_id not in decided:
                self._send(question)
                self.again += 1

    def _send_all(self) -> None:
        begun = time.monotonic()
        for number, question in enumerate(self._asked):
            time.sleep(max(0.0, begun + number * self._pause - time.monotonic()))
            self.sent[question.job_id] = time.monotonic()
            for _ in range(question.times):
                self._send(question)

    def _send(self, question: Question) -> None:
        fields = {"signer_id": question.signer_id, "document": question.document}
        while True:
            try:
                if question.bare:
                    self._service.push([{"job_id": question.job_id, **fields}])
                else:
                    settings = self._service.settings
                    client.submit(**fields, job_id=question.job_id, settings=settings)
                return
            except BrokerUnavailable:  # but recorded: `requeue` sends it
                return
            except AWAY:  # nobody has it yet
                time.sleep(0.5)


class Watch:
    """Reads the decisions twice a second, and keeps what it saw first."""

    def __init__(self, service: Service, prefix: str) -> None:
        self._service, self._prefix = service, prefix
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self.seen = Seen()

    def __enter__(self) -> Seen:
        self._thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Compare the record with what was seen before."""
        sessions = get_runtime(self._service.settings).sessions
        columns = (Decision.job_id, Decision.verdict, Decision.error_code, Decision.decided_at)
        query = select(*columns).where(Decision.job_id.startswith(self._prefix))
        with transaction(sessions) as session:
            rows = session.execute(query).all()
        now = time.monotonic()
        for job_id, verdict, code, at in rows:
            new = Answer(result=code or verdict, decided_at=at.isoformat(), seen=now)
            old = self.seen.answers.setdefault(job_id, new)
            if (old.result, old.decided_at) != (new.result, new.decided_at):
                self.seen.changed.add(job_id)
        if missing := self.seen.answers.keys() - {row[0] for row in rows}:
            self.seen.changed.update(missing)

    def _look_on(self) -> None:
        while not self._ended.wait(0.5):
            with suppress(StorageError):
                self.look()
