"""`sigctl audit label` and `labels`: what people found out stands beside the decision."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.cli.conftest import Copies, Sigctl
from worker.cli.exits import Exit


@pytest.fixture
def decided(
    sigctl: Sigctl, enrolled: str, stranger: Path, blank: Path, here: Path, copies: Copies
) -> str:
    """A job with a verdict and one that failed."""

    def decide() -> None:
        for job, document in (("job-reject", stranger), ("job-error", blank)):
            sigctl("submit", enrolled, document, "--job-id", job)

    copies.once("decided for labels", here, decide)
    return enrolled


def test_a_label_is_recorded_and_shown_beside_the_decision(sigctl: Sigctl, decided: str) -> None:
    done = sigctl("audit", "label", "job-rej", "forged", "--by", "May", "--note", "she told us")
    assert (done.code, done.out) == (0, "Job job-reject is labelled forged.\n")
    shown = sigctl("audit", "show", "job-reject").text
    assert "forged by May" in shown
    assert "(she told us)" in shown
    (label,) = sigctl("audit", "show", "job-reject", "--json").json["labels"]
    assert (label["finding"], label["by"], label["note"]) == ("forged", "May", "she told us")
    assert sigctl("audit", "show", "job-reject", "--json").json["decision"]["verdict"] == "reject"


def test_the_latest_label_counts_and_the_earlier_one_is_told(sigctl: Sigctl, decided: str) -> None:
    sigctl("audit", "label", "job-reject", "forged")
    again = sigctl("audit", "label", "job-reject", "genuine", "--json")
    assert again.json["finding"] == "genuine"
    done = sigctl("audit", "label", "job-reject", "genuine")
    assert "It was labelled genuine before." in done.text
    (listed,) = sigctl("audit", "labels", "--json").json
    assert (listed["job_id"], listed["finding"]) == ("job-reject", "genuine")
    assert "before: forged" in sigctl("audit", "show", "job-reject").text
    verified = sigctl("audit", "verify")
    assert verified.code == 0
    assert "3 labels, 0 erasures" in verified.text


@pytest.mark.parametrize(
    ("job", "words"),
    [("job-error", "so it has no verdict."), ("nobody", "There is no job 'nobody'.")],
)
def test_what_cannot_be_labelled_is_one_sentence(
    sigctl: Sigctl, decided: str, job: str, words: str
) -> None:
    done = sigctl("audit", "label", job, "forged")
    assert (done.code, done.out) == (Exit.USAGE, "")
    assert words in done.text


def test_labels_are_listed_by_the_time_they_were_given(sigctl: Sigctl, decided: str) -> None:
    assert "No label matches." in sigctl("audit", "labels").text
    sigctl("audit", "label", "job-reject", "forged", "--by", "May")
    assert "May" in sigctl("audit", "labels", "--since", "1h").text
    assert sigctl("audit", "labels", "--until", "1h", "--json").json == []
    assert sigctl("audit", "labels", "--since", "soon").code == Exit.USAGE
