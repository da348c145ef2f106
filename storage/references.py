"""What a questioned signature is compared with: a signer's enrolled images and their embeddings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import CursorResult, delete, exists, func, select, update
from sqlalchemy.orm import Session

from storage import models, signers, vectors
from storage.database import insert_missing
from storage.errors import (
    InvalidVector,
    ModelChanged,
    ModelMismatch,
    NoReferences,
    StorageError,
    UnknownReference,
)
from storage.tables import Embedding, Reference, Signer, utc_now

BATCH = 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceSet:
    """The live references of one signer as one model sees them, oldest first."""

    ids: tuple[int, ...]
    vectors: NDArray[np.float32]  # (N, D)


@dataclass(frozen=True, kw_only=True, eq=False)
class Specimen:
    """An image in the store, as one model sees it: `vector` has shape (D,)."""

    uri: str
    sha256: str
    source: str | None
    vector: NDArray[np.floating]


def enrol(
    session: Session, signer_id: str, model_id: str, offered: Sequence[Specimen]
) -> dict[str, tuple[int, bool]]:
    """Enrols images for a signer, who is made when new, once per content.

    By hash, the number of each reference, and whether this call brought it into use: it is new, or
    it had been retired and is now restored. A reference that stands is never overwritten, nor is
    what the model made of it. Raises InvalidSignerId, SignerRetired, UnknownModel, InvalidVector.
    """
    signers.ensure(session, signer_id)
    models.require(session, model_id)
    specimens: dict[str, Specimen] = {}
    for specimen in offered:
        specimens.setdefault(specimen.sha256, specimen)  # the first stands
    if not specimens:
        return {}
    numbers = _insert_references(session, signer_id, list(specimens.values()))
    new = set(numbers)
    if standing := [sha256 for sha256 in specimens if sha256 not in new]:
        new |= _restored(session, signer_id, standing)
        numbers |= _numbers(session, signer_id, standing)
    seen = {number: specimens[sha256].vector for sha256, number in numbers.items()}
    _insert_embeddings(session, model_id, seen)
    return {sha256: (number, sha256 in new) for sha256, number in numbers.items()}


def _insert_references(
    session: Session, signer_id: str, specimens: Sequence[Specimen]
) -> dict[str, int]:
    """The numbers of those that are new, by their hash."""
    rows = [
        {"signer_id": signer_id, "uri": one.uri, "sha256": one.sha256, "source": one.source}
        for one in specimens
    ]
    key, told = ("signer_id", "sha256"), ("sha256", "id")
    added = insert_missing(session, Reference, rows, *key, returning=told)
    return {row.sha256: row.id for row in added}


def _numbers(session: Session, signer_id: str, hashes: Sequence[str]) -> dict[str, int]:
    query = select(Reference.sha256, Reference.id).where(
        Reference.signer_id == signer_id, Reference.sha256.in_(hashes)
    )
    return {row.sha256: row.id for row in session.execute(query)}


def _restored(session: Session, signer_id: str, hashes: Sequence[str]) -> set[str]:
    """Those that had been retired, and are in use again now."""
    restored = (
        update(Reference)
        .where(Reference.signer_id == signer_id, Reference.sha256.in_(hashes))
        .where(Reference.retired_at.is_not(None))
        .values(retired_at=None)
        .returning(Reference.sha256)
        .execution_options(synchronize_session=False)
    )
    return set(session.scalars(restored))


def of_signer(session: Session, signer_id: str, *, retired: bool = False) -> list[Reference]:
    """The signer's live references, oldest first; with `retired`, those out of use as well."""
    query = select(Reference).where(Reference.signer_id == signer_id).order_by(Reference.id)
    if not retired:
        query = query.where(Reference.retired_at.is_(None))
    return list(session.scalars(query.execution_options(populate_existing=True)))


def live(session: Session) -> Iterator[Reference]:
    """Every reference in use, of every signer in use, by signer."""
    query = (
        select(Reference)
        .join(Signer, Signer.id == Reference.signer_id)
        .where(Reference.retired_at.is_(None), Signer.retired_at.is_(None))
        .order_by(Reference.signer_id, Reference.id)
    )
    yield from session.scalars(query.execution_options(yield_per=BATCH))


def numbered(session: Session, ids: Collection[int]) -> dict[int, Reference]:
    """The references of these numbers, retired ones too; what was erased is missing."""
    query = select(Reference).where(Reference.id.in_(ids))
    return {reference.id: reference for reference in session.scalars(query)}


def retire(session: Session, reference_id: int) -> Reference:
    """Takes one reference out of use; the first time stands. Raises UnknownReference."""
    reference = _get(session, reference_id)
    if reference.retired_at is None:
        reference.retired_at = utc_now()
        session.flush()
        signers.changed(session, reference.signer_id)
    return reference


def restore(session: Session, reference_id: int) -> Reference:
    """Puts a retired reference back into use. Raises UnknownReference, SignerRetired."""
    reference = _get(session, reference_id)
    signers.get(session, reference.signer_id)
    if reference.retired_at is not None:
        reference.retired_at = None
        session.flush()
        signers.changed(session, reference.signer_id)
    return reference


def images_of(session: Session, signer_id: str) -> tuple[list[str], list[str]]:
    """The URIs of the signer's images, retired ones included: its own, and those that others share.

    The same image of two signers lies in the store once.
    """
    uris = set(session.scalars(select(Reference.uri).where(Reference.signer_id == signer_id)))
    others = select(Reference.uri).where(Reference.signer_id != signer_id, Reference.uri.in_(uris))
    shared = set(session.scalars(others))
    return sorted(uris - shared), sorted(shared)


def erase(session: Session, signer_id: str) -> tuple[int, int]:
    """Deletes the signer's references and embeddings; how many of each there were."""
    own = select(Reference.id).where(Reference.signer_id == signer_id)
    counts = []
    for statement in (
        delete(Embedding).where(Embedding.reference_id.in_(own)),
        delete(Reference).where(Reference.signer_id == signer_id),
    ):
        done = session.execute(statement.execution_options(synchronize_session=False))
        counts.append(cast(CursorResult[Any], done).rowcount)
    signers.changed(session, signer_id)
    return counts[1], counts[0]


def put_embeddings(
    session: Session, model_id: str, found: Mapping[int, NDArray[np.floating]]
) -> int:
    """Keeps what a model made of references, by their number; how many of them were new.

    The first embedding of a pair stands. References that have been erased meanwhile are left out.
    Raises InvalidVector, UnknownModel.
    """
    models.require(session, model_id)
    owners = select(Reference.id, Reference.signer_id).where(Reference.id.in_(found))
    rows = session.execute(owners.order_by(Reference.id).with_for_update(read=True)).all()
    if not rows:
        return 0
    new = _insert_embeddings(session, model_id, {row.id: found[row.id] for row in rows})
    for signer_id in sorted({row.signer_id for row in rows if row.id in new}):
        signers.changed(session, signer_id)
    return len(new)


def _insert_embeddings(
    session: Session, model_id: str, found: Mapping[int, NDArray[np.floating]]
) -> set[int]:
    """The references whose embedding is new; of the others the one that stands is kept."""
    rows = [
        {
            "reference_id": number,
            "model_id": model_id,
            "vector": vectors.pack(vector),
            "dimensions": len(vector),
        }
        for number, vector in found.items()
    ]
    added = insert_missing(session, Embedding, rows, "reference_id", "model_id")
    return {row.reference_id for row in added}


def count(session: Session, signer_id: str, model_id: str) -> int:
    """How many live references of the signer this model can compare with."""
    found = session.scalar(
        select(func.count())
        .select_from(Reference)
        .join(Embedding, Embedding.reference_id == Reference.id)
        .where(Reference.signer_id == signer_id, Reference.retired_at.is_(None))
        .where(Embedding.model_id == model_id)
    )
    return found or 0


def embeddings(session: Session, signer_id: str, model_id: str) -> ReferenceSet:
    """The signer's live references as this model sees them.

    Raises UnknownSigner, SignerRetired, NoReferences, and ModelMismatch when there are live
    references but this model has embedded none of them; ModelChanged if that is because another
    model has become the active one, which a later try will ask.
    """
    # One statement, because every job waits for it; why it finds nothing is asked afterwards.
    rows = session.execute(
        select(Reference.id, Embedding.vector, Embedding.dimensions)
        .join(Signer, Signer.id == Reference.signer_id)
        .join(Embedding, Embedding.reference_id == Reference.id)
        .where(Reference.signer_id == signers.check_id(signer_id), Signer.retired_at.is_(None))
        .where(Reference.retired_at.is_(None), Embedding.model_id == model_id)
        .order_by(Reference.id)
    ).all()
    if not rows:
        signers.get(session, signer_id)
        raise _nothing_to_compare(session, signer_id, model_id)
    if len({row.dimensions for row in rows}) > 1:
        raise InvalidVector(f"the embeddings of signer {signer_id!r} differ in length")
    stacked = np.stack([vectors.unpack(row.vector, row.dimensions) for row in rows])
    return ReferenceSet(ids=tuple(row.id for row in rows), vectors=stacked)


def _get(session: Session, reference_id: int) -> Reference:
    reference = session.get(Reference, reference_id, populate_existing=True)
    if reference is None:
        raise UnknownReference(f"there is no reference {reference_id}")
    return reference


def _nothing_to_compare(session: Session, signer_id: str, model_id: str) -> StorageError:
    live = exists().where(Reference.signer_id == signer_id, Reference.retired_at.is_(None))
    if session.scalar(select(live)):
        if models.lineup(session).active not in (None, model_id):
            return ModelChanged(f"model {model_id[:12]} is no longer the one in use")
        return ModelMismatch(
            f"the references of signer {signer_id!r} were embedded by another model than"
            f" {model_id[:12]}; enrol the signer again with the model in use"
        )
    return NoReferences(f"signer {signer_id!r} has no reference to compare with")
