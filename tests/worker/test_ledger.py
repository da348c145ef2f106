"""Jobs that share a transaction are begun and decided as if each had its own."""

from __future__ import annotations

from dataclasses import replace
from math import sin
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from model.scoring import Scoring
from storage import decisions, jobs
from storage.database import Sessions, make_engine, make_sessions
from storage.errors import DatabaseUnavailable, JobConflict, UnknownSigner
from storage.reference_cache import ReferenceCache
from tests.fakes import FakeEmbedder, ink
from tests.worker.conftest import Desk
from worker.enrolment import enroll
from worker.ledger import Case, Ledger, Progress, TooClose
from worker.messages import VerifyRequest
from worker.outcome import Outcome


@pytest.fixture
def ledger(sessions: Sessions, desk: Desk, embedder: FakeEmbedder) -> Ledger:
    """With ada and bo enrolled at angle 0."""
    for name in ("ada", "bo"):
        enroll(
            name,
            [(name, ink(0, name))],
            sessions=sessions,
            images=desk.images,
            embedder=embedder,  # type: ignore[arg-type]
        )
    return Ledger(sessions, ReferenceCache())


def asked(job_id: str = "j1", signer_id: str = "ada", document: str = "s3://b/k") -> VerifyRequest:
    return VerifyRequest(job_id=job_id, signer_id=signer_id, document=document)


def case(request: VerifyRequest, angle: float = 0.0, *, exact: bool = True) -> Case:
    vector = np.zeros(512, np.float32)
    vector[:2] = np.cos(angle), np.sin(angle)
    return Case(request=request, vector=vector, exact=exact, progress=Progress())


def decide(ledger: Ledger, *cases: Case, **embedder: Any) -> list[Any]:
    return ledger.decide(cases, FakeEmbedder(**embedder), None)  # type: ignore[arg-type]


def status(sessions: Sessions, job_id: str) -> tuple[str, int]:
    with sessions() as session:
        job = jobs.get(session, job_id)
        return job.status, job.deliveries


def test_many_jobs_take_two_transactions(ledger: Ledger, sessions: Sessions) -> None:
    begun: list[object] = []
    event.listen(sessions.kw["bind"], "commit", begun.append)
    requests = [asked(f"j{n}", "ada" if n % 2 else "bo") for n in range(10)]
    assert [one.deliveries for one in ledger.begin(requests)] == [1] * 10
    found = decide(ledger, *(case(request, 0.1) for request in requests))
    assert len(begun) == 2
    assert [outcome.job_id for outcome in found] == [request.job_id for request in requests]
    assert {outcome.verdict for outcome in found} == {"accept"}
    assert found[0].distance == pytest.approx(2 * sin(0.05), abs=1e-5)
    assert {status(sessions, request.job_id) for request in requests} == {("done", 1)}


def test_a_conflict_stops_no_other_job(ledger: Ledger, sessions: Sessions) -> None:
    ledger.begin([asked("j1")])
    conflict, other = ledger.begin([asked("j1", document="s3://b/other"), asked("j2")])
    assert isinstance(conflict, JobConflict)
    assert other.deliveries == 1
    assert status(sessions, "j1") == ("running", 1)


def test_a_job_sent_several_times_at_once_looks_like_no_deadly_one(ledger: Ledger) -> None:
    begun = ledger.begin([asked("j1"), asked("j1"), asked("j2")])
    assert [one.deliveries for one in begun] == [1, 1, 1]
    lost = replace(asked("j1"), redelivered=True)
    begun = ledger.begin([lost, asked("j2"), lost])
    assert [one.deliveries for one in begun] == [2, 1, 3]


def test_of_two_decisions_on_one_job_in_a_batch_the_first_stands(
    ledger: Ledger, sessions: Sessions
) -> None:
    ledger.begin([asked("j1")])
    first, second = decide(ledger, case(asked("j1"), 0.1), case(asked("j1"), 1.5))
    assert first == second
    assert (first.verdict, status(sessions, "j1")) == ("accept", ("done", 1))


def test_a_decided_job_is_answered_from_the_record_and_its_delivery_not_counted(
    ledger: Ledger, sessions: Sessions
) -> None:
    ledger.begin([asked("j1")])
    (outcome,) = decide(ledger, case(asked("j1")))
    again, fresh = ledger.begin([asked("j1"), asked("j2")])
    assert (again.standing, fresh.standing) == (outcome, None)
    assert status(sessions, "j1") == ("done", 1)


def test_what_keeps_one_case_from_being_judged_leaves_the_others_alone(
    ledger: Ledger, sessions: Sessions
) -> None:
    requests = [asked("j1"), asked("j2", "nobody"), asked("j3"), asked("j4")]
    ledger.begin(requests)
    cases = [case(request) for request in requests]
    cases[2].vector[0] = np.nan
    good, unknown, broken, fine = decide(ledger, *cases)
    assert isinstance(unknown, UnknownSigner)
    assert isinstance(broken, ValueError)
    assert (good.verdict, fine.verdict) == ("accept", "accept")
    with sessions() as session:
        assert decisions.get(session, "j3") is None


def test_a_row_that_spoils_the_transaction_fails_alone(ledger: Ledger, sessions: Sessions) -> None:
    ledger.begin([asked("j1"), asked("j3")])  # j2 has no row, so its decision cannot be written
    good, spoilt, fine = decide(ledger, *(case(asked(job)) for job in ("j1", "j2", "j3")))
    assert isinstance(good, Outcome)
    assert isinstance(fine, Outcome)
    assert isinstance(spoilt, Exception)
    assert status(sessions, "j3") == ("done", 1)


BANDED = Scoring(
    thresholds={1: 0.5},
    accept={"0.1%": {1: 0.1}, "1%": {1: 0.2}, "5%": {1: 0.4}},
    reject={1: 0.8},
)


@pytest.mark.parametrize(
    ("distance", "close"),
    [(0.1, False), (0.194, True), (0.206, True), (0.5, False), (0.794, True), (0.806, True)],
)
def test_near_a_threshold_only_the_reference_arithmetic_decides(
    ledger: Ledger, distance: float, close: bool
) -> None:
    embedder = FakeEmbedder(scoring=BANDED, tolerance=0.01)
    angle = 2 * float(np.arcsin(distance / 2))
    ledger.begin([asked("j1")])
    fast, exact = (case(asked("j1"), angle, exact=exact) for exact in (False, True))
    (found,) = ledger.decide([fast], embedder, "1%")  # type: ignore[arg-type]
    assert isinstance(found, TooClose) == close
    (found,) = ledger.decide([exact], embedder, "1%")  # type: ignore[arg-type]
    assert isinstance(found, Outcome)


def test_a_database_that_is_away_is_said_to_every_job() -> None:
    engine = make_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    away = Ledger(make_sessions(engine), ReferenceCache())
    with pytest.raises(DatabaseUnavailable):
        away.begin([asked("j1"), asked("j2")])
    engine.dispose()
