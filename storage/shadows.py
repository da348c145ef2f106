"""What a model in the shadow would have said, beside what was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.tables import Decision, ShadowDecision


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A job of which the two models think differently."""

    job_id: str
    signer_id: str
    verdict: str
    score: float | None
    shadow_verdict: str
    shadow_score: float | None
    decided_at: datetime


def counts(session: Session, model_id: str) -> dict[tuple[str, str], int]:
    """How many jobs had this verdict, and that one from the shadow."""
    query = (
        select(Decision.verdict, ShadowDecision.verdict, func.count())
        .join(ShadowDecision, ShadowDecision.job_id == Decision.job_id)
        .where(ShadowDecision.model_id == model_id)
        .group_by(Decision.verdict, ShadowDecision.verdict)
    )
    return {(decided, said): count for decided, said, count in session.execute(query)}


def flips(session: Session, model_id: str, limit: int) -> list[Flip]:
    """The newest jobs of which the model in the shadow thinks differently."""
    query = (
        select(
            Decision.job_id,
            Decision.signer_id,
            Decision.verdict,
            Decision.score,
            ShadowDecision.verdict.label("shadow_verdict"),
            ShadowDecision.score.label("shadow_score"),
            Decision.decided_at,
        )
        .join(ShadowDecision, ShadowDecision.job_id == Decision.job_id)
        .where(ShadowDecision.model_id == model_id, ShadowDecision.verdict != Decision.verdict)
        .order_by(Decision.decided_at.desc(), Decision.job_id)
        .limit(limit)
    )
    return [Flip(**row) for row in session.execute(query).mappings()]


def of_jobs(session: Session, model_id: str, job_ids: Sequence[str]) -> dict[str, str]:
    """What the model in the shadow said of these jobs, where it was asked."""
    query = select(ShadowDecision.job_id, ShadowDecision.verdict).where(
        ShadowDecision.model_id == model_id, ShadowDecision.job_id.in_(job_ids)
    )
    return {row.job_id: row.verdict for row in session.execute(query)}
