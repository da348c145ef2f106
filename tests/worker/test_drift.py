"""Decisions that did not move raise no alarm; a shift of a stated size is found and said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest

from model import synthetic
from model.ink import measure_ink
from model.preprocess import Preprocessing, ink_mask
from storage.observations import Observation
from worker import drift_words, moved
from worker.cells import DISTANCE, INK_SHARE, LONG_SIDE, OF_INK, STROKE_WIDTH, Cell, binned
from worker.drift import ALL, MAX_SOURCES, OTHERS, day, gathered

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
        "ink": None,
        "upstream": None,
    }
    return Observation(**(usual | fields))


def a_failure(number=0, at=MONDAY, source=FOLDERS[0], **fields):
    usual = {"verdict": "error", "error_code": "blank_image", "distance": None}
    return a_row(number, at, source, **(usual | fields))


# As on CEDAR, nearly: medians, and the deviations of the logarithm over signers and of one signer.
MEDIANS = np.array([3.7, 0.07, 512])
BETWEEN, WITHIN = np.array([0.12, 0.38, 0.33]), np.array([0.04, 0.11, 0.06])


def inked(rng, hand, factors):
    """The ink of one document of a hand, its numbers multiplied by the factors."""
    numbers = MEDIANS * np.exp(hand + rng.normal(0, WITHIN)) * factors
    return {name: float(value) for name, value in zip(OF_INK, numbers, strict=True)}


def made_up(
    seed,
    a_week=110,
    shift=0.0,
    since=5,
    blank=0.01,
    blank_since=0.01,
    folders=FOLDERS,
    factors=(1, 1, 1),
    ink_since=0,
):
    """Weeks of two branches; at the second, distances, failures and ink may move from a week on.

    Signers have several decisions, alike to each other, as they do in earnest. `factors` multiply
    stroke width, share and length; before the week `ink_since` no ink is on record.
    """
    rng, of_ink = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    habits = rng.normal(0.33, 0.06, 400)
    hands = of_ink.normal(0, BETWEEN, (400, 3))
    for week in range(WEEKS):
        for number in range(a_week * len(folders)):
            at = MONDAY + timedelta(days=7 * week, minutes=30 * number)
            source, signer = folders[number % len(folders)], int(rng.integers(400))
            late = source == folders[-1] and week >= since
            name = {"number": f"{week}-{number}", "at": at, "source": source}
            name |= {"signer": f"signer-{signer}"}
            ink = inked(of_ink, hands[signer], np.array(factors if late else (1, 1, 1)))
            if rng.random() < (blank_since if late else blank):
                yield a_failure(**name)
            else:
                distance = habits[signer] + rng.normal(0, 0.05) + (shift if late else 0)
                found = ink if week >= ink_since else None
                yield a_row(**name, distance=float(abs(distance)), ink=found)


def found_in(rows, **how):
    return moved.findings(moved.compared(gathered(rows, **how)))


@pytest.mark.parametrize(
    "seeds", [range(100), pytest.param(range(100, 400), marks=pytest.mark.long)]
)
def test_whatever_the_seed_nothing_that_did_not_move_is_called_out(seeds):
    alarms = [seed for seed in seeds if found_in(made_up(seed))]
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
    (distance,) = (each for each in found if each.measure == DISTANCE)
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


# Ink


@pytest.mark.parametrize("seed", range(10))
def test_a_scanner_that_widens_strokes_is_found_while_no_distance_and_no_verdict_moved(seed):
    found = found_in(made_up(seed, factors=(1.2, 1, 1)))
    assert {(each.source, each.measure) for each in found} == {(FOLDERS[1], STROKE_WIDTH)}
    assert (found[0].first, found[0].last, found[0].goes_on) == ("2026-W42", "2026-W44", True)


@pytest.mark.parametrize(
    ("factors", "sentences"),
    [
        (
            (1.4, 1, 1),
            [
                "Since 2026-W42 the strokes of documents of s3://scans/branch-12 are 1.4 times as "
                "wide as before (median 5.1 px, was 3.7; 327 decisions): a new scanner or form?"
            ],
        ),
        (
            (1, 0.5, 1.8),
            [
                "Since 2026-W42 the ink of documents of s3://scans/branch-12 is 0.52 times as "
                "dense in its box as before (median 3.7 %, was 7.1; 327 decisions): a new "
                "scanner or form?",
                "Since 2026-W42 the ink of documents of s3://scans/branch-12 is 1.81 times as long "
                "as before (median 936 px, was 517; 327 decisions): a new scanner or form?",
            ],
        ),
    ],
)
def test_what_moved_of_the_ink_is_a_plain_sentence(factors, sentences):
    found = found_in(made_up(1, factors=factors))
    assert [drift_words.sentence(each) for each in found] == sentences


def scanned(week, scanner, signers=60):
    """Documents of generated signers as that scanner makes them, with the ink that they measure."""
    for number in range(signers):
        rng = np.random.default_rng((week, number))
        hand = synthetic.make_signer(np.random.default_rng(number))
        page = scanner(synthetic.genuine(hand, rng))
        ink = measure_ink(ink_mask(page, Preprocessing())).as_dict()
        at = MONDAY + timedelta(days=7 * week, minutes=number)
        yield a_row(f"{week}-{number}", at, signer=f"signer-{number}", ink=ink)


@pytest.mark.parametrize(
    ("scanner", "measures"),
    [
        (lambda page: page, set()),
        (lambda page: cv2.erode(page, np.ones((3, 3), np.uint8)), {STROKE_WIDTH, INK_SHARE}),
        (lambda page: cv2.resize(page, None, fx=0.67, fy=0.67), {STROKE_WIDTH, LONG_SIDE}),
    ],
    ids=["the same", "darker", "coarser"],
)
def test_a_new_scanner_is_found_by_the_ink_that_its_pages_really_measure(scanner, measures):
    rows = [*scanned(0, lambda page: page), *scanned(1, scanner)]
    found = found_in(rows, baseline=(MONDAY, MONDAY + timedelta(days=7)))
    assert {each.measure for each in found} == measures


def test_another_spread_of_the_same_median_is_said_as_such():
    def spread(row, number):
        late = row.decided_at >= MONDAY + timedelta(days=7 * 5)
        if row.ink is None or not late or FOLDERS[1] not in row.document:
            return row
        factor = 1.4 if number % 4 < 2 else 1 / 1.4
        return row._replace(ink=row.ink | {STROKE_WIDTH: row.ink[STROKE_WIDTH] * factor})

    found = found_in(spread(row, number) for number, row in enumerate(made_up(1)))
    assert [each.measure for each in found] == [STROKE_WIDTH]
    assert "are spread otherwise in width than before" in drift_words.sentence(found[0])


def test_decisions_without_ink_are_compared_by_the_rest_and_it_is_said():
    rows = list(made_up(1, shift=0.1, ink_since=WEEKS))
    (found, *_) = found_in(rows)
    assert found.measure == DISTANCE
    assert drift_words.NO_INK in drift_words.remarks(gathered(rows))


def test_ink_has_a_baseline_of_its_own_where_older_decisions_have_none():
    rows = list(made_up(2, ink_since=3, factors=(1.4, 1, 1)))
    tracks = gathered(rows)
    assert tracks[FOLDERS[1]].baseline.basis == ["2026-W37", "2026-W38"]
    assert tracks[FOLDERS[1]].inked.basis == ["2026-W40", "2026-W41"]
    (found,) = moved.findings(moved.compared(tracks))
    assert (found.measure, found.first, found.last) == (STROKE_WIDTH, "2026-W42", "2026-W44")
    assert drift_words.remarks(tracks) == [
        "Ink is on record since 2026-W40 and is compared with what it was until 2026-W40."
    ]


def test_a_source_that_has_ink_from_its_beginning_says_nothing_of_that():
    assert drift_words.remarks(gathered(made_up(2))) == []


def test_the_ink_of_failures_counts_where_there_is_any():
    ink = dict(zip(OF_INK, (4.0, 0.07, 500), strict=True))
    rows = [a_failure(n, ink=ink, error_code="unknown_signer") for n in range(9)]
    cell = gathered(rows)[FOLDERS[0]].inked.cell
    assert {name: cell.firsts[name].total() for name in OF_INK} == dict.fromkeys(OF_INK, 9)
    assert cell.median(STROKE_WIDTH) == pytest.approx(4.0, rel=0.02)
    assert cell.median(INK_SHARE) == pytest.approx(0.07, rel=0.02)
    assert cell.median(LONG_SIDE) == pytest.approx(500, rel=0.02)


def test_what_came_and_went_is_told_with_its_end():
    rows = list(made_up(4, shift=0.1, since=3))
    calm = {row.job_id: row for row in made_up(4)}
    end = MONDAY + timedelta(days=7 * 5)
    mixed = [row if row.decided_at < end else calm[row.job_id] for row in rows]
    distance = next(f for f in found_in(mixed) if f.measure == DISTANCE)
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
    found = [f for f in found_in(late) if f.measure == DISTANCE]
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
    assert tracks[ALL].baseline.basis == ["2026-W38", "2026-W39"]
    assert next(iter(tracks[ALL].periods)) == "2026-W40"
    new = [a_row(n, MONDAY + 4 * week, "s3://scans/new") for n in range(50)]
    rows = sorted([*made_up(9), *new], key=lambda row: row.decided_at)
    new = gathered(rows, baseline=fixed)["s3://scans/new"].baseline
    assert (new.basis, new.cell.signers.total()) == (["2026-W41"], 50)


def test_days_are_periods_too():
    tracks = gathered(made_up(10), period_of=day)
    assert tracks[ALL].baseline.basis[0] == "2026-09-07"


def test_sources_without_number_are_taken_together():
    rows = [a_row(n, source=f"s3://scans/signer-{n}") for n in range(MAX_SOURCES + 50)]
    tracks = gathered(rows)
    assert len(tracks) == MAX_SOURCES + 2
    assert tracks[OTHERS].baseline.cell.verdicts.total() == 50


def test_a_cell_counts_every_decision_and_tests_one_of_each_signer():
    cell = Cell()
    for row in (a_failure(1), a_row(2), a_row(3, distance=0.9)):
        cell.add(row, binned(row), 7)
    assert (cell.verdicts.total(), cell.signers, cell.firsts[DISTANCE].total()) == (
        3,
        {"error": 1},
        1,
    )
    assert cell.codes == {"blank_image": 1}
