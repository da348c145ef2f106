"""Which signers want an operator's eye: few references, varied ones, old ones, or drifting ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from model.arrays import Vectors
from model.expectation import consistency, wanted
from model.scoring import spread
from storage import vectors
from storage.decisions import DecisionFilter, search
from storage.tables import ACCEPT, Embedding, Reference, Signer, utc_now

if TYPE_CHECKING:
    from model.inference import Embedder

OLD = timedelta(days=3 * 365)
RECENT, LEAST = 10, 5
"""Accepted decisions that are looked at, the newest, and how few say nothing."""
DRIFT = 1.3
"""Of the distance between references. In three corpora 1 signer in 100 has a median above it."""

CHUNK = 1_000


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a signer is on the list: a code for programs, words for people."""

    code: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A signer on the list; `newest` is when the newest reference was enrolled."""

    signer_id: str
    references: int
    newest: datetime | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Case:
    """The live references of a signer; `vectors` (N, D) are those the model has embedded."""

    signer_id: str
    references: int
    newest: datetime | None
    vectors: Vectors | None


def review(session: Session, embedder: Embedder, *, old: timedelta = OLD) -> Iterator[Finding]:
    """The signers in use that there is something to say of, by their id."""
    oldest = utc_now() - old
    for case in _cases(session, embedder.model_id):
        found = (
            _few(case, embedder),
            _inconsistent(case, embedder),
            _old(case, oldest),
            _drifting(session, case, embedder.model_id),
        )
        reasons = tuple(reason for reason in found if reason is not None)
        if reasons:
            yield Finding(
                signer_id=case.signer_id,
                references=case.references,
                newest=case.newest,
                reasons=reasons,
            )


def _cases(session: Session, model_id: str) -> Iterator[_Case]:
    """Read in one statement, signer by signer."""
    live = (Reference.signer_id == Signer.id) & Reference.retired_at.is_(None)
    seen = (Embedding.reference_id == Reference.id) & (Embedding.model_id == model_id)
    rows = session.execute(
        select(
            Signer.id,
            Reference.id.label("reference"),
            Reference.enrolled_at,
            Embedding.vector,
            Embedding.dimensions,
        )
        .outerjoin(Reference, live)
        .outerjoin(Embedding, seen)
        .where(Signer.retired_at.is_(None))
        .order_by(Signer.id, Reference.id)
        .execution_options(yield_per=CHUNK)
    )
    for signer_id, group in groupby(rows, key=lambda row: row.id):
        found = [row for row in group if row.reference is not None]
        embedded = [
            vectors.unpack(row.vector, row.dimensions) for row in found if row.vector is not None
        ]
        yield _Case(
            signer_id=signer_id,
            references=len(found),
            newest=max((row.enrolled_at for row in found), default=None),
            vectors=np.stack(embedded) if embedded else None,
        )


def _few(case: _Case, embedder: Embedder) -> Reason | None:
    number = wanted(embedder.provenance, case.references)
    if number is None:
        return None
    return Reason(code="few", words=f"{case.references} references, {number} are better")


def _inconsistent(case: _Case, embedder: Embedder) -> Reason | None:
    found = None if case.vectors is None else consistency(case.vectors, embedder.scoring)
    if found is None or not found.inconsistent:
        return None
    words = f"the references lie {found.spread:.2f} apart, others' {found.usual:.2f}"
    return Reason(code="inconsistent", words=words)


def _old(case: _Case, oldest: datetime) -> Reason | None:
    if case.newest is None or case.newest >= oldest:
        return None
    return Reason(code="old", words=f"no reference since {case.newest:%Y-%m-%d}")


def _drifting(session: Session, case: _Case, model_id: str) -> Reason | None:
    """Whether what was accepted lately lies farther from the references than these do."""
    if case.vectors is None or len(case.vectors) < 2:
        return None
    recent = DecisionFilter(
        signer_id=case.signer_id, verdict=ACCEPT, model_id=model_id, limit=RECENT
    )
    distances = _known([decision.distance for decision in search(session, recent)])
    apart, _ = spread(case.vectors)
    if len(distances) < LEAST or median(distances) <= DRIFT * apart:
        return None
    words = f"accepted signatures lie {median(distances):.2f} away, references {apart:.2f}"
    return Reason(code="drifting", words=words)


def _known(distances: Sequence[float | None]) -> list[float]:
    return [distance for distance in distances if distance is not None]
