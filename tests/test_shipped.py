"""The checkpoint in the tree is what the model card says it is."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.embedder import agreement
from model import evaluate
from model.cache import CachedImages
from model.checkpoint import build_model, load_checkpoint
from model.dataset import scan_dataset
from model.sampling import writers_of

ROOT = Path(__file__).parents[1]
FILE = ROOT / "checkpoints" / "siamese_vision_mamba_tiny.pt"
CEDAR = ROOT.parent / "shared" / "data" / "cedar"

needs_cedar = pytest.mark.skipif(
    not CEDAR.is_dir(), reason="needs CEDAR, which is not part of this project"
)


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(FILE)


def test_it_is_small_and_sees_strokes_only(checkpoint):
    assert FILE.stat().st_size < 60e6
    assert checkpoint.backbone == "mambaout_tiny"
    assert checkpoint.preprocessing.name == "strokes"


def test_it_names_the_writers_of_each_part_and_no_writer_twice(checkpoint):
    parts = [checkpoint.provenance[f"{part}_writers"] for part in ("train", "development", "test")]
    together = [name for part in parts for name in part]
    assert len(together) == len(set(together))
    assert sum(name.startswith("cedar/") for name in parts[0]) == 36
    assert len(parts[2]) == 9


def test_it_passed_the_gates_on_writers_it_never_saw(checkpoint):
    gates = checkpoint.provenance["gates"]
    assert gates["passed"]
    assert not gates["warnings"]
    assert not checkpoint.provenance["allow_leaky"]
    assert set(checkpoint.scoring.accept) == {"0.1%", "1%", "5%"}


def test_the_model_card_and_the_readme_carry_its_own_test_figures(checkpoint):
    for page in ("README.md", "MODEL_CARD.md"):
        text = (ROOT / page).read_text()
        for row in checkpoint.provenance["test"]:
            rates = " | ".join(f"{100 * row[k]:.1f} %" for k in ("skilled_eer", "random_eer"))
            assert rates in text, (page, row["protocol"])


@pytest.mark.slow
@needs_cedar
def test_the_fast_engine_gives_the_verdicts_of_the_reference_on_writers_it_never_saw(checkpoint):
    unseen = set(checkpoint.provenance["test_writers"])
    writers = [writer for writer in scan_dataset(CEDAR) if writer.name in unseen]
    found = agreement(FILE, writers[:2], far="1%")
    assert found["verdicts"] > 75
    check_agreement(found)


@pytest.mark.long
@pytest.mark.slow
@needs_cedar
def test_the_fast_engine_gives_the_verdicts_of_the_reference_on_all_of_cedar():
    found = agreement(FILE, scan_dataset(CEDAR), far="1%")
    assert found["verdicts"] > 5000
    check_agreement(found)


def check_agreement(found):
    assert found["flips"] == 0, found
    assert found["smallest_cosine"] >= 0.999
    assert found["close_calls"] < 0.05 * found["verdicts"]


@pytest.mark.slow
@needs_cedar
def test_writers_it_never_saw_are_told_apart(checkpoint, tmp_path):
    unseen = set(checkpoint.provenance["test_writers"])
    signers = [signer for signer in scan_dataset(CEDAR) if signer.name in unseen]
    images = CachedImages(signers, checkpoint.preprocessing, tmp_path)
    vectors = evaluate.embed_rows(build_model(checkpoint), images, torch.device("cpu"))
    found = evaluate.with_references(
        vectors,
        writers_of(signers, images),
        references=5,
        scoring=checkpoint.scoring,
        rng=np.random.default_rng(123),
        draws=1,
    )
    assert len(found.skilled) == 9 * 24
    assert found.eer("skilled") <= 0.15
    assert found.eer("random") <= 0.05
