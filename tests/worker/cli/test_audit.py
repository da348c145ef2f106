"""`sigctl audit` answers questions about the record."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from tests.worker.cli.conftest import Copies, Sigctl
from worker import client
from worker.cli.exits import Exit
from worker.cli.record import FIELDS, _cell

JOBS = ("job-accept", "job-reject", "job-error")


@pytest.fixture
def decided(
    sigctl: Sigctl,
    enrolled: str,
    specimens: Path,
    stranger: Path,
    blank: Path,
    here: Path,
    copies: Copies,
) -> str:
    """One decision of each kind, in the order of `JOBS`."""

    def decide() -> None:
        documents = (specimens / "1.png", stranger, blank)
        for job, document in zip(JOBS, documents, strict=True):
            sigctl("submit", enrolled, document, "--job-id", job, "--metadata", "branch=12")

    copies.once("decided for the audit", here, decide)
    return enrolled


def test_decisions_are_listed_newest_first(sigctl: Sigctl, decided: str) -> None:
    done = sigctl("audit", "list")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 100
    assert [word for word in done.out.split() if word in JOBS] == list(reversed(JOBS))
    assert "blank_image" in done.out
    newest = sigctl("audit", "list", "--limit", 1)
    assert "job-reject" not in newest.out
    assert "the newest 1" in newest.err


@pytest.mark.parametrize(
    ("filters", "jobs"),
    [
        ([], JOBS),
        (["--signer", "ada"], JOBS),
        (["--signer", "zoe"], ()),
        (["--verdict", "reject"], ("job-reject",)),
        (["--verdict", "error"], ("job-error",)),
        (["--code", "blank_image"], ("job-error",)),
        (["--min-distance", "0.1"], ("job-reject",)),
        (["--max-distance", "0.1"], ("job-accept",)),
        (["--since", "1h"], JOBS),
        (["--until", "1h"], ()),
        (["--since", "2020-01-01", "--until", "2020-12-31"], ()),
        (["--model", "zzzz"], ()),
    ],
    ids=" ".join,
)
def test_each_filter_narrows_list_export_and_stats_alike(
    sigctl: Sigctl, decided: str, filters: list[str], jobs: tuple[str, ...]
) -> None:
    listed = sigctl("audit", "list", "--json", *filters).json
    assert {decision["job_id"] for decision in listed} == {*jobs}
    exported = csv.DictReader(io.StringIO(sigctl("audit", "export", *filters).out))
    assert {line["job_id"] for line in exported} == {*jobs}
    assert sigctl("audit", "stats", "--json", *filters).json["decisions"] == len(jobs)


@pytest.mark.parametrize("mark", ["=", "+", "-", "@", "＝", "＋", "－", "＠"])
def test_a_csv_export_holds_no_formula_for_a_spreadsheet(
    sigctl: Sigctl, enrolled: str, blank: Path, mark: str
) -> None:
    formula = f"{mark}HYPERLINK(A1)"
    client.submit(formula, blank.as_uri(), job_id=formula, metadata={formula: formula})
    (line,) = csv.DictReader(io.StringIO(sigctl("audit", "export").out))
    assert line["job_id"] == line["signer_id"] == f"'{formula}"
    assert not any(cell.startswith(tuple("=+-@＝＋－＠\t\r\n")) for cell in line.values())
    (row,) = map(json.loads, sigctl("audit", "export", "--format", "jsonl").out.splitlines())
    assert row["job_id"] == formula


def test_numbers_in_a_csv_export_stay_numbers() -> None:
    assert [_cell(value) for value in (-0.25, -3, 0, None, True)] == [-0.25, -3, 0, None, True]
    assert [_cell(value) for value in ("\tx", "\rx", "\n=x", "a=b")] == [
        *("'\tx", "'\rx", "'\n=x"),
        "a=b",
    ]


def test_a_model_is_named_by_the_beginning_of_its_digest(sigctl: Sigctl, decided: str) -> None:
    model = sigctl("audit", "list", "--verdict", "accept", "--json").json[0]["model_id"]
    found = sigctl("audit", "list", "--model", model[:12], "--json").json
    assert {decision["job_id"] for decision in found} == {"job-accept", "job-reject"}


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        (["--since", "yesterday"], "is not a time"),
        (["--since", "1h", "--until", "2h"], "ends before it begins"),
        (["--min-distance", "2", "--max-distance", "1"], "No distance is at least"),
    ],
)
@pytest.mark.parametrize("command", ["list", "export", "stats"])
def test_a_filter_that_makes_no_sense_is_refused(
    sigctl: Sigctl, command: str, filters: list[str], words: str
) -> None:
    done = sigctl("audit", command, *filters)
    assert done.code == Exit.USAGE
    assert words in done.err


def test_nothing_found_is_said(sigctl: Sigctl) -> None:
    assert "No decision matches." in sigctl("audit", "list").out
    assert "No decision matches." in sigctl("audit", "stats").out
    assert sigctl("audit", "stats", "--json").json == {"decisions": 0, "by_verdict": []}


def test_a_decision_is_shown_with_all_it_rests_on(sigctl: Sigctl, decided: str) -> None:
    done = sigctl("audit", "show", "job-reject")
    assert done.code == 0
    for words in ("verdict reject", "rule nearest", 'metadata {"branch": "12"}', "deliveries 1"):
        assert words in done.text
    assert re.search(r"ink strokes \d\.\d px wide, \d+\.\d % of a box \d+ px long", done.text)
    found = sigctl("audit", "show", "job-reject", "--json").json
    assert set(found["decision"]["ink"]) == {"stroke_width", "ink_share", "long_side"}
    assert tuple(found["decision"]) == FIELDS
    assert found["job"]["status"] == "done"
    reason = sigctl("audit", "show", "job-error").text
    assert "blank_image: " in reason


def test_a_review_is_shown_with_both_thresholds_and_its_terms(
    sigctl: Sigctl, banded: Path, enrolled: str, stranger: Path
) -> None:
    sigctl("submit", enrolled, stranger, "--job-id", "job-review")
    shown = sigctl("audit", "show", "job-review").text
    for words in (
        "verdict review",
        "(nearest +",
        ", spread -",
        "accept below -1.000, reject from 9.000 (operating point 1%)",
        "rule nearest-offset",
    ):
        assert words in shown
    (listed,) = sigctl("audit", "list", "--verdict", "review", "--json").json
    assert listed["job_id"] == "job-review"
    assert listed["terms"]["cohort"] == 0.0
    (line,) = csv.DictReader(io.StringIO(sigctl("audit", "export", "--verdict", "review").out))
    assert (line["operating_point"], line["reject_threshold"]) == ("1%", "9.0")
    assert json.loads(line["terms"]) == listed["terms"]
    assert "review" in sigctl("audit", "stats").out


def test_a_job_is_found_by_the_beginning_of_its_id(sigctl: Sigctl, decided: str) -> None:
    assert sigctl("audit", "show", "job-r", "--json").json["job"]["id"] == "job-reject"
    several = sigctl("audit", "show", "job-")
    assert several.code == Exit.USAGE
    assert "Several jobs begin with 'job-'" in several.err


def test_an_unknown_job_is_said(sigctl: Sigctl) -> None:
    done = sigctl("audit", "show", "nothing")
    assert done.code == Exit.USAGE
    assert "There is no job 'nothing'." in done.err


def test_an_export_has_every_field_and_goes_to_a_file_whole(
    sigctl: Sigctl, decided: str, here: Path
) -> None:
    done = sigctl("audit", "export", "record.csv")
    assert done.out == ""
    assert "3 decisions written to record.csv." in done.err
    with (here / "record.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == FIELDS
    assert [line["job_id"] for line in lines] == list(reversed(JOBS))
    assert json.loads(lines[0]["metadata"]) == {"branch": "12"}
    assert len(json.loads(lines[1]["distances"])) == 3
    assert sorted(path.name for path in here.iterdir() if "record" in path.name) == ["record.csv"]


def test_json_lines_hold_the_same(sigctl: Sigctl, decided: str) -> None:
    lines = sigctl("audit", "export", "--format", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == sigctl("audit", "list", "--json").json


def test_a_file_that_cannot_be_written_is_said(sigctl: Sigctl, here: Path) -> None:
    done = sigctl("audit", "export", "nowhere/record.csv")
    assert done.code == Exit.USAGE
    assert "nowhere/record.csv cannot be written" in done.err


def test_stats_count_by_verdict_and_code(sigctl: Sigctl, decided: str) -> None:
    found = sigctl("audit", "stats", "--json").json["by_verdict"]
    counted = [(line["verdict"], line["error_code"], line["count"]) for line in found]
    assert counted == [
        ("accept", None, 1),
        ("reject", None, 1),
        ("error", "blank_image", 1),
    ]
    assert "3 decisions from 20" in sigctl("audit", "stats").text
