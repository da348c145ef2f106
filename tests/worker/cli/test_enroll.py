"""`sigctl enroll` says what became of each image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import synthetic
from model.checkpoint import load_checkpoint, save_checkpoint
from tests.conftest import Bucket
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


@pytest.fixture
def line(here: Path) -> Path:
    """A page with a single line on it."""
    page = np.full((200, 400), 255, np.uint8)
    page[95:99, 60:340] = 0
    Image.fromarray(page).save(here / "line.png")
    return here / "line.png"


def test_a_refused_image_is_told_with_the_reason_and_force_enrols_it(
    sigctl: Sigctl, specimens: Path, line: Path
) -> None:
    done = sigctl("enroll", "ada", specimens, line)
    assert done.code == 0
    assert "too little ink for a signature." in done.text
    assert "3 added, 1 refused; 3 references in use" in done.text
    forced = sigctl("enroll", "ada", line, "--force", "--json").json
    assert forced["references"] == 4
    assert forced["images"][0]["forced"] is True
    assert "little_ink" in [remark["code"] for remark in forced["images"][0]["remarks"]]


def test_a_dry_run_says_what_would_be_and_keeps_nothing(
    sigctl: Sigctl, specimens: Path, here: Path
) -> None:
    done = sigctl("enroll", "ada", specimens, "--dry-run")
    assert done.code == 0
    assert "would be added" in done.text
    assert "This was a dry run: nothing was kept." in done.text
    assert sigctl("signers", "list", "--json").json == []
    assert not (here / "store").exists()


def test_what_the_checkpoint_does_not_know_is_not_said(sigctl: Sigctl, specimens: Path) -> None:
    done = sigctl("enroll", "ada", specimens)
    assert "nearest fellow on average." in done.text
    assert "was measured" not in done.text
    assert "More references are needed: at best 5 or more." in done.text
    found = sigctl("enroll", "ada", specimens, "--json").json
    assert (found["expected"], found["references_wanted"]) == (None, 5)


def test_what_the_checkpoint_was_measured_to_do_is_said(
    sigctl: Sigctl, specimens: Path, measured: Path
) -> None:
    done = sigctl("enroll", "ada", specimens)
    assert (
        "With 1 reference the model was measured to err in 14.0 % of comparisons with imitations"
        " and in 2.0 % of those with other people's signatures." in done.text
    )
    assert "At the operating point 1% it accepted 3.0 % of imitations and 70.0 % of" in done.text
    assert "More references are needed: at best 5 or more." in done.text
    found = sigctl("enroll", "ada", specimens, "--json").json
    assert found["expected"]["measured"] == 1


@pytest.fixture
def measured(banded: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint that says how it was tested."""
    shares = {"skilled": {"accepted": 0.03}, "genuine": {"accepted": 0.7}}
    rates = {"random_eer": 0.02, "operating_points": {"1%": shares}}
    test = [
        {"protocol": "1 reference", "skilled_eer": 0.14} | rates,
        {"protocol": "5 references", "skilled_eer": 0.09} | rates,
    ]
    path = here.parent / "measured.pt"
    save_checkpoint(path, replace(load_checkpoint(banded), provenance={"test": test}))
    monkeypatch.setenv("SIGCTL_CHECKPOINT", str(path))
    return path


@pytest.mark.parametrize("arguments", [(), ("ada",), ("ada", "x", "--manifest", "y.csv")])
def test_a_signer_with_images_or_a_manifest_must_be_named(
    sigctl: Sigctl, arguments: tuple[str, ...]
) -> None:
    done = sigctl("enroll", *arguments)
    assert done.code == Exit.USAGE
    assert "Name a" in done.err


def test_an_empty_folder_is_said(sigctl: Sigctl, here: Path) -> None:
    (here / "empty").mkdir()
    done = sigctl("enroll", "ada", "empty")
    assert done.code == Exit.USAGE
    assert "The folder empty holds no image" in done.err


@pytest.fixture
def crowd(here: Path) -> Path:
    """A manifest of four signers with two images each."""
    rng = np.random.default_rng(5)
    rows = ["signer,image"]
    for name in ("ada", "bo", "chen", "dora"):
        signer = synthetic.make_signer(rng)
        (here / "scans" / name).mkdir(parents=True)
        for number in (1, 2):
            path = here / "scans" / name / f"{number}.png"
            Image.fromarray(synthetic.genuine(signer, rng)).save(path)
            rows.append(f"{name},{name}/{number}.png")
    path = here / "scans" / "list.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_manifest_enrols_all_its_signers_and_again_none(sigctl: Sigctl, crowd: Path) -> None:
    done = sigctl("enroll", "--manifest", crowd)
    assert done.code == 0
    assert "4 signers: 8 added." in done.text
    assert "4 signers should have more references" in done.text
    listed = sigctl("signers", "list", "--json").json
    assert [(signer["id"], signer["references"]) for signer in listed] == [
        ("ada", 2),
        ("bo", 2),
        ("chen", 2),
        ("dora", 2),
    ]
    assert "4 signers: 8 already enrolled." in sigctl("enroll", "--manifest", crowd).text


def test_wrong_rows_are_all_told_with_their_lines_and_the_good_ones_done(
    sigctl: Sigctl, crowd: Path, blank: Path
) -> None:
    sigctl("enroll", "zoe", crowd.parent / "dora" / "1.png")
    sigctl("signers", "retire", "zoe")
    rows = [",a.png", "ada,nowhere.png", f"bo,{blank}", "zoe,ada/1.png", "ada"]
    crowd.write_text(crowd.read_text() + "\n".join(rows) + "\n")
    done = sigctl("enroll", "--manifest", crowd, "--json")
    assert done.code == Exit.USAGE
    lines = {line["line"]: line for line in done.json["lines"]}
    assert [n for n, line in lines.items() if line["image"] is None] == [10, 11, 13, 14]
    assert "must not be empty" in lines[10]["reason"]
    assert "There is no file or folder" in lines[11]["reason"]
    assert lines[12]["image"]["code"] == "blank_image"
    assert "was retired" in lines[13]["reason"]
    assert "4 lines of" in done.err
    assert "the first is line 10" in done.err
    fates = [lines[n]["image"]["fate"] for n in range(2, 10)]
    assert fates.count("added") == 8


def test_a_manifest_in_json_lines_may_name_folders(sigctl: Sigctl, crowd: Path) -> None:
    path = crowd.with_name("list.jsonl")
    path.write_text('{"signer": "ada", "image": "ada"}\n{"signer": "bo", "images": ["bo/1.png"]}\n')
    done = sigctl("enroll", "--manifest", path, "--dry-run")
    assert done.code == 0
    assert "2 signers: 3 added." in done.text
    assert sigctl("signers", "list", "--json").json == []


def test_a_manifest_that_is_none_is_said(sigctl: Sigctl, here: Path) -> None:
    (here / "list.csv").write_text("name,file\n")
    done = sigctl("enroll", "--manifest", "list.csv")
    assert done.code == Exit.USAGE
    assert "must name the columns `signer` and `image`" in done.err


def test_the_images_below_a_prefix_of_a_bucket_are_enrolled(
    sigctl: Sigctl, specimens: Path, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        s3.put(f"ada/{number}.png", (specimens / f"{number}.png").read_bytes())
    s3.put("ada/notes.txt", b"no image")
    s3.put("adam/1.png", (specimens / "1.png").read_bytes())
    monkeypatch.setenv("SIGCTL_S3_ENDPOINT", s3.config.endpoint or "")
    monkeypatch.setenv("SIGCTL_S3_ACCESS_KEY", s3.config.access_key or "")
    monkeypatch.setenv("SIGCTL_S3_SECRET_KEY", s3.config.secret_key or "")
    refused = sigctl("enroll", "ada", s3.uri("ada/"))
    assert refused.code == Exit.USAGE
    assert "lies outside the buckets that may be read" in refused.text
    monkeypatch.setenv("SIGCTL_BUCKETS", s3.bucket)
    done = sigctl("enroll", "ada", s3.uri("ada/"), "--json")
    assert [image["source"] for image in done.json["images"]] == [
        s3.uri(f"ada/{number}.png") for number in (1, 2, 3)
    ]
    nothing = sigctl("enroll", "ada", s3.uri("bo/"))
    assert "There is no image below" in nothing.err
