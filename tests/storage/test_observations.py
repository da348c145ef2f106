"""Decisions of one model, and the failures beside it, stream in the order of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from storage import decisions, observations
from storage.errors import InvalidFilter, UnknownModel
from tests.builders import MODEL_ID, a_decision, a_job, an_error, digest

START = datetime(2026, 9, 7, tzinfo=UTC)
OTHER = MODEL_ID[:4] + digest("another")[4:]


@pytest.fixture
def decided(sessions):
    made = [
        an_error("0-before"),
        a_decision("1-first", upstream={"scanner": "north"}),
        an_error("2-blank"),
        a_decision("3-other", model_id=OTHER),
        a_decision("4-last", signer_id="zoe"),
        an_error("5-after"),
    ]
    with sessions.begin() as session:
        for day, decision in enumerate(made):
            decision.decided_at = START + timedelta(days=day)
            a_job(session, decision.job_id, decision.signer_id)
        decisions.record(session, made[::-1])
    return sessions


def jobs(sessions, model=MODEL_ID, **how):
    with sessions.begin() as session:
        return [row.job_id for row in observations.observed(session, model, **how)]


def test_failures_before_any_model_count_while_the_model_is_the_one_that_decides(decided):
    assert jobs(decided) == ["1-first", "2-blank", "4-last", "5-after"]
    assert jobs(decided, OTHER) == ["3-other"]
    assert jobs(decided, digest("unheard of")) == []


def test_period_and_signer_narrow(decided):
    assert jobs(decided, since=START + timedelta(days=2)) == ["2-blank", "4-last", "5-after"]
    assert jobs(decided, until=START + timedelta(days=2)) == ["1-first"]
    assert jobs(decided, signer_id="zoe") == ["4-last"]


def test_metadata_is_read_only_where_it_is_asked_for(decided):
    with decided.begin() as session:
        (row, *_) = observations.observed(session, MODEL_ID, with_upstream=True)
        assert (row.upstream, row.decided_at) == ({"scanner": "north"}, START + timedelta(days=1))
        (row, *_) = observations.observed(session, MODEL_ID)
        assert row.upstream is None


def test_the_model_is_the_newest_decisions_unless_it_is_named(decided, sessions):
    with decided.begin() as session:
        assert observations.model_named(session, None) == MODEL_ID
        assert observations.model_named(session, OTHER[:12]) == OTHER
        with pytest.raises(InvalidFilter, match="several models"):
            observations.model_named(session, MODEL_ID[:4])
        with pytest.raises(UnknownModel, match="'zz'"):
            observations.model_named(session, "zz")


def test_an_empty_record_has_no_model(sessions):
    with sessions.begin() as session, pytest.raises(UnknownModel, match="anything yet"):
        observations.model_named(session, None)
