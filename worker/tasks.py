"""The tasks: thin shells that hand a message to `delivery` and send it again when told to."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from celery import Task, shared_task, signals
from celery.concurrency import get_implementation
from celery.exceptions import Reject
from celery.worker.control import Panel

from model.errors import ModelError
from storage.errors import StorageError, Transient
from worker import client, embedding_queue, logs, metrics, status, training_runs
from worker.beat import REQUEUE_TASK
from worker.broker import DELAY
from worker.delivery import INTERNAL_ERROR, Again, about, deliver
from worker.embedding_queue import EMBED_TASK
from worker.errors import BrokerUnavailable, UnsafePool
from worker.exposure import exposed
from worker.health import HealthStep
from worker.logs import get_logger
from worker.messages import FIELDS, TASK, by_name
from worker.pulse import PulseStep
from worker.runtime import close_runtimes, get_runtime
from worker.settings import load_settings
from worker.transactions import register_model, transaction

log = get_logger(__name__)

MONTH = 30 * 86_400

# `status` for the command that it registers.
__all__ = ["embed", "requeue", "retrain", "status", "verify"]

# A document that kills its worker takes down whatever is worked on beside it, and all of it comes
# back together. One at a time, the others are decided, and only the deadly one dies again.
_suspects = threading.Lock()
_stopping = threading.Event()


# typing=False: a call with wrong arguments must reach us, so that its failure is recorded.
@shared_task(name=TASK, bind=True, typing=False)  # type: ignore[untyped-decorator]
def verify(self: Task, *values: Any, **named: Any) -> None:
    """sigctl.verify(job_id, signer_id, document, page=None, region=None, metadata=None)"""
    message = by_name(values, named)
    if len(values) > len(FIELDS):
        message["arguments"] = len(values)  # no field has this name, so parsing refuses it
    with about(message):
        redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
        with _alone() if redelivered else nullcontext():
            result = deliver(
                message,
                get_runtime(),
                retries=self.request.retries or 0,
                redelivered=redelivered,
            )
        if isinstance(result, Again):
            metrics.RETRIES.labels(getattr(result.error, "code", INTERNAL_ERROR)).inc()
            _again(self, result)


# A training takes hours; the limits of jobs, which only the prefork pool can enforce, are not its.
@shared_task(  # type: ignore[untyped-decorator]
    name=training_runs.TASK, bind=True, typing=False, time_limit=MONTH, soft_time_limit=MONTH
)
def retrain(self: Task, *values: Any, **named: Any) -> None:
    """sigctl.train.retrain(run_id)"""
    message = named if not values else {**named, "arguments": len(values)}
    result = training_runs.deliver(
        message, get_runtime(), retries=self.request.retries or 0, stopping=_stopping
    )
    if result is not None:
        _again(self, result)


@shared_task(name=REQUEUE_TASK)  # type: ignore[untyped-decorator]
def requeue() -> None:
    """Send again what has waited too long; the beat schedule calls this."""
    try:
        sent = client.requeue()
        runs = training_runs.requeue(get_runtime())
    except BrokerUnavailable as error:
        log.warning("requeue_failed", reason=str(error))
    else:
        log.info("requeued", jobs=len(sent), training_runs=len(runs))


# typing=False, for the same reason as above.
@shared_task(name=EMBED_TASK, typing=False)  # type: ignore[untyped-decorator]
def embed(*_: Any, **message: Any) -> None:
    """sigctl.enrol.embed(model, references)"""
    embedding_queue.receive(message, get_runtime())


def _alone() -> AbstractContextManager[object]:
    """Held by one message at a time of those whose last holder did not live to acknowledge it."""
    metrics.REDELIVERIES.inc()
    log.warning("redelivered")
    return _suspects


def _again(task: Task, again: Again) -> None:
    """Send a copy that waits in Redis until it is due. `Task.retry` would wait in this process.

    When nothing can be recorded this thread waits instead, so that a worker without a database
    takes nothing more.
    """
    if not again.counted:
        _stopping.wait(again.delay)
    request = task.request
    copy = task.signature_from_request(
        request,
        retries=(request.retries or 0) + again.counted,
        priority=(request.delivery_info or {}).get("priority"),
        headers={DELAY: again.delay if again.counted else 0},
    )
    try:
        copy.apply_async()
    except Exception as error:
        log.warning("retry_not_sent", reason=str(error))
        raise Reject(str(error), requeue=True) from error


def _take_no_orders(**_: Any) -> None:
    """Only answer questions: whoever can write to the broker could stop workers and revoke jobs."""
    for command in Panel.data.keys() - {"ping", status.COMMAND}:
        del Panel.data[command]


def _set_up_logging(**_: Any) -> None:
    logs.configure(load_settings())
    logs.take_over()


def _check_before_start(sender: Any = None, **_: Any) -> None:
    """Refuse to start where every job would fail. Raises SystemExit with the reason."""
    runtime = get_runtime()
    sender.app.steps["consumer"].add(PulseStep)
    sender.app.steps["worker"].add(HealthStep)
    for sentence in exposed(runtime.settings):
        log.warning("not_encrypted", reason=sentence)
    try:
        if get_implementation(sender.pool_cls) is get_implementation("prefork"):
            refuse_cuda_in_children(runtime.settings.device)
        else:
            _load()
    except (ModelError, StorageError, UnsafePool) as error:
        raise SystemExit(str(error)) from None


def _load() -> None:
    """Make everything that jobs need before the first of them comes, and say what it is."""
    runtime = get_runtime()
    runtime.serve()
    try:
        _ = runtime.stages  # made now
        with transaction(runtime.sessions) as session:
            register_model(session, runtime.embedder)
    except Transient as error:  # as the first job would find out, and wait
        log.warning("not_loaded", code=error.code, reason=str(error))
        return
    embedder, engine = runtime.embedder, runtime.embedder.engine
    metrics.loaded(embedder)
    log.info(
        "model_loaded",
        model=embedder.model_id,
        engine=engine.name,
        because=engine.why,
        batch=runtime.settings.batch_size or engine.batch,
        threads=runtime.settings.concurrency,
        tolerance=round(embedder.tolerance, 4),
    )


def _serve(**_: Any) -> None:
    """In a child of the prefork pool, which must report within seconds: its first job loads."""
    get_runtime().serve()


def _stop_waiting(**_: Any) -> None:
    _stopping.set()


def _close(**_: Any) -> None:
    close_runtimes()


def refuse_cuda_in_children(device: str) -> None:
    """Raise UnsafePool if prefork children would use CUDA."""
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        raise UnsafePool(
            "The prefork pool cannot be used with a GPU, because a CUDA context does not survive"
            " a fork: set SIGCTL_POOL=threads, or SIGCTL_DEVICE=cpu."
        )


signals.celeryd_init.connect(_set_up_logging)  # Celery asks for it only later
signals.setup_logging.connect(_set_up_logging)
signals.worker_init.connect(_take_no_orders)
signals.worker_init.connect(_check_before_start)
signals.worker_process_init.connect(_serve)
signals.worker_shutting_down.connect(_stop_waiting)
signals.worker_process_shutdown.connect(_close)
signals.worker_shutdown.connect(_close)
