"""`sigctl retrain` says what became of the candidate, and why it is not promoted."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import redis

from storage import runs
from tests.retraining import Laboratory
from tests.worker.cli.conftest import Sigctl
from worker.cli.exits import Exit
from worker.runtime import get_runtime
from worker.transactions import transaction


@pytest.fixture
def at_work(lab: Laboratory, here: Path, monkeypatch: pytest.MonkeyPatch) -> Laboratory:
    """The settings of the laboratory, on a copy of its database."""
    lab.copy(here)
    for name, value in {
        "DATABASE_URL": f"sqlite:///{here / 'sigctl.db'}",
        "STORE": (lab.folder / "store").as_uri(),
        "ROOTS": lab.folder,
        "CHECKPOINT": lab.folder / "model.pt",
        "CORPORA": lab.corpus,
        "DECODERS": 0,
    }.items():
        monkeypatch.setenv(f"SIGCTL_{name}", str(value))
    return lab


def test_a_candidate_that_is_not_better_is_registered_and_has_an_exit_code_of_its_own(
    sigctl: Sigctl, at_work: Laboratory, here: Path
) -> None:
    options = ("--epochs", 1, "--run", "runs/one", "--cache", at_work.cache, "--by", "May")
    done = sigctl("retrain", *options, "--promote")
    assert done.code == Exit.NOT_BETTER == 7
    for words in (
        "writers whom neither has learnt from",
        "NOT MET: The candidate is not shown to be better",
        "is registered. Report:",
        "It is not promoted: not every condition of the rule is met.",
    ):
        assert words in done.text
    again = sigctl("retrain", "--run", "runs/one", "--cache", at_work.cache, "--json")
    assert again.code == Exit.NOT_BETTER
    assert again.json["promoted"] is False
    assert again.json["ruling"]["promotes"] is False
    assert Path(again.json["report"]).is_file()
    other = sigctl("retrain", "--run", "runs/one", "--seed", 9, "--cache", at_work.cache)
    assert other.code == Exit.USAGE
    assert "holds a retraining with other options" in other.text


def test_without_a_corpus_or_with_a_wrong_one_there_is_one_sentence(
    sigctl: Sigctl, at_work: Laboratory, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "empty").mkdir()
    wrong = sigctl("retrain", "--corpus", "empty")
    assert (wrong.code, wrong.out) == (Exit.USAGE, "")
    assert "No folder of genuine and forged signatures" in wrong.text
    monkeypatch.delenv("SIGCTL_CORPORA")
    none = sigctl("retrain")
    assert none.code == Exit.USAGE
    assert "name its folder with --corpus or in SIGCTL_CORPORA" in none.text


@pytest.mark.parametrize("share", ["two", "200%", "-1", "nan"])
def test_a_share_that_is_none_is_refused(sigctl: Sigctl, at_work: Laboratory, share: str) -> None:
    done = sigctl("retrain", f"--max-flips={share}")
    assert done.code == Exit.USAGE
    assert "is no share; type it as 2% or 0.02" in done.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--remote", "--watch"), "name one"),
        (("some-run",), "A run is named for --watch and --cancel"),
        (("--remote", "--device", "cpu"), "folder and device of its worker"),
        (("--from-scratch", "--epochs", "0"), "needs epochs to learn"),
        (("--remote",), "No broker is configured"),
        (("--watch",), "There is no training run"),
        (("--cancel", "nine"), "There is no training run 'nine'"),
    ],
)
def test_what_does_not_go_together_is_said(
    sigctl: Sigctl, at_work: Laboratory, options: tuple[str, ...], words: str
) -> None:
    done = sigctl("retrain", *options)
    assert done.code in (Exit.USAGE, Exit.SETUP)
    assert words in done.text


def test_a_run_that_waits_is_looked_at_and_cancelled(sigctl: Sigctl, at_work: Laboratory) -> None:
    with transaction(get_runtime().sessions) as session:
        runs.make(session, "run-1", options={"seed": 1}, by="May")
    shown = sigctl("retrain", "--watch", "--json").json
    assert (shown["id"], shown["state"], shown["requested_by"]) == ("run-1", "queued", "May")
    assert "Training run run-1 is cancelled." in sigctl("retrain", "--cancel", "run").text
    watched = sigctl("retrain", "--watch")
    assert (watched.code, watched.out) == (Exit.FAILED, "Training run run-1 is cancelled.\n")


def test_a_run_that_failed_says_why(sigctl: Sigctl, at_work: Laboratory) -> None:
    with transaction(get_runtime().sessions) as session:
        runs.make(session, "run-1", options={})
        hold = runs.take(session, "run-1")
        runs.fail(session, hold, code="dataset_error", message="No writer is left.")
    watched = sigctl("retrain", "--watch", "run-1")
    assert watched.code == Exit.FAILED
    assert "Training run run-1 is failed: No writer is left." in watched.text


def test_a_remote_run_is_a_row_and_a_message_that_names_it_and_nothing_else(
    sigctl: Sigctl, at_work: Laboratory, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_BROKER_URL", redis_url)
    monkeypatch.setenv("SIGCTL_MESSAGE_KEY", "k" * 32)
    run = sigctl("retrain", "--remote", "--epochs", 2, "--by", "May", "--json").json["run"]
    with redis.Redis.from_url(redis_url) as broker:
        (text,) = broker.lrange("sigctl.train", 0, -1)
    values, named, _ = json.loads(base64.b64decode(json.loads(text)["body"]))
    assert (values, named.keys()) == ([], {"run_id", "signature"})
    assert named["run_id"] == run
    shown = sigctl("retrain", "--watch", run[:8], "--json").json
    assert shown["state"] == "queued"
    assert (shown["options"]["epochs"], shown["options"]["by"]) == (2, "May")
    assert "corpora" not in shown["options"]
    assert sigctl("retrain", "--cancel", run, "--json").json["state"] == "cancelled"
