"""The notebook runs from top to bottom, on generated signers and on a folder that is named."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from model.checkpoint import SEED_KEYS
from model.synthetic import write_dataset

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "siamese_vision_mamba_tiny.ipynb"
FIGURES = (
    "training", "roc", "pr", "det", "confusion", "histogram_validation", "histogram_test",
    "verdicts", "saliency",
)  # fmt: skip


@pytest.fixture(scope="module")
def notebook():
    return json.loads(NOTEBOOK.read_text())


@pytest.fixture(scope="module")
def code(notebook):
    """The code cells as Jupyter would run them one after the other, as one script."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return "\n\n".join(f"# cell {cell['id']}\n{''.join(cell['source'])}" for cell in cells)


def run(code, folder, **environment):
    """Run the cells in an empty folder; returns what they print and the folder of their files.

    A plain Python does it: what Jupyter adds to these cells is only that their last values are
    shown, and to run it would take forty packages.
    """
    (folder / "cells.py").write_text(code)
    rest = {k: v for k, v in os.environ.items() if not k.startswith("SIGCTL_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "cells.py"],
        cwd=folder,
        env=rest | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, folder / "runs" / "notebook" / "quick"


def check_results(folder):
    for name in FIGURES:
        with Image.open(folder / f"{name}.png") as picture:
            low, high = picture.convert("L").getextrema()
        assert (min(picture.size) > 200, high - low > 100) == (True, True), name
    saved = torch.load(folder / "siamese_vision_mamba_tiny.pt", weights_only=True)
    assert saved.keys() >= set(SEED_KEYS)
    assert not list(folder.rglob("*.part"))


def test_it_is_a_notebook_of_format_4_5_without_outputs(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(identifiers) == len(set(identifiers))
    for cell in notebook["cells"]:
        assert re.fullmatch(r"[a-zA-Z0-9-_]{1,64}", cell["id"])
        assert cell["metadata"] == {}
        assert cell["cell_type"] in ("code", "markdown")
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert NOTEBOOK.stat().st_size < 200_000


def test_it_uses_only_public_names(code):
    names = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute):
            names.append(node.attr)
        elif isinstance(node, ast.alias):
            names += node.name.split(".")
    assert names
    assert not [name for name in names if name.startswith("_")]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_runs_on_generated_signers(code, tmp_path):
    said, folder = run(code, tmp_path)
    check_results(folder)
    assert "No writer and no file is in two parts." in said
    for word in ("youden", "maxacc", "eer", "FAR at most 1 %"):
        assert word in said


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_runs_on_a_named_folder_with_other_names_for_its_halves(code, tmp_path):
    data = tmp_path / "mine"
    write_dataset(data, signers=12, genuine=4, forgeries=4, seed=9)
    (data / "full_org").rename(data / "Genuine")
    (data / "full_forg").rename(data / "forgeries")
    said, folder = run(code, tmp_path, SIGCTL_NOTEBOOK_DATA=str(data))
    check_results(folder)
    assert f"12 signers below {data}" in said
    assert not (folder / "generated").exists()
