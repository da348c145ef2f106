"""The fast ways to run the network agree with the reference, or are not used."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from model import engine as engines
from model.checkpoint import build_model, load_checkpoint
from model.engine import TorchEngine, choose_engine, cores, drift, reference_engine, specimens
from model.inference import load_embedder
from model.siamese import SiameseNet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def siamese(checkpoint_file):
    return build_model(load_checkpoint(checkpoint_file))


@pytest.fixture(scope="module")
def how(siamese):
    return siamese.preprocessing


@pytest.fixture(scope="module")
def images(how):
    return specimens(how)


def smallest_cosine(first, second):
    return float((first * second).sum(axis=1).min())


def test_specimens_are_ink_on_the_models_canvas_and_always_the_same(how, images):
    assert images.shape == (engines.SPECIMENS, 1, how.height, how.width)
    assert images.min() == -1.0
    assert images.max() == 1.0
    np.testing.assert_array_equal(images, specimens(how))


@pytest.mark.parametrize("half", [False, True])
def test_openvino_agrees_with_the_reference_for_every_size_of_batch(siamese, how, images, half):
    from model.openvino_engine import OpenVinoEngine

    engine = OpenVinoEngine(siamese, how, lanes=2, half=half)
    expected = reference_engine(siamese, CPU)(images)
    for count in (1, 3, 8, 14):
        found = engine(images[:count])
        assert found.shape == (count, 512)
        assert found.dtype == np.float32
        assert smallest_cosine(found, expected[:count]) > (0.999 if half else 0.999999)


@pytest.mark.parametrize("head", ["places", "views", "outlines", "cells"])
def test_openvino_agrees_for_every_head(head, how):
    from model.openvino_engine import OpenVinoEngine

    with torch.random.fork_rng():
        torch.manual_seed(0)
        shown = {"detail": True} if head == "cells" else {"coordinates": True}
        siamese = SiameseNet("test_mambaout", head=head, **shown).eval()
        if siamese.views is not None:
            torch.nn.init.normal_(siamese.views.map)
        if siamese.outlines is not None:
            torch.nn.init.normal_(siamese.outlines.places.map)
    canvas = replace(how, height=256, width=512)
    pages = specimens(canvas)
    expected = reference_engine(siamese, CPU)(pages)
    engine = OpenVinoEngine(siamese, canvas, lanes=1, half=False)
    assert smallest_cosine(engine(pages), expected) > 0.999999


def test_openvino_serves_threads_at_the_same_time(siamese, how, images):
    from concurrent.futures import ThreadPoolExecutor

    from model.openvino_engine import OpenVinoEngine

    engine = OpenVinoEngine(siamese, how, lanes=2, half=False)
    expected = reference_engine(siamese, CPU)(images)
    parts = [slice(start, start + 4) for start in range(0, len(images), 4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: engine(images[part]), parts * 5))
    np.testing.assert_allclose(np.concatenate(found[: len(parts)]), expected, atol=1e-4)
    assert smallest_cosine(np.concatenate(found), np.tile(expected, (5, 1))) > 0.999999


def test_running_openvino_reports_to_nobody():
    """Left alone, its import already would: the package that does it must be out of its reach."""
    code = """
import socket, sys
def refuse(*_, **__):
    sys.exit("it looks for a server")
socket.getaddrinfo = socket.socket.connect = refuse
import torch
from model.openvino_engine import OpenVinoEngine
from model.preprocess import Preprocessing
from model.siamese import SiameseNet
how = Preprocessing(height=32, width=32)
engine = OpenVinoEngine(SiameseNet("test_mambaout").eval(), how, lanes=1, half=False)
engine(torch.ones(1, 1, 32, 32).numpy())
from openvino.tools.ovc import telemetry_utils
assert telemetry_utils.tm.__name__.endswith("telemetry_stub"), telemetry_utils.tm
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_the_engine_that_is_chosen_agrees_and_says_why(siamese, how, images):
    reference = reference_engine(siamese, CPU)
    chosen, moved = choose_engine(siamese, reference, CPU, how, 1)
    assert "OpenVINO" in chosen.name
    assert "openvino is installed" in chosen.why
    assert smallest_cosine(chosen(images), reference(images)) > 0.999
    assert 0 <= moved < 0.05


def test_without_openvino_pytorch_serves(siamese, how, images, monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    for half, name in ((True, "PyTorch bf16 on cpu"), (False, "PyTorch float32 on cpu")):
        monkeypatch.setattr(engines, "has_fast_bf16", lambda device, half=half: half)
        chosen, _ = choose_engine(siamese, reference_engine(siamese, CPU), CPU, how, 1)
        assert chosen.name == name


@pytest.mark.parametrize("fault", ["other", "nan"])
def test_an_engine_that_disagrees_is_not_used(siamese, how, monkeypatch, fault):
    reference = reference_engine(siamese, CPU)

    class Wrong(TorchEngine):
        def __call__(self, images):
            vectors = super().__call__(images)
            return vectors * np.nan if fault == "nan" else np.roll(vectors, 1, axis=1)

    wrong = Wrong(siamese, CPU, why="")
    wrong.name = "a broken kernel"
    monkeypatch.setattr(engines, "_fast_engine", lambda *_: wrong)
    assert choose_engine(siamese, reference, CPU, how, 1) == (reference, 0.0)
    assert "a broken kernel gives other embeddings" in reference.why


def test_drift_is_the_most_that_a_distance_between_two_images_moves():
    expected = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    found = expected.copy()
    found[0] = np.cos(0.1), np.sin(0.1)
    to = [np.linalg.norm(found[0] - expected[n]) for n in (1, 2)]
    assert drift(found, expected) == pytest.approx(
        max(abs(to[0] - np.sqrt(2)), abs(to[1] - 2.0)), rel=1e-6
    )
    assert drift(expected, expected) == 0.0


def test_running_out_of_memory_is_a_memory_error(siamese, images):
    class Full(torch.nn.Module):
        def embed(self, _images):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryError, match="no room for 16 images"):
        TorchEngine(Full(), CPU, why="")(images)


def test_an_exact_embedder_has_the_reference_only(checkpoint_file, images):
    embedder = load_embedder(checkpoint_file, "cpu", exact=True)
    assert embedder.engine.name == "PyTorch float32 on cpu"
    assert embedder.tolerance == 0.0
    np.testing.assert_array_equal(
        embedder.embed(images[:2]), embedder.embed(images[:2], exact=True)
    )


def test_a_fast_embedder_knows_by_how_much_a_score_may_be_off(checkpoint_file, images):
    embedder = load_embedder(checkpoint_file, "cpu", lanes=1)
    fast, exact = embedder.embed(images), embedder.embed(images, exact=True)
    assert drift(fast, exact) < embedder.tolerance or embedder.tolerance == 0.0


def test_there_is_a_core_to_work_on():
    assert cores() >= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_agrees_with_the_processor(checkpoint_file, images):
    gpu, cpu = load_embedder(checkpoint_file, "cuda"), load_embedder(checkpoint_file, "cpu")
    assert smallest_cosine(gpu.embed(images), cpu.embed(images, exact=True)) > 0.999
