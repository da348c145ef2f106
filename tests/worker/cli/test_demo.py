"""`sigctl demo` shows every kind of outcome, and spares what it has not made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from tests.worker.cli.conftest import Sigctl
from worker.cli.exits import Exit


def test_the_demo_decides_every_document_and_draws_them(sigctl: Sigctl, here: Path) -> None:
    before = dict(os.environ)
    done = sigctl("demo")
    assert done.code == 0
    assert os.environ == before
    lines = done.out.splitlines()
    assert max(map(len, lines[:20])) <= 100
    assert lines[-1].endswith(str(here / "demo-output" / "verdicts.png"))
    with Image.open(here / "demo-output" / "verdicts.png") as picture:
        assert picture.width > 600
    for words in ("genuine", "imitation", "by ", "blank_image", "unreadable_image",
                  "unknown_signer", "image_not_found", "of 17 outcomes agree"):  # fmt: skip
        assert words in done.out
    assert sorted(path.name for path in here.iterdir()) == ["demo-output"]


def test_the_same_seed_gives_the_same_decisions_and_what_failed_is_right(
    sigctl: Sigctl, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_BROKER_URL", "redis://127.0.0.1:1/0")  # must not be asked
    (here / ".env").write_text("SIGCTL_MAX_BYTES=1\n")
    first, second = (sigctl("demo", "--folder", "shown", "--json").json for _ in range(2))
    numbers = ("job_id", "verdict", "distance", "document_sha256", "error_code", "right")
    assert [[d[n] for n in numbers] for d in first["documents"]] == [
        [d[n] for n in numbers] for d in second["documents"]
    ]
    failed = [d for d in first["documents"] if d["verdict"] == "error"]
    assert len(failed) == 4
    assert all(d["right"] for d in failed)
    assert all(not d["right"] for d in first["documents"] if d["expected"] == "accept")
    assert first["right"] == sum(d["right"] for d in first["documents"])


def test_what_is_left_for_a_person_is_neither_right_nor_wrong(
    sigctl: Sigctl, banded: Path, here: Path
) -> None:
    done = sigctl("demo")
    assert done.code == 0
    assert max(map(len, done.out.splitlines()[:20])) <= 100
    for words in (
        "4 of 17 outcomes agree with the truth.",
        "Left for a person to review: ada-1.png,",
        "-1.000 / 9.000",
        "what lies between is for a person to review",
    ):
        assert words in done.text
    assert "Not right" not in done.out
    told = sigctl("demo", "--json").json
    assert (told["right"], told["review"]) == (4, 13)


def test_a_folder_that_no_demo_made_is_left_alone(sigctl: Sigctl, here: Path) -> None:
    mine = here / "mine"
    (mine / "documents").mkdir(parents=True)
    (mine / "documents" / "thesis.txt").write_text("years of work")
    done = sigctl("demo", "--folder", mine)
    assert done.code == Exit.USAGE
    assert "left alone" in done.err
    assert (mine / "documents" / "thesis.txt").read_text() == "years of work"


def test_a_file_of_one_s_own_in_the_folder_survives(sigctl: Sigctl, here: Path) -> None:
    from worker.demo import make_folder

    make_folder(here / "demo-output")
    (here / "demo-output" / "notes.txt").write_text("mine")
    make_folder(here / "demo-output")
    assert (here / "demo-output" / "notes.txt").read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_said(sigctl: Sigctl, here: Path) -> None:
    (here / "demo-output").write_text("a file")
    done = sigctl("demo")
    assert done.code == Exit.USAGE
    assert "demo-output cannot be used for the demo" in done.err


def test_a_missing_checkpoint_is_said(sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGCTL_CHECKPOINT", "nowhere.pt")
    done = sigctl("demo")
    assert done.code == Exit.SETUP
    assert "There is no checkpoint nowhere.pt." in done.err
