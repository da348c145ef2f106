"""Erasing a signer: images, embeddings and references go; what was decided stays.

The signer is marked first, so that no worker compares with what is about to go. The images go
before the rows that name them, so that an erasure that was stopped can be done again and finishes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session

from storage import chain, references, signers
from storage.chain import Event
from storage.database import Sessions
from storage.images import Images
from storage.tables import ERASURE
from worker.logs import get_logger
from worker.transactions import transaction

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ErasureReport:
    """How much went. `images_kept` are those that another signer is enrolled with, too."""

    references: int
    embeddings: int
    images: int
    images_kept: int


def erase(
    signer_id: str,
    *,
    sessions: Sessions,
    images: Images,
    by: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ErasureReport:
    """Remove the signer's biometric data and record that, with the name of who did it.

    The signer's row stays as a tombstone. Harmless to repeat. Raises UnknownSigner, ImageForbidden
    for an image outside the store, and Transient when the store or the database is away.
    """
    with transaction(sessions) as session:
        signers.mark_erased(session, signer_id)
    while True:
        with transaction(sessions) as session:
            own, shared = references.images_of(session, signer_id)
        for uri in own:
            images.delete(uri)
            progress(uri)
        with transaction(sessions) as session:
            # An enrolment that was under way when the signer was marked may have added some.
            if references.images_of(session, signer_id) == (own, shared):
                return _erase_rows(session, signer_id, by, len(own), len(shared))


def _erase_rows(
    session: Session, signer_id: str, by: str | None, images: int, kept: int
) -> ErasureReport:
    rows, vectors = references.erase(session, signer_id)
    report = ErasureReport(references=rows, embeddings=vectors, images=images, images_kept=kept)
    detail = {"by": by} | asdict(report)
    chain.of(session).append(session, [Event(kind=ERASURE, subject=signer_id, detail=detail)])
    log.info("signer_erased", signer_id=signer_id, references=rows)
    return report
