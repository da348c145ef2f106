"""`sigctl audit verify`, `adopt` and `sign-off` say whether the record is as it was written."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.worker.cli.conftest import Copies, Sigctl
from worker.cli.exits import Exit

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SIGCTL_CHAIN_KEY", KEY)
    return KEY


@pytest.fixture
def decided(
    keyed: str,
    sigctl: Sigctl,
    enrolled: str,
    specimens: Path,
    stranger: Path,
    here: Path,
    copies: Copies,
) -> str:
    """Two decisions, sealed with a key."""

    def decide() -> None:
        for job, document in (("job-1", specimens / "1.png"), ("job-2", stranger)):
            sigctl("submit", enrolled, document, "--job-id", job)

    copies.once("decided with a key", here, decide)
    return enrolled


def tamper(*statements: str) -> None:
    """As somebody who owns the file, whom no trigger stops."""
    with closing(sqlite3.connect("sigctl.db")) as file, file:
        for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            file.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            file.execute(statement)


def test_a_record_that_holds_is_one_sentence(sigctl: Sigctl, decided: str) -> None:
    done = sigctl("audit", "verify")
    assert done.code == 0
    assert done.out.startswith("The record holds: ")
    assert "2 decisions (0 of them adopted)" in done.out
    assert sigctl("audit", "verify", "--json").json["holds"] is True


def test_without_a_key_verify_and_doctor_say_what_the_seals_are_worth(
    sigctl: Sigctl, enrolled: str, specimens: Path
) -> None:
    sigctl("submit", enrolled, specimens / "1.png")
    done = sigctl("audit", "verify")
    assert done.code == 0
    assert "show accidents but not forgers" in done.text
    doctor = sigctl("doctor", "--no-load")
    assert doctor.code == 0
    assert "show accidents but not forgers" in doctor.text
    assert "Set SIGCTL_CHAIN_KEY" in doctor.text


def test_a_key_that_is_set_is_shown_by_its_id_alone(sigctl: Sigctl, decided: str) -> None:
    for done in (sigctl("doctor", "--no-load", "--settings"), sigctl("audit", "show", "job-1")):
        assert done.code == 0
        assert KEY not in done.text
    assert "of chain" in sigctl("audit", "show", "job-1").text
    found = sigctl("audit", "show", "job-1", "--json").json["chain"]
    assert (found["kind"], len(found["key_id"])) == ("decision", 16)


@pytest.mark.parametrize("key", ["short", "with blank " * 4, "with,comma," * 4])
def test_a_key_that_is_too_weak_is_refused_and_not_repeated(
    sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SIGCTL_CHAIN_KEY", key)
    done = sigctl("audit", "verify")
    assert done.code == Exit.SETUP
    assert "at least 32 characters" in done.text
    assert key not in done.text


def test_the_first_broken_row_is_named_and_the_exit_code_is_1(sigctl: Sigctl, decided: str) -> None:
    tamper("UPDATE decisions SET rule = 'other' WHERE job_id = 'job-2'")
    done = sigctl("audit", "verify")
    assert done.code == Exit.UNEXPECTED
    assert done.out.startswith("The record is broken: entry ")
    assert "(decision of job-2, " in done.text
    (fault,) = sigctl("audit", "verify", "--json").json["faults"]
    assert fault["subject"] == "job-2"
    assert fault["sentence"].endswith(".")


def test_what_has_no_entry_is_listed_until_it_is_adopted(sigctl: Sigctl, decided: str) -> None:
    tamper("DELETE FROM chain_entries")
    done = sigctl("audit", "verify")
    assert done.code == Exit.UNEXPECTED
    assert "2 decisions without an entry in the chain: job-1, job-2." in done.text
    assert "no entry" in sigctl("audit", "show", "job-1").text
    assert sigctl("audit", "adopt", "--json").json == {"adopted": 2}
    assert "0 decisions adopted" in sigctl("audit", "adopt").text
    done = sigctl("audit", "verify")
    assert done.code == 0
    assert "2 decisions (2 of them adopted)" in done.text


def test_what_was_signed_off_still_stands_or_is_told_to_be_gone(
    sigctl: Sigctl, decided: str, here: Path
) -> None:
    done = sigctl("audit", "sign-off", "period.json")
    assert done.code == 0
    assert "Signed off in period.json." in done.text
    document = json.loads((here / "period.json").read_text())
    assert document["decisions"] == 2
    assert sigctl("audit", "verify", "--signed-off", "period.json").code == 0
    tamper("DELETE FROM chain_entries", "DELETE FROM decisions", "DELETE FROM jobs")
    assert sigctl("audit", "verify").code == 0
    done = sigctl("audit", "verify", "--signed-off", "period.json")
    assert done.code == Exit.UNEXPECTED
    assert f"the sign-off of {document['signed_at']} UTC shows it" in done.text


def test_a_record_that_is_broken_is_not_signed_off(
    sigctl: Sigctl, decided: str, here: Path
) -> None:
    tamper("UPDATE decisions SET rule = 'other' WHERE job_id = 'job-1'")
    done = sigctl("audit", "sign-off", "period.json")
    assert done.code == Exit.UNEXPECTED
    assert "Nothing is signed off" in done.text
    assert not (here / "period.json").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"format": "other"}', None])
def test_a_file_that_is_no_sign_off_is_one_sentence(
    sigctl: Sigctl, decided: str, here: Path, text: str | None
) -> None:
    if text is not None:
        (here / "period.json").write_text(text)
    done = sigctl("audit", "verify", "--signed-off", "period.json")
    assert done.code == Exit.USAGE


def test_only_the_period_is_looked_at(sigctl: Sigctl, decided: str) -> None:
    tamper("UPDATE decisions SET rule = 'other' WHERE job_id = 'job-1'")
    assert sigctl("audit", "verify", "--since", "1h").code == Exit.UNEXPECTED
    assert sigctl("audit", "verify", "--since", "2100-01-01").code == 0


def test_after_a_change_of_keys_the_old_key_still_reads_and_adopt_seals_with_the_new(
    sigctl: Sigctl, decided: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_CHAIN_KEY", KEY[::-1])
    assert "names a key that is not among" in sigctl("audit", "verify").text
    monkeypatch.setenv("SIGCTL_CHAIN_OLD_KEYS", f"{'x' * 32}, {KEY}")
    assert "not sealed under the key in use" in sigctl("audit", "verify").text
    sigctl("audit", "adopt")
    assert sigctl("audit", "verify").code == 0
