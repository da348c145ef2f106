"""A canary: a share of the jobs is shown to another model once they are decided.

What it would have said is kept beside the decision and decides nothing. Whatever goes wrong with it
is its own affair: the job has its decision already.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from model.errors import ModelError
from model.scoring import judge
from storage import references
from storage.database import insert_new
from storage.errors import StorageError
from storage.tables import ERROR, ShadowDecision
from worker.logs import get_logger
from worker.transactions import transaction

if TYPE_CHECKING:
    from worker.messages import VerifyRequest
    from worker.outcome import Outcome
    from worker.runtime import Runtime

log = get_logger(__name__)


def chosen(job_id: str, share: float) -> bool:
    """Whether the job is among the share: the same jobs for every worker and every model.

    >>> chosen("cheque-17", 1.0), chosen("cheque-17", 0.0)
    (True, False)
    """
    return int(hashlib.sha256(job_id.encode()).hexdigest()[:8], 16) < share * 2**32


def show(request: VerifyRequest, outcome: Outcome, runtime: Runtime) -> None:
    """Let the model in the shadow look at a job that was just decided. Never raises."""
    lineup = runtime.models.latest
    model_id = lineup.shadow
    if model_id is None or outcome.verdict == ERROR:
        return
    if not chosen(request.job_id, lineup.shadow_share) or model_id == outcome.model_id:
        return
    try:
        found = opinion(request, model_id, runtime)
        with transaction(runtime.sessions) as session:
            row = {"job_id": request.job_id, "model_id": model_id, **found}
            insert_new(session, ShadowDecision, row, "job_id", "model_id")
    except (ModelError, StorageError) as error:
        log.warning("shadow_failed", model=model_id, code=error.code, reason=str(error))
    except Exception:
        log.exception("shadow_failed", model=model_id)


def opinion(request: VerifyRequest, model_id: str, runtime: Runtime) -> dict[str, Any]:
    """What the model says, as columns: a verdict with its grounds, or the code of an error."""
    embedder, settings = runtime.models.get(model_id), runtime.settings
    try:
        with transaction(runtime.sessions) as session:
            known = references.embeddings(session, request.signer_id, model_id)
        canvas = embedder.prepare(
            runtime.images.fetch(request.document),
            page=request.page,
            region=request.region,
            max_pixels=settings.max_pixels,
        )
        vector = embedder.embed([canvas], exact=True)[0]
        judged = judge(vector, known.vectors, embedder.scoring, far=settings.operating_point)
    except (ModelError, StorageError) as error:
        return {"verdict": ERROR, "error_code": error.code}
    return {
        "verdict": str(judged.verdict),
        "score": judged.score,
        "distance": judged.distance,
        "threshold": judged.threshold,
        "reject_threshold": judged.reject_threshold,
    }
