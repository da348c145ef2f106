"""The fake embedder and the real one keep one contract: what tests with the fake rest on."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.errors import (
    BlankImage,
    ImageTooLarge,
    ModelError,
    PageNotFound,
    RegionOutside,
    UnreadableImage,
)
from model.inference import load_embedder
from tests.fakes import BLANK, FakeEmbedder, ink


@dataclass(frozen=True, kw_only=True)
class Case:
    """An embedder with two readable documents and a blank one."""

    embedder: Any
    documents: tuple[bytes, bytes]
    blank: bytes


def _drawn(slope: int) -> bytes:
    page = np.full((200, 300), 255, np.uint8)
    for x in range(40, 260):
        page[60 + x * slope // 10 % 90 : 66 + x * slope // 10 % 90, x] = 0
    return _png(page)


def _png(page: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(page).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(params=["fake", "real"])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "fake":
        return Case(embedder=FakeEmbedder(), documents=(ink(0), ink(1)), blank=BLANK)
    checkpoint: Path = request.getfixturevalue("tiny_checkpoint")
    return Case(
        embedder=load_embedder(checkpoint, "cpu"),
        documents=(_drawn(3), _drawn(17)),
        blank=_png(np.full((200, 300), 255, np.uint8)),
    )


def test_documents_become_unit_vectors_by_way_of_a_canvas(case: Case) -> None:
    embedder = case.embedder
    how = embedder.preprocessing
    canvases = [embedder.prepare(data) for data in case.documents]
    assert {(c.shape, c.dtype) for c in canvases} == {
        ((1, how.height, how.width), np.dtype(np.float32))
    }
    vectors = embedder.embed(canvases)
    assert vectors.shape == (2, 512)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(vectors[0] - vectors[1]) > 0.1
    np.testing.assert_allclose(embedder.embed(np.stack(canvases)), vectors, atol=1e-5)


def test_a_look_gives_the_same_canvas_and_what_the_ink_measures(case: Case) -> None:
    found = case.embedder.look(case.documents[0], page=1, region=(0, 0, 200, 200))
    canvas = case.embedder.prepare(case.documents[0], page=1, region=(0, 0, 200, 200))
    np.testing.assert_array_equal(found.canvas, canvas)
    assert found.ink.plausible


def test_the_same_document_is_embedded_alike(case: Case) -> None:
    first, second = (
        case.embedder.embed([case.embedder.prepare(case.documents[0])])[0] for _ in range(2)
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_model_says_who_it_is(case: Case) -> None:
    embedder = case.embedder
    assert len(bytes.fromhex(embedder.model_id)) == 32
    assert isinstance(embedder.backbone, str)
    assert isinstance(embedder.size, int)
    assert isinstance(embedder.threshold, float)
    assert embedder.preprocessing.label.startswith("strokes/2 ")
    assert embedder.scoring.rule
    assert isinstance(embedder.scoring.as_dict(), dict)


@pytest.mark.parametrize(
    ("error", "attempt"),
    [
        (UnreadableImage, lambda case: case.embedder.prepare(b"no image")),
        (BlankImage, lambda case: case.embedder.prepare(case.blank)),
        (PageNotFound, lambda case: case.embedder.prepare(case.documents[0], page=2)),
        (ImageTooLarge, lambda case: case.embedder.prepare(case.documents[0], max_pixels=9)),
        (
            RegionOutside,
            lambda case: case.embedder.prepare(case.documents[0], region=(0, 0, 9999, 9)),
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_same_errors(
    case: Case, error: type[ModelError], attempt: Callable[[Case], object]
) -> None:
    with pytest.raises(error):
        attempt(case)
