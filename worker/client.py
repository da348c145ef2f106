"""What an upstream system imports: submit a document, wait for the decision, send lost jobs again.

    from worker.client import submit, wait
    job_id = submit("ACC-0042", "s3://scans/2026/cheque-17.png", metadata={"branch": 12})
    outcome = wait(job_id, timeout=30)

The job's row is written before the message is sent, so a broker that fails loses no job.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

from kombu.exceptions import OperationalError

from storage import decisions, jobs
from storage.tables import DONE, QUEUED, RUNNING, Job
from worker.delivery import Again, deliver
from worker.errors import BrokerUnavailable, NotDecided, NothingToReplay
from worker.messages import TASK, VerifyRequest, parse
from worker.pipeline import Outcome
from worker.runtime import Runtime, get_runtime
from worker.settings import Settings
from worker.signing import signed
from worker.transactions import transaction

Priority = Literal["interactive", "bulk"]

UNDECIDED = (QUEUED, RUNNING)
POLL_SECONDS = 0.2


def submit(
    signer_id: str,
    document: str,
    *,
    job_id: str | None = None,
    page: int | None = None,
    region: Sequence[int] | None = None,
    metadata: Mapping[str, Any] | None = None,
    priority: Priority = "interactive",
    settings: Settings | None = None,
) -> str:
    """Ask whether `signer_id` signed `document`; returns the job's id, made up if not given.

    A `bulk` job is taken when no `interactive` one waits.

    The same job id again is harmless: there is one decision. Without a broker the job is done
    before this returns. Raises InvalidMessage, JobConflict when the id stands for another
    question, DatabaseUnavailable, and BrokerUnavailable when the job is recorded but not sent.
    """
    request = parse(
        {
            "job_id": str(uuid.uuid4()) if job_id is None else job_id,
            "signer_id": signer_id,
            "document": document,
            "page": page,
            "region": region,
            "metadata": metadata,
        }
    )
    runtime = get_runtime(settings)
    if _record(request, runtime).status in UNDECIDED:
        _dispatch(request, runtime, priority)
    return request.job_id


def wait(
    job_id: str,
    *,
    timeout: float = 60.0,
    poll: float = POLL_SECONDS,
    settings: Settings | None = None,
) -> Outcome:
    """The decision of a job, as soon as there is one.

    Raises UnknownJob, and NotDecided after `timeout` seconds.
    """
    sessions = get_runtime(settings).sessions
    deadline = time.monotonic() + timeout
    while True:
        with transaction(sessions) as session:
            decision = decisions.get(session, job_id)
            if decision is not None:
                return Outcome.of(decision)
            status = jobs.get(session, job_id).status
        if time.monotonic() >= deadline:
            raise NotDecided(f"Job {job_id} is still {status} after {timeout:g} s.")
        time.sleep(poll)


def requeue(
    older_than: float | timedelta | None = None, *, settings: Settings | None = None
) -> list[str]:
    """Send again every job that nothing was heard of for `older_than` (seconds, or a timedelta).

    The default is SIGCTL_REQUEUE_AFTER. A job that the broker still has a message of only waits
    its turn, and is left to it. What is sent again is `bulk`, however it was sent first: after
    a broker has lost its memory, all of it must not come before what somebody waits for now.
    Returns the ids of the jobs sent, oldest first. Raises BrokerUnavailable.
    """
    runtime = get_runtime(settings)
    if older_than is None:
        older_than = runtime.settings.requeue_after
    age = older_than if isinstance(older_than, timedelta) else timedelta(seconds=older_than)
    with transaction(runtime.sessions) as session:
        stale = [_request(job) for job in jobs.stale(session, age, statuses=UNDECIDED)]
    known = _known_to_broker(runtime.settings) if stale else set()
    requests = [request for request in stale if request.job_id not in known]
    for request in requests:
        _dispatch(request, runtime, "bulk")
        _note_sent(request, runtime)
    return [request.job_id for request in requests]


def replay(job_id: str, *, settings: Settings | None = None) -> str:
    """Ask again what a job failed at, and return the id under which it is asked.

    A failure is on record for good, so a job that failed gets a successor, `job~2` after `job`;
    replaying a job twice makes one successor. A job without a decision is sent again as it is.
    As with `requeue`, it is `bulk` now.
    Raises UnknownJob, NothingToReplay when the job has a verdict, InvalidMessage when its id
    leaves no room for a successor's, and BrokerUnavailable.
    """
    runtime = get_runtime(settings)
    with transaction(runtime.sessions) as session:
        job = jobs.get(session, job_id)
    if job.status == DONE:
        raise NothingToReplay(f"Job {job_id} has a verdict, and a verdict stands.")
    request = _request(job)
    if job.status not in UNDECIDED:
        request = parse(request.as_kwargs() | {"job_id": successor(job_id)})
    if _record(request, runtime).status in UNDECIDED:
        _dispatch(request, runtime, "bulk")
        _note_sent(request, runtime)
    return request.job_id


def successor(job_id: str) -> str:
    """The id of the job that asks again what this one failed at.

    >>> successor("cheque-17"), successor("cheque-17~2")
    ('cheque-17~2', 'cheque-17~3')
    """
    found = re.fullmatch(r"(.+)~([1-9]\d{0,3})", job_id)
    return f"{found[1]}~{int(found[2]) + 1}" if found else f"{job_id}~2"


def _record(request: VerifyRequest, runtime: Runtime) -> Job:
    """The job's row, made now if new."""
    with transaction(runtime.sessions) as session:
        job, _ = jobs.submit(session, **request.as_row())
        return job


def _note_sent(request: VerifyRequest, runtime: Runtime) -> None:
    """Restart the job's clock, so that the next round leaves it alone."""
    with transaction(runtime.sessions) as session:
        if jobs.get(session, request.job_id).status in UNDECIDED:
            jobs.requeue(session, request.job_id)


def _dispatch(request: VerifyRequest, runtime: Runtime, priority: Priority) -> None:
    if runtime.settings.broker_url is None:
        _run_here(request, runtime)
    else:
        _send(request, runtime.settings, priority)


def _send(request: VerifyRequest, settings: Settings, priority: Priority) -> None:
    from worker.app import PRIORITIES, make_app

    try:
        make_app(settings).send_task(
            TASK,
            kwargs=signed(request.as_kwargs(), settings.message_key),
            task_id=request.job_id,
            priority=PRIORITIES[priority],
        )
    except (OperationalError, OSError) as error:
        raise BrokerUnavailable(
            f"The broker does not answer. Job {request.job_id} is recorded as queued;"
            " `sigctl requeue` will send it.",
            job_id=request.job_id,
        ) from error


def _known_to_broker(settings: Settings) -> set[str]:
    if settings.broker_url is None:
        return set()
    from worker.app import make_app
    from worker.waiting import named

    return named(make_app(settings), settings.queue, "job_id")


def _run_here(request: VerifyRequest, runtime: Runtime) -> None:
    """What a worker does with the message, with its pauses; the job is decided at the end."""
    retries = 0
    message = signed(request.as_kwargs(), runtime.settings.message_key)
    while True:
        result = deliver(message, runtime, retries=retries)
        if not isinstance(result, Again):
            return
        if not result.counted:
            raise result.error
        time.sleep(result.delay)
        retries += 1


def _request(job: Job) -> VerifyRequest:
    return parse(
        {
            "job_id": job.id,
            "signer_id": job.signer_id,
            "document": job.document,
            "page": job.page,
            "region": job.region,
            "metadata": job.upstream,
        }
    )
