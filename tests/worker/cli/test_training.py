"""`sigctl train` makes a checkpoint from a folder of signatures, or says why it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.checkpoint import load_checkpoint
from model.synthetic import write_dataset
from tests.worker.cli.conftest import Sigctl
from worker.cli.exits import Exit

QUICK = (
    "--backbone",
    "test_mambaout",
    "--no-pretrained",
    "--epochs",
    1,
    "--steps",
    2,
    "--batch",
    4,
)
SHARES = ("--validation", 0.34, "--test", 0.17)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signatures")
    write_dataset(folder, signers=6, genuine=4, forgeries=3, seed=4)
    return folder


@pytest.fixture
def trained(sigctl: Sigctl, here: Path, corpus: Path) -> Path:
    done = sigctl("train", corpus, *QUICK, *SHARES, "--output", "made.pt")
    assert done.code == Exit.DONE, done.err
    return here / "made.pt"


def test_training_shows_the_split_and_ends_with_figures_and_the_checkpoint(
    sigctl: Sigctl, here: Path, corpus: Path
) -> None:
    done = sigctl("train", corpus, *QUICK, *SHARES, "--output", "made.pt")
    assert done.code == Exit.DONE
    for words in (
        "Leakage check: no writer and no file is in two parts.",
        "Test writers",
        "1:1",
        "Checkpoint: made.pt",
        "(youden)",
    ):
        assert words in done.text
    checkpoint = load_checkpoint(here / "made.pt")
    assert checkpoint.preprocessing.label == "strokes/2 224x224"
    assert len(checkpoint.provenance["train_writers"]) == 3
    assert (here / "runs" / "made" / "log.csv").is_file()


def test_training_again_goes_on_from_what_is_there(
    sigctl: Sigctl, trained: Path, corpus: Path
) -> None:
    done = sigctl("train", corpus, *QUICK, *SHARES, "--output", "made.pt")
    assert "Resuming after epoch 1 of 1." in done.text


def test_what_is_learnt_stays_as_it_is_where_the_rest_is_fitted_anew(
    sigctl: Sigctl, here: Path, trained: Path, corpus: Path
) -> None:
    refit = ("--recipe", "seed", "--start", "made.pt", "--refit", "--seed", 5)
    done = sigctl("train", corpus, *QUICK, *SHARES, *refit, "--output", "again.pt")
    assert done.code == Exit.USAGE  # another split: who taught the one would tune the other
    assert "development and test writers, such as" in done.text
    done = sigctl("train", corpus, *QUICK, *SHARES, *refit[:-2], "--output", "again.pt")
    assert done.code == Exit.DONE, done.err
    before, after = load_checkpoint(trained), load_checkpoint(here / "again.pt")
    assert all(torch.equal(value, before.weights[name]) for name, value in after.weights.items())
    assert after.provenance["refit"]
    assert after.provenance["log"] == before.provenance["log"]
    assert after.threshold == pytest.approx(before.threshold)


def test_the_grey_input_is_called_leaky(sigctl: Sigctl, corpus: Path) -> None:
    done = sigctl("train", corpus, *QUICK, *SHARES, "--input", "seed_grey", "--output", "grey.pt")
    assert done.code == Exit.DONE
    assert "the grey alone tells them apart" in done.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "There is no folder nowhere."),
        (
            ("{corpus}", "--recipe", "best"),
            "There is no recipe 'best'; choose from seed, writers, places,",
        ),
        (("{corpus}", "--threshold", "guess"), "--threshold must be one of youden, maxacc, eer."),
        (("{corpus}", "--refit"), "--refit keeps what a checkpoint"),
        (("{corpus}", "--input", "colour"), "--input must be one of strokes, seed_grey."),
        (("{corpus}", "--validation", 0.8), "6 signers are too few"),
        (("{corpus}", "--device", "abacus"), "'abacus' is no device"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(
    sigctl: Sigctl, corpus: Path, arguments: tuple[object, ...], words: str
) -> None:
    given = [str(argument).format(corpus=corpus) for argument in arguments]
    done = sigctl("train", *given, *QUICK)
    assert done.code == (Exit.SETUP if "--device" in arguments else Exit.USAGE)
    assert words in done.text
