"""The command line as a whole: help, exit codes, and no traceback for anybody."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from model.errors import BlankImage, CheckpointNotFound
from storage.errors import DatabaseNotMigrated, DatabaseUnavailable, StoreRefused, UnknownSigner
from tests.worker.cli.conftest import Sigctl
from worker.cli import exits, main
from worker.cli.exits import CommandError, Exit
from worker.errors import BrokerUnavailable, InvalidMessage, NoBroker, SettingsError, UnsafePool

COMMANDS = (
    ["enroll"],
    ["verify"],
    ["submit"],
    ["worker"],
    ["compare"],
    ["demo"],
    ["doctor"],
    ["requeue"],
    ["train"],
    ["evaluate"],
    ["signers"],
    ["signers", "list"],
    ["signers", "show"],
    ["signers", "retire"],
    ["signers", "restore"],
    ["audit"],
    ["audit", "list"],
    ["audit", "show"],
    ["audit", "export"],
    ["audit", "stats"],
    ["db"],
    ["db", "upgrade"],
    ["db", "current"],
)


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_help_lists_every_command_and_every_exit_code(sigctl: Sigctl) -> None:
    done = sigctl("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert command[0] in done.out
    for code, meaning in exits.MEANINGS.items():
        assert f"{code.value} {meaning}" in done.text


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_explains_itself(sigctl: Sigctl, command: list[str]) -> None:
    done = sigctl(*command, "--help")
    assert done.code == 0
    assert f"Usage: sigctl {' '.join(command)}" in done.text
    assert max(map(len, done.out.splitlines())) <= 100


def test_the_help_is_quick_because_it_loads_nothing_heavy(here: Path) -> None:
    root = Path(main.__file__).parents[2]
    heavy = ("torch", "celery", "sqlalchemy", "boto3", "cv2", "matplotlib", "numpy")
    code = (
        "import sys; from worker.cli.main import main; main(['--help']);"
        f"sys.exit(','.join(name for name in {heavy} if name in sys.modules) or 0)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = python("-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}", cwd=here)
    assert done.returncode == 0, done.stderr
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert spent < 2  # 0.5 s of one core when this was written; torch alone takes 3


def test_without_a_command_the_help_is_shown_and_the_code_is_usage(sigctl: Sigctl) -> None:
    done = sigctl()
    assert done.code == Exit.USAGE
    assert "Usage: sigctl" in done.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verfy"], "No such command 'verfy'"),
        (["verify", "ada"], "Missing argument 'DOCUMENT'"),
        (["verify", "ada", "x.png", "--pages", "1"], "No such option"),
        (["verify", "ada", "x.png", "--page", "0"], "greater than or equal to 1"),
        (["verify", "ada", "x.png", "--page", "one"], "unable to parse"),
        (["audit", "list", "--verdict", "maybe"], "'maybe' is not one of"),
        (["worker", "--pool", "gevent"], "'gevent' is not one of"),
    ],
)
def test_wrong_usage_is_explained(sigctl: Sigctl, arguments: list[str], words: str) -> None:
    done = sigctl(*arguments)
    assert done.code == Exit.USAGE
    assert words in done.text.replace("│ ", "")


def test_a_wrong_setting_is_named(sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGCTL_MAX_BYTES", "many")
    monkeypatch.setenv("SIGCTL_POOL", "gevent")
    done = sigctl("audit", "list")
    assert done.code == Exit.SETUP
    assert "SIGCTL_MAX_BYTES must be a whole number" in done.err
    assert "SIGCTL_POOL must be one of" in done.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("x"), Exit.USAGE),
        (CommandError("x", Exit.SETUP), Exit.SETUP),
        (SettingsError(("x",)), Exit.SETUP),
        (NoBroker("x"), Exit.SETUP),
        (UnsafePool("x"), Exit.SETUP),
        (CheckpointNotFound("x"), Exit.SETUP),
        (DatabaseNotMigrated("x"), Exit.SETUP),
        (StoreRefused("x"), Exit.SETUP),
        (DatabaseUnavailable("x"), Exit.UNAVAILABLE),
        (BrokerUnavailable("x"), Exit.UNAVAILABLE),
        (UnknownSigner("x"), Exit.USAGE),
        (BlankImage("x"), Exit.USAGE),
        (InvalidMessage("x"), Exit.USAGE),
        (ValueError("x"), None),
    ],
)
def test_each_known_error_has_its_exit_code(error: Exception, code: Exit | None) -> None:
    assert exits.for_error(error) is code


def test_verdicts_have_exit_codes_and_only_acceptance_is_zero() -> None:
    verdicts = ("accept", "reject", "review", "error", None, "anything")
    codes = {verdict: exits.for_verdict(verdict) for verdict in verdicts}
    assert [verdict for verdict, code in codes.items() if code == 0] == ["accept"]
    assert codes["reject"] == codes["review"] == Exit.NOT_ACCEPTED
    assert codes["error"] == codes[None] == codes["anything"] == Exit.FAILED


def test_an_error_without_words_says_what_its_class_means() -> None:
    assert exits.sentence(UnknownSigner()) == "No signer of that name has been enrolled."
    assert exits.sentence(UnknownSigner("no signer 'x'")) == "No signer 'x'."
    assert exits.sentence(InvalidMessage("signer_id is bad.")) == "signer_id is bad."


def test_an_unexpected_failure_is_one_sentence_that_says_where_to_look(
    sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("the roof is leaking")

    monkeypatch.setattr("worker.cli.opening.settings", fail)
    done = sigctl("doctor")
    assert done.code == Exit.UNEXPECTED
    assert "RuntimeError: The roof is leaking." in done.err
    assert "sigctl --debug" in done.err
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize("by", ["option", "variable"])
def test_debug_shows_the_traceback(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    by: str,
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("the roof is leaking")

    monkeypatch.setattr("worker.cli.opening.settings", fail)
    if by == "variable":
        monkeypatch.setenv("SIGCTL_DEBUG", "1")
    code = main.main(["doctor"] if by == "variable" else ["--debug", "doctor"])
    assert code == Exit.UNEXPECTED
    assert "Traceback" in capsys.readouterr().err


def test_the_debug_variable_is_not_taken_for_a_setting(
    sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_DEBUG", "0")
    assert sigctl("db", "upgrade").code == 0


def test_what_a_command_loads_is_hardly_ever_searched_for_garbage(here: Path) -> None:
    root = Path(main.__file__).parents[2]
    code = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count()));"
        "import worker.cli.main; before = gc.get_stats(); import torch; after = gc.get_stats();"
        "print(sum(b['collections'] - a['collections'] for a, b in zip(before, after)))"
    )
    searches, spared = map(int, python("-c", code, cwd=root).stdout.split())
    assert searches < 50  # more than 200 by Python's own threshold
    assert spared > 100_000


def test_an_interruption_has_its_own_code(sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("worker.cli.opening.settings", interrupt)
    assert sigctl("doctor").code == Exit.INTERRUPTED


def test_a_reader_that_goes_away_is_no_failure(here: Path) -> None:
    root = Path(main.__file__).parents[2]
    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m worker.cli.main audit --help | true"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
