"""A decision as the rest of the program sees it: the row's values, without its session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from storage.tables import Decision


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A decision as it stands in the record; distances lie in [0, 2], lower is closer.

    `distances` holds {"reference": id, "distance": number} for each reference; times are ms.
    `threshold` is where acceptance ends and `reject_threshold` where rejection begins; the latter
    is None where one threshold decides alone. `terms` are the weighted parts of the score, `ink`
    what the document's ink measures, None of those from before it was. An error has a code and a
    sentence and none of the numbers of a comparison.
    """

    job_id: str
    signer_id: str
    document: str
    document_sha256: str | None
    verdict: str
    score: float | None
    distance: float | None
    threshold: float | None
    reject_threshold: float | None
    operating_point: str | None
    terms: Mapping[str, float] | None
    distances: tuple[Mapping[str, Any], ...]
    nearest_reference: int | None
    model_id: str | None
    preprocessing: str | None
    rule: str | None
    ink: Mapping[str, float] | None
    error_code: str | None
    error_message: str | None
    fetch_ms: float | None
    preprocess_ms: float | None
    embed_ms: float | None
    total_ms: float | None
    upstream: Mapping[str, Any]
    decided_at: datetime

    @classmethod
    def of(cls, decision: Decision) -> Outcome:
        """The outcome that a row tells of."""
        columns = {item.name: getattr(decision, item.name) for item in fields(cls)}
        return cls(**columns | {"distances": tuple(decision.distances)})
