"""The storm of `make chaos`, shorter: real servers, real workers, real faults."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.chaos import SHORT, SHORT_DISK, Count, Plan, markdown, run
from bench.documents import Corpus, corpus
from bench.outages import small_disk
from bench.upstream import questions

# The rest, above all the loss of Redis's memory, takes a minute more.
BRIEF = Plan(jobs=60, seconds=6, kills=1, redis_restarts=1, pause=1.5, patient=False)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # Connections of the sender that a server tore down are what the storm is about.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus(None, tmp_path_factory.mktemp("signers") / "generated", signers=3)


def check(count: Count, logs: Path) -> None:
    told = f"{markdown({'': count})}\nlogs: {logs}"
    assert not count.lost, told
    assert not count.twice, told
    assert not count.wrong, told
    assert not count.broken, told
    assert count.decided + sum(count.failed.values()) == count.jobs


def test_a_killed_worker_and_a_restarted_broker_lose_no_job_and_change_no_decision(
    signers: Corpus, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    count = run(BRIEF, signers, tiny_checkpoint, seed=7, logs=tmp_path)
    check(count, tmp_path)
    assert count.acts == {"worker killed": 1, "Redis restarted": 1}
    assert sum(count.read_faults.values()) > 0
    assert count.messages > count.jobs


@pytest.mark.long
def test_whatever_plug_is_pulled_every_job_is_decided_once_as_in_a_calm_run(
    signers: Corpus, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    count = run(SHORT, signers, tiny_checkpoint, seed=7, logs=tmp_path)
    check(count, tmp_path)
    assert count.acts["worker killed"] == SHORT.kills
    assert count.acts["Redis restarted without its memory"] == 1
    assert count.acts["PostgreSQL restarted"] == 1
    assert sum(count.read_faults.values()) > 0
    assert count.messages > count.jobs


@pytest.mark.long
def test_a_full_disk_under_sqlite_loses_no_job(
    signers: Corpus, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    with small_disk() as disk:
        if disk is None:
            pytest.skip("only root may mount a small disk to fill")
        count = run(SHORT_DISK, signers, tiny_checkpoint, seed=7, disk=disk, logs=tmp_path)
    check(count, tmp_path)
    assert count.acts == {"disk filled": 1}


def test_some_jobs_are_sent_without_a_row_and_some_several_times() -> None:
    asked = questions([("ada", "a"), ("bo", "b")], 500, "job-", random.Random(1))
    assert 50 < sum(question.bare for question in asked) < 150
    assert 25 < sum(question.times > 1 for question in asked) < 100
    assert len({question.job_id for question in asked}) == 500


def test_a_lost_or_wrong_job_is_told_and_is_no_success() -> None:
    good = Count(
        jobs=3,
        messages=3,
        decided=3,
        failed={},
        lost=(),
        twice=(),
        wrong={},
        broken=(),
        median_delay=1,
        longest_delay=2,
        second_runs=0,
        redelivered=0,
        read_faults={},
        acts={},
    )
    assert good.good
    changes = ({"lost": ("a",)}, {"twice": ("a",)}, {"wrong": {"a": "no"}}, {"broken": ("a",)})
    for change in changes:
        bad = Count(**good.__dict__ | change)
        assert not bad.good
        assert "**1** (a" in markdown({"PostgreSQL": bad})
