"""Labels are entries of the chain: never changed, found by their job, the latest counts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from bench.plans import plan
from storage import chain, decisions, labels, verification
from storage.errors import CannotLabel, InvalidFilter, UnknownJob
from storage.seal import Keys
from storage.tables import utc_now
from tests.builders import a_decision, a_job, an_error
from tests.storage.test_chain import tamper


@pytest.fixture
def decided(sessions):
    """Jobs a and b with verdicts, c which failed, d which waits."""
    with sessions.begin() as session:
        for job in "abcd":
            a_job(session, job)
        decisions.record(session, [a_decision("a"), a_decision("b"), an_error("c")])
    return sessions


def put(sessions, job, finding, **more):
    with sessions.begin() as session:
        return labels.put(session, job, finding, **more)


def checked(sessions):
    with sessions.begin() as session:
        return verification.verify(session, Keys())


def test_a_later_label_stands_beside_the_earlier_one_and_counts(decided):
    put(decided, "a", "forged", by="May", note="he was abroad")
    put(decided, "a", "genuine", by="Max")
    with decided.begin() as session:
        found = labels.of_job(session, "a")
        assert [(each.finding, each.by, each.note) for each in found] == [
            ("forged", "May", "he was abroad"),
            ("genuine", "Max", None),
        ]
        assert [each.finding for each in labels.listed(session)] == ["genuine"]
        assert labels.of_job(session, "b") == []


def test_labelled_decisions_come_with_the_label_that_counts(decided, monkeypatch):
    monkeypatch.setattr(labels, "BATCH", 1)
    put(decided, "a", "forged")
    put(decided, "b", "genuine")
    put(decided, "a", "genuine")
    with decided.begin() as session:
        pairs = [(d.job_id, d.distance, each.finding) for d, each in labels.labelled(session)]
    assert pairs == [("a", 0.25, "genuine"), ("b", 0.25, "genuine")]


@pytest.mark.parametrize(
    ("job", "finding", "error", "words"),
    [
        ("z", "forged", UnknownJob, "no job 'z'"),
        ("d", "forged", CannotLabel, "no decision yet"),
        ("c", "forged", CannotLabel, "blank_image"),
        ("a", "odd", InvalidFilter, "genuine, forged"),
    ],
)
def test_what_cannot_be_labelled_is_refused_and_leaves_no_entry(
    decided, job, finding, error, words
):
    before = checked(decided).entries
    with pytest.raises(error, match=words):
        put(decided, job, finding)
    assert checked(decided).entries == before


def test_labels_are_counted_and_a_changed_one_shows(decided):
    put(decided, "a", "forged")
    report = checked(decided)
    assert (report.faults, report.kinds["label"], report.decisions) == ([], 1, 3)
    tamper(decided, "UPDATE chain_entries SET detail = replace(detail, 'forged', 'genuine')")
    faults = checked(decided).faults
    assert [(fault.kind, fault.subject) for fault in faults] == [("label", "a")]


def test_a_label_of_another_job_shows(decided):
    put(decided, "a", "forged")
    tamper(decided, "UPDATE chain_entries SET subject = 'b' WHERE kind = 'label'")
    assert checked(decided).faults


@pytest.mark.parametrize(
    "act", ["UPDATE chain_entries SET kind = kind", "DELETE FROM chain_entries"]
)
def test_the_database_refuses_to_change_a_label(decided, act):
    put(decided, "a", "forged")
    with pytest.raises(Exception, match="append-only"), decided.begin() as session:
        session.execute(text(act))


def test_only_labels_of_the_period_are_listed(decided):
    put(decided, "a", "forged")
    now = utc_now()
    with decided.begin() as session:
        for bounds, count in (
            ({"since": now - timedelta(hours=1)}, 1),
            ({"since": now + timedelta(hours=1)}, 0),
            ({"until": now - timedelta(hours=1)}, 0),
        ):
            assert len(list(labels.listed(session, **bounds))) == count


def test_the_labels_of_a_job_are_found_along_their_index(decided):
    put(decided, "a", "forged")
    with decided.begin() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("SET LOCAL enable_seqscan = off"))
        found = plan(session, lambda s: labels.of_job(s, "a"))
    assert "ix_chain_entries_subject_recorded_at" in found


def test_words_that_no_database_holds_do_not_lose_a_label(decided):
    put(decided, "a", "forged", note="a\0b \ud800")
    assert checked(decided).faults == []
    with decided.begin() as session:
        assert chain.entry_of(session, "a") is not None
        assert labels.of_job(session, "a")[-1].note.startswith("a")
