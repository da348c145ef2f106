"""`sigctl enroll` says what became of each image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.cli.conftest import Sigctl
from worker.cli.exits import Exit


def test_a_folder_is_enrolled_and_the_database_is_made_and_said_once(
    sigctl: Sigctl, specimens: Path, here: Path
) -> None:
    done = sigctl("enroll", "ada", specimens)
    assert done.code == 0
    assert "3 added; 3 references in use" in done.text
    assert f"Made the database {here / 'sigctl.db'}" in done.text
    again = sigctl("enroll", "ada", specimens)
    assert again.code == 0
    assert "3 already enrolled; 3 references in use" in again.text
    assert "Made the database" not in again.text


def test_an_image_that_cannot_be_used_is_refused_and_the_others_go_on(
    sigctl: Sigctl, specimens: Path, blank: Path, here: Path
) -> None:
    corrupt = here / "corrupt.png"
    corrupt.write_bytes((specimens / "1.png").read_bytes()[:200])
    done = sigctl("enroll", "ada", corrupt, specimens / "1.png", blank, "--json")
    assert done.code == 0
    fates = [(Path(image["source"]).name, image["fate"]) for image in done.json["images"]]
    assert fates == [("corrupt.png", "refused"), ("1.png", "added"), ("blank.png", "refused")]
    assert [image["code"] for image in done.json["images"]] == [
        "unreadable_image",
        None,
        "blank_image",
    ]
    assert done.json["references"] == 1
    assert all(Path(image["source"]).is_absolute() for image in done.json["images"])


def test_a_uri_outside_the_allowed_places_is_refused_like_any_image(
    sigctl: Sigctl, specimens: Path
) -> None:
    done = sigctl("enroll", "ada", "s3://elsewhere/a.png", specimens / "1.png", "--json")
    assert done.code == 0
    assert done.json["images"][0]["code"] == "uri_not_allowed"
    assert done.json["images"][1]["fate"] == "added"


def test_a_file_above_the_limit_is_refused(
    sigctl: Sigctl, specimens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_MAX_BYTES", "100")
    done = sigctl("enroll", "ada", specimens / "1.png")
    assert done.code == Exit.USAGE
    assert "SIGCTL_MAX_BYTES" in done.text


def test_with_no_image_enrolled_the_code_is_not_zero_and_nobody_is_made(
    sigctl: Sigctl, blank: Path
) -> None:
    done = sigctl("enroll", "ada", blank)
    assert done.code == Exit.USAGE
    assert "No image could be enrolled for ada." in done.err
    assert sigctl("signers", "list", "--json").json == []


@pytest.mark.parametrize("signer", ["", " ada", "../x", "x" * 129])
def test_an_id_that_no_message_could_carry_is_refused(
    sigctl: Sigctl, specimens: Path, signer: str
) -> None:
    done = sigctl("enroll", signer, specimens)
    assert done.code == Exit.USAGE
    assert "signer_id cannot be used" in done.err


def test_a_missing_path_is_said_before_any_work(sigctl: Sigctl, here: Path) -> None:
    done = sigctl("enroll", "ada", "nowhere")
    assert done.code == Exit.USAGE
    assert "There is no file or folder 'nowhere'." in done.err
    assert not (here / "sigctl.db").exists()


def test_a_retired_signer_is_not_enrolled(sigctl: Sigctl, enrolled: str, specimens: Path) -> None:
    sigctl("signers", "retire", enrolled)
    done = sigctl("enroll", enrolled, specimens)
    assert done.code == Exit.USAGE
    assert "was retired" in done.err


def test_a_missing_checkpoint_is_a_matter_of_setup(
    sigctl: Sigctl, specimens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_CHECKPOINT", "nowhere.pt")
    done = sigctl("enroll", "ada", specimens)
    assert done.code == Exit.SETUP
    assert "There is no checkpoint nowhere.pt." in done.err
