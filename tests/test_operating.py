"""The walk of docs/operating.md, command by command, in the order of the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "operating.md").read_text()
BLOCKS = re.findall(r"^```sh (\w+)\n(.*?)^```$", PAGE, re.M | re.S)

pytestmark = pytest.mark.slow


def test_every_command_of_the_page_does_what_the_page_says(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    assert [name for name, _ in BLOCKS] == [
        *("setup", "enrol", "label", "retrain", "shadow", "promote", "rollback"),
    ]
    said = walk(tmp_path, tiny_checkpoint)
    assert "6 references in use" in said["enrol"]
    assert (tmp_path / "demo-output" / "ada.png").is_file()
    assert "Job demo-07 is labelled forged." in said["label"]
    assert "candidate" in said["retrain"]
    assert "looks on at 100% of the jobs" in said["shadow"]
    assert "of 2 jobs differently" in said["shadow"]
    new, old = re.findall(r"Model (\w{12}) decides now in place of (\w{12})", said["promote"])[0]
    assert re.search(rf"{new} +active", said["promote"])
    assert f"Model {old} decides now in place of {new}" in said["rollback"]


def walk(folder: Path, checkpoint: Path) -> dict[str, str]:
    """Run the blocks one after the other in one shell; what each has printed."""
    # A signature that is not accepted, and a candidate that is not better, are no failures.
    calm = "trap 'code=$?; [ $code -eq 3 ] || [ $code -eq 7 ] || exit $code' ERR\n"
    script = calm + "\n".join(f"echo '== {name}'\n{commands}" for name, commands in BLOCKS)
    programs = folder / "bin"
    programs.mkdir()
    sigctl = programs / "sigctl"
    sigctl.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m worker.cli.main "$@"\n')
    sigctl.chmod(0o755)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SIGCTL_")}
    env = clean | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SIGCTL_CHECKPOINT": str(checkpoint),
        "SIGCTL_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    command = ["bash", "-uo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = re.split(r"^== (\w+)$", done.stdout, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))
