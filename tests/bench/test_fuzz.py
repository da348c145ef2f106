"""A short run of `make fuzz`, and the same promises on what Hypothesis thinks up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.fuzz import Claims, Mutant, Tally, broken_promises, mutants, run
from bench.mutants import mutate
from bench.seeds import enrolled, seeds
from model.errors import ModelError
from model.inference import Embedder, load_embedder
from model.preprocess import Preprocessing
from worker.sandbox import MEMORY, Sandbox

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "siamese_vision_mamba_tiny.pt"
SEED = 5
SECONDS = 20.0
SOUND = seeds(SEED)
FATES = {"unreadable_image", "blank_image", "image_too_large", "decoding_too_large", "decided"}


def fate_of(data: bytes, sandbox: Sandbox) -> str:
    """The code, or "decided" for a canvas that the network can take."""
    try:
        canvas = sandbox.look(data, Preprocessing()).canvas
    except ModelError as error:
        return error.code
    sound = canvas.shape == (1, 224, 224) and np.abs(canvas).max() <= 1
    return "decided" if sound else "no canvas"


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_embedder(CHECKPOINT, "cpu", lanes=1)


@pytest.fixture(scope="module")
def claims(embedder) -> Claims:
    return Claims(embedder, enrolled(SEED, 5))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(Sandbox(children=2, seconds=SECONDS)) as made:
        yield made


def test_300_broken_files_keep_every_promise(sandbox, claims):
    tally = Tally()
    files = (one for one in mutants(SEED, 600) if one.number >= 300)
    assert list(run(files, tally, sandbox, claims, threads=2))[-1] == 300
    assert broken_promises(tally, seconds=SECONDS, memory=MEMORY) == []
    assert sum(tally.outcomes.values()) == tally.files == 300
    assert set(tally.outcomes) <= FATES
    assert tally.decided_without_signature > 10


def test_sound_signatures_are_accepted_so_that_an_acceptance_would_be_seen(
    sandbox, claims, tmp_path
):
    signed = [one for one in mutants(SEED, 80) if one.signature]
    tally = Tally()
    as_if_none = (Mutant(number=m.number, signature=False, data=m.data) for m in signed)
    list(run(as_if_none, tally, sandbox, claims, threads=2, keep=tmp_path / "kept"))
    assert tally.accepted_without_signature["5%"] > 10
    broken = broken_promises(tally, seconds=SECONDS, memory=MEMORY)
    assert any("without a signature were accepted at 5%" in sentence for sentence in broken)
    assert len(list((tmp_path / "kept").iterdir())) >= 10


def test_a_file_that_takes_too_long_or_a_large_decoder_breaks_a_promise():
    tally = Tally(slowest={"decided": 30.0}, peak_megabytes=3000.0)
    tally.outcomes["decoder_crashed"] = 2
    assert len(broken_promises(tally, seconds=20.0, memory=MEMORY)) == 3


def test_the_same_seed_gives_the_same_files():
    def some() -> list[bytes]:
        return [one.data for one in mutants(SEED, 340) if one.number >= 290]

    first = some()
    assert first == some()
    assert len(set(first)) > 40


def test_every_seed_is_sound_and_every_signature_shows(sandbox):
    for seed in SOUND:
        fate = "decided" if seed.signature else "blank_image"
        assert fate_of(seed.data, sandbox) in (fate, "decided"), seed.name


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    start=st.sampled_from(SOUND),
    source=st.integers(0, 2**32),
    tail=st.binary(max_size=64),
    place=st.floats(0, 1),
)
def test_whatever_is_done_to_a_file_it_has_a_canvas_or_a_code(sandbox, start, source, tail, place):
    rng = Random(source)
    data = mutate(start.data, rng, [other.data for other in SOUND])
    at = int(place * len(data))
    assert fate_of(data[:at] + tail + data[at:], sandbox) in FATES
