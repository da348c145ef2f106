"""A signer's references as they stand when an enrolment begins, each with its embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from model.arrays import Canvas, Vector
from model.errors import CheckpointError, ModelError
from storage import references, signers, vectors
from storage.database import Sessions
from storage.errors import StorageError, Transient, UnknownSigner
from storage.images import Images
from storage.tables import Embedding, Reference
from worker.embedding import embed
from worker.inspection import Fellow
from worker.register import Register
from worker.transactions import transaction

if TYPE_CHECKING:
    from model.inference import Embedder

Embed = Callable[["Embedder", Sequence[Canvas]], Sequence[Vector]]


def alone(embedder: Embedder, canvases: Sequence[Canvas]) -> Sequence[Vector]:
    """Canvases (1, H, W) -> embeddings (D,), in the reference arithmetic."""
    return list(embedder.embed(canvases, exact=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """What one enrolment works with."""

    signer_id: str
    sessions: Sessions
    images: Images
    embedder: Embedder
    register: Register | None
    max_pixels: int
    force: bool
    dry_run: bool
    embed_with: Embed = alone

    def canvas(self, data: bytes) -> Canvas:
        """The network's input (1, H, W); raises what `preprocess` raises."""
        return self.embedder.prepare(data, max_pixels=self.max_pixels)

    def embed(self, canvases: Sequence[Canvas]) -> Sequence[Vector]:
        """In the reference arithmetic, since every later distance rests on them."""
        return self.embed_with(self.embedder, canvases) if canvases else []


@dataclass(frozen=True, kw_only=True, eq=False)
class Standing:
    """A live reference, with its embedding by the model in use if there is one."""

    reference: Reference
    vector: Vector | None


def standing(work: Work) -> list[Standing]:
    """The signer's live references, none of somebody new; raises SignerRetired before any work."""
    with transaction(work.sessions) as session:
        if work.register is not None:
            work.register.catch_up(session)
        try:
            signers.get(session, work.signer_id)
        except UnknownSigner:
            return []
        live = references.of_signer(session, work.signer_id)
        vectors_seen = seen(session, live, work.embedder.model_id)
        return [Standing(reference=row, vector=vectors_seen.get(row.id)) for row in live]


def seen(session: Session, live: Sequence[Reference], model_id: str) -> dict[int, Vector]:
    """Embeddings by this model, by the number of the reference."""
    rows = session.execute(
        select(Embedding.reference_id, Embedding.vector, Embedding.dimensions).where(
            Embedding.model_id == model_id,
            Embedding.reference_id.in_([reference.id for reference in live]),
        )
    )
    return {row.reference_id: vectors.unpack(row.vector, row.dimensions) for row in rows}


def fellows(work: Work, rows: Sequence[Standing], unseen: dict[int, Vector]) -> list[Fellow]:
    """The references that this model can compare with."""
    found = []
    for row in rows:
        vector = unseen.get(row.reference.id) if row.vector is None else row.vector
        if vector is not None:
            fellow = Fellow(
                name=f"reference {row.reference.id}",
                sha256=row.reference.sha256,
                vector=vector,
                canvas=partial(_stored_canvas, work, row.reference),
            )
            found.append(fellow)
    return found


def _stored_canvas(work: Work, reference: Reference) -> Canvas | None:
    try:
        return work.canvas(work.images.fetch(reference.uri, sha256=reference.sha256))
    except (CheckpointError, Transient):
        raise
    except (ModelError, StorageError):
        return None


def embed_unseen(work: Work, rows: Sequence[Standing]) -> tuple[dict[int, Vector], tuple[str, ...]]:
    """Embeddings of live references that this model has not seen, and those that failed."""
    unseen = [row.reference for row in rows if row.vector is None]
    found, lost = embed(unseen, work.images, work.embedder, work.max_pixels)
    return found, tuple(f"reference {number}: {reason}" for number, reason in lost.items())
