"""What one delivery of a message comes to: an outcome in the record, or another try later.

The policy, for the queue and for a process without one alike:

    signed by none of our keys     logged: a record would let anybody occupy a job's id
    the message is no request      recorded as an error if its ids allow it, else logged
    refused for good               recorded by the pipeline
    image store away, unforeseen   tried again with growing pauses, then recorded as an error
    nothing can be recorded        tried again for as long as it takes
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import structlog

from model.errors import ModelError
from storage.errors import (
    DatabaseNotMigrated,
    DatabaseUnavailable,
    JobConflict,
    StorageError,
    Transient,
)
from storage.images import shown
from worker import pipeline, shadow
from worker.errors import InvalidMessage
from worker.logs import get_logger
from worker.messages import VerifyRequest, parse, usable_id
from worker.pipeline import Outcome
from worker.runtime import Runtime
from worker.settings import Settings
from worker.signing import FIELD, is_genuine

INTERNAL_ERROR = "internal_error"

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Again:
    """The message is to be tried again after `delay` seconds.

    `counted` says whether this was one of the bounded number of tries; it is not while `error`
    keeps anything from being recorded.
    """

    delay: float
    counted: bool
    error: Exception


def about(message: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """What is logged inside names the job and the signer, other libraries' lines included."""
    names = {name: str(message.get(name))[:128] for name in ("job_id", "signer_id")}
    return structlog.contextvars.bound_contextvars(**names)


def deliver(
    message: Mapping[str, Any], runtime: Runtime, *, retries: int, redelivered: bool = False
) -> Outcome | Again | None:
    """Handle one delivery; `retries` counts the tries that this message has used up.

    `redelivered` says that its last holder was lost, perhaps because of the document.

    None means that the message is dropped: it names no job that a failure could be recorded
    under, or one that stands for another question. Never raises for what is in the message.
    """
    with about(message):
        try:
            return _deliver(message, runtime, retries, redelivered)
        except JobConflict as error:
            log.error("job_conflict", reason=str(error))
            return None
        except Exception as error:
            _log_failure("nothing_recorded", error)
            return Again(delay=runtime.settings.retry_delay, counted=False, error=error)


def _deliver(
    message: Mapping[str, Any], runtime: Runtime, retries: int, redelivered: bool
) -> Outcome | Again | None:
    if not is_genuine(message, runtime.settings.message_keys):
        log.error("message_forged", signed=FIELD in message)
        return None
    try:
        request = replace(parse(message), redelivered=redelivered)
    except InvalidMessage as error:
        return _refuse(message, error, runtime)
    try:
        return _verify(request, runtime)
    except (JobConflict, DatabaseUnavailable, DatabaseNotMigrated):
        raise
    except Exception as error:
        return _again_or_fail(request, error, runtime, retries)


def _verify(request: VerifyRequest, runtime: Runtime) -> Outcome:
    settings = runtime.settings
    with runtime.at_work() as serving:
        outcome = pipeline.verify(
            request,
            sessions=runtime.sessions,
            images=runtime.images,
            embedder=serving.embedder,
            far=settings.operating_point,
            max_pixels=settings.max_pixels,
            max_deliveries=settings.max_deliveries,
            stages=serving.stages,
        )
    shadow.show(request, outcome, runtime)
    return outcome


def _again_or_fail(
    request: VerifyRequest, error: Exception, runtime: Runtime, retries: int
) -> Outcome | Again:
    settings = runtime.settings
    _log_failure("try_failed", error, retries=retries, max_retries=settings.max_retries)
    if retries < settings.max_retries:
        return Again(delay=pause(settings, retries), counted=True, error=error)
    code, sentence = _as_recorded(error, tries=retries + 1)
    return pipeline.fail(request, code, sentence, sessions=runtime.sessions)


def _refuse(message: Mapping[str, Any], error: InvalidMessage, runtime: Runtime) -> Outcome | None:
    """Record the refusal where the message names a job, else only log it."""
    job_id, signer_id = usable_id(message, "job_id"), usable_id(message, "signer_id")
    log.error("message_refused", reason=str(error), recorded=job_id is not None)
    if job_id is None:
        return None
    request = VerifyRequest(
        job_id=job_id,
        signer_id=signer_id or "unknown",
        document=shown(str(message.get("document") or "")),
    )
    return pipeline.fail(request, error.code, str(error), sessions=runtime.sessions)


def pause(settings: Settings, retries: int) -> float:
    """Seconds before the next try: full jitter below an exponentially growing bound.

    Jitter, so that the jobs that failed together do not come back together.
    """
    bound = min(settings.retry_delay_max, settings.retry_delay * 2.0 ** min(retries, 32))
    return random.uniform(0, bound)  # noqa: S311 - spreads load, guards nothing


def _as_recorded(error: Exception, *, tries: int) -> tuple[str, str]:
    """The code and the sentence that the record keeps of the last try."""
    if isinstance(error, StorageError | ModelError):
        return error.code, f"{error} (tried {tries} times)"
    return (
        INTERNAL_ERROR,
        f"An unexpected {type(error).__name__} stopped this job {tries} times;"
        " the worker's log has the details.",
    )


def _log_failure(event: str, error: Exception, **details: int) -> None:
    """What was foreseen needs no traceback; what was not, does, and only the log gets it."""
    foreseen = isinstance(error, Transient | DatabaseNotMigrated | ModelError)
    code = getattr(error, "code", INTERNAL_ERROR)
    reason = str(error) if foreseen else type(error).__name__
    log.warning(event, code=code, reason=reason, exc_info=not foreseen, **details)
