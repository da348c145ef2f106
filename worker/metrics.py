"""What a worker counts and measures, in the words of Prometheus.

A metric is raised by one line at the place where the thing happens. No label ever holds a job, a
signer or a document: those belong in the record and the log. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from storage.tables import ACCEPT, ERROR, REJECT, REVIEW

if TYPE_CHECKING:
    from model.inference import Embedder
    from worker.outcome import Outcome

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# Our own, so that a program that only imports `worker.client` keeps its registry to itself.
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

# From a batch of float arithmetic to a store that hangs.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)

JOBS = Counter(
    "sigctl_jobs",
    "Jobs that came to an end here; code is empty where there is a verdict.",
    ["verdict", "code"],
    registry=REGISTRY,
)
JOB_SECONDS = Histogram(
    "sigctl_job_seconds",
    "From taking up a job to its decision, without its time on the queue.",
    registry=REGISTRY,
    buckets=SECONDS,
)
STAGE_SECONDS = Histogram(
    "sigctl_stage_seconds",
    "One stage of one job, its wait for a batch included.",
    ["stage"],
    registry=REGISTRY,
    buckets=SECONDS,
)
BATCH_SECONDS = Histogram(
    "sigctl_batch_seconds",
    "One batch: a transaction that begins or decides jobs, or a run of the network.",
    ["stage"],
    registry=REGISTRY,
    buckets=SECONDS,
)
BATCH_SIZE = Histogram(
    "sigctl_batch_size", "Jobs in one batch.", ["stage"], registry=REGISTRY, buckets=SIZES
)
JOBS_AT_WORK = Gauge("sigctl_jobs_at_work", "Jobs that are being worked on.", registry=REGISTRY)
RETRIES = Counter(
    "sigctl_retries",
    "Tries that failed and will be repeated, by the reason.",
    ["code"],
    registry=REGISTRY,
)
REDELIVERIES = Counter(
    "sigctl_redeliveries",
    "Messages that came again because the worker that had taken them was lost.",
    registry=REGISTRY,
)
MODEL = Info("sigctl_model", "The model that decides here.", registry=REGISTRY)
READY = Gauge(
    "sigctl_part_ready", "Whether a part can be used: 1 or 0.", ["part"], registry=REGISTRY
)
QUEUE_MESSAGES = Gauge(
    "sigctl_queue_messages",
    "Messages that no worker has taken yet.",
    ["queue", "priority"],
    registry=REGISTRY,
)
MESSAGES_HELD = Gauge(
    "sigctl_messages_held",
    "Messages that workers have taken and not finished.",
    registry=REGISTRY,
)
MESSAGES_LATER = Gauge(
    "sigctl_messages_later", "Messages that wait to be tried again.", registry=REGISTRY
)
QUEUE_AGE = Gauge(
    "sigctl_queue_age_seconds",
    "How long ago the oldest undecided job was submitted; 0 when there is none.",
    registry=REGISTRY,
)

# A rate needs a zero to begin from, and the first poisoned job is one to hear of.
for _labels in ((ACCEPT, ""), (REJECT, ""), (REVIEW, ""), (ERROR, "poison")):
    JOBS.labels(*_labels)


def ended(outcome: Outcome) -> None:
    """Count a job that came to an end."""
    JOBS.labels(outcome.verdict, outcome.error_code or "").inc()
    if outcome.total_ms is not None:
        JOB_SECONDS.observe(outcome.total_ms / 1000)


@contextmanager
def batch(stage: str, size: int) -> Iterator[None]:
    """Measure one batch; one that fails counts as well."""
    began = perf_counter()
    try:
        yield
    finally:
        BATCH_SIZE.labels(stage).observe(size)
        BATCH_SECONDS.labels(stage).observe(perf_counter() - began)


def loaded(embedder: Embedder) -> None:
    """Say which model decides."""
    MODEL.info(
        {
            "model": embedder.model_id,
            "engine": embedder.engine.name,
            "preprocessing": embedder.preprocessing.label,
        }
    )


def exposition() -> bytes:
    """All of it as text for Prometheus."""
    # A time of birth beside each series would double them.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return generate_latest(REGISTRY)
