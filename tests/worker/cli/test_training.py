"""`sigctl train` makes a checkpoint that `sigctl evaluate` measures on writers it has not seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

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
    assert checkpoint.preprocessing.label == "strokes/1 224x224"
    assert len(checkpoint.provenance["train_writers"]) == 3
    assert (here / "runs" / "made" / "log.csv").is_file()


def test_training_again_goes_on_from_what_is_there(
    sigctl: Sigctl, trained: Path, corpus: Path
) -> None:
    done = sigctl("train", corpus, *QUICK, *SHARES, "--output", "made.pt")
    assert "Resuming after epoch 1 of 1." in done.text


def test_the_grey_input_is_called_leaky(sigctl: Sigctl, corpus: Path) -> None:
    done = sigctl("train", corpus, *QUICK, *SHARES, "--input", "seed_grey", "--output", "grey.pt")
    assert done.code == Exit.DONE
    assert "the grey alone tells them apart" in done.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "There is no folder nowhere."),
        (("{corpus}", "--recipe", "best"), "There is no recipe 'best'; choose from seed, writers."),
        (("{corpus}", "--threshold", "guess"), "--threshold must be one of youden, maxacc, eer."),
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


def test_evaluation_leaves_out_the_writers_that_the_model_knows(
    sigctl: Sigctl, trained: Path, corpus: Path
) -> None:
    done = sigctl("evaluate", "--data", corpus, "--checkpoint", trained, "--all", "--json")
    assert (done.json["writers"], done.json["left_out"]) == (6, 0)
    assert [row["protocol"] for row in done.json["rows"]] == [
        "1:1",
        "1 reference",
        "3 references",
    ]
    unseen = sigctl("evaluate", "--data", corpus, "--checkpoint", trained, "--json")
    assert (unseen.json["writers"], unseen.json["left_out"]) == (1, 5)


def test_evaluation_draws_its_distances(sigctl: Sigctl, trained: Path, corpus: Path) -> None:
    done = sigctl(
        "evaluate", "--data", corpus, "--checkpoint", trained, "--all", "--plot", "plot.png"
    )
    assert done.code == Exit.DONE
    assert "the model may know some of them" in done.text
    with Image.open("plot.png") as picture:
        assert picture.width > 300


def test_a_corpus_of_known_writers_is_refused(
    sigctl: Sigctl, trained: Path, tmp_path: Path, corpus: Path
) -> None:
    seen = load_checkpoint(trained).provenance["train_writers"][0].rsplit("/", 1)[1]
    for kind, name in (("full_org", "original"), ("full_forg", "forgeries")):
        folder = tmp_path / corpus.name / kind
        folder.mkdir(parents=True)
        for path in (corpus / kind).glob(f"{name}_{seen}_*.png"):
            (folder / path.name).write_bytes(path.read_bytes())
    done = sigctl("evaluate", "--data", tmp_path / corpus.name, "--checkpoint", trained)
    assert done.code == Exit.USAGE
    assert "trained or tuned on every writer" in done.text
