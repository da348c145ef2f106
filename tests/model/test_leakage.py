"""The gates on embeddings whose leak is known, on scans with a made leak, and on the real ones."""

import itertools
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from model import evaluate, leakage, metrics, synthetic
from model.cache import CachedImages
from model.dataset import scan_dataset
from model.leakage import (
    Gates,
    check,
    common_displacement,
    probe_inputs,
    session_test,
    single_image_probe,
)
from model.preprocess import Preprocessing
from model.sampling import Writer, writers_of
from tests.model.writers import people

DATA = Path(__file__).parents[2].parent / "shared" / "data"
STROKES = Preprocessing(height=64, width=128)
GREY = Preprocessing(name="seed_grey")
CLEAN = {"probe_auc": 0.6, "probe_eer": 0.4, "session_auc": 0.5}
SANE = {"skilled_eer": 0.1, "random_eer": 0.03}


def columns(writers):
    """Of every row: whether it is genuine, and the number of its writer."""
    size = sum(len(w.genuine) + len(w.forged) for w in writers)
    genuine, number = np.zeros(size, bool), np.zeros(size, int)
    for n, writer in enumerate(writers):
        genuine[writer.genuine] = True
        number[writer.genuine], number[writer.forged] = n, n
    return genuine, number


def noise(rows, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def probe(features, writers, **options):
    return single_image_probe(features, *columns(writers), seed=0, **options)


def session(vectors, writers, seed=0):
    return session_test(vectors, writers, np.random.default_rng(seed))


# The probe


def test_a_class_that_can_be_read_off_is_found_without_error():
    writers = people(6)
    features = noise(96)
    features[:, 2] += 20 * ~columns(writers)[0]
    assert probe(features, writers) == (1.0, 0.0)


def test_noise_tells_the_probe_nothing():
    auc, eer = probe(noise(480), people(30))
    assert auc == pytest.approx(0.5, abs=0.08)
    assert eer == pytest.approx(0.5, abs=0.08)


def test_a_cue_of_known_strength_is_measured_at_its_strength():
    """Two normal classes 1.0 apart have an AUC of Phi(1 / sqrt 2) = 0.76; no probe can do more."""
    writers = people(40)
    genuine, _ = columns(writers)
    feature = noise(640, width=1, seed=3) + (~genuine)[:, None]
    exact = metrics.roc_auc(feature[genuine, 0], feature[~genuine, 0])
    auc, _ = probe(feature, writers)
    assert exact == pytest.approx(0.76, abs=0.03)
    assert exact - 0.12 < auc < exact


def test_what_is_known_of_a_writer_does_not_help_with_the_next_one():
    """Every writer's forgeries can be told, each in a direction of its own: folds by image would
    find them all."""
    writers = people(30)
    genuine, number = columns(writers)
    own = noise(30, seed=1)
    features = own[number] * 5 + np.where(genuine, 1, -1)[:, None] * noise(30, seed=2)[number]
    auc, _ = probe(features, writers)
    assert auc == pytest.approx(0.5, abs=0.15)


def test_an_auc_below_one_half_stays_below():
    """With one writer held out, most of the others say the opposite of what is true of him."""
    writers = people(4)
    genuine, number = columns(writers)
    features = np.where(genuine, 1, -1)[:, None] * np.where(number < 2, 1, -1)[:, None]
    auc, _ = probe(features.astype(float), writers, folds=4)
    assert auc == 0


def test_writers_without_forgeries_are_no_part_of_the_probe():
    some, features = people(8), noise(128)
    alone = np.concatenate([features, np.full((20, 6), 50.0)])
    genuine, number = columns(some)
    genuine, number = np.r_[genuine, np.ones(20, bool)], np.r_[number, np.repeat([98, 99], 10)]
    assert single_image_probe(alone, genuine, number, seed=0) == probe(features, some)


# The session test


def by_loops(vectors, writers):
    """Every pair there is, of two different writers."""
    genuine, forged = [], []
    for a, b in itertools.permutations(writers, 2):
        for i in a.genuine:
            genuine += [np.linalg.norm(vectors[i] - vectors[j]) for j in b.genuine]
            forged += [np.linalg.norm(vectors[i] - vectors[j]) for j in b.forged]
    return metrics.roc_auc(genuine, forged)


@pytest.mark.parametrize("shift", [0.0, 0.7, 3.0])
def test_the_drawn_pairs_give_the_auc_of_all_pairs(shift):
    writers = people(5)
    genuine, number = columns(writers)
    vectors = noise(80, seed=5) + noise(5, seed=6)[number]
    vectors[~genuine, 0] += shift
    assert session(vectors, writers) == pytest.approx(by_loops(vectors, writers), abs=0.015)


def test_two_sessions_show_although_every_writer_is_apart():
    """Hands at right angles: genuine pairs at sqrt 2, and at sqrt 3 with another session's axis."""
    writers = people(4)
    genuine, number = columns(writers)
    vectors = np.eye(5)[number]
    vectors[~genuine, 4] = 1
    assert session(vectors, writers) == 1


def test_hands_alone_leave_the_session_test_undecided():
    writers = people(4)
    assert session(np.eye(4)[columns(writers)[1]], writers) == 0.5


def test_forgeries_that_lie_nearer_to_strangers_than_genuine_ones_fail_as_well():
    writers = people(4)
    genuine, number = columns(writers)
    vectors = np.eye(4)[number] * np.where(genuine, 1, 0.5)[:, None]
    auc = session(vectors, writers)
    assert auc == 0
    assert Gates(**{**CLEAN, "session_auc": auc}, **SANE).failures


def test_writers_of_two_corpora_are_never_paired():
    writers = people(4)
    genuine, number = columns(writers)
    vectors = np.eye(5)[number]
    vectors[~genuine, 4] = 1
    lone = Writer(
        name="other/1", corpus="other", genuine=np.arange(64, 70), forged=np.arange(70, 76)
    )
    away = np.concatenate([vectors, np.full((6, 5), 9.0), np.full((6, 5), 0.2)])
    assert session(away, [*writers, lone]) == 1


# The common displacement


def displaced(seed, writers, shift):
    """Hands with noise (N, 60); the forgeries of each lie off by a row of `shift` (writers, 60)."""
    genuine, number = columns(writers)
    vectors = 5 * noise(len(writers), 60, seed)[number] + noise(len(number), 60, seed + 1)
    vectors[~genuine] += shift[number[~genuine]]
    return vectors


def alike(writers, shift):
    return np.tile(shift * np.eye(60)[2], (len(writers), 1))


def displacement_by_loops(vectors, writers):
    """Signature by signature, the direction made anew for each writer."""
    found = {True: [], False: []}
    for writer in writers:
        direction = np.mean(
            [
                vectors[other.forged].mean(0) - vectors[other.genuine].mean(0)
                for other in writers
                if other is not writer
            ],
            axis=0,
        )
        for row in writer.genuine:
            rest = [vectors[other] for other in writer.genuine if other != row]
            found[True].append((vectors[row] - np.mean(rest, axis=0)) @ direction)
        middle = vectors[writer.genuine].mean(0)
        found[False] += [(vectors[row] - middle) @ direction for row in writer.forged]
    return metrics.roc_auc(found[True], found[False])


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_the_common_displacement_is_that_of_a_count_by_hand(shift):
    writers = people(7, genuine=5, forged=4)
    vectors = displaced(11, writers, alike(writers, shift))
    expected = displacement_by_loops(vectors, writers)
    assert common_displacement(vectors, writers) == pytest.approx(expected, abs=1e-3)


def test_a_displacement_that_all_share_is_found_and_one_of_each_writer_s_own_is_not():
    writers = people(40)
    assert common_displacement(displaced(13, writers, alike(writers, 3.0)), writers) > 0.95
    own = displaced(13, writers, noise(40, 60, seed=20))
    assert common_displacement(own, writers) == pytest.approx(0.5, abs=0.1)


def test_every_corpus_has_a_displacement_of_its_own():
    one, other = people(20, corpus="one"), people(20, corpus="other", first=320)
    shifts = alike(one, 3.0)
    vectors = np.concatenate([displaced(15, one, shifts), displaced(17, people(20), -shifts)])
    assert common_displacement(vectors, [*one, *other]) > 0.95


@pytest.mark.parametrize(
    ("vectors", "writers"),
    [
        pytest.param(noise(32), people(2), id="two writers"),
        pytest.param(noise(96), people(6, genuine=16, forged=0), id="no forgeries"),
        pytest.param(np.ones((96, 6), np.float32), people(6), id="a collapsed embedding"),
    ],
)
def test_a_displacement_that_cannot_be_measured_is_none(vectors, writers):
    assert math.isnan(common_displacement(vectors, writers))


# The three together


def test_a_clean_embedding_passes_all_three():
    writers = people(30)
    hands = noise(30, seed=8)[columns(writers)[1]]
    gates = check(noise(480) + 2 * hands, writers, **SANE, seed=0)
    assert gates.passed
    assert gates.failures == gates.warnings == ()
    assert [finding.gate for finding in gates.findings] == ["probe", "session", "random"]


def test_an_embedding_that_knows_the_class_fails_the_first_two():
    writers = people(10)
    vectors = noise(160)
    vectors[~columns(writers)[0], 0] += 9
    gates = check(vectors, writers, **SANE, seed=0)
    assert not gates.passed
    assert [finding.verdict for finding in gates.findings] == ["failed", "failed", "passed"]
    assert "AUC 1.000" in gates.failures[0]
    assert len(gates.failures) == 2


@pytest.mark.parametrize(
    ("changed", "verdicts"),
    [
        ({"probe_auc": 0.75}, ("passed", "passed", "passed")),
        ({"probe_auc": 0.7501}, ("warning", "passed", "passed")),
        ({"probe_auc": 0.85}, ("warning", "passed", "passed")),
        ({"probe_auc": 0.8501}, ("failed", "passed", "passed")),
        ({"probe_auc": 0.1}, ("passed", "passed", "passed")),
        ({"session_auc": 0.45}, ("passed", "passed", "passed")),
        ({"session_auc": 0.4499}, ("passed", "failed", "passed")),
        ({"session_auc": 0.60}, ("passed", "passed", "passed")),
        ({"session_auc": 0.6001}, ("passed", "failed", "passed")),
        ({"skilled_eer": 0.014, "random_eer": 0.03}, ("passed", "passed", "failed")),
        ({"skilled_eer": 0.015, "random_eer": 0.03}, ("passed", "passed", "passed")),
        ({"skilled_eer": 0.0, "random_eer": 0.02}, ("passed", "passed", "passed")),
        ({"skilled_eer": 0.0, "random_eer": 0.0201}, ("passed", "passed", "failed")),
    ],
)
def test_each_limit_decides_at_its_figure(changed, verdicts):
    gates = Gates(**{**CLEAN, **SANE, **changed})
    assert tuple(finding.verdict for finding in gates.findings) == verdicts
    assert gates.passed == ("failed" not in verdicts)
    assert len(gates.failures) == verdicts.count("failed")
    assert len(gates.warnings) == verdicts.count("warning")


no_forgeries = people(6, genuine=16, forged=0)
no_genuine = people(6, genuine=0, forged=16)
broken = noise(96)
broken[4, 1] = np.nan


@pytest.mark.parametrize(
    ("vectors", "writers"),
    [
        pytest.param(noise(96), no_forgeries, id="no forgeries"),
        pytest.param(noise(96), no_genuine, id="no genuine signatures"),
        pytest.param(noise(96), [], id="no writer"),
        pytest.param(noise(16), people(1), id="one writer"),
        pytest.param(noise(32), people(2), id="two writers"),
        pytest.param(np.ones((96, 6), np.float32), people(6), id="a collapsed embedding"),
        pytest.param(1 + 1e-8 * noise(96).astype(float), people(6), id="one but for rounding"),
        pytest.param(broken, people(6), id="not a number"),
    ],
)
def test_what_cannot_be_measured_says_so_and_neither_passes_nor_fails(vectors, writers):
    gates = check(vectors, writers, skilled_eer=math.nan, random_eer=math.nan, seed=0)
    assert all(math.isnan(figure) for figure in (gates.probe_auc, gates.probe_eer))
    assert math.isnan(gates.session_auc)
    assert {finding.verdict for finding in gates.findings} == {"not measurable"}
    assert not gates.passed
    assert gates.failures == ()
    assert len(gates.warnings) == 3
    assert all(sentence.startswith("Not measurable: ") for sentence in gates.warnings)


def test_lone_writers_of_three_corpora_have_nobody_to_be_paired_with():
    writers = [
        Writer(name=f"{w.name}", corpus=str(n), genuine=w.genuine, forged=w.forged)
        for n, w in enumerate(people(3))
    ]
    assert math.isnan(session(noise(48), writers))


def test_a_failure_counts_although_another_gate_cannot_be_measured():
    gates = Gates(**{**CLEAN, "probe_auc": 0.99}, skilled_eer=0.1, random_eer=math.nan)
    assert not gates.passed
    assert (len(gates.failures), len(gates.warnings)) == (1, 1)


def test_the_same_seed_gives_the_same_figures_and_draws_nothing_global():
    vectors, writers = noise(128), people(8)
    state = np.random.get_state()[1].copy()
    one, again, other = (check(vectors, writers, **SANE, seed=seed) for seed in (4, 4, 5))
    assert one == again
    assert one.session_auc != other.session_auc
    assert np.array_equal(state, np.random.get_state()[1])


def test_the_figures_go_into_json_without_numbers_that_are_none():
    gates = Gates(**{**CLEAN, "probe_auc": 0.9}, skilled_eer=0.1, random_eer=math.nan)
    found = json.loads(json.dumps(gates.as_dict(), allow_nan=False))
    assert found["probe_auc"] == 0.9
    assert found["random_eer"] is None
    assert found["passed"] is False
    assert found["failures"] == list(gates.failures)
    assert found["warnings"] == list(gates.warnings)


# Scans with a made leak


def rescanned(image, paper):
    """The same sheet at another exposure: its median grey becomes `paper`."""
    return np.clip(image * (min(paper, 255) / np.median(image)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def leaky_scans(tmp_path_factory):
    """Twelve generated signers, eight of each; the paper's greys are those of CEDAR's sessions."""
    folder = tmp_path_factory.mktemp("leaky")
    rng = np.random.default_rng(1)
    kinds = (
        (synthetic.genuine, folder / "full_org" / "original", 239.9, 2.4),
        (synthetic.imitation, folder / "full_forg" / "forgeries", 253.6, 1.6),
    )
    for make, stem, grey, varies in kinds:
        stem.parent.mkdir()
        for signer in range(1, 13):
            hand = synthetic.make_signer(np.random.default_rng([7, signer]))
            for n in range(1, 9):
                image = rescanned(make(hand, rng), rng.normal(grey, varies))
                cv2.imwrite(f"{stem}_{signer}_{n}.png", image)
    return folder


def seen(folder, how, cache):
    signers = scan_dataset(folder)
    images = CachedImages(signers, how, cache)
    return images, writers_of(signers, images)


def shrunk(images):
    """An embedding that hides nothing: the canvas at 4 x 8."""
    rows = [cv2.resize(c, (8, 4), interpolation=cv2.INTER_AREA).ravel() for c in images.pixels]
    return np.array(rows, np.float32) / 255


def gates_of(images, writers):
    vectors = shrunk(images)
    pairs = evaluate.one_to_one(vectors, writers, np.random.default_rng(0))
    skilled, random = pairs.eer("skilled"), pairs.eer("random")
    return check(vectors, writers, skilled_eer=skilled, random_eer=random, seed=0)


def test_the_gates_fire_on_a_made_leak_that_the_grey_input_lets_through(leaky_scans, tmp_path):
    gates = gates_of(
        *seen(leaky_scans, Preprocessing(name="seed_grey", height=64, width=64), tmp_path)
    )
    assert gates.probe_auc > 0.95
    assert gates.session_auc > 0.6
    assert not gates.passed
    assert len(gates.failures) >= 2


def test_the_gates_pass_on_the_same_scans_seen_as_strokes(leaky_scans, tmp_path):
    gates = gates_of(*seen(leaky_scans, STROKES, tmp_path))
    assert gates.passed
    assert gates.failures == ()
    assert gates.warnings == ()


def test_the_input_alone_betrays_the_made_leak_in_grey_and_not_in_strokes(leaky_scans, tmp_path):
    grey = Preprocessing(name="seed_grey", height=64, width=64)
    rows = leakage.input_rows(scan_dataset(leaky_scans), [grey, STROKES], cache=tmp_path, seed=0)
    assert [row["input"] for row in rows] == ["seed_grey/1 64x64", "strokes/2 64x128"]
    assert all((row["writers"], row["images"]) == (12, 192) for row in rows)
    assert all(row["corpus"] == leaky_scans.name for row in rows)
    assert rows[0]["auc"] > 0.95
    assert rows[0]["eer"] < 0.1
    assert rows[1]["auc"] < 0.75
    assert (rows[1]["auc"], rows[1]["eer"]) == probe_inputs(
        *seen(leaky_scans, STROKES, tmp_path), seed=0
    )


def test_an_input_that_cannot_be_probed_gives_a_row_without_figures(tmp_path):
    synthetic.write_dataset(tmp_path / "few", signers=2, genuine=2, forgeries=1, seed=3)
    (row,) = leakage.input_rows(scan_dataset(tmp_path / "few"), [STROKES], cache=tmp_path, seed=0)
    assert row["writers"] == 2
    assert math.isnan(row["auc"])
    assert math.isnan(row["eer"])


# The real scans


def betrayed(corpus, how, cache, writers=None):
    if not (DATA / corpus).is_dir():
        pytest.skip(f"The corpus {corpus} is not beside this checkout.")
    signers = scan_dataset(DATA / corpus)[:writers]
    (row,) = leakage.input_rows(signers, [how], cache=cache, seed=0)
    return row["auc"]


@pytest.mark.slow
def test_the_grey_of_the_original_cedar_scans_gives_the_forgeries_away(tmp_path):
    assert betrayed("cedar_raw", GREY, tmp_path) > 0.99


@pytest.mark.slow
def test_the_strokes_of_the_original_cedar_scans_do_not(tmp_path):
    assert betrayed("cedar_raw", STROKES, tmp_path) < leakage.PROBE_WARNS


@pytest.mark.slow
def test_white_paper_does_not_shut_the_leak_of_cedar(tmp_path):
    assert betrayed("cedar_grey", GREY, tmp_path, writers=10) > leakage.PROBE_WARNS


@pytest.mark.slow
def test_strokes_shut_the_leak_of_cedar(tmp_path):
    assert betrayed("cedar", STROKES, tmp_path, writers=10) < leakage.PROBE_WARNS
