from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from worker import metrics
from worker.stopwatch import Stopwatch


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0


def outcome(**fields: Any) -> Any:
    return SimpleNamespace(**{"verdict": "accept", "error_code": None, "total_ms": 20.0} | fields)


def test_a_job_that_ended_is_counted_with_its_time_in_seconds() -> None:
    jobs = value("sigctl_jobs_total", verdict="accept", code="")
    spent = value("sigctl_job_seconds_sum")
    metrics.ended(outcome())
    assert value("sigctl_jobs_total", verdict="accept", code="") == jobs + 1
    assert value("sigctl_job_seconds_sum") == pytest.approx(spent + 0.02)


def test_a_failure_is_counted_under_its_code_even_without_a_time() -> None:
    labels = {"verdict": "error", "code": "blank_image"}
    before, timed = value("sigctl_jobs_total", **labels), value("sigctl_job_seconds_count")
    metrics.ended(outcome(verdict="error", error_code="blank_image", total_ms=None))
    assert value("sigctl_jobs_total", **labels) == before + 1
    assert value("sigctl_job_seconds_count") == timed


def test_a_batch_that_fails_is_measured_all_the_same() -> None:
    sizes = value("sigctl_batch_size_sum", stage="decide")
    count = value("sigctl_batch_seconds_count", stage="decide")
    with pytest.raises(RuntimeError), metrics.batch("decide", 5):
        raise RuntimeError
    assert value("sigctl_batch_size_sum", stage="decide") == sizes + 5
    assert value("sigctl_batch_seconds_count", stage="decide") == count + 1


def test_a_stage_of_the_record_is_a_stage_of_the_metrics() -> None:
    before = value("sigctl_stage_seconds_sum", stage="fetch")
    watch = Stopwatch()
    with watch.stage("fetch"):
        pass
    spent = value("sigctl_stage_seconds_sum", stage="fetch") - before
    assert spent == pytest.approx(watch.columns()["fetch_ms"] / 1000)


def test_what_is_rare_is_there_from_the_beginning() -> None:
    text = metrics.exposition().decode()
    (family,) = [f for f in text_string_to_metric_families(text) if f.name == "sigctl_jobs"]
    labels = [sample.labels for sample in family.samples]
    assert {"verdict": "error", "code": "poison"} in labels
    assert not [name for name in text.splitlines() if "_created" in name]


def test_a_program_that_only_submits_keeps_its_own_registry() -> None:
    from prometheus_client import REGISTRY

    assert not [name for name in REGISTRY._names_to_collectors if name.startswith("sigctl")]
