"""The Celery application. `celery -A worker.app worker` finds it here as `app`.

Importing this module reads nothing; the application is made from the environment when `app`
is first asked for.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from celery import Celery
from kombu.entity import Queue

from worker import beat
from worker.errors import NoBroker
from worker.settings import Settings, SettingsError, load_settings

NAME = "sigctl"
# Redis keeps one list for each step; 0 is taken first, and is what a bare message has.
PRIORITIES = {"interactive": 0, "bulk": 9}
CONNECT_SECONDS = 5
SILENT_SECONDS = 10


@cache
def make_app(settings: Settings) -> Celery:
    """The application for these settings, made once. Raises NoBroker when none is configured."""
    if settings.broker_url is None:
        raise NoBroker(
            "No broker is configured: set SIGCTL_BROKER_URL, for example redis://localhost:6379/0."
        )
    app = Celery(NAME, set_as_current=False, include=["worker.tasks"])
    app.conf.update(_configuration(settings))
    return app


def worker_arguments(settings: Settings) -> list[str]:
    """Arguments for `make_app(settings).worker_main(...)`; all else is in the configuration."""
    lists = queues(settings)
    return [
        # The banner is no line of a log.
        *(("--quiet",) if settings.log_format == "json" else ()),
        # Nobody listens to a heart that beats over the broker, and while a broker hangs each beat
        # would hold up the loop. `worker.pulse` is what the probes feel.
        *("worker", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        *("--loglevel", settings.log_level),
        *("--queues", ",".join(lists[kind] for kind in settings.work)),
    ]


def queues(settings: Settings) -> dict[str, str]:
    """The Redis list of each kind of work."""
    return {"verify": settings.queue, "enrol": "sigctl.enrol", "train": "sigctl.train"}


def _configuration(settings: Settings) -> dict[str, Any]:
    limited = settings.pool == "prefork"  # threads cannot be interrupted
    lists = queues(settings)
    return {
        "broker_url": verified(settings.broker_url or ""),
        "broker_transport": "worker.broker:Transport",
        "broker_transport_options": transport_options(settings),
        "broker_connection_timeout": CONNECT_SECONDS,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_default_queue": settings.queue,
        "task_queues": [Queue(name) for name in lists.values()],  # type: ignore[no-untyped-call]
        "task_routes": {f"sigctl.{kind}*": {"queue": lists[kind]} for kind in ("enrol", "train")},
        "task_default_priority": PRIORITIES["interactive"],
        "task_serializer": "json",
        "accept_content": ["json"],
        # The decision row is the result. A result backend that is away would turn finished
        # tasks into failed ones.
        "task_ignore_result": True,
        # Acknowledged when done, redelivered when the worker dies; the job's row counts how
        # often, because Celery would redeliver a document that kills its worker for ever.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_pool": settings.pool,
        "worker_concurrency": settings.concurrency,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "task_time_limit": settings.job_timeout if limited else None,
        "task_soft_time_limit": 0.9 * settings.job_timeout if limited else None,
        **beat.configuration(settings),
    }


def verified(url: str) -> str:
    """The broker's URL; over TLS the certificate is required unless the URL says otherwise.

    Kombu takes `rediss://` without any option of TLS for plain Redis.

    >>> verified("rediss://host:6379/0")
    'rediss://host:6379/0?ssl_cert_reqs=required'
    """
    if not url.startswith("rediss:") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


def transport_options(settings: Settings) -> dict[str, Any]:
    """The same for every process on this Redis database, which judges every lease by them."""
    return {
        "visibility_timeout": settings.visibility_timeout,
        # Look every second for messages of workers that died; the default is every 100 s.
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "priority_steps": sorted(PRIORITIES.values()),
        "queue_order_strategy": "priority",
        "socket_connect_timeout": CONNECT_SECONDS,
        # A Redis that hangs instead of going away would hold the loop for ever.
        "socket_timeout": SILENT_SECONDS,
        "socket_keepalive": True,
    }


def __getattr__(name: str) -> Celery:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return make_app(load_settings())
    except (SettingsError, NoBroker) as error:
        raise SystemExit(str(error)) from None
