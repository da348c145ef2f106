"""Decisions that did not move raise no alarm; a shift of a stated size is found and said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from storage.observations import Observation
from worker import drift_words, moved
from worker.drift import ALL, MAX_SOURCES, OTHERS, Cell, day, gathered

MONDAY = datetime(2026, 9, 7, tzinfo=UTC)  # of week 37
WEEKS = 8
FOLDERS = ("s3://scans/branch-11", "s3://scans/branch-12")


def a_row(number=0, at=MONDAY, source=FOLDERS[0], signer=None, distance=0.33, **fields):
    usual = {
        "job_id": f"job-{number}",
        "signer_id": signer or f"signer-{number}",
        "document": f"{source}/{at:%Y/%m/%d}/{number}.png",
        "verdict": "accept" if distance is not None and distance < 0.5 else "reject",
        "error_code": None,
        "distance": distance,
        "operating_point": None,
        "preprocess_ms": 4.0,
        "decided_at": at,
        "upstream": None,
    }
    return Observation(**(usual | fields))


def a_failure(number=0, at=MONDAY, source=FOLDERS[0], **fields):
    usual = {"verdict": "error", "error_code": "blank_image", "distance": None}
    return a_row(number, at, source, **(usual | fields))


def made_up(seed, a_week=110, shift=0.0, since=5, blank=0.01, blank_since=0.01, folders=FOLDERS):
    """Weeks of two branches; at the second, distances and failures may move from a week on.

    Signers have several decisions, alike to each other, as they do in earnest.
    """
    rng = np.random.default_rng(seed)
    habits = rng.normal(0.33, 0.06, 400)
    for week in range(WEEKS):
        for number in range(a_week * len(folders)):
            at = MONDAY + timedelta(days=7 * week, minutes=30 * number)
            source, signer = folders[number % len(folders)], int(rng.integers(400))
            late = source == folders[-1] and week >= since
            name = {"number": f"{week}-{number}", "at": at, "source": source}
            name |= {"signer": f"signer-{signer}"}
            if rng.random() < (blank_since if late else blank):
                yield a_failure(**name)
            else:
                distance = habits[signer] + rng.normal(0, 0.05) + (shift if late else 0)
                yield a_row(**name, distance=float(abs(distance)))


def found_in(rows, **how):
    return moved.findings(moved.compared(gathered(rows, **how)))


def test_in_100_seeds_nothing_that_did_not_move_is_called_out():
    alarms = [seed for seed in range(100) if found_in(made_up(seed))]
    assert alarms == []


def test_signers_with_many_decisions_alike_raise_no_alarm():
    def rows(seed):
        rng = np.random.default_rng(seed)
        for week in range(WEEKS):
            busy = rng.permutation(400)[:60]
            habits = rng.normal(0.33, 0.06, 400)
            for number in range(600):
                at = MONDAY + timedelta(days=7 * week, minutes=10 * number)
                signer = int(busy[number % 60])
                distance = float(habits[signer] + rng.normal(0, 0.005))
                yield a_row(f"{week}-{number}", at, signer=f"s{week}-{signer}", distance=distance)

    assert [seed for seed in range(30) if found_in(rows(seed))] == []


@pytest.mark.parametrize("seed", range(10))
def test_a_shift_of_one_deviation_is_found_at_its_source_in_its_week(seed):
    found = found_in(made_up(seed, shift=0.08))
    assert {each.source for each in found} == {FOLDERS[1]}
    (distance,) = (each for each in found if each.measure == moved.DISTANCE)
    assert (distance.first, distance.last, distance.goes_on) == ("2026-W42", "2026-W44", True)


def test_a_shift_is_one_plain_sentence():
    (found, *_) = found_in(made_up(1, shift=0.1))
    assert drift_words.sentence(found) == (
        "Since 2026-W42 documents of s3://scans/branch-12 lie 0.09 farther from their references "
        "than before (median 0.42, was 0.33; 327 decisions): a new scanner or form?"
    )


def test_nearer_is_said_as_well():
    (found, *_) = found_in(made_up(1, shift=-0.1))
    assert "nearer to their references than before" in drift_words.sentence(found)


def test_more_failures_are_found_with_their_code():
    found = found_in(made_up(3, blank_since=0.25))
    (failed,) = (each for each in found if each.measure == moved.FAILED)
    sentence = drift_words.sentence(failed)
    assert "% of the documents of s3://scans/branch-12 are not decided" in sentence
    assert "mostly blank_image" in sentence


def test_what_came_and_went_is_told_with_its_end():
    rows = list(made_up(4, shift=0.1, since=3))
    calm = {row.job_id: row for row in made_up(4)}
    end = MONDAY + timedelta(days=7 * 5)
    mixed = [row if row.decided_at < end else calm[row.job_id] for row in rows]
    distance = next(f for f in found_in(mixed) if f.measure == moved.DISTANCE)
    assert (distance.first, distance.last, distance.goes_on) == ("2026-W40", "2026-W41", False)
    assert drift_words.sentence(distance).startswith("2026-W40 to 2026-W41: documents of")


def test_nothing_is_claimed_from_few_signers():
    rows = list(made_up(5, a_week=20, shift=0.5))
    for row in rows:
        assert row.distance is None or row.distance < 2
    tracks = gathered(rows, baseline=(MONDAY, MONDAY + timedelta(days=7)))
    assert [c for c in moved.compared(tracks) if c.source != ALL] == []
    one = [a_row(n, MONDAY + timedelta(days=n), signer="ada", distance=n / 100) for n in range(99)]
    assert moved.compared(gathered(one)) == []
    assert moved.untested(gathered(one)) == [FOLDERS[0]]


def test_of_one_signer_alone_each_decision_counts():
    rows = [
        a_row(n, MONDAY + timedelta(hours=2 * n), signer="ada", distance=0.3 + 0.2 * (n >= 336))
        for n in range(600)
    ]
    assert found_in(rows) == []
    (found, *_) = found_in(rows, each_decision=True)
    assert found.first == "2026-W41"


def test_a_new_source_is_held_against_all_the_others():
    rows = list(made_up(6, folders=(*FOLDERS, "s3://scans/new"), shift=0.15))
    since = MONDAY + timedelta(days=7 * 5)
    late = [r for r in rows if "/new/" not in r.document or r.decided_at >= since]
    found = [f for f in found_in(late) if f.measure == moved.DISTANCE]
    assert [(f.source, f.new) for f in found] == [("s3://scans/new", True)]
    sentence = drift_words.sentence(found[0])
    assert sentence.startswith("New in 2026-W42: documents of s3://scans/new lie 0.")
    assert "than those of all sources" in sentence


def test_another_operating_point_is_a_remark_and_no_finding():
    def point(row):
        late = row.decided_at >= MONDAY + timedelta(days=7 * 5)
        verdict = row.verdict if row.verdict == "error" or not late else "review"
        return row._replace(operating_point="5%" if not late else "0.1%", verdict=verdict)

    rows = [point(row) for row in made_up(7)]
    assert found_in(rows) == []
    remarks = drift_words.remarks(gathered(rows))
    assert "From 2026-W42 on" in remarks[0]
    assert "was 5%, now 0.1%" in remarks[0]
    assert "at calibration 1 % of the genuine were" in remarks[1]


def test_many_small_sources_that_move_together_are_found_as_all():
    rows = [
        row._replace(document=f"s3://scans/desk-{number % 97}/1.png")
        for number, row in enumerate(made_up(8, shift=0.15, folders=FOLDERS[1:], a_week=200))
    ]
    found = found_in(rows)
    assert {each.source for each in found} == {ALL}


def test_a_baseline_of_ones_own_choice_is_everybodys():
    week = timedelta(days=7)
    fixed = (MONDAY + week, MONDAY + 3 * week)
    tracks = gathered(made_up(9), baseline=fixed)
    assert tracks[ALL].basis == ["2026-W38", "2026-W39"]
    assert next(iter(tracks[ALL].periods)) == "2026-W40"
    new = [a_row(n, MONDAY + 4 * week, "s3://scans/new") for n in range(50)]
    rows = sorted([*made_up(9), *new], key=lambda row: row.decided_at)
    track = gathered(rows, baseline=fixed)["s3://scans/new"]
    assert (track.basis, track.baseline.signers.total()) == (["2026-W41"], 50)


def test_days_are_periods_too():
    tracks = gathered(made_up(10), period_of=day)
    assert tracks[ALL].basis[0] == "2026-09-07"


def test_sources_without_number_are_taken_together():
    rows = [a_row(n, source=f"s3://scans/signer-{n}") for n in range(MAX_SOURCES + 50)]
    tracks = gathered(rows)
    assert len(tracks) == MAX_SOURCES + 2
    assert tracks[OTHERS].baseline.verdicts.total() == 50


def test_a_cell_counts_every_decision_and_tests_one_of_each_signer():
    cell = Cell()
    for row in (a_failure(1), a_row(2), a_row(3, distance=0.9)):
        cell.add(row, 7)
    assert (cell.verdicts.total(), cell.signers, sum(cell.measured.values())) == (
        3,
        {"error": 1},
        1,
    )
    assert cell.codes == {"blank_image": 1}
