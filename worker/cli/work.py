"""`sigctl worker`: the Celery worker, in this process."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import opening

if TYPE_CHECKING:
    from celery import Celery

    from worker.settings import Settings

REACH_SECONDS = 3


class Pool(StrEnum):
    """Celery's pools that are supported."""

    THREADS = "threads"
    SOLO = "solo"
    PREFORK = "prefork"


class Level(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def worker(
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Jobs at a time; else SIGCTL_CONCURRENCY.")
    ] = None,
    pool: Annotated[
        Pool | None, typer.Option(help="Never prefork with a GPU; else SIGCTL_POOL.")
    ] = None,
    loglevel: Annotated[
        Level | None, typer.Option(help="How much is logged; else SIGCTL_LOG_LEVEL.")
    ] = None,
    work: Annotated[
        str | None,
        typer.Option(metavar="KINDS", help="Queues: verify, enrol, train; else SIGCTL_WORK."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="This worker's name, where several share a machine.")
    ] = None,
    beat: Annotated[
        bool, typer.Option("--beat", help="Also requeue forgotten jobs; for one worker of all.")
    ] = False,
) -> None:
    """Work off the queue until stopped.

    Ctrl-C or SIGTERM stops it once the documents at work are decided. A second Ctrl-C, or SIGQUIT,
    stops it at once, and those documents are delivered again.
    """
    _set({"CONCURRENCY": concurrency, "POOL": pool, "LOG_LEVEL": loglevel, "WORK": work})
    settings = opening.settings(logs=None)
    app = _checked(settings)

    from worker.app import worker_arguments

    arguments = worker_arguments(settings)
    arguments += [] if name is None else ["--hostname", f"{name}@%h"]
    if beat:
        from worker.beat import BeatStep

        app.steps["worker"].add(BeatStep)
    app.worker_main(arguments)


def reach(app: Celery, where: str) -> None:
    """Raise BrokerUnavailable unless the broker answers within seconds."""
    from kombu.exceptions import OperationalError

    from worker.errors import BrokerUnavailable

    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=REACH_SECONDS)
    except (OperationalError, OSError) as error:
        raise BrokerUnavailable(
            f"The broker {where} does not answer ({error}); check SIGCTL_BROKER_URL and that "
            "Redis runs."
        ) from error


def _set(options: dict[str, object]) -> None:
    """Options become settings of this process, which the tasks read again, in children too."""
    for name, value in options.items():
        if value is not None:
            os.environ[f"SIGCTL_{name}"] = str(value)


def _checked(settings: Settings) -> Celery:
    """The Celery application, once everything is there without which each job would fail."""
    from worker.app import make_app
    from worker.settings import mask_url
    from worker.tasks import refuse_cuda_in_children
    from worker.transactions import check_model, transaction

    app = make_app(settings)
    runtime = opening.runtime(settings)
    reach(app, mask_url(settings.broker_url or ""))
    if settings.pool == "prefork":
        refuse_cuda_in_children(settings.device)
        runtime.models.check_file()
    else:
        # Loaded once, before the first job waits for it.
        with transaction(runtime.sessions) as session:
            check_model(session, runtime.embedder)
    return app
