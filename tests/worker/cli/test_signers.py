"""`sigctl signers` lists, shows, retires and restores."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.worker.cli.conftest import Sigctl
from worker.cli.exits import Exit


def test_signers_are_listed_and_shown(sigctl: Sigctl, enrolled: str, specimens: Path) -> None:
    done = sigctl("signers", "list")
    assert done.code == 0
    assert "ada 3 20" in done.text
    (line,) = sigctl("signers", "list", "--json").json
    assert (line["id"], line["references"], line["retired_at"]) == ("ada", 3, None)
    shown = sigctl("signers", "show", enrolled)
    assert "3 in use, 0 retired" in shown.text
    assert max(map(len, shown.out.splitlines())) <= 100
    found = sigctl("signers", "show", enrolled, "--json").json
    assert [reference["source"] for reference in found["references"]] == [
        str(specimens / f"{number}.png") for number in (1, 2, 3)
    ]
    assert all(len(reference["models"]) == 1 for reference in found["references"])


def test_signers_are_found_by_a_part_of_their_id(sigctl: Sigctl, enrolled: str) -> None:
    assert len(sigctl("signers", "list", "AD", "--json").json) == 1
    assert sigctl("signers", "list", "zoe", "--json").json == []
    assert "No signer matches." in sigctl("signers", "list", "zoe").out


def test_a_retired_signer_is_not_verified_until_restored(
    sigctl: Sigctl, enrolled: str, specimens: Path
) -> None:
    assert "is out of use since 20" in sigctl("signers", "retire", enrolled).out
    done = sigctl("verify", enrolled, specimens / "1.png")
    assert done.code == Exit.FAILED
    assert "signer_retired" in done.text
    assert sigctl("signers", "list", "--live", "--json").json == []
    assert len(sigctl("signers", "list", "--retired", "--json").json) == 1
    assert sigctl("signers", "restore", enrolled, "--json").json["retired_at"] is None
    assert sigctl("verify", enrolled, specimens / "1.png").code == 0


def test_one_reference_is_retired_and_no_longer_compared_with(
    sigctl: Sigctl, enrolled: str, specimens: Path
) -> None:
    done = sigctl("signers", "retire", enrolled, "--reference", 1, "--json")
    assert done.json["reference"] == 1
    assert sigctl("verify", enrolled, specimens / "1.png").code == Exit.NOT_ACCEPTED
    assert "2 in use, 1 retired" in sigctl("signers", "show", enrolled).text


def test_a_reference_of_somebody_else_is_not_retired(
    sigctl: Sigctl, enrolled: str, stranger: Path
) -> None:
    sigctl("enroll", "boris", stranger)
    done = sigctl("signers", "retire", "boris", "--reference", 1)
    assert done.code == Exit.USAGE
    assert "Signer boris has no reference 1" in done.err


def test_an_unknown_signer_is_said(sigctl: Sigctl) -> None:
    for command in ("show", "retire", "restore"):
        done = sigctl("signers", command, "nobody")
        assert done.code == Exit.USAGE
        assert "No signer 'nobody' has been enrolled." in done.err


def test_one_reference_is_restored(sigctl: Sigctl, enrolled: str, specimens: Path) -> None:
    sigctl("signers", "retire", enrolled, "--reference", 1)
    done = sigctl("signers", "restore", enrolled, "--reference", 1)
    assert done.code == 0
    assert "Reference 1 of ada is in use." in done.text
    assert "3 in use, 0 retired" in sigctl("signers", "show", enrolled).text
    assert sigctl("verify", enrolled, specimens / "1.png").code == 0
    assert sigctl("signers", "restore", enrolled, "--reference", 9).code == Exit.USAGE


def test_a_sheet_shows_the_references_in_use(sigctl: Sigctl, enrolled: str, here: Path) -> None:
    sigctl("signers", "retire", enrolled, "--reference", 2)
    done = sigctl("signers", "show", enrolled, "--sheet", "sheet.png")
    assert done.code == 0
    with Image.open(here / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        two = sheet.height
    sigctl("signers", "restore", enrolled, "--reference", 2)
    sigctl("signers", "show", enrolled, "--sheet", "sheet.png")
    with Image.open(here / "sheet.png") as sheet:
        assert sheet.height > two


def test_a_sheet_of_nothing_or_nowhere_is_said(sigctl: Sigctl, enrolled: str) -> None:
    nowhere = sigctl("signers", "show", enrolled, "--sheet", "specimens/1.png/sheet.png")
    assert nowhere.code == Exit.USAGE
    for reference in (1, 2, 3):
        sigctl("signers", "retire", enrolled, "--reference", reference)
    nothing = sigctl("signers", "show", enrolled, "--sheet", "sheet.png")
    assert nothing.code == Exit.USAGE
    assert "1 to 60 specimens, not 0" in nothing.err


def test_the_review_lists_signers_with_few_references(sigctl: Sigctl, enrolled: str) -> None:
    done = sigctl("signers", "review")
    assert done.code == 0
    assert "3 references, 5 are better" in done.text
    [found] = sigctl("signers", "review", "--json").json
    assert found["signer_id"] == "ada"
    assert [reason["code"] for reason in found["reasons"]] == ["few"]


def test_a_review_of_nobody_is_said(sigctl: Sigctl) -> None:
    assert "nothing to say against" in sigctl("signers", "review").out


def test_an_erased_signer_is_gone_but_for_the_name_and_the_decisions(
    sigctl: Sigctl, enrolled: str, specimens: Path, here: Path
) -> None:
    sigctl("submit", enrolled, specimens / "1.png", "--job-id", "job-1")
    done = sigctl("signers", "erase", enrolled, "--by", "dora", "--yes")
    assert done.code == 0
    assert "Signer ada is erased: 3 references, 3 embeddings and 3 images are gone." in done.text
    assert [path for path in (here / "store").rglob("*") if path.is_file()] == []
    shown = sigctl("audit", "show", "job-1")
    assert shown.code == 0
    assert "verdict accept" in shown.text
    assert sigctl("audit", "verify").code == 0
    assert sigctl("signers", "show", enrolled, "--json").json["erased_at"]
    refused = sigctl("enroll", enrolled, specimens)
    assert refused.code != 0
    assert "was erased on" in refused.text
    assert sigctl("signers", "restore", enrolled).code != 0
    assert sigctl("signers", "restore", enrolled, "--erased").code == 0
    assert sigctl("enroll", enrolled, specimens).code == 0


def test_erasing_asks_first_and_names_who_is_unknown(sigctl: Sigctl, enrolled: str) -> None:
    assert sigctl("signers", "erase", enrolled).code != 0
    assert sigctl("signers", "show", enrolled, "--json").json["erased_at"] is None
    assert sigctl("signers", "erase", "nobody", "--yes").code != 0
