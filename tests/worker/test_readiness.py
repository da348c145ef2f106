from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from storage.database import Sessions
from storage.errors import DatabaseNotMigrated, StoreUnavailable
from worker import metrics, readiness
from worker.readiness import Watch

PATIENCE = 30.0


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "EVERY", 0.01)


@pytest.fixture
def watch() -> Iterator[Callable[[Callable[[], None]], Watch]]:
    made: list[Watch] = []

    def make(look: Callable[[], None]) -> Watch:
        made.append(Watch("store", look))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def becomes(watch: Watch, fault: str | None) -> None:
    deadline = time.monotonic() + PATIENCE
    while watch.fault() != fault:
        assert time.monotonic() < deadline, watch.fault()
        time.sleep(0.01)


def test_a_part_that_goes_away_and_comes_back_is_told(
    watch: Callable[[Callable[[], None]], Watch],
) -> None:
    away = threading.Event()

    def look() -> None:
        if away.is_set():
            raise StoreUnavailable("http://10.0.0.7:9000 refuses, and the key was hunter2")

    made = watch(look)
    becomes(made, None)
    assert ready() == 1
    away.set()
    becomes(made, "The store cannot be used (store_unavailable).")
    assert ready() == 0
    away.clear()
    becomes(made, None)


def ready() -> float | None:
    return metrics.REGISTRY.get_sample_value("sigctl_part_ready", {"part": "store"})


def test_a_look_that_does_not_come_back_is_an_answer(
    watch: Callable[[Callable[[], None]], Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "SILENCE", 0.1)
    go = threading.Event()
    made = watch(lambda: assert_true(go.wait(PATIENCE)))
    assert made.fault() == "The store has not been looked at yet."
    becomes(made, "The store has not answered for 0 s.")
    go.set()
    becomes(made, None)


def assert_true(value: bool) -> None:
    assert value


def test_a_database_with_another_schema_is_not_ready(sessions: Sessions) -> None:
    look = readiness._database(sessions)
    look()
    with sessions.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseNotMigrated, match="revision 9999"):
        look()
