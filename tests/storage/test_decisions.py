from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from storage import decisions
from storage.decisions import DecisionFilter
from storage.errors import InvalidDecision, InvalidFilter
from tests.builders import MODEL_ID, a_decision, a_job, a_review, an_error, digest

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
OTHER = digest("another model")


def test_a_decision_comes_back_whole(sessions):
    whole = a_decision(
        distances=[{"reference": 3, "distance": 0.25}, {"reference": 4, "distance": 0.75}],
        nearest_reference=3,
        fetch_ms=1.5,
        preprocess_ms=2.5,
        embed_ms=3.5,
        total_ms=8.0,
        upstream={"branch": 7},
        decided_at=NOON,
        reject_threshold=0.75,
        operating_point="1%",
        terms={"nearest": 0.5, "spread": -0.125, "cohort": -0.125},
    )
    expected = {k: v for k, v in vars(whole).items() if not k.startswith("_")}
    with sessions.begin() as session:
        a_job(session)
        decisions.record(session, [whole])
    with sessions.begin() as session:
        back = decisions.get(session, "job-1")
        assert {name: getattr(back, name) for name in expected} == expected


def test_what_was_left_out_gets_its_default(sessions):
    with sessions.begin() as session:
        a_job(session)
        back = decisions.record(session, [an_error()])[0]
    assert (back.distances, back.upstream, back.score) == ([], {}, None)
    assert (back.reject_threshold, back.operating_point, back.terms) == (None, None, None)
    assert datetime.now(UTC) - back.decided_at < timedelta(minutes=1)


def test_a_job_without_a_decision_has_none(sessions):
    with sessions.begin() as session:
        a_job(session)
        assert decisions.get(session, "job-1") is None
        assert decisions.get(session, "nowhere") is None


def test_the_first_decision_stands(sessions):
    with sessions.begin() as session:
        a_job(session)
        decisions.record(session, [an_error(code="blank_image")])
    with sessions.begin() as session:
        second = decisions.record(session, [a_decision()])[0]
        assert (second.verdict, second.error_code) == ("error", "blank_image")
    with sessions.begin() as session:
        assert decisions.get(session, "job-1").verdict == "error"


def test_of_many_deciders_at_once_one_stands_and_all_are_told_of_it(sessions):
    def decide(score: float) -> None:
        barrier.wait()
        try:
            with sessions.begin() as session:
                told.append(decisions.record(session, [a_decision(score=score)])[0].score)
        except Exception as error:
            told.append(error)

    with sessions.begin() as session:
        a_job(session)
    told: list[object] = []
    barrier = threading.Barrier(8)
    threads = [threading.Thread(target=decide, args=(i / 100,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sessions.begin() as session:
        assert told == [decisions.get(session, "job-1").score] * 8


def test_a_decider_waits_for_one_that_has_not_committed_and_then_yields(sessions):
    def second() -> None:
        with sessions.begin() as session:
            told.append(decisions.record(session, [an_error()])[0].verdict)

    with sessions.begin() as session:
        a_job(session)
    told: list[str] = []
    thread = threading.Thread(target=second)
    with sessions.begin() as session:
        decisions.record(session, [a_decision()])
        thread.start()
        thread.join(0.3)
        assert told == [], "the first is not committed yet"
    thread.join()
    assert told == ["accept"]


def test_a_decision_that_is_rolled_back_leaves_room_for_the_next(sessions):
    with sessions.begin() as session:
        a_job(session)
    with sessions() as session:
        decisions.record(session, [a_decision()])
        session.rollback()
    with sessions.begin() as session:
        assert decisions.record(session, [an_error()])[0].verdict == "error"


def test_recording_does_not_touch_the_object_that_was_given(sessions):
    given = a_decision()
    with sessions.begin() as session:
        a_job(session)
        assert decisions.record(session, [given])[0] is not given
        assert given not in session


def test_a_decision_needs_its_job(sessions):
    with sessions.begin() as session, pytest.raises(IntegrityError):
        decisions.record(session, [a_decision()])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"verdict": "maybe"}, "one of accept, reject, review, error"),
        ({"verdict": None}, "one of accept"),
        ({"score": 0.5}, "below the threshold"),
        ({"score": 0.7}, "below the threshold"),
        ({"score": None}, "needs a score"),
        ({"threshold": None}, "needs a score"),
        ({"model_id": None}, "needs a score"),
        ({"score": float("nan")}, "not finite"),
        ({"score": float("-inf")}, "not finite"),
        ({"threshold": float("inf")}, "not finite"),
        ({"reject_threshold": float("nan")}, "not finite"),
        ({"verdict": "review", "score": 0.6}, "between the thresholds"),
        ({"verdict": "review", "score": 0.4, "reject_threshold": 0.7}, "between the thresholds"),
        ({"verdict": "review", "score": 0.7, "reject_threshold": 0.7}, "between the thresholds"),
        ({"error_code": "blank_image"}, "an error has an error code"),
        ({"verdict": "error"}, "an error has an error code"),
        ({"verdict": "reject", "score": None}, "needs a score"),
    ],
    ids=repr,
)
def test_nothing_without_grounds_is_recorded(sessions, wrong, sentence):
    with sessions.begin() as session:
        a_job(session)
        with pytest.raises(InvalidDecision, match=sentence):
            decisions.record(session, [a_decision(**wrong)])
        assert decisions.get(session, "job-1") is None


@pytest.fixture
def record(sessions):
    """Six decisions, an hour apart, the last at noon."""
    rows = [
        a_decision("a", signer_id="ada", score=0.1, distance=0.1, total_ms=10),
        a_decision("b", signer_id="ada", verdict="reject", score=0.9, distance=0.9, total_ms=30),
        a_decision("c", signer_id="bob", score=0.3, distance=0.3, model_id=OTHER, total_ms=20),
        a_review("d", signer_id="bob", distance=0.4, total_ms=None),
        an_error("e", signer_id="eve", code="blank_image"),
        an_error("f", signer_id="ada", code="image_not_found"),
    ]
    with sessions.begin() as session:
        for hours, row in enumerate(reversed(rows)):
            row.decided_at = NOON - timedelta(hours=hours)
            a_job(session, row.job_id)
            decisions.record(session, [row])
    return sessions


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "fedcba"),
        ({"newest_first": False}, "abcdef"),
        ({"limit": 2}, "fe"),
        ({"limit": 2, "newest_first": False}, "ab"),
        ({"limit": 0}, ""),
        ({"signer_id": "ada"}, "fba"),
        ({"signer_id": "ADA"}, ""),
        ({"verdict": "accept"}, "ca"),
        ({"verdict": "error"}, "fe"),
        ({"error_code": "blank_image"}, "e"),
        ({"model_id": OTHER}, "c"),
        ({"model_id": OTHER[:8]}, "c"),
        ({"model_id": MODEL_ID[:8]}, "dba"),
        ({"model_id": "%"}, ""),
        ({"model_id": ""}, "dcba"),
        ({"model_id": "", "limit": 3}, "dcb"),
        ({"model_id": "", "limit": 3, "newest_first": False}, "abc"),
        ({"model_id": "", "verdict": "accept"}, "ca"),
        ({"model_id": MODEL_ID, "verdict": "error"}, ""),
        ({"verdict": "error", "since": NOON - timedelta(hours=1), "until": NOON}, "e"),
        ({"verdict": "accept", "since": NOON - timedelta(hours=3)}, "c"),
        ({"model_id": MODEL_ID, "until": NOON - timedelta(hours=2)}, "ba"),
        ({"error_code": "image_not_found", "verdict": "error"}, "f"),
        ({"error_code": "image_not_found", "signer_id": "eve"}, ""),
        ({"since": NOON - timedelta(hours=1)}, "fe"),
        ({"until": NOON}, "edcba"),
        ({"since": NOON - timedelta(hours=2), "until": NOON}, "ed"),
        ({"min_distance": 0.3}, "dcb"),
        ({"max_distance": 0.3}, "ca"),
        ({"min_distance": 0.0, "max_distance": 0.1}, "a"),
        ({"signer_id": "ada", "verdict": "reject", "min_distance": 0.5}, "b"),
        ({"signer_id": "nobody"}, ""),
    ],
    ids=repr,
)
def test_the_record_is_searched_by_every_field_and_their_combination(record, wanted, found):
    with record.begin() as session:
        rows = decisions.search(session, DecisionFilter(**wanted))
        assert "".join(row.job_id for row in rows) == found


def test_decisions_of_the_same_moment_come_in_a_fixed_order(sessions):
    with sessions.begin() as session:
        for name in "bca":
            a_job(session, name)
            decisions.record(session, [an_error(name, decided_at=NOON)])
    with sessions.begin() as session:
        for newest_first, order in ((True, "cba"), (False, "abc")):
            wanted = DecisionFilter(newest_first=newest_first)
            assert "".join(d.job_id for d in decisions.search(session, wanted)) == order


def test_a_long_record_is_read_in_batches(sessions, monkeypatch):
    monkeypatch.setattr(decisions, "BATCH", 3)
    with sessions.begin() as session:
        for number in range(10):
            a_job(session, f"job-{number}")
            decisions.record(session, [an_error(f"job-{number}")])
    with sessions.begin() as session:
        found = decisions.search(session, DecisionFilter())
        next(found)
        assert len(list(found)) == 9


def test_a_page_does_without_a_cursor_of_the_server_and_an_export_has_one(sessions):
    cursors: list[str] = []
    with sessions.begin() as session:
        event.listen(
            session.connection(),
            "before_cursor_execute",
            lambda *given: cursors.append(type(given[1]).__name__),
        )
        for limit in (50, None):
            assert list(decisions.search(session, DecisionFilter(limit=limit))) == []
    if session.get_bind().dialect.name == "postgresql":
        assert cursors == ["Cursor", "ServerCursor"]


def test_a_long_record_of_several_models_may_be_left_in_the_middle(sessions, monkeypatch):
    monkeypatch.setattr(decisions, "BATCH", 2)
    with sessions.begin() as session:
        for number in range(10):
            a_job(session, f"job-{number}")
            model = (MODEL_ID, OTHER)[number % 2]
            when = NOON + timedelta(minutes=number)
            row = a_decision(f"job-{number}", model_id=model, decided_at=when)
            decisions.record(session, [row])
    with sessions.begin() as session:
        found = decisions.search(session, DecisionFilter(model_id=""))
        assert [next(found).job_id for _ in range(3)] == ["job-9", "job-8", "job-7"]
        found.close()
        assert len(list(decisions.search(session, DecisionFilter(model_id="")))) == 10


def test_the_summary_counts_and_averages_by_verdict_and_code(record):
    with record.begin() as session:
        lines = decisions.stats(session, DecisionFilter(limit=1))
    assert [(s.verdict, s.error_code, s.count) for s in lines] == [
        ("accept", None, 2),
        ("reject", None, 1),
        ("review", None, 1),
        ("error", "blank_image", 1),
        ("error", "image_not_found", 1),
    ]
    accept = lines[0]
    assert accept.mean_distance == pytest.approx(0.2)
    assert (accept.min_distance, accept.max_distance) == (0.1, 0.3)
    assert accept.mean_total_ms == pytest.approx(15)
    assert (accept.first, accept.last) == (NOON - timedelta(hours=5), NOON - timedelta(hours=3))
    assert lines[2].mean_total_ms is None
    assert lines[3].mean_distance is None


def test_the_summary_obeys_the_filter_and_may_be_empty(record):
    with record.begin() as session:
        assert [s.count for s in decisions.stats(session, DecisionFilter(signer_id="bob"))] == [
            1,
            1,
        ]
        assert decisions.stats(session, DecisionFilter(signer_id="nobody")) == []


@pytest.mark.parametrize(
    ("wanted", "counts"),
    [
        ({"model_id": ""}, [2, 1, 1]),
        ({"model_id": OTHER[:8]}, [1]),
        ({"model_id": "%"}, []),
        ({"signer_id": "ada", "verdict": "error"}, [1]),
        ({"signer_id": "bob", "verdict": "error"}, []),
        ({"model_id": MODEL_ID, "verdict": "accept"}, [1]),
        ({"since": NOON - timedelta(hours=1), "error_code": "blank_image"}, [1]),
        ({"min_distance": 0.3, "max_distance": 0.4}, [1, 1]),
    ],
    ids=repr,
)
def test_the_summary_obeys_every_field_and_their_combination(record, wanted, counts):
    with record.begin() as session:
        assert [s.count for s in decisions.stats(session, DecisionFilter(**wanted))] == counts


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"verdict": "maybe"}, "a verdict is one of"),
        ({"since": datetime(2026, 1, 1)}, "`since`.*no time zone"),
        ({"until": datetime(2026, 1, 1)}, "`until`.*no time zone"),
        ({"since": NOON, "until": NOON}, "ends before it begins"),
        ({"limit": -1}, "negative"),
    ],
    ids=repr,
)
def test_a_question_that_makes_no_sense_is_one_sentence(wrong, sentence):
    with pytest.raises(InvalidFilter, match=sentence):
        DecisionFilter(**wrong)
