from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from storage import decisions, signers
from storage.tables import Base, Decision, Embedding, Job, Reference, Signer, storable
from tests.builders import a_decision, a_job, a_model, digest


class Verdict(StrEnum):
    ACCEPT = "accept"


def test_a_time_goes_in_with_any_zone_and_comes_back_in_utc(sessions):
    given = datetime(2026, 11, 23, 1, 30, tzinfo=timezone(timedelta(hours=5)))
    with sessions.begin() as session:
        session.add(Signer(id="ada", enrolled_at=given))
    with sessions.begin() as session:
        back = session.get_one(Signer, "ada").enrolled_at
    assert back == given
    assert back.utcoffset() == timedelta(0)
    assert (back.day, back.hour) == (22, 20)


def test_times_compare_as_moments_whatever_the_zone_of_the_question(sessions):
    moment = datetime(2026, 11, 23, 12, tzinfo=UTC)
    east = moment.astimezone(timezone(timedelta(hours=9)))
    with sessions.begin() as session:
        session.add(Signer(id="ada", enrolled_at=moment))
        assert session.scalar(select(Signer.id).where(Signer.enrolled_at <= east)) == "ada"
        assert session.scalar(select(Signer.id).where(Signer.enrolled_at < east)) is None


def test_a_time_without_a_zone_is_refused(sessions):
    session = sessions()
    session.add(Signer(id="ada", enrolled_at=datetime(2026, 1, 1)))
    with pytest.raises(StatementError, match="no time zone"):
        session.flush()
    session.close()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("plain é 字", "plain é 字"),
        ("nul\0here", "nul\ufffdhere"),
        ("lone\ud800", "lone\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("😀", "😀"),
        ("", ""),
    ],
)
def test_text_that_no_database_holds_is_kept_as_near_as_can_be(sessions, given, kept):
    assert storable(given) == kept
    with sessions.begin() as session:
        a_job(session, document=given)
    with sessions.begin() as session:
        assert session.get_one(Job, "job-1").document == kept


def test_a_verdict_of_the_models_own_enumeration_is_stored_by_its_value(sessions):
    with sessions.begin() as session:
        a_job(session)
        decisions.record(session, [a_decision(verdict=Verdict.ACCEPT)])
    with sessions.begin() as session:
        assert session.scalar(text("select verdict from decisions")) == "accept"


def test_every_constraint_and_index_has_a_name():
    for table in Base.metadata.tables.values():
        assert all(constraint.name for constraint in table.constraints)
        assert all(index.name for index in table.indexes)


def test_a_reference_needs_its_signer(sessions):
    _refused(sessions, Reference, signer_id="nobody", uri="file:///a", sha256=digest("a"))


def test_a_digest_has_64_characters(sessions):
    with sessions.begin() as session:
        signers.ensure(session, "ada")
    _refused(sessions, Reference, signer_id="ada", uri="file:///a", sha256="abc")


def test_an_embedding_needs_its_reference(sessions):
    with sessions.begin() as session:
        model = a_model(session)
    _refused(sessions, Embedding, reference_id=7, model_id=model.id, vector=b"", dimensions=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"verdict": "maybe"},
        {"score": 0.5},
        {"score": 0.6},
        {"score": None},
        {"threshold": None},
        {"model_id": None},
        {"error_code": "blank_image"},
        {"verdict": "error"},
        {"verdict": "review", "score": None},
        {"verdict": "review", "score": 0.6, "reject_threshold": 0.6},
        {"verdict": "review", "score": 0.4, "reject_threshold": 0.6},
        {"job_id": "no-such-job"},
    ],
    ids=repr,
)
def test_the_database_itself_refuses_a_decision_without_grounds(sessions, wrong):
    with sessions.begin() as session:
        a_job(session)
    whole = {
        "job_id": "job-1",
        "signer_id": "ada",
        "document": "file:///a",
        "verdict": "accept",
        "score": 0.4,
        "threshold": 0.5,
        "model_id": digest("m"),
    }
    _refused(sessions, Decision, **(whole | wrong))
    with sessions.begin() as session:
        session.execute(insert(Decision).values(**whole))


def _refused(sessions, table, **values):
    session = sessions()
    with pytest.raises(IntegrityError):
        session.execute(insert(table).values(**values))
    session.close()
