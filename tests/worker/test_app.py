from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import worker.app
from worker.app import make_app, worker_arguments
from worker.errors import NoBroker
from worker.settings import Settings

BROKER = "redis://127.0.0.1:1/0"


def test_only_json_is_accepted_and_a_message_is_acknowledged_when_it_is_done() -> None:
    conf = make_app(Settings(broker_url=BROKER)).conf
    assert conf.accept_content == ["json"]
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert conf.task_ignore_result
    assert not conf.worker_hijack_root_logger


def test_every_process_has_the_same_visibility_timeout() -> None:
    settings = Settings(broker_url=BROKER, visibility_timeout=500)
    options = make_app(settings).conf.broker_transport_options
    assert options["visibility_timeout"] == 500
    assert (options["unacked_restore_interval"], options["unacked_restore_throttle"]) == (1, 1)


def test_time_limits_are_set_where_the_pool_can_enforce_them() -> None:
    prefork = make_app(Settings(broker_url=BROKER, pool="prefork", job_timeout=100)).conf
    assert (prefork.task_time_limit, prefork.task_soft_time_limit) == (100, 90)
    assert make_app(Settings(broker_url=BROKER)).conf.task_time_limit is None


def test_there_is_one_application_for_the_same_settings() -> None:
    assert make_app(Settings(broker_url=BROKER)) is make_app(Settings(broker_url=BROKER))


def test_making_an_application_leaves_the_current_one_alone() -> None:
    from celery import current_app

    before = current_app._get_current_object()
    make_app(Settings(broker_url=BROKER, queue="another"))
    assert current_app._get_current_object() is before


def test_without_a_broker_there_is_no_application() -> None:
    with pytest.raises(NoBroker, match="SIGCTL_BROKER_URL"):
        make_app(Settings())


def test_the_module_has_no_other_attributes_made_up_on_demand() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = worker.app.nonsense


def test_the_worker_takes_everything_else_from_the_configuration() -> None:
    arguments = worker_arguments(Settings(log_level="warning", queue="q", work="train,verify"))
    assert arguments[-4:] == ["--loglevel", "warning", "--queues", "sigctl.train,q"]


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"SIGCTL_BROKER_URL": BROKER, "SIGCTL_POOL": "x"}, "SIGCTL_POOL must be one of"),
        ({}, "No broker is configured: set SIGCTL_BROKER_URL"),
    ],
)
def test_celery_is_told_what_is_wrong_in_a_sentence(
    env: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    clean = {name: v for name, v in os.environ.items() if not name.startswith("SIGCTL_")}
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.app", "report"],
        env=clean | env | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_beat_goes_on_after_a_clock_was_wrong() -> None:
    app = make_app(Settings(broker_url=BROKER, requeue_after=600))
    every = app.conf.beat_schedule["requeue"]["schedule"]
    every.app = app
    now = every.now()
    assert every.is_due(now + timedelta(hours=1)) == (True, 300)
    assert every.is_due(now - timedelta(seconds=301)) == (True, 300)
    due, seconds = every.is_due(now)
    assert not due
    assert seconds == pytest.approx(300, abs=5)
