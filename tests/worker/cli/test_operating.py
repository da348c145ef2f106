"""The walk of docs/operating.md, command by command, in the order of the page."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from pathlib import Path

import pytest

from tests.worker.cli.conftest import Sigctl
from worker.cli.exits import Exit

PAGE = (Path(__file__).parents[3] / "docs" / "operating.md").read_text()
BLOCKS = re.findall(r"^```sh (\w+)\n(.*?)^```$", PAGE, re.M | re.S)


def test_every_command_of_the_page_does_what_the_page_says(
    sigctl: Sigctl, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = walk(sigctl, monkeypatch)
    assert list(said) == [
        *("setup", "enrol", "label", "retrain", "shadow", "promote", "rollback"),
    ]
    assert "6 references in use" in said["enrol"]
    assert (here / "demo-output" / "ada.png").is_file()
    assert "Job demo-07 is labelled forged." in said["label"]
    assert "candidate" in said["retrain"]
    assert "looks on at 100% of the jobs" in said["shadow"]
    assert "of 2 jobs differently" in said["shadow"]
    new, old = re.findall(r"Model (\w{12}) decides now in place of (\w{12})", said["promote"])[0]
    assert re.search(rf"{new} +active", said["promote"])
    assert f"Model {old} decides now in place of {new}" in said["rollback"]
    assert "The record holds" in said["rollback"]


def walk(sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the commands of each block have printed."""
    said: dict[str, str] = defaultdict(str)
    for name, commands in BLOCKS:
        for command in commands.splitlines():
            said[name] += step(command, sigctl, monkeypatch)
    return said


def step(command: str, sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch) -> str:
    """One line, as a shell would run it in this process."""
    program, *arguments = shlex.split(command.replace("$PWD", str(Path.cwd())))
    if program == "cd":
        monkeypatch.chdir(*arguments)
        return ""
    if program == "export":
        for assignment in arguments:
            monkeypatch.setenv(*assignment.split("=", 1))
        return ""
    assert program == "sigctl"
    done = sigctl(*arguments)
    # A signature that is not accepted, and a candidate that is not better, are no failures.
    assert done.code in (Exit.DONE, Exit.NOT_ACCEPTED, 7), command + done.text
    return done.text
