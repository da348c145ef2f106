"""`sigctl models`: from a file to the model that decides, and back, in an operator's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import models, references
from tests.conftest import a_checkpoint
from tests.worker.cli.conftest import Done, Sigctl
from worker.cli import opening
from worker.cli.exits import Exit


@pytest.fixture
def old(sigctl: Sigctl, enrolled: str) -> str:
    """The model of the settings, which the enrolment has made the active one."""
    (model,) = sigctl("models", "list", "--json").json
    assert model["state"] == "active"
    return str(model["id"])


@pytest.fixture
def new(sigctl: Sigctl, old: str, newer_checkpoint: Path) -> str:
    """Another model, registered."""
    done = sigctl("models", "add", newer_checkpoint, "--by", "mia", "--json")
    assert (done.code, done.json["state"]) == (0, "candidate")
    return str(done.json["id"])


def states(sigctl: Sigctl) -> dict[str, str]:
    return {model["id"]: model["state"] for model in sigctl("models", "list", "--json").json}


def test_before_anything_is_enrolled_there_is_no_model(sigctl: Sigctl) -> None:
    assert "No model is registered yet" in sigctl("models", "list").out


def test_a_model_is_added_activated_and_taken_back(
    sigctl: Sigctl, old: str, new: str, specimens: Path
) -> None:
    done = sigctl("models", "activate", new[:10], "--by", "mia")
    assert done.code == 0
    assert f"Model {new[:12]} decides now in place of {old[:12]}." in done.out
    assert states(sigctl) == {old: "retired", new: "active"}
    picture = sorted(specimens.iterdir())[0]
    assert sigctl("verify", "ada", picture, "--json").json["model_id"] == new
    assert f"Model {old[:12]} decides now" in sigctl("models", "rollback").out
    assert sigctl("verify", "ada", picture, "--json").json["model_id"] == old
    assert sigctl("audit", "verify").code == 0


def test_the_list_and_the_details_tell_what_it_is(sigctl: Sigctl, old: str, new: str) -> None:
    listed = sigctl("models", "list")
    assert max(map(len, listed.out.splitlines())) <= 100
    (line,) = [line for line in listed.out.splitlines() if new[:12] in line]
    assert line.split()[1] == "candidate"
    assert line.split()[-5:] == ["0", "of", "3", "10.0", "1.0"]
    shown = sigctl("models", "show", new)
    for words in (new, "mia", "0" * 64, "strokes/2 48x64", "made_up", "5.0", "seed"):
        assert words in shown.out.replace("\n", " ")
    assert sigctl("models", "show", new, "--json").json["metrics"]["gates"]["passed"]


def test_a_difference_names_what_differs_and_nothing_else(
    sigctl: Sigctl, old: str, new: str
) -> None:
    found = sigctl("models", "diff", old, new, "--json").json
    assert found["threshold"] == {"first": 0.05, "second": 0.06}
    assert found["figures.1:1.skilled_eer"]["second"] == 0.1
    assert "backbone" not in found
    assert "threshold" in sigctl("models", "diff", old, new).out
    assert "They do not differ." in sigctl("models", "diff", old, old).out


def test_a_model_in_the_shadow_is_compared_with_what_was_decided(
    sigctl: Sigctl, old: str, new: str, specimens: Path
) -> None:
    assert sigctl("models", "compare").code == Exit.USAGE
    assert "looks on at 100% of the jobs" in sigctl("models", "activate", new, "--shadow", "1").out
    assert "has not been shown a job yet" in sigctl("models", "compare").out
    picture = sorted(specimens.iterdir())[0]
    job = sigctl("submit", "ada", picture, "--json").json["job_id"]
    sigctl("audit", "label", job, "genuine")
    report = sigctl("models", "compare", "--json").json
    assert report["counts"] == [{"decided": "accept", "shadow": "accept", "jobs": 1}]
    assert report["labelled"]["shadow"] == {"right": 1, "wrong": 0, "open": 0}
    told = sigctl("models", "compare").out
    assert "It sees 0 of 1 job differently." in told
    assert f"Model {new[:12]}, where people know the truth: 1 right, 0 wrong" in told
    assert f"Model {new[:12]} is candidate again." in sigctl("models", "cancel", new).out
    assert sigctl("models", "prune", new, "--json").json["rows"] == 3 + 1
    assert states(sigctl) == {old: "active", new: "candidate"}


def test_a_model_that_failed_a_gate_needs_a_word_more(
    sigctl: Sigctl, old: str, tmp_path: Path
) -> None:
    gates = {"passed": False, "failures": ["The single-image probe fails."]}
    path = a_checkpoint(tmp_path / "leaky.pt", seed=9, provenance={"gates": gates})
    leaky = sigctl("models", "add", path, "--json").json["id"]
    done = sigctl("models", "activate", leaky)
    assert done.code == Exit.UNEXPECTED
    assert "The single-image probe fails." in done.err
    assert states(sigctl)[leaky] == "candidate"
    assert sigctl("models", "activate", leaky, "--allow-leaky").code == 0


def test_a_reference_that_is_lost_is_named_and_can_be_given_up(
    sigctl: Sigctl, old: str, new: str
) -> None:
    with opening.transaction() as session:
        lost = references.of_signer(session, "ada")[0]
    Path(lost.uri.removeprefix("file://")).unlink()
    done = sigctl("models", "activate", new)
    assert done.code == Exit.USAGE
    assert f"reference {lost.id}: there is no file" in done.err
    assert states(sigctl) == {old: "active", new: "incoming"}
    given_up = sigctl("models", "activate", new, "--without-lost")
    assert given_up.code == 0
    assert f"Reference {lost.id} is lost to this model" in given_up.err


def test_the_second_of_two_operators_is_told_of_the_first(
    sigctl: Sigctl, old: str, new: str, tmp_path: Path
) -> None:
    other = sigctl("models", "add", a_checkpoint(tmp_path / "x.pt", seed=9), "--json").json["id"]
    with opening.transaction() as session:
        models.announce(session, new, "mia")
    done = sigctl("models", "activate", other, "--by", "ben")
    assert done.code == Exit.USAGE
    assert f"Model {new[:12]} has been on its way in since" in done.err
    assert "by mia" in done.err


def gone(path: Path) -> None:
    path.unlink()


def altered(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    ("spoil", "words"), [(gone, "there is no file"), (altered, "it was altered or replaced")]
)
def test_a_registered_file_that_is_gone_or_altered_is_a_sentence_and_changes_nothing(
    sigctl: Sigctl, old: str, new: str, spoil: object, words: str
) -> None:
    uri = sigctl("models", "show", new, "--json").json["uri"]
    spoil(Path(uri.removeprefix("file://")))  # type: ignore[operator]
    done = sigctl("models", "activate", new)
    assert done.code == Exit.SETUP
    assert words in done.err
    assert states(sigctl) == {old: "active", new: "candidate"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "ffff"], "No model 'ffff' has been registered."),
        (["activate", ""], "No model '' has been registered."),
        (["rollback"], "No model was active before this one"),
        (["add", "none.pt"], "none.pt"),
        (["activate", "OLD"], "is active already"),
        (["cancel", "OLD"], "there is nothing to cancel"),
        (["prune", "OLD"], "its embeddings are needed"),
        (["activate", "OLD", "--shadow", "half"], "is no share"),
        (["activate", "OLD", "--shadow", "0"], "would show it nothing"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    sigctl: Sigctl, old: str, arguments: list[str], words: str
) -> None:
    done: Done = sigctl("models", *(old if word == "OLD" else word for word in arguments))
    assert done.code == Exit.USAGE
    assert words in done.err
    assert states(sigctl) == {old: "active"}


def test_a_file_that_is_no_checkpoint_is_not_registered(
    sigctl: Sigctl, old: str, tmp_path: Path
) -> None:
    (tmp_path / "no.pt").write_bytes(b"nothing")
    done = sigctl("models", "add", tmp_path / "no.pt")
    assert done.code == Exit.SETUP
    assert "is not a checkpoint" in done.err
    assert list(states(sigctl)) == [old]


def test_the_model_before_stays_in_reach_when_the_settings_name_another(
    sigctl: Sigctl, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file goes into the store with the change, so that any machine can go back."""
    assert sigctl("models", "activate", new).code == 0
    monkeypatch.setenv("SIGCTL_CHECKPOINT", "nowhere.pt")
    assert sigctl("models", "rollback").code == 0
    assert states(sigctl) == {old: "active", new: "retired"}
