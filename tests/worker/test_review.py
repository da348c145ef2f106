from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from model.scoring import Scoring
from storage import decisions, references, signers
from storage.database import Sessions
from storage.tables import Reference, utc_now
from tests.builders import a_decision, a_job, a_model, a_reference
from tests.fakes import FakeEmbedder
from worker.review import review

COUNT = 5


@pytest.fixture
def judge() -> FakeEmbedder:
    """Knows that references usually lie 0.3 from their nearest fellow."""
    return FakeEmbedder(scoring=Scoring(thresholds={1: 0.5}, population_spread=0.3))


def enrol(session: Session, embedder: FakeEmbedder, *angles: float, signer: str = "ada") -> None:
    a_model(session, embedder.model_id)
    for number, angle in enumerate(angles):
        reference = a_reference(session, signer, f"{signer}-{number}")
        vector = np.array([math.cos(angle), math.sin(angle)], np.float32)
        references.put_embeddings(session, embedder.model_id, {reference.id: vector})


def steps(by: float) -> list[float]:
    return [by * number for number in range(COUNT)]


def accepted(session: Session, embedder: FakeEmbedder, *distances: float) -> None:
    for number, distance in enumerate(distances):
        a_job(session, f"job-{number}")
        decision = a_decision(
            f"job-{number}", distance=distance, score=0.1, model_id=embedder.model_id
        )
        decisions.record(session, [decision])


def codes(sessions: Sessions, embedder: FakeEmbedder) -> dict[str, list[str]]:
    with sessions.begin() as session:
        found = list(review(session, embedder))
    return {f.signer_id: [reason.code for reason in f.reasons] for f in found}


def test_a_signer_with_enough_new_and_agreeing_references_is_not_listed(
    sessions: Sessions, judge: FakeEmbedder
) -> None:
    with sessions.begin() as session:
        enrol(session, judge, *steps(0.3))
        accepted(session, judge, *[0.3] * 6)
    assert codes(sessions, judge) == {}


def test_few_references_are_told_and_none_at_all_too(
    sessions: Sessions, judge: FakeEmbedder
) -> None:
    with sessions.begin() as session:
        enrol(session, judge, 0.0, 0.3)
        signers.ensure(session, "bo")
    assert codes(sessions, judge) == {"ada": ["few"], "bo": ["few"]}


def test_references_farther_apart_than_others_are_inconsistent(
    sessions: Sessions, judge: FakeEmbedder
) -> None:
    with sessions.begin() as session:
        enrol(session, judge, *steps(0.5))
    assert codes(sessions, judge) == {"ada": ["inconsistent"]}


def test_references_of_which_none_is_new_are_old(sessions: Sessions, judge: FakeEmbedder) -> None:
    with sessions.begin() as session:
        enrol(session, judge, *steps(0.3))
        session.execute(update(Reference).values(enrolled_at=utc_now() - timedelta(days=1200)))
    assert codes(sessions, judge) == {"ada": ["old"]}
    with sessions.begin() as session:
        enrol(session, judge, *steps(0.3), 1.5)
    assert codes(sessions, judge) == {}


def test_accepted_signatures_that_lie_farther_than_the_references_drift(
    sessions: Sessions, judge: FakeEmbedder
) -> None:
    with sessions.begin() as session:
        enrol(session, judge, *steps(0.3))
        accepted(session, judge, 0.3, 0.42, 0.42, 0.42)
    assert codes(sessions, judge) == {}  # too few say nothing
    with sessions.begin() as session:
        a_job(session, "job-9")
        last = a_decision("job-9", distance=0.42, score=0.1, model_id=judge.model_id)
        decisions.record(session, [last])
    assert codes(sessions, judge) == {"ada": ["drifting"]}


def test_retired_signers_and_references_do_not_count(
    sessions: Sessions, judge: FakeEmbedder
) -> None:
    with sessions.begin() as session:
        enrol(session, judge, *steps(0.3))
        references.retire(session, references.of_signer(session, "ada")[0].id)
        enrol(session, judge, 0.0, signer="bo")
        signers.retire(session, "bo")
    assert codes(sessions, judge) == {"ada": ["few"]}
