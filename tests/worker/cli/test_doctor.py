"""`sigctl doctor` finds each fault and says what to do about it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import load_checkpoint, save_checkpoint
from storage import models
from tests.builders import a_model, digest
from tests.conftest import Bucket
from tests.worker.cli.conftest import Done, Sigctl
from worker.cli import doctor, live, opening
from worker.cli.doctor import Finding, State
from worker.cli.exits import Exit
from worker.queues import Backlog
from worker.status import Status


def part(done: Done, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {check["part"]: check for check in done.json["checks"]}[name]
    return found


def test_an_untouched_installation_has_no_fault(sigctl: Sigctl, here: Path) -> None:
    done = sigctl("doctor")
    assert done.code == 0
    assert "No fault." in done.out
    assert "does not exist yet" in done.text
    assert max(map(len, done.out.splitlines())) <= 100
    assert not (here / "sigctl.db").exists()


def test_what_is_well_is_said_in_json_too(sigctl: Sigctl, enrolled: str) -> None:
    done = sigctl("doctor", "--json")
    assert done.code == 0
    assert done.json["healthy"] is True
    states = {check["part"]: check["state"] for check in done.json["checks"]}
    assert states == {
        "settings": "ok",
        "model": "ok",
        "database": "ok",
        "chain": "warning",
        "references": "ok",
        "jobs": "ok",
        "store": "ok",
        "buckets": "skipped",
        "broker": "skipped",
    }


def test_a_connection_that_others_can_read_is_a_warning(
    sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_S3_ENDPOINT", "http://s3.example:9000")
    found = part(sigctl("doctor", "--json", "--no-load"), "encryption")
    assert found["state"] == "warning"
    assert found["found"].startswith("Documents cross the network from s3.example unencrypted")


def test_the_operating_point_is_told(
    sigctl: Sigctl, banded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "operating point 1%" in part(sigctl("doctor", "--json"), "model")["found"]
    monkeypatch.setenv("SIGCTL_FAR", "balanced")
    assert "balanced, without review," in part(sigctl("doctor", "--json"), "model")["found"]


def test_a_model_without_operating_points_is_told(sigctl: Sigctl, here: Path) -> None:
    found = part(sigctl("doctor", "--json"), "model")["found"]
    assert "without review (the model has no operating points)" in found


def test_an_operating_point_that_the_model_lacks_is_a_fault(
    sigctl: Sigctl, banded: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_checkpoint(banded)
    scoring = replace(whole.scoring, accept={"5%": {1: 0.0}})
    save_checkpoint(here / "some.pt", replace(whole, scoring=scoring))
    monkeypatch.setenv("SIGCTL_CHECKPOINT", "some.pt")
    done = sigctl("doctor", "--json")
    assert done.code == Exit.SETUP
    assert "no operating point 1%" in part(done, "model")["found"]


def test_settings_are_shown_with_secrets_masked(
    sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_S3_ACCESS_KEY", "key")
    monkeypatch.setenv("SIGCTL_S3_SECRET_KEY", "hunter2")
    done = sigctl("doctor", "--settings", "--no-load")
    assert "SIGCTL_S3_SECRET_KEY" in done.out
    assert "hunter2" not in done.out


def test_a_wrong_setting_is_a_finding(sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGCTL_POOL", "gevent")
    done = sigctl("doctor", "--json")
    assert done.code == Exit.SETUP
    assert "SIGCTL_POOL must be one of" in part(done, "settings")["found"]


@pytest.mark.parametrize("load", ["--load", "--no-load"])
def test_a_missing_checkpoint_is_a_fault_with_a_remedy(
    sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch, load: str
) -> None:
    monkeypatch.setenv("SIGCTL_CHECKPOINT", "nowhere.pt")
    done = sigctl("doctor", load, "--json")
    assert done.code == Exit.SETUP
    model = part(done, "model")
    assert model["state"] == "fault"
    assert "nowhere.pt" in model["found"]
    assert "SIGCTL_CHECKPOINT" in model["remedy"]
    assert part(done, "references")["state"] == "skipped"


def test_a_database_that_is_away_is_a_fault_and_nothing_else_is_asked_of_it(
    sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_DATABASE_URL", "postgresql://a:secret@127.0.0.1:1/x")
    done = sigctl("doctor", "--no-load", "--json")
    assert done.code == Exit.UNAVAILABLE
    assert part(done, "database")["state"] == "fault"
    assert part(done, "jobs")["state"] == "skipped"
    assert "secret" not in done.out


def test_a_database_that_was_not_migrated_is_a_fault(
    sigctl: Sigctl, empty_sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_DATABASE_URL", empty_sqlite_url)
    done = sigctl("doctor", "--no-load", "--json")
    assert done.code == Exit.SETUP
    assert "sigctl db upgrade" in part(done, "database")["remedy"]


def test_a_broker_that_is_away_is_a_fault(sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGCTL_BROKER_URL", "redis://:secret@127.0.0.1:1/0")
    done = sigctl("doctor", "--no-load", "--json")
    assert done.code == Exit.UNAVAILABLE
    assert part(done, "broker")["state"] == "fault"
    assert "SIGCTL_BROKER_URL" in part(done, "broker")["remedy"]
    assert "secret" not in done.out


def test_a_broker_without_a_worker_is_a_warning(
    sigctl: Sigctl, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_BROKER_URL", redis_url)
    done = sigctl("doctor", "--no-load", "--json")
    assert done.code == 0
    assert part(done, "broker")["state"] == "warning"
    assert "sigctl worker" in part(done, "broker")["remedy"]


def test_asking_running_workers_needs_a_broker(
    sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = sigctl("doctor", "--live")
    assert done.code == Exit.SETUP
    assert "No broker is configured" in done.err
    monkeypatch.setenv("SIGCTL_BROKER_URL", "redis://:secret@127.0.0.1:1/0")
    away = sigctl("doctor", "--live")
    assert away.code == Exit.UNAVAILABLE
    assert "secret" not in away.err


def test_where_no_worker_answers_the_queues_and_jobs_are_told_all_the_same(
    sigctl: Sigctl, enrolled: str, stranger: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_BROKER_URL", redis_url)
    assert "All jobs are decided." in sigctl("doctor", "--live").out
    sigctl("submit", enrolled, stranger)
    done = sigctl("doctor", "--live")
    assert done.code == Exit.UNAVAILABLE
    assert "No worker answers: start one with `sigctl worker`" in done.text
    assert "The oldest undecided job was submitted" in done.text
    waiting = [line.split() for line in done.out.splitlines() if "sigctl.verify" in line]
    assert ["sigctl.verify", "interactive", "1"] in waiting


def test_running_workers_are_told_in_a_table_with_what_is_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    some = [
        Status(name="celery@a", pool="threads", at_work=3, model="a" * 64, engine="PyTorch"),
        Status(name="celery@b", pool="prefork", at_work=0, fault="The loop has stood still."),
        Status(name="celery@c", pool="threads", at_work=0, model="b" * 64, engine="OpenVINO"),
    ]
    jobs = live.Jobs(oldest=61.0, quiet=2, failed=7)
    warnings = list(live._warnings(some, jobs))
    live._tell(
        some, Backlog(waiting={("sigctl.verify", "bulk"): 5}, held=4, later=6), jobs, warnings
    )
    out = " ".join(capsys.readouterr().out.split())
    assert f"celery@a {'a' * 12} PyTorch threads 3" in out
    assert "celery@b: The loop has stood still." in out
    assert "The workers use 2 models" in out
    assert "2 undecided jobs have not been heard of for ten minutes" in out
    assert "submitted 61 s ago" in out
    assert "Held by workers: 4. To be tried again later: 6." in out


def test_stores_and_buckets_on_a_server_are_tried(
    sigctl: Sigctl, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = s3.config.secret_key
    monkeypatch.setenv("SIGCTL_S3_ENDPOINT", s3.config.endpoint or "")
    monkeypatch.setenv("SIGCTL_S3_ACCESS_KEY", s3.config.access_key or "")
    monkeypatch.setenv("SIGCTL_S3_SECRET_KEY", secret or "")
    monkeypatch.setenv("SIGCTL_STORE", f"s3://{s3.bucket}/enrolled")
    monkeypatch.setenv("SIGCTL_BUCKETS", s3.bucket)
    done = sigctl("doctor", "--no-load", "--json")
    assert done.code == 0
    assert (part(done, "store")["state"], part(done, "buckets")["state"]) == ("ok", "ok")
    monkeypatch.setenv("SIGCTL_BUCKETS", "no-such-bucket")
    wrong = sigctl("doctor", "--no-load", "--json")
    assert wrong.code != 0
    assert part(wrong, "buckets")["state"] == "fault"


def test_a_store_that_is_away_is_a_fault(sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGCTL_S3_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("SIGCTL_S3_ACCESS_KEY", "key")
    monkeypatch.setenv("SIGCTL_S3_SECRET_KEY", "secret")
    monkeypatch.setenv("SIGCTL_STORE", "s3://signatures")
    done = sigctl("doctor", "--no-load")
    assert done.code == Exit.UNAVAILABLE
    assert "store: Check SIGCTL_STORE" in done.text


def test_a_model_that_has_not_seen_the_references_is_a_warning(
    sigctl: Sigctl, enrolled: str
) -> None:
    with opening.transaction() as session:
        models.activate(session, a_model(session, digest("newer")).id, now=True)
    done = sigctl("doctor", "--no-load", "--json")
    assert done.code == 0
    found = part(done, "references")
    assert found["state"] == "warning"
    assert found["found"].startswith("0 of 1 signers")


def test_a_model_of_the_settings_that_does_not_decide_is_told(
    sigctl: Sigctl, enrolled: str, newer_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_CHECKPOINT", str(newer_checkpoint))
    found = part(sigctl("doctor", "--json"), "model")["found"]
    assert f"names another one, {newer_checkpoint}, which does not decide" in found


def test_a_check_that_hangs_is_given_up(here: Path) -> None:
    from worker.settings import load_settings

    def hang(_: object) -> Finding:
        time.sleep(30)
        raise AssertionError

    began = time.monotonic()
    found = doctor._timed("broker", hang, load_settings(), patience=0.1)
    assert time.monotonic() - began < 5
    assert (found.state, found.exit) == (State.FAULT, Exit.UNAVAILABLE)
    assert "no answer within" in found.found
