"""Who can be verified: enrolled under an id of the upstream system's choosing, retired, listed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import Table, func, select, update
from sqlalchemy.orm import Session

from storage.database import upsert
from storage.errors import InvalidSignerId, SignerErased, SignerRetired, UnknownSigner
from storage.tables import ID_LENGTH, Reference, Signer, utc_now


@dataclass(frozen=True, kw_only=True)
class SignerSummary:
    """A signer with the number of references that still count."""

    id: str
    enrolled_at: datetime
    retired_at: datetime | None
    references: int


def check_id(signer_id: str) -> str:
    """The id itself, when it can name a signer; raises InvalidSignerId.

    At most 128 printable characters, no slashes, no blank at either end: an id turns up in
    folder names, URIs and log lines.

    >>> check_id("ACC-0042")
    'ACC-0042'
    """
    if not isinstance(signer_id, str) or not signer_id:
        raise InvalidSignerId("a signer id must not be empty")
    if len(signer_id) > ID_LENGTH:
        raise InvalidSignerId(f"a signer id has at most {ID_LENGTH} characters")
    if not signer_id.isprintable():
        raise InvalidSignerId(f"the signer id {signer_id!a} holds characters that cannot be shown")
    if "/" in signer_id or "\\" in signer_id or signer_id in (".", ".."):
        raise InvalidSignerId(f"the signer id {signer_id!r} looks like a path")
    if signer_id != signer_id.strip():
        raise InvalidSignerId(f"the signer id {signer_id!r} begins or ends with a blank")
    return signer_id


def ensure(session: Session, signer_id: str) -> None:
    """Enrols the signer if new, and notes as `changed` that their references will be others.

    Whoever else enrols the signer waits for the transaction to end. Raises InvalidSignerId,
    SignerRetired.
    """
    bare = cast(Table, Signer.__table__)
    statement = (
        upsert(session, bare)
        .values(id=check_id(signer_id))
        .on_conflict_do_update(index_elements=["id"], set_={"revision": bare.c.revision + 1})
        .returning(bare.c.retired_at)
    )
    if session.scalar(statement) is not None:
        get(session, signer_id)  # says since when


def get(session: Session, signer_id: str, *, allow_retired: bool = False) -> Signer:
    """The signer. Raises InvalidSignerId, UnknownSigner, and SignerRetired unless allowed."""
    signer = session.get(Signer, check_id(signer_id), populate_existing=True)
    if signer is None:
        raise UnknownSigner(f"no signer {signer_id!r} has been enrolled")
    if signer.retired_at is not None and not allow_retired:
        if signer.erased_at is not None:
            raise SignerErased(f"signer {signer_id!r} was erased on {signer.erased_at:%Y-%m-%d}")
        raise SignerRetired(f"signer {signer_id!r} was retired on {signer.retired_at:%Y-%m-%d}")
    return signer


def changed(session: Session, signer_id: str) -> None:
    """Notes that the signer's references or their embeddings are no longer what they were."""
    session.execute(
        update(Signer)
        .where(Signer.id == signer_id)
        .values(revision=Signer.revision + 1)
        .execution_options(synchronize_session=False)
    )


def revisions(session: Session, signer_ids: Collection[str]) -> dict[str, int]:
    """The revision of each of these signers; those unknown or retired are missing."""
    query = select(Signer.id, Signer.revision).where(
        Signer.id.in_(signer_ids), Signer.retired_at.is_(None)
    )
    return {row.id: row.revision for row in session.execute(query)}


def search(
    session: Session,
    text: str | None = None,
    *,
    retired: bool | None = None,
    limit: int | None = None,
) -> list[SignerSummary]:
    """Signers by id, those whose id contains `text`; retired ones only, live ones only, or both."""
    live = func.count(Reference.id)
    query = (
        select(Signer.id, Signer.enrolled_at, Signer.retired_at, live.label("references"))
        .outerjoin(Reference, (Reference.signer_id == Signer.id) & Reference.retired_at.is_(None))
        .group_by(Signer.id)
        .order_by(Signer.id)
        .limit(limit)
    )
    if text:
        query = query.where(Signer.id.icontains(text, autoescape=True))
    if retired is not None:
        query = query.where(Signer.retired_at.is_not(None) == retired)
    return [SignerSummary(**row) for row in session.execute(query).mappings()]


def retire(session: Session, signer_id: str) -> Signer:
    """Takes the signer out of use; the first time stands. Raises UnknownSigner."""
    signer = get(session, signer_id, allow_retired=True)
    if signer.retired_at is None:
        signer.retired_at = utc_now()
        session.flush()
    return signer


def mark_erased(session: Session, signer_id: str) -> Signer:
    """Takes the signer out of use, as one whose references go; the first time stands.

    Raises UnknownSigner.
    """
    signer = retire(session, signer_id)
    if signer.erased_at is None:
        signer.erased_at = utc_now()
        session.flush()
    changed(session, signer_id)
    return signer


def restore(session: Session, signer_id: str, *, erased: bool = False) -> Signer:
    """Puts a retired signer back into use, and with `erased` also the bare name of an erased one.

    Raises UnknownSigner, SignerErased.
    """
    signer = get(session, signer_id, allow_retired=True)
    if signer.erased_at is not None and not erased:
        raise SignerErased(f"signer {signer_id!r} was erased on {signer.erased_at:%Y-%m-%d}")
    signer.retired_at = signer.erased_at = None
    session.flush()
    return signer
