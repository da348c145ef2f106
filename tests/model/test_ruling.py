"""The rule of promotion, the paired interval beneath it, and the flips that it counts."""

from types import SimpleNamespace

import numpy as np
import pytest

from model import metrics
from model.comparison import MEAN, Comparison, compare
from model.flips import Change, Flips, flips_of
from model.paired import Difference, difference_interval
from model.ruling import rule
from model.sampling import Writer
from model.scoring import Scoring

NONE = Flips(gone={})


def difference(kind, low, high, references=None, active=0.15):
    return Difference(
        protocol=f"{references} references" if references else MEAN,
        references=references,
        kind=kind,
        active=active,
        candidate=active + (low + high) / 2,
        low=low,
        high=high,
    )


def comparison(*differences, leaks=()):
    return Comparison(
        writers=("a/1", "a/2"),
        differences=differences,
        leaks=tuple(leaks),
        active_rows=(),
        candidate_rows=(),
    )


BETTER = (difference("skilled", -0.04, -0.01), difference("random", -0.01, 0.01))


def unmet(found, flips=NONE, max_flips=0.02):
    ruling = rule(found, flips, max_flips=max_flips)
    assert ruling.promotes == (not ruling.reasons)
    return [condition.name for condition in ruling.conditions if not condition.met]


def test_a_candidate_that_is_better_in_one_and_no_worse_in_the_other_is_promoted():
    assert unmet(comparison(*BETTER)) == []
    assert unmet(comparison(*BETTER), flips=None) == []


@pytest.mark.parametrize(
    ("differences", "lacking"),
    [
        ((BETTER[0], difference("random", 0.01, 0.02)), ["random_no_worse"]),
        (
            (difference("skilled", 0.01, 0.05), difference("random", -0.03, -0.01)),
            ["skilled_no_worse"],
        ),
        ((difference("skilled", -0.04, 0.01), difference("random", -0.01, 0.0)), ["one_better"]),
        ((*BETTER, difference("skilled", 0.01, 0.02, references=10)), ["skilled_no_worse"]),
        # Better with ten references alone may be luck: of ten rows one is.
        (
            (
                difference("skilled", -0.02, 0.02),
                difference("random", 0, 0),
                difference("skilled", -0.04, -0.01, references=10),
            ),
            ["one_better"],
        ),
        (
            (difference("random", -0.03, -0.01), difference("skilled", *[float("nan")] * 2)),
            ["skilled_no_worse"],
        ),
    ],
)
def test_a_candidate_that_lacks_a_condition_is_not(differences, lacking):
    assert unmet(comparison(*differences)) == lacking


def test_a_gate_that_fails_is_a_reason_with_its_sentence():
    found = comparison(*BETTER, leaks=["cedar: One embedding tells too much."])
    assert unmet(found) == ["gates"]
    (reason,) = rule(found, NONE, max_flips=0.02).reasons
    assert "cedar: One embedding tells too much." in reason


def change(before, after, truth=None):
    return Change(job_id=f"{before}-{after}-{truth}", before=before, after=after, truth=truth)


def test_flips_towards_what_people_found_out_are_counted_apart():
    flips = Flips(
        changes=(
            change("accept", "reject", "forged"),
            change("review", "accept", "genuine"),
            change("accept", "review", "genuine"),
            change("reject", "accept"),
            *[change("accept", "accept")] * 6,
        ),
        gone={"image_not_found": 2},
    )
    assert (len(flips.flipped), len(flips.corrected), flips.doubtful) == (4, 2, 0.2)
    assert flips.asked == 12
    assert flips.table()[0] == ("accept", "reject", 1, 1)
    assert unmet(comparison(*BETTER), flips, max_flips=0.2) == []
    assert unmet(comparison(*BETTER), flips, max_flips=0.19) == ["flips"]


def test_a_candidate_that_turns_more_verdicts_from_the_truth_than_to_it_is_refused():
    right, wrong = change("review", "accept", "genuine"), change("review", "accept", "forged")
    others = [change("accept", "accept", "genuine")] * 97
    flips = Flips(changes=(right, wrong, *others), gone={})
    assert (len(flips.corrected), len(flips.contradicted)) == (1, 1)
    assert unmet(comparison(*BETTER), flips) == []
    flips = Flips(changes=(right, wrong, wrong, *others), gone={})
    assert unmet(comparison(*BETTER), flips) == ["labels"]
    (reason,) = rule(comparison(*BETTER), flips, max_flips=0.02).reasons
    assert "1 go towards what people found out and 2 away from it" in reason


def judged(genuine, forged):
    """Documents that nobody's verdict flips, with the candidate's scores by what people say."""
    told = [("genuine", score) for score in genuine] + [("forged", score) for score in forged]
    changes = (
        Change(job_id=str(n), before="review", after="review", truth=truth, score=score)
        for n, (truth, score) in enumerate(told)
    )
    return Flips(changes=tuple(changes), gone={})


def test_a_candidate_that_cannot_tell_apart_what_people_told_apart_is_refused():
    flips = judged([0.1] * 10 + [0.9] * 10, [0.1] * 9 + [0.9] * 11)
    assert flips.told_apart() == (pytest.approx(0.525), 20, 20)
    assert unmet(comparison(*BETTER), flips) == ["learnt"]
    (reason,) = rule(comparison(*BETTER), flips, max_flips=0.02).reasons
    assert "20 documents that people called forged" in reason
    assert "AUC of 0.5" in reason
    # As well as one can tell what was shuffled, once one has been taught it: docs/retraining.md.
    assert unmet(comparison(*BETTER), judged([0.1] * 8 + [0.9] * 2, [0.1] * 2 + [0.9] * 8)) == [
        "learnt"
    ]
    assert unmet(comparison(*BETTER), judged([0.1] * 9 + [0.9], [0.1] + [0.9] * 9)) == []


def test_few_labels_say_nothing_of_themselves():
    assert unmet(comparison(*BETTER), judged([0.5] * 9, [0.5] * 30)) == []
    no_score = Change(job_id="1", before="error", after="error", truth="genuine")
    flips = judged([0.5] * 9, [0.5] * 30)
    assert Flips(changes=(*flips.changes, no_score), gone={}).told_apart()[1] == 9


def test_flips_of_which_nobody_knows_the_truth_say_nothing_of_the_labels():
    no_move = change("reject", "error", "genuine")
    flips = Flips(changes=(change("review", "accept"), no_move), gone={})
    assert not flips.contradicted
    assert unmet(comparison(*BETTER), flips, max_flips=1.0) == []


def test_decisions_none_of_which_can_be_replayed_prove_nothing():
    assert unmet(comparison(*BETTER), Flips(gone={"image_not_found": 5})) == ["flips"]


def test_flips_are_kept_and_read_back():
    plain = [{"job_id": "1", "before": "accept", "after": "review", "truth": None, "score": 0.5}]
    flips = flips_of(plain, {"x": 1})
    assert flips.as_dict()["flips"] == plain
    assert (flips.as_dict()["seen"], flips.as_dict()["gone"]) == (1, {"x": 1})


def scores(rng, shift, spread, writers=12):
    """Distances by writer: hands differ by `spread`, genuine and forged by `shift`."""
    hands = spread * rng.normal(size=writers)
    return (
        [hand + rng.normal(size=30) for hand in hands],
        [hand + shift + rng.normal(size=30) for hand in hands],
    )


def test_the_paired_interval_sees_what_two_intervals_of_their_own_do_not():
    """Writers differ far more than the models: apart the intervals overlap, paired zero is out."""
    active = scores(np.random.default_rng(1), 1.6, 1.0)
    candidate = tuple([0.85 * one for one in kind] for kind in active)
    candidate[1][:] = [one + 0.4 for one in candidate[1]]
    apart = [
        metrics.bootstrap_eer(*one, rng=np.random.default_rng(0)) for one in (active, candidate)
    ]
    assert apart[1][1] > apart[0][0]
    low, high = difference_interval([(active, candidate)], rng=np.random.default_rng(0))
    assert low < high < 0


def test_the_paired_interval_covers_no_difference_as_often_as_it_says():
    rng, missed = np.random.default_rng(2), 0
    for _ in range(200):
        first, second = scores(rng, 1.5, 0.5), scores(rng, 1.5, 0.5)
        low, high = difference_interval([(first, second)], rng=rng, resamples=200)
        missed += low > 0 or high < 0
    assert missed / 200 < 0.12


def test_the_mean_of_several_protocols_is_surer_than_one_of_them():
    """The same difference by four draws of their own: chance of the draws falls out of the mean."""

    def width(protocols):
        low, high = difference_interval(protocols, rng=np.random.default_rng(0))
        return high - low

    rng = np.random.default_rng(3)
    pairs = [(scores(rng, 1.5, 0.3), scores(rng, 1.7, 0.3)) for _ in range(4)]
    assert width(pairs) < min(map(width, ([pair] for pair in pairs)))
    low, high = difference_interval(pairs[:1] * 3, rng=np.random.default_rng(0))
    assert (low, high) == pytest.approx(
        difference_interval(pairs[:1], rng=np.random.default_rng(0))
    )


def test_what_decides_is_the_mean_over_the_numbers_of_references_that_can_be_measured():
    """Of five writers one has three signatures and one has twelve: ten references test nobody."""
    counts, forged, rows = (3, 6, 6, 6, 12), 4, 0
    writers = []
    for number, count in enumerate(counts):
        genuine = np.arange(rows, rows + count)
        rows += count + forged
        writers.append(
            Writer(
                name=f"a/{number}",
                corpus="a",
                genuine=genuine,
                forged=np.arange(rows - forged, rows),
            )
        )
    rng = np.random.default_rng(4)
    before, after = rng.normal(size=(2, rows, 8)).astype(np.float32)
    model = SimpleNamespace(threshold=1.0, scoring=Scoring(thresholds={1: 1.0}))
    found = compare(
        writers,
        active=model,
        active_vectors=before,
        candidate=model,
        candidate_vectors=after,
        seed=1,
    )
    assert {one.protocol for one in found.differences if not one.measured} == {"10 references"}
    for decides in found.deciding:
        several = [
            one
            for one in found.differences
            if one.references and one.measured and one.kind == decides.kind
        ]
        assert [one.references for one in several] == [1, 3, 5]
        assert decides.measured
        assert decides.active == pytest.approx(np.mean([one.active for one in several]))
        assert decides.candidate == pytest.approx(np.mean([one.candidate for one in several]))
    assert [one.kind for one in found.deciding] == ["skilled", "random"]


def test_without_two_writers_or_forgeries_there_is_no_interval():
    one = ([[0.1]], [[0.2]])
    assert np.isnan(difference_interval([(one, one)], rng=np.random.default_rng(0))).all()
