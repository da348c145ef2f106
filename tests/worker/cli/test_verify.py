"""`sigctl verify` and `sigctl submit`: the exit code is the verdict, and all is on record."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.scoring import OPERATING_POINTS
from tests.worker.cli.conftest import Sigctl
from worker.cli import submit
from worker.cli.exits import CommandError, Exit
from worker.cli.verify import Far


def test_the_same_signature_is_accepted(sigctl: Sigctl, enrolled: str, specimens: Path) -> None:
    done = sigctl("verify", enrolled, specimens / "2.png")
    assert done.code == 0
    for words in ("verdict accept", "distance 0.000", "threshold 0.050", "nearest reference 2"):
        assert words in done.text


def test_another_signature_is_rejected_with_its_own_code(
    sigctl: Sigctl, enrolled: str, stranger: Path
) -> None:
    done = sigctl("verify", enrolled, stranger, "--json")
    assert done.code == Exit.NOT_ACCEPTED
    decision = done.json
    assert decision["verdict"] == "reject"
    assert decision["score"] >= decision["threshold"]
    assert decision["distance"] == min(entry["distance"] for entry in decision["distances"])
    assert len(decision["distances"]) == 3
    assert decision["document"] == stranger.as_uri()
    assert decision["decided_at"].endswith("Z")


def test_what_lies_between_the_thresholds_is_left_for_a_person(
    sigctl: Sigctl, banded: Path, enrolled: str, stranger: Path
) -> None:
    done = sigctl("verify", enrolled, stranger)
    assert done.code == Exit.NOT_ACCEPTED
    for words in (
        "verdict review",
        "(nearest +",
        ", spread -",
        "accept below -1.000, reject from 9.000 (operating point 1%)",
    ):
        assert words in done.text
    assert "A person decides this one; `sigctl audit list --verdict review`" in done.err
    assert len(sigctl("audit", "list", "--verdict", "review", "--json").json) == 1


@pytest.mark.parametrize(
    ("far", "verdict", "threshold", "point"),
    [
        ("0.1%", "review", -2.0, "0.1%"),
        ("1%", "review", -1.0, "1%"),
        ("5%", "accept", 0.0, "5%"),
        ("balanced", "accept", 0.05, None),
    ],
)
@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_operating_point_is_an_option_or_a_setting(
    sigctl: Sigctl,
    banded: Path,
    enrolled: str,
    specimens: Path,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
    far: str,
    verdict: str,
    threshold: float,
    point: str | None,
) -> None:
    monkeypatch.setenv("SIGCTL_FAR", "1%" if by == "option" else far)
    option = ("--far", far) if by == "option" else ()
    done = sigctl("verify", enrolled, specimens / "2.png", *option, "--json").json
    assert (done["verdict"], done["threshold"]) == (verdict, threshold)
    assert done["operating_point"] == point
    assert done["reject_threshold"] == (9.0 if point else None)
    assert sum(done["terms"].values()) == pytest.approx(done["score"])


def test_submitting_decides_at_the_configured_point(
    sigctl: Sigctl,
    banded: Path,
    enrolled: str,
    specimens: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIGCTL_FAR", "5%")
    done = sigctl("submit", enrolled, specimens / "2.png", "--json")
    assert (done.code, done.json["operating_point"]) == (Exit.DONE, "5%")


def test_a_model_without_operating_points_decides_as_it_always_did(
    sigctl: Sigctl, enrolled: str, specimens: Path
) -> None:
    done = sigctl("verify", enrolled, specimens / "2.png", "--far", "0.1%", "--json").json
    assert (done["verdict"], done["threshold"]) == ("accept", 0.05)
    assert (done["operating_point"], done["reject_threshold"]) == (None, None)


def test_the_options_points_are_those_of_the_setting() -> None:
    assert [far.value for far in Far] == ["balanced", *OPERATING_POINTS]


def test_an_operating_point_that_there_is_not_is_refused(
    sigctl: Sigctl, enrolled: str, specimens: Path
) -> None:
    done = sigctl("verify", enrolled, specimens / "2.png", "--far", "2%")
    assert done.code == Exit.USAGE
    assert "--far" in done.err


@pytest.mark.parametrize(
    ("signer", "document", "code", "words"),
    [
        ("nobody", "specimens/1.png", "unknown_signer", "sigctl enroll"),
        ("ada", "blank.png", "blank_image", ""),
        ("ada", "nowhere.png", "image_not_found", ""),
        ("ada", "/etc/hostname", "uri_not_allowed", "SIGCTL_ROOTS"),
        ("ada", "s3://bucket/key.png", "uri_not_allowed", "SIGCTL_BUCKETS"),
    ],
)
def test_a_failure_is_recorded_with_its_code_and_never_zero(
    sigctl: Sigctl, enrolled: str, blank: Path, signer: str, document: str, code: str, words: str
) -> None:
    done = sigctl("verify", signer, document)
    assert done.code == Exit.FAILED
    assert f"reason {code}: " in done.text
    assert words in done.err
    record = sigctl("audit", "list", "--code", code, "--json").json
    assert [decision["error_code"] for decision in record] == [code]


def test_page_and_region_reach_the_image(sigctl: Sigctl, enrolled: str, specimens: Path) -> None:
    image = specimens / "1.png"
    assert "page_not_found" in sigctl("verify", enrolled, image, "--page", 2).text
    outside = sigctl("verify", enrolled, image, "--region", "9000,0,10,10")
    assert "region_outside_page" in outside.text
    whole = sigctl("verify", enrolled, image, "--page", 1, "--region", "0,0,450,250")
    assert whole.code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ada", "http://host/x.png"], "must be s3://bucket/key or file:///path"),
        (["../a", "x.png"], "signer_id cannot be used"),
        (["ada", ""], "an empty one was given"),
        (["ada", "x.png", "--region", "1,2"], "is not x,y,width,height"),
    ],
)
@pytest.mark.parametrize("command", ["verify", "submit"])
def test_a_question_that_makes_no_sense_is_refused(
    sigctl: Sigctl, command: str, arguments: list[str], words: str
) -> None:
    done = sigctl(command, *arguments)
    assert done.code == Exit.USAGE
    assert words in done.err


def test_submitting_without_a_broker_decides_here_and_keeps_the_metadata(
    sigctl: Sigctl, enrolled: str, stranger: Path
) -> None:
    arguments = ("--job-id", "j1", "--metadata", "branch=12", "--metadata", '{"n": [1]}', "--json")
    done = sigctl("submit", enrolled, stranger, *arguments)
    assert done.code == Exit.NOT_ACCEPTED
    assert done.json["job_id"] == "j1"
    assert done.json["metadata"] == {"branch": "12", "n": [1]}
    assert sigctl("submit", enrolled, stranger, *arguments).json == done.json


def test_a_job_id_stands_for_one_question(
    sigctl: Sigctl, enrolled: str, stranger: Path, blank: Path
) -> None:
    sigctl("submit", enrolled, stranger, "--job-id", "j1")
    done = sigctl("submit", enrolled, blank, "--job-id", "j1")
    assert done.code == Exit.USAGE
    assert "j1" in done.err


def test_without_a_model_nothing_is_recorded(
    sigctl: Sigctl, enrolled: str, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_CHECKPOINT_SHA256", "0" * 64)
    done = sigctl("submit", enrolled, stranger)
    assert done.code == Exit.SETUP
    assert "is not the one that SIGCTL_CHECKPOINT_SHA256 names." in done.err
    assert sigctl("audit", "list", "--json").json == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("branch", "neither NAME=VALUE nor"),
        ("=1", "neither NAME=VALUE nor"),
        ("{branch: 1}", "is not valid JSON"),
        ("{" * 5000, "is not valid JSON"),
    ],
)
def test_metadata_of_no_known_form_is_refused(text: str, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        submit.parse([text])


def test_metadata_that_json_cannot_carry_is_refused(sigctl: Sigctl, stranger: Path) -> None:
    done = sigctl("submit", "ada", stranger, "--metadata", '{"a": NaN}')
    assert done.code == Exit.USAGE
    assert "metadata holds something" in done.text.lower()


def test_a_database_that_was_not_migrated_says_what_to_run(
    sigctl: Sigctl, stranger: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_DATABASE_URL", f"sqlite:///{here / 'other.db'}")
    done = sigctl("verify", "ada", stranger)
    assert done.code == Exit.SETUP
    assert "sigctl db upgrade" in done.err
    assert sigctl("db", "upgrade").code == 0
    assert sigctl("verify", "ada", stranger).code == Exit.FAILED


def test_a_database_that_is_away_is_said(
    sigctl: Sigctl, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_DATABASE_URL", "postgresql://sigctl:secret@127.0.0.1:1/sigctl")
    done = sigctl("verify", "ada", stranger)
    assert done.code == Exit.UNAVAILABLE
    assert "secret" not in done.err
