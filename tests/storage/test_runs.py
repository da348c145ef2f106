"""Training runs: one worker at a time, progress for everybody, an end that says why."""

from __future__ import annotations

from datetime import timedelta

import pytest

from storage import runs
from storage.errors import RunEnded, RunHeld, UnknownRun

NOW = timedelta(0)
OPTIONS = {"seed": 1}


@pytest.fixture
def run(sessions):
    with sessions.begin() as session:
        runs.make(session, "run-1", options=OPTIONS, by="May")
    return "run-1"


def row(sessions, id="run-1"):
    with sessions.begin() as session:
        return runs.get(session, id)


def test_a_run_comes_back_as_it_was_asked_for(sessions, run):
    found = row(sessions)
    assert (found.state, found.options, found.requested_by) == ("queued", OPTIONS, "May")
    assert (found.progress, found.candidate_id, found.cancelled_at) == ({}, None, None)


def test_two_workers_are_never_at_one_run(sessions, run):
    with sessions.begin() as session:
        hold = runs.take(session, run)
    with pytest.raises(RunHeld, match="another worker is at"), sessions.begin() as session:
        runs.take(session, run)
    with sessions.begin() as session:
        again = runs.report(session, hold, {"stage": "train"})
    assert row(sessions).progress == {"stage": "train"}
    with sessions.begin() as session:
        runs.report(session, again)
    assert row(sessions).progress == {"stage": "train"}


def test_a_worker_that_was_silent_loses_the_run_and_learns_of_it(sessions, run):
    with sessions.begin() as session:
        lost = runs.take(session, run)
    with sessions.begin() as session:
        hold = runs.take(session, run, lease=NOW)
    for say in (
        lambda session: runs.report(session, lost, {"stage": "old"}),
        lambda session: runs.finish(session, lost, candidate_id="c"),
        lambda session: runs.fail(session, lost, code="x", message="y"),
        lambda session: runs.hand_back(session, lost),
    ):
        with pytest.raises(RunHeld, match="has taken"), sessions.begin() as session:
            say(session)
    with sessions.begin() as session:
        runs.finish(session, hold, candidate_id="the candidate")
    found = row(sessions)
    assert (found.state, found.candidate_id, found.progress) == ("done", "the candidate", {})


def test_what_was_handed_back_is_taken_at_once(sessions, run):
    with sessions.begin() as session:
        runs.hand_back(session, runs.take(session, run))
    assert row(sessions).state == "queued"
    with sessions.begin() as session:
        runs.take(session, run)


def test_a_run_that_has_ended_is_not_taken_again(sessions, run):
    with sessions.begin() as session:
        runs.fail(session, runs.take(session, run), code="dataset_error", message="No writer.")
    found = row(sessions)
    assert (found.state, found.error_code, found.error_message) == (
        "failed",
        "dataset_error",
        "No writer.",
    )
    with pytest.raises(RunEnded, match="is failed"), sessions.begin() as session:
        runs.take(session, run, lease=NOW)
    with pytest.raises(RunEnded, match="nothing to cancel"), sessions.begin() as session:
        runs.cancel(session, run)


def test_a_run_that_waits_is_cancelled_at_once_and_one_at_work_is_asked_to_end(sessions, run):
    with sessions.begin() as session:
        hold = runs.take(session, run)
        assert not runs.is_cancelled(session, run)
    with sessions.begin() as session:
        assert runs.cancel(session, run).state == "running"
        assert runs.cancel(session, run).state == "running"
    with sessions.begin() as session:
        hold = runs.report(session, hold)  # the word of the other does not cost the run
        assert runs.is_cancelled(session, run)
        runs.end_cancelled(session, hold)
        assert runs.cancel(session, run).state == "cancelled"
        runs.make(session, "run-2", options=OPTIONS)
        assert runs.cancel(session, "run-2").state == "cancelled"


def test_runs_are_found_by_the_beginning_of_their_id_or_the_newest(sessions, run):
    with sessions.begin() as session:
        runs.make(session, "run-2", options=OPTIONS)
        assert runs.find(session).id == "run-2"
        assert runs.find(session, "run-1").id == "run-1"
        assert [found.id for found in runs.listed(session)] == ["run-2", "run-1"]
        for beginning, words in (("run", "more than one"), ("x", "there is no")):
            with pytest.raises(UnknownRun, match=words):
                runs.find(session, beginning)
        with pytest.raises(UnknownRun):
            runs.get(session, "run-9")
