"""`sigctl evaluate` measures a model on writers it has not seen, and refuses one that leaks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from model.checkpoint import Checkpoint, save_checkpoint
from model.preprocess import Preprocessing
from model.scoring import Scoring
from model.siamese import SiameseNet
from model.synthetic import write_dataset
from tests.worker.cli.conftest import Sigctl
from worker.cli.exits import Exit

SEEN = [f"signatures/{number}" for number in (1, 2)]
TUNED = [f"signatures/{number}" for number in (3, 4)]


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are tried here, not figures, and most of an evaluation goes into planting trees."""
    monkeypatch.setattr("model.leakage.TREES", 40)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight generated signers with four signatures and three forgeries each."""
    folder = tmp_path_factory.mktemp("made") / "signatures"
    write_dataset(folder, signers=8, genuine=4, forgeries=3, seed=4)
    return folder


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SiameseNet("test_mambaout").eval()
    return Checkpoint(
        weights=network.state_dict(),
        backbone="test_mambaout",
        size=64,
        threshold=0.2,
        preprocessing=Preprocessing(height=32, width=64),
        scoring=Scoring(
            thresholds={1: 0.2}, accept={"1%": {1: 0.1}, "5%": {1: 0.15}}, reject={1: 0.3}
        ),
        provenance={"train_writers": SEEN, "development_writers": TUNED},
    )


@pytest.fixture(scope="module")
def strokes(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "strokes.pt"
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture(scope="module")
def grey(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "grey.pt"
    how = Preprocessing(name="seed_grey", height=32, width=64)
    save_checkpoint(path, replace(checkpoint, preprocessing=how, provenance={}))
    return path


@pytest.fixture(scope="module")
def scanned_apart(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same signatures with the made leak: forgeries scanned on much darker paper."""
    folder = tmp_path_factory.mktemp("made") / "scanned_apart"
    for source in sorted(corpus.rglob("*.png")):
        target = folder / source.relative_to(corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        image = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)
        share = 0.5 if "forg" in source.parent.name else 1.0
        cv2.imwrite(str(target), (np.asarray(image) * share).astype(np.uint8))
    return folder


def rows(found: dict[str, Any]) -> list[str]:
    return [row["protocol"] for row in found["rows"]]


def test_unseen_and_development_writers_are_measured_apart_and_training_writers_not_at_all(
    sigctl: Sigctl, corpus: Path, strokes: Path
) -> None:
    done = sigctl("evaluate", "--data", corpus, "--checkpoint", strokes, "--json")
    unseen, development = done.json["examinations"]
    assert unseen["writer_names"] == [f"signatures/{number}" for number in (5, 6, 7, 8)]
    assert (unseen["writers"], unseen["left_out"], unseen["known"]) == (4, 4, "")
    assert development["writer_names"] == TUNED
    assert development["known"] == "development writers"
    assert rows(unseen) == ["1:1", "1 reference", "3 references"]
    assert unseen["rows"][0]["threshold"] == pytest.approx(0.2)
    assert unseen["rows"][1]["operating_points"]["1%"].keys() == {"genuine", "skilled", "random"}
    assert {"probe_auc", "session_auc", "passed"} <= unseen["gates"].keys()
    assert 0 <= unseen["input_probe"]["auc"] <= 1


def test_all_writers_are_measured_together_and_called_known(
    sigctl: Sigctl, corpus: Path, strokes: Path
) -> None:
    done = sigctl(
        "evaluate", "--data", corpus, "--checkpoint", strokes, "--all", "--json", "--allow-leaky"
    )
    (found,) = done.json["examinations"]
    assert (found["writers"], found["left_out"]) == (8, 0)
    assert "also those the model knows" in found["known"]


def test_the_same_writers_in_another_folder_are_left_out_under_their_known_name(
    sigctl: Sigctl, scanned_apart: Path, strokes: Path
) -> None:
    arguments = ("evaluate", "--data", scanned_apart, "--checkpoint", strokes)
    done = sigctl(*arguments)
    assert "scanned_apart: 8 writers; leak-controlled" in done.text
    assert "The model knows nobody of scanned_apart by name, so nobody is left out." in done.text
    assert "writers of signatures, --known-as CORPUS leaves out those it knows." in done.text
    known = sigctl(*arguments, "--known-as", "signatures")
    assert "scanned_apart: 4 writers; 4 left out, the model knows them;" in known.text
    for quiet in (known, sigctl(*arguments, "--all")):
        assert "by name" not in quiet.text
    (remark,) = sigctl(*arguments, "--json").json["examinations"][0]["remarks"]
    assert "--known-as" in remark


def test_a_made_leak_is_refused_on_the_grey_and_passes_as_strokes(
    sigctl: Sigctl, scanned_apart: Path, strokes: Path, grey: Path
) -> None:
    arguments = ("evaluate", "--data", scanned_apart, "--all", "--checkpoint")
    leaking = sigctl(*arguments, grey)
    assert leaking.code == 1
    assert "REFUSED: a gate against leaks failed on scanned_apart." in leaking.text
    assert "the grey alone tells them apart" in leaking.text
    allowed = sigctl(*arguments, grey, "--allow-leaky")
    assert allowed.code == Exit.DONE
    assert "REFUSED" in allowed.text
    honest = sigctl(*arguments, strokes, "--json")
    assert honest.code == Exit.DONE
    assert honest.json["refused"] is False


def test_both_tracks_and_several_corpora_are_reported_side_by_side(
    sigctl: Sigctl, here: Path, corpus: Path, scanned_apart: Path, strokes: Path, grey: Path
) -> None:
    done = sigctl(
        "evaluate", "--data", corpus, "--data", scanned_apart, "--checkpoint", strokes,
        "--grey-checkpoint", grey, "--grey-data", scanned_apart, "--all", "--report", "OUT",
    )  # fmt: skip
    assert done.code == Exit.DONE  # the leaky track is expected to fail its gates
    for words in (
        "Skilled EER, both tracks side by side",
        "paper-comparable, LEAKY",
        "Operating points: accepted / for review / rejected",
        "Gates against leaks: REFUSED",
        "Report: OUT/index.html",
    ):
        assert words in done.text
    assert max(map(len, done.out.splitlines())) <= 100
    for heading in ("EER skilled", "95 %", "EER random", "threshold", "FAR skilled", "FAR random"):
        assert heading in done.out
    metrics = json.loads((here / "OUT" / "metrics.json").read_text())
    tracks = [(found["corpus"], found["track"]) for found in metrics["examinations"]]
    assert tracks == [
        ("signatures", "leak-controlled"),
        ("scanned_apart", "leak-controlled"),
        ("scanned_apart", "paper-comparable"),
    ]
    assert len(metrics["models"]) == 2
    assert (here / "OUT" / "results.csv").is_file()
    assert "<script" not in (here / "OUT" / "index.html").read_text()


def test_unusable_and_repeated_files_are_named(
    sigctl: Sigctl, tmp_path: Path, strokes: Path
) -> None:
    folder = tmp_path / "flawed"
    write_dataset(folder, signers=3, genuine=3, forgeries=2, seed=6)
    first = folder / "full_org" / "original_1_1.png"
    (folder / "full_org" / "original_1_4.png").write_bytes(first.read_bytes())
    (folder / "full_org" / "original_2_4.png").write_bytes(b"no image")
    done = sigctl(
        "evaluate", "--data", folder, "--checkpoint", strokes, "--allow-leaky", "--report", "OUT"
    )
    assert done.code == Exit.DONE
    assert "original_2_4.png" in done.text
    assert "original_1_4.png" in done.text
    (found,) = json.loads(Path("OUT/metrics.json").read_text())["examinations"]
    assert [Path(path).name for path in found["unreadable"]] == ["original_2_4.png"]
    assert len(found["duplicates"][0]["files"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--data", "nowhere", "--checkpoint", "{strokes}"), Exit.USAGE, "no folder nowhere"),
        (("--data", "{corpus}", "--checkpoint", "no.pt"), Exit.SETUP, "no checkpoint no.pt"),
        (("--data", "{corpus}"), Exit.USAGE, "Missing option '--checkpoint'"),
        (
            ("--data", "{corpus}", "--checkpoint", "{strokes}", "--grey-data", "{corpus}"),
            Exit.USAGE,
            "--grey-checkpoint and --grey-data belong together.",
        ),
        (
            ("--data", "{corpus}", "--checkpoint", "{strokes}", "--grey-data", "{corpus}",
             "--grey-checkpoint", "{strokes}"),
            Exit.USAGE,
            "is no model of the paper-comparable track",
        ),
        (
            ("--data", "{corpus}", "--checkpoint", "{strokes}", "--device", "abacus"),
            Exit.SETUP,
            "'abacus' is no device",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_said_in_a_sentence(
    sigctl: Sigctl,
    corpus: Path,
    strokes: Path,
    arguments: tuple[str, ...],
    code: Exit,
    words: str,
) -> None:
    given = [argument.format(corpus=corpus, strokes=strokes) for argument in arguments]
    done = sigctl("evaluate", *given)
    assert done.code == code
    assert words in done.text.replace("│ ", "")


def test_a_corpus_of_known_writers_is_refused(
    sigctl: Sigctl, tmp_path: Path, strokes: Path
) -> None:
    folder = tmp_path / "signatures"
    write_dataset(folder, signers=2, genuine=2, forgeries=1, seed=4)
    done = sigctl("evaluate", "--data", folder, "--checkpoint", strokes)
    assert done.code == Exit.USAGE
    assert "trained or tuned on every writer" in done.text


def test_a_report_that_cannot_be_written_is_said(
    sigctl: Sigctl, here: Path, corpus: Path, strokes: Path
) -> None:
    (here / "file").write_text("")
    done = sigctl("evaluate", "--data", corpus, "--checkpoint", strokes, "--report", "file/OUT")
    assert done.code in (Exit.USAGE, Exit.SETUP, Exit.UNAVAILABLE)
    assert "cannot be written" in done.text
