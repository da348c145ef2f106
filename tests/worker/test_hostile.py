"""What is out to do harm ends in a canvas or in a code, in time and within the memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from model.errors import ModelError
from model.preprocess import Preprocessing
from tests.hostile import HOSTILE, SIGNATURE, ring, saved
from worker.sandbox import Sandbox

HOW = Preprocessing(height=64, width=96)
MEMORY = 3 * 2**29
SECONDS = 10.0


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(children=1, seconds=SECONDS, memory=MEMORY)
    yield made
    made.close()


@pytest.fixture(scope="module")
def decoder(sandbox) -> psutil.Process:
    """The one child of the sandbox, as it was before any hostile file."""
    sandbox.look(saved(SIGNATURE), HOW)
    (child,) = (c for c in psutil.Process().children() if "worker.decoder" in c.cmdline())
    return child


def fate(sandbox: Sandbox, data: bytes, **asked) -> str | None:
    """The code of the failure, or None for a canvas."""
    try:
        sandbox.look(data, HOW, **asked)
    except ModelError as error:
        return error.code
    return None


@pytest.mark.parametrize(("_", "build", "code"), HOSTILE, ids=[case[0] for case in HOSTILE])
def test_a_hostile_file_is_decoded_or_refused_with_its_code(sandbox, decoder, _, build, code):
    assert fate(sandbox, build()) == code
    assert decoder.is_running()  # nothing but a code: no crash, no kill


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_the_decoder_keeps_to_its_memory(sandbox, decoder):
    assert fate(sandbox, saved(Image.new("CMYK", (10_000, 10_000)), "JPEG")) == "blank_image"
    peak = Path(f"/proc/{decoder.pid}/status").read_text().split("VmPeak:")[1].split()[0]
    assert 2**29 < int(peak) * 1024 <= MEMORY


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_a_file_cut_anywhere_is_decoded_or_unreadable(sandbox, kind):
    data = saved(SIGNATURE, kind)
    for length in (*range(0, 64, 3), *range(64, len(data), len(data) // 40)):
        assert fate(sandbox, data[:length]) in (None, "unreadable_image", "blank_image")


def test_pages_are_not_looked_for_without_end(sandbox):
    assert fate(sandbox, ring(3), page=4) == "page_not_found"
    assert fate(sandbox, ring(3), page=2**31) == "page_not_found"
    assert fate(sandbox, saved(SIGNATURE), page=2) == "page_not_found"
