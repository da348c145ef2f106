"""`sigctl jobs`: what an operator sees of jobs that wait or failed, and asking again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.cli.conftest import Sigctl
from worker.cli.exits import Exit


@pytest.fixture
def failed(sigctl: Sigctl, enrolled: str, here: Path) -> Path:
    """The document of a job `late` that failed, because it was not there yet."""
    document = here / "late.png"
    sigctl("submit", enrolled, document.as_uri(), "--job-id", "late")
    return document


def test_jobs_without_a_verdict_are_listed(
    sigctl: Sigctl, enrolled: str, failed: Path, specimens: Path
) -> None:
    sigctl("submit", enrolled, specimens / "1.png", "--job-id", "good")
    listed = sigctl("jobs", "list")
    assert "late" in listed.out
    assert "image_not_found" in listed.out
    assert "good" not in listed.out
    assert "good" in sigctl("jobs", "list", "--status", "done").out
    found = sigctl("jobs", "list", "--code", "image_not_found", "--json").json
    assert [(job["id"], job["error_code"], job["deliveries"]) for job in found] == [
        ("late", "image_not_found", 1)
    ]
    assert "No job matches." in sigctl("jobs", "list", "--code", "poison").out
    assert "No job matches." in sigctl("jobs", "list", "--older-than", "1h").out
    assert "These are the latest 1" in sigctl("jobs", "list", "--limit", "1").err


def test_a_job_is_shown_with_its_deliveries_and_its_failure(sigctl: Sigctl, failed: Path) -> None:
    shown = sigctl("jobs", "show", "late")
    assert shown.code == 0
    assert "image_not_found" in shown.out
    assert "deliveries" in shown.out
    assert sigctl("jobs", "show", "nobody").code == Exit.USAGE


def test_a_failure_is_asked_again_once_its_cause_is_gone(
    sigctl: Sigctl, failed: Path, specimens: Path
) -> None:
    failed.write_bytes((specimens / "1.png").read_bytes())
    assert "late is asked again as late~2." in sigctl("jobs", "replay", "late").out
    assert sigctl("jobs", "show", "late~2", "--json").json["decision"]["verdict"] == "accept"
    assert sigctl("jobs", "show", "late", "--json").json["decision"]["verdict"] == "error"
    again = sigctl("jobs", "replay", "late~2")
    assert again.code == Exit.USAGE
    assert "Job late~2 has a verdict, and a verdict stands." in again.err


def test_all_failures_with_a_code_are_asked_again_together_and_once(
    sigctl: Sigctl, failed: Path
) -> None:
    asked = sigctl("jobs", "replay", "--code", "image_not_found", "--json").json
    assert asked == {"replayed": {"late": "late~2"}}
    asked = sigctl("jobs", "replay", "--code", "image_not_found", "--json").json
    assert asked == {"replayed": {"late~2": "late~3"}}  # which failed as well
    assert "No job failed with the code poison" in sigctl("jobs", "replay", "--code", "poison").out


def test_a_replay_of_nothing_and_of_nobody_is_refused(sigctl: Sigctl, enrolled: str) -> None:
    done = sigctl("jobs", "replay")
    assert done.code == Exit.USAGE
    assert "Name the jobs to replay, or the --code" in done.err
    done = sigctl("jobs", "replay", "nobody")
    assert done.code == Exit.USAGE
    assert "no job 'nobody'" in done.err
