from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from model.errors import CheckpointNotFound
from storage import decisions, jobs
from storage.database import Sessions
from storage.errors import DatabaseUnavailable, StoreUnavailable
from tests.fakes import FakeEmbedder, Trouble, ink
from tests.worker.conftest import Desk, enrol_ada, give
from worker.delivery import Again, deliver, pause
from worker.pipeline import Outcome
from worker.runtime import Runtime
from worker.settings import Settings


@pytest.fixture
def runtime(sqlite_url: str, desk: Desk, embedder: FakeEmbedder) -> Iterator[Runtime]:
    """The parts of a worker on SQLite, with ada enrolled at angle 0."""
    settings = Settings(
        database_url=sqlite_url, store=desk.store.as_uri(), roots=(desk.inbox,), max_retries=2
    )
    made = Runtime(settings)
    enrol_ada(made, embedder)
    yield made
    made.close()


def message(document: str, **fields: Any) -> dict[str, Any]:
    return {"job_id": "j1", "signer_id": "ada", "document": document, **fields}


def decided(runtime: Runtime, job_id: str = "j1") -> str | None:
    """The recorded error code or verdict of a job."""
    sessions: Sessions = runtime.sessions
    with sessions() as session:
        decision = decisions.get(session, job_id)
        return None if decision is None else decision.error_code or decision.verdict


def test_a_good_message_is_decided(runtime: Runtime, desk: Desk) -> None:
    outcome = deliver(message(desk.put("a.png", ink(0))), runtime, retries=0)
    assert isinstance(outcome, Outcome)
    assert decided(runtime) == "accept"


@pytest.mark.parametrize(
    "fields",
    [
        {"colour": 1},
        {"page": "first"},
        {"document": None},
        {"document": ["a", {"b": 1}]},
        {"document": "\ud800\0"},
        {"signer_id": 7},
        {"signer_id": "../x"},
        {"metadata": "text"},
    ],
)
def test_a_message_that_is_no_request_is_recorded_under_its_job_id(
    runtime: Runtime, fields: dict[str, Any]
) -> None:
    outcome = deliver(message("s3://b/k") | fields, runtime, retries=0)
    assert isinstance(outcome, Outcome)
    assert decided(runtime) == "invalid_message"


@pytest.mark.parametrize(
    "document", ["s3://id:hush@scans/a.png", "https://scans/a.png?X-Amz-Signature=hush"]
)
def test_a_password_in_a_document_s_uri_is_neither_recorded_nor_logged(
    runtime: Runtime, document: str, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = deliver(message(document), runtime, retries=0)
    assert isinstance(outcome, Outcome)
    assert outcome.error_code == "invalid_message"
    with runtime.sessions() as session:
        kept = [jobs.get(session, "j1").document, outcome.document, str(outcome.error_message)]
    assert "scans/a.png" in kept[0]
    assert "hush" not in "".join(kept) + caplog.text


@pytest.mark.parametrize("job_id", [None, "", 7, "a\nb", ["x"]])
def test_a_message_without_a_usable_job_id_is_dropped(runtime: Runtime, job_id: Any) -> None:
    assert deliver(message("s3://b/k") | {"job_id": job_id}, runtime, retries=0) is None


def test_a_message_whose_job_id_stands_for_another_question_is_dropped(
    runtime: Runtime, desk: Desk
) -> None:
    deliver(message(desk.put("a.png", ink(0))), runtime, retries=0)
    assert deliver(message(desk.put("b.png", ink(2))), runtime, retries=0) is None
    assert deliver(message("nonsense"), runtime, retries=0) is None
    assert decided(runtime) == "accept"


@pytest.mark.parametrize(
    "forged",
    [
        {"signer_id": "bob"},
        {"document": "file:///etc/passwd"},
        {"page": 2},
        {"region": [0, 0, 5, 5]},
        {"page": "no page"},
        {"colour": "red"},
    ],
    ids=repr,
)
def test_a_forged_job_id_neither_reads_nor_replaces_the_decision_of_another(
    runtime: Runtime, desk: Desk, forged: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    asked = message(desk.put("a.png", ink(0)))
    standing = deliver(asked, runtime, retries=0)
    with runtime.sessions() as session:
        before = decisions.get(session, "j1").__dict__.copy()
    answer = deliver(asked | forged, runtime, retries=0)
    # A message that is no request asks nothing else, so what stands is its answer.
    assert answer is None or (answer == standing and forged.keys() <= {"page", "colour"})
    with runtime.sessions() as session:
        after = decisions.get(session, "j1").__dict__.copy()
    for row in (before, after):
        row.pop("_sa_instance_state")
    assert after == before


def test_a_replay_with_other_metadata_changes_nothing(runtime: Runtime, desk: Desk) -> None:
    asked = message(desk.put("a.png", ink(0)), metadata={"branch": 12})
    standing = deliver(asked, runtime, retries=0)
    again = deliver(asked | {"metadata": {"branch": 13, "approved": True}}, runtime, retries=0)
    assert again == standing
    with runtime.sessions() as session:
        decision = decisions.get(session, "j1")
        assert decision is not None
        assert decision.upstream == {"branch": 12}
        assert jobs.get(session, "j1").upstream == {"branch": 12}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailable("the store does not answer"), "store_unavailable"),
        (RuntimeError("a bug"), "internal_error"),
        (MemoryError(), "internal_error"),
    ],
)
def test_what_may_pass_is_tried_again_and_then_recorded_as_an_error(
    runtime: Runtime, desk: Desk, error: Exception, code: str
) -> None:
    runtime._images = Trouble(desk.images, *[error] * 10)  # type: ignore[assignment]
    asked = message(desk.put("a.png", ink(0)))
    for retries in (0, 1):
        again = deliver(asked, runtime, retries=retries)
        assert isinstance(again, Again)
        assert again.counted
        assert decided(runtime) is None
    outcome = deliver(asked, runtime, retries=2)
    assert isinstance(outcome, Outcome)
    assert decided(runtime) == code
    assert "bug" not in str(outcome.error_message)


def test_a_model_that_cannot_be_loaded_is_no_fault_of_the_document(
    runtime: Runtime, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoModel(Runtime):
        @property
        def embedder(self) -> Any:
            raise CheckpointNotFound("There is no checkpoint x.pt.")

    broken = NoModel(runtime.settings)
    asked = message(desk.put("a.png", ink(0)))
    assert isinstance(deliver(asked, broken, retries=0), Again)
    deliver(asked, broken, retries=2)
    assert decided(runtime) == "checkpoint_error"
    broken.close()


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/none", "sqlite://"])
def test_while_nothing_can_be_recorded_every_message_is_kept(
    runtime: Runtime, desk: Desk, url: str
) -> None:
    away = Runtime(runtime.settings.model_copy(update={"database_url": url}))
    give(away, runtime.embedder)
    for asked in (message(desk.put("a.png", ink(0))), message("nonsense")):
        again = deliver(asked, away, retries=99)
        assert isinstance(again, Again)
        assert not again.counted
        assert 0 < again.delay <= away.settings.retry_delay_max
    away.close()


def test_an_outage_between_the_stages_costs_no_try(runtime: Runtime, desk: Desk) -> None:
    runtime._images = Trouble(  # type: ignore[assignment]
        desk.images, DatabaseUnavailable("gone")
    )
    asked = message(desk.put("a.png", ink(0)))
    again = deliver(asked, runtime, retries=2)
    assert isinstance(again, Again)
    assert not again.counted
    with runtime.sessions() as session:
        assert jobs.get(session, "j1").deliveries == 0


def test_pauses_grow_and_are_spread_and_bounded() -> None:
    settings = Settings(retry_delay=2, retry_delay_max=10)
    for retries, bound in [(0, 2), (1, 4), (2, 8), (3, 10), (500, 10)]:
        pauses = [pause(settings, retries) for _ in range(300)]
        assert 0 <= min(pauses) < 0.2 * bound
        assert 0.8 * bound < max(pauses) <= bound
