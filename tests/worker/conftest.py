"""A desk to work at: a folder of documents, an image store, a fake or a tiny real embedder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.images import Images, S3Config
from tests.fakes import FakeEmbedder, ink
from worker.enrolment import enroll
from worker.runtime import Runtime, close_runtimes


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


def enrol_ada(runtime: Runtime, embedder: FakeEmbedder) -> None:
    """Give a runtime a fake model, and enrol ada with it at angle 0."""
    runtime._embedder = embedder  # type: ignore[assignment]
    enroll(
        "ada",
        [("a", ink(0))],
        sessions=runtime.sessions,
        images=runtime.images,
        embedder=embedder,  # type: ignore[arg-type]
    )


@pytest.fixture(autouse=True)
def _fresh_runtimes() -> Iterator[None]:
    yield
    close_runtimes()
