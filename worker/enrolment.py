"""Enrolling a signer: images become references in the store, each with its embedding.

Doing it again is harmless, and is also how a signer moves to another model: whatever the model
in use has not embedded yet is embedded from the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from model.errors import CheckpointError, ModelError
from model.preprocess import MAX_PIXELS
from storage import references, signers
from storage.database import Sessions
from storage.errors import ImageAltered, StorageError, Transient, UnknownSigner
from storage.images import Images
from storage.tables import Embedding, Reference
from worker.logs import get_logger
from worker.transactions import register_model, transaction

if TYPE_CHECKING:
    from model.inference import Embedder

Vector = NDArray[np.float32]

Result = TypeVar("Result")

TOGETHER = 8
"""Images prepared and embedded at a time."""

log = get_logger(__name__)


class Fate(StrEnum):
    """What became of an image that was offered for enrolment."""

    ADDED = "added"
    ALREADY = "already enrolled"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class ImageReport:
    """What became of one image. `code` and `reason` are set where it was refused."""

    source: str
    fate: Fate
    sha256: str
    reference_id: int | None = None
    code: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class EnrolReport:
    """What enrolling came to: one entry for each image, in the order given.

    `references` counts the live ones that the model in use can compare with; `re_embedded`
    those of earlier enrolments that it had not seen yet; `lost` names those whose stored image
    could not be embedded, with the reason.
    """

    signer_id: str
    model_id: str
    images: tuple[ImageReport, ...]
    references: int
    re_embedded: int
    lost: tuple[str, ...] = ()

    def with_fate(self, fate: Fate) -> tuple[ImageReport, ...]:
        """The images that fared so."""
        return tuple(image for image in self.images if image.fate is fate)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Specimen:
    """An image that can be enrolled: in the store, with its embedding (D,)."""

    source: str
    sha256: str
    uri: str
    vector: Vector


def enroll(
    signer_id: str,
    images_in: Iterable[tuple[str, bytes]],
    *,
    sessions: Sessions,
    images: Images,
    embedder: Embedder,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[str], None] | None = None,
) -> EnrolReport:
    """Enrol (source, bytes) pairs for a signer, who is made when new.

    An image that is blank or cannot be read is refused with the reason, and the others go on.
    `progress` is told the source of each image that is done. All rows are written in one
    transaction at the end; with no image accepted nothing is written. Raises SignerRetired,
    InvalidSignerId, CheckpointError, and Transient when the store or the database is away.
    """
    signers.check_id(signer_id)
    _refuse_retired(signer_id, sessions)
    examined: list[_Specimen | ImageReport] = []
    offered = iter(images_in)
    while some := list(islice(offered, TOGETHER)):
        examined += _examine(some, images, embedder, max_pixels)
        if progress is not None:
            for source, _ in some:
                progress(source)
    unseen, lost = _embed_unseen(signer_id, sessions, images, embedder, max_pixels)
    with transaction(sessions) as session:
        return _write(session, signer_id, embedder, examined, unseen, lost)


def _refuse_retired(signer_id: str, sessions: Sessions) -> None:
    """Say so before any work is done; the last transaction checks again."""
    with transaction(sessions) as session:
        try:
            signers.get(session, signer_id)
        except UnknownSigner:
            return


def _examine(
    some: Sequence[tuple[str, bytes]], images: Images, embedder: Embedder, max_pixels: int
) -> list[_Specimen | ImageReport]:
    """Embed first, store second: what cannot be used leaves nothing in the store."""
    prepared = [
        _or_refusal(source, data, partial(embedder.prepare, data, max_pixels=max_pixels))
        for source, data in some
    ]
    vectors = iter(_vectors([p for p in prepared if not isinstance(p, ImageReport)], embedder))
    examined: list[_Specimen | ImageReport] = []
    for (source, data), canvas in zip(some, prepared, strict=True):
        if isinstance(canvas, ImageReport):
            examined.append(canvas)
            continue
        vector, uri = next(vectors), _or_refusal(source, data, partial(images.put, data))
        if isinstance(uri, ImageReport):
            examined.append(uri)
        else:
            sha256 = hashlib.sha256(data).hexdigest()
            examined.append(_Specimen(source=source, sha256=sha256, uri=uri, vector=vector))
    return examined


def _or_refusal(source: str, data: bytes, work: Callable[[], Result]) -> Result | ImageReport:
    """What `work` returns, or why the image cannot be enrolled."""
    try:
        return work()
    except (CheckpointError, Transient):
        raise
    except (ModelError, StorageError) as error:
        return ImageReport(
            source=source,
            fate=Fate.REFUSED,
            sha256=hashlib.sha256(data).hexdigest(),
            code=error.code,
            reason=str(error),
        )


def _embed_unseen(
    signer_id: str, sessions: Sessions, images: Images, embedder: Embedder, max_pixels: int
) -> tuple[dict[int, Vector], tuple[str, ...]]:
    """Embeddings of live references that this model has not seen, and those that failed."""
    with transaction(sessions) as session:
        waiting = _unseen(session, signer_id, embedder.model_id)
    vectors: dict[int, Vector] = {}
    lost: list[str] = []
    for reference in waiting:
        reference_id = reference.id
        try:
            data = _as_enrolled(reference, images)
            canvas = embedder.prepare(data, max_pixels=max_pixels)
            vectors[reference_id] = _vectors([canvas], embedder)[0]
        except (CheckpointError, Transient):
            raise
        except (ModelError, StorageError) as error:
            lost.append(f"reference {reference_id}: {error}")
            log.warning("reference_lost", reference=reference_id, code=error.code)
    return vectors, tuple(lost)


def _as_enrolled(reference: Reference, images: Images) -> bytes:
    """Whoever may write to the store must not choose what a signer is compared with."""
    data = images.fetch(reference.uri)
    if hashlib.sha256(data).hexdigest() != reference.sha256:
        raise ImageAltered(f"{reference.uri} is not the image that was enrolled")
    return data


def _unseen(session: Session, signer_id: str, model_id: str) -> list[Reference]:
    live = references.of_signer(session, signer_id)
    ids = [reference.id for reference in live]
    seen = set(
        session.scalars(
            select(Embedding.reference_id).where(
                Embedding.model_id == model_id, Embedding.reference_id.in_(ids)
            )
        )
    )
    return [reference for reference in live if reference.id not in seen]


def _vectors(canvases: Sequence[NDArray[np.float32]], embedder: Embedder) -> Sequence[Vector]:
    """In the reference arithmetic, since every later distance rests on them."""
    return list(embedder.embed(canvases, exact=True)) if canvases else []


def _write(
    session: Session,
    signer_id: str,
    embedder: Embedder,
    examined: list[_Specimen | ImageReport],
    unseen: dict[int, Vector],
    lost: tuple[str, ...],
) -> EnrolReport:
    usable = any(isinstance(item, _Specimen) for item in examined)
    if usable or unseen:
        signers.ensure(session, signer_id)
        register_model(session, embedder)
    for reference_id, vector in unseen.items():
        references.put_embedding(
            session, reference_id=reference_id, model_id=embedder.model_id, vector=vector
        )
    reports = tuple(_settle(session, signer_id, embedder.model_id, item) for item in examined)
    live = references.of_signer(session, signer_id)
    return EnrolReport(
        signer_id=signer_id,
        model_id=embedder.model_id,
        images=reports,
        references=len(live) - len(_unseen(session, signer_id, embedder.model_id)),
        re_embedded=len(unseen),
        lost=lost,
    )


def _settle(
    session: Session, signer_id: str, model_id: str, item: _Specimen | ImageReport
) -> ImageReport:
    """Write one specimen; a refusal passes as it is."""
    if isinstance(item, ImageReport):
        return item
    reference, added = references.add(
        session, signer_id=signer_id, uri=item.uri, sha256=item.sha256, source=item.source
    )
    references.put_embedding(
        session, reference_id=reference.id, model_id=model_id, vector=item.vector
    )
    return ImageReport(
        source=item.source,
        fate=Fate.ADDED if added else Fate.ALREADY,
        sha256=item.sha256,
        reference_id=reference.id,
    )
