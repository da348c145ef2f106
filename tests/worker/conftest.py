"""A desk to work at: a folder of documents, an image store, a fake or a tiny real embedder."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import synthetic
from storage import models
from storage.database import Sessions
from storage.images import Images, S3Config
from tests.fakes import FakeEmbedder, ink
from worker.enrolment import enroll
from worker.runtime import Runtime, close_runtimes
from worker.transactions import register_model, transaction

BULK = "sigctl.verify\x06\x169"
"""The list of what gives way to documents that somebody waits for, as docs/messages.md names it."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A folder that documents may come from, beside a folder that is the store."""

    inbox: Path
    store: Path

    def put(self, name: str, data: bytes) -> str:
        """Lay a document into the inbox; returns its URI."""
        path = self.inbox / name
        path.write_bytes(data)
        return path.as_uri()

    @property
    def images(self) -> Images:
        return Images(
            roots=(self.inbox,),
            buckets=(),
            store=self.store.as_uri(),
            s3=S3Config(),
            max_bytes=1_000_000,
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    return Desk(inbox=inbox, store=tmp_path / "store")


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


def give(runtime: Runtime, embedder: FakeEmbedder) -> None:
    """Let a runtime have loaded a fake model, and use it."""
    runtime.models._embedders[embedder.model_id] = embedder  # type: ignore[assignment]
    runtime.models._in_use = embedder  # type: ignore[assignment]


def make_active(sessions: Sessions, embedder: FakeEmbedder) -> None:
    """Let a fake model decide from now on, whatever it has embedded."""
    with transaction(sessions) as session:
        register_model(session, embedder)  # type: ignore[arg-type]
        if models.lineup(session).active != embedder.model_id:
            models.activate(session, embedder.model_id, now=True)


def enrol_ada(runtime: Runtime, embedder: FakeEmbedder) -> None:
    """Give a runtime a fake model, and enrol ada with it at angle 0."""
    give(runtime, embedder)
    enroll(
        "ada",
        [("a", ink(0))],
        sessions=runtime.sessions,
        images=runtime.images,
        embedder=embedder,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    """Signatures of two people, several each, and a blank page."""
    rng = np.random.default_rng(5)
    found = {"blank": _png(synthetic.blank(rng))}
    for name in ("ada", "bo"):
        signer = synthetic.make_signer(rng)
        found |= {f"{name}{i}": _png(synthetic.genuine(signer, rng)) for i in range(2)}
    return found


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _fresh_runtimes() -> Iterator[None]:
    yield
    close_runtimes()
