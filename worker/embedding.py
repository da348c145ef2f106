"""Embedding references that are enrolled already, from their images in the store, by any model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from model.arrays import Vector
from model.errors import CheckpointError, ModelError
from model.preprocess import MAX_PIXELS
from storage import references
from storage.database import Sessions
from storage.errors import StorageError, Transient
from storage.images import Images
from storage.tables import Embedding, Reference
from worker.logs import get_logger
from worker.transactions import transaction

if TYPE_CHECKING:
    from model.inference import Embedder


TOGETHER = 16
"""Images embedded at a time. Two cores, each with a batch of 5, 8, 16 or 32: 34, 27, 25, 25 ms an
image."""

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What came of it: how many embeddings are new, and why which references have none."""

    new: int
    lost: dict[int, str]


def embed_references(
    numbers: Sequence[int],
    *,
    sessions: Sessions,
    images: Images,
    embedder: Embedder,
    max_pixels: int = MAX_PIXELS,
) -> Embedded:
    """Embed those of the references that this model has not embedded, and keep the vectors.

    Doing it again is harmless, at once as well. Raises CheckpointError, and Transient when the
    store or the database is away.
    """
    with transaction(sessions) as session:
        unseen = _unseen(session, numbers, embedder.model_id)
    new = 0
    lost: dict[int, str] = {}
    for start in range(0, len(unseen), TOGETHER):
        some = unseen[start : start + TOGETHER]
        vectors, failed = embed(some, images, embedder, max_pixels)
        lost |= failed
        with transaction(sessions) as session:
            new += references.put_embeddings(session, embedder.model_id, vectors)
    return Embedded(new=new, lost=lost)


def _unseen(session: Session, numbers: Iterable[int], model_id: str) -> list[Reference]:
    seen = exists().where(Embedding.reference_id == Reference.id, Embedding.model_id == model_id)
    query = select(Reference).where(Reference.id.in_(numbers), ~seen).order_by(Reference.id)
    return list(session.scalars(query))


def embed(
    some: Sequence[Reference], images: Images, embedder: Embedder, max_pixels: int
) -> tuple[dict[int, Vector], dict[int, str]]:
    """Embeddings (D,) of a few references by their number, and why others have none.

    In the reference arithmetic, since every later distance rests on them.
    """
    canvases: dict[int, Vector] = {}
    lost: dict[int, str] = {}
    for reference in some:
        try:
            data = images.fetch(reference.uri, sha256=reference.sha256)
            canvases[reference.id] = embedder.prepare(data, max_pixels=max_pixels)
        except (CheckpointError, Transient):
            raise
        except (ModelError, StorageError) as error:
            lost[reference.id] = str(error)
            log.warning("reference_lost", reference=reference.id, code=error.code)
    vectors = embedder.embed(list(canvases.values()), exact=True) if canvases else ()
    return dict(zip(canvases, vectors, strict=True)), lost
