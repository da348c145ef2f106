from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import asin, pi, sin
from typing import Any

import pytest
from sqlalchemy import event, func, select

from model.errors import BlankImage
from model.scoring import Scoring
from storage import decisions, jobs, references, signers
from storage.database import Sessions
from storage.errors import DatabaseUnavailable, JobConflict, ModelChanged, StoreUnavailable
from storage.reference_cache import ReferenceCache
from storage.tables import Decision, Job
from tests.fakes import BLANK, INKED, FakeEmbedder, Trouble, ink
from tests.worker.conftest import Desk, make_active
from worker.enrolment import enroll
from worker.ledger import Ledger
from worker.messages import VerifyRequest
from worker.pipeline import Outcome, fail, verify
from worker.stages import Stages, together

Verify = Callable[..., Outcome]


@pytest.fixture
def run(sessions: Sessions, desk: Desk, embedder: FakeEmbedder) -> Verify:
    """`verify` with the usual collaborators, of which a test replaces those it is about."""

    def call(request: VerifyRequest, **other: Any) -> Outcome:
        usual = {"sessions": sessions, "images": desk.images, "embedder": embedder}
        return verify(request, **usual | other)

    return call


@pytest.fixture
def ada(sessions: Sessions, desk: Desk, embedder: FakeEmbedder) -> str:
    """A signer with references at angles 0 and 0.2."""
    specimens = [("first.png", ink(0)), ("second.png", ink(0.2))]
    enroll("ada", specimens, sessions=sessions, images=desk.images, embedder=embedder)
    return "ada"


def asked(document: str, **fields: Any) -> VerifyRequest:
    usual: dict[str, Any] = {"job_id": "j1", "signer_id": "ada"}
    return VerifyRequest(document=document, **usual | fields)


def job_of(sessions: Sessions, job_id: str = "j1") -> Job:
    with sessions() as session:
        return jobs.get(session, job_id)


def test_a_genuine_document_is_accepted_and_all_its_grounds_are_recorded(
    run: Verify, ada: str, sessions: Sessions, desk: Desk, embedder: FakeEmbedder
) -> None:
    uri = desk.put("a.png", ink(0.3))
    outcome = run(asked(uri, metadata={"branch": 12}))
    assert outcome.verdict == "accept"
    assert outcome.distance == pytest.approx(2 * sin(0.05), abs=1e-5)
    assert outcome.score == pytest.approx(outcome.distance)
    assert outcome.threshold == 0.5
    with sessions() as session:
        ids = [reference.id for reference in references.of_signer(session, ada)]
    assert [pair["reference"] for pair in outcome.distances] == ids
    assert outcome.distances[0]["distance"] == pytest.approx(2 * sin(0.15), abs=1e-5)
    assert outcome.nearest_reference == ids[1]
    assert outcome.model_id == embedder.model_id
    assert (outcome.preprocessing, outcome.rule) == ("strokes/2 224x224", "nearest")
    assert outcome.ink == INKED.as_dict()
    assert outcome.document_sha256 == hashlib.sha256(ink(0.3)).hexdigest()
    assert outcome.upstream == {"branch": 12}
    assert outcome.error_code is None
    times = (outcome.fetch_ms, outcome.preprocess_ms, outcome.embed_ms)
    assert outcome.total_ms is not None
    assert 0 <= sum(part or 0 for part in times) <= outcome.total_ms
    assert job_of(sessions).status == "done"
    with sessions() as session:
        row = decisions.get(session, "j1")
        assert row is not None
        assert Outcome.of(row) == outcome


def test_another_hand_is_rejected(run: Verify, ada: str, desk: Desk) -> None:
    outcome = run(asked(desk.put("a.png", ink(pi / 2))))
    assert outcome.verdict == "reject"
    assert outcome.score is not None
    assert outcome.score > 0.5


BANDED = Scoring(
    thresholds={1: 0.5},
    accept={"0.1%": {1: 0.1}, "1%": {1: 0.2}, "5%": {1: 0.4}},
    reject={1: 0.8},
    spread_weight=0.5,
    population_spread=0.2,
)


@pytest.mark.parametrize(
    ("far", "verdict", "accept", "reject"),
    [
        (None, "accept", 0.5, None),
        ("0.1%", "review", 0.1, 0.8),
        ("1%", "review", 0.2, 0.8),
        ("5%", "accept", 0.4, 0.8),
    ],
)
def test_the_operating_point_decides_and_is_recorded_with_both_thresholds(
    run: Verify,
    ada: str,
    desk: Desk,
    sessions: Sessions,
    far: str | None,
    verdict: str,
    accept: float,
    reject: float | None,
) -> None:
    uri = desk.put("a.png", ink(0.6))
    outcome = run(asked(uri), embedder=FakeEmbedder(scoring=BANDED), far=far)
    assert (outcome.verdict, outcome.operating_point) == (verdict, far)
    assert (outcome.threshold, outcome.reject_threshold) == (accept, reject)
    assert outcome.terms is not None
    assert outcome.terms["nearest"] == outcome.distance
    assert outcome.terms["spread"] < 0
    assert sum(outcome.terms.values()) == pytest.approx(outcome.score, rel=1e-12)
    assert job_of(sessions).status == "done"


def test_beyond_the_band_it_is_a_rejection(run: Verify, ada: str, desk: Desk) -> None:
    uri = desk.put("a.png", ink(pi / 2))
    assert run(asked(uri), embedder=FakeEmbedder(scoring=BANDED), far="1%").verdict == "reject"


def test_a_model_without_operating_points_decides_by_its_plain_rule(
    run: Verify, ada: str, desk: Desk
) -> None:
    outcome = run(asked(desk.put("a.png", ink(0.3))), far="0.1%")
    assert (outcome.verdict, outcome.threshold) == ("accept", 0.5)
    assert (outcome.operating_point, outcome.reject_threshold) == (None, None)


def test_an_operating_point_that_the_model_lacks_is_a_failure_and_no_acceptance(
    run: Verify, ada: str, desk: Desk
) -> None:
    some = replace(BANDED, accept={"5%": {1: 0.4}})
    outcome = run(asked(desk.put("a.png", ink(0))), embedder=FakeEmbedder(scoring=some), far="1%")
    assert (outcome.verdict, outcome.error_code) == ("error", "checkpoint_error")
    assert "no operating point 1%" in str(outcome.error_message)


@pytest.mark.parametrize(
    ("code", "data", "fields"),
    [
        ("unreadable_image", b"no image", {}),
        ("blank_image", BLANK, {}),
        ("page_not_found", ink(0), {"page": 2}),
        ("region_outside_page", ink(0), {"region": (200, 0, 200, 10)}),
        ("unknown_signer", ink(0), {"signer_id": "nobody"}),
        ("signer_retired", ink(0), {"signer_id": "gone"}),
        ("no_references", ink(0), {"signer_id": "empty"}),
        ("image_not_found", None, {}),
    ],
)
def test_what_fails_for_good_is_recorded_with_its_code_and_never_accepted(
    run: Verify,
    ada: str,
    sessions: Sessions,
    desk: Desk,
    code: str,
    data: bytes | None,
    fields: dict[str, Any],
) -> None:
    with sessions.begin() as session:
        signers.ensure(session, "empty")
        signers.ensure(session, "gone")
        signers.retire(session, "gone")
    uri = (desk.inbox / "none").as_uri() if data is None else desk.put("a.png", data)
    outcome = run(asked(uri, **fields))
    assert (outcome.verdict, outcome.error_code) == ("error", code)
    assert outcome.error_message
    assert outcome.score is None
    assert outcome.distances == ()
    assert job_of(sessions).status == "failed"
    known = None if data is None else hashlib.sha256(data).hexdigest()
    assert outcome.document_sha256 == known


def test_a_document_outside_the_allowed_folders_is_refused(run: Verify, ada: str) -> None:
    assert run(asked("file:///etc/hostname")).error_code == "uri_not_allowed"


def test_a_model_that_is_not_the_active_one_compares_with_nobody_elses_references(
    run: Verify, ada: str, desk: Desk
) -> None:
    with pytest.raises(ModelChanged):
        run(asked(desk.put("a.png", ink(0))), embedder=FakeEmbedder(name="newer"))


def test_a_signer_whom_the_active_model_has_not_embedded_is_a_failure_on_record(
    run: Verify, ada: str, desk: Desk, sessions: Sessions
) -> None:
    make_active(sessions, newer := FakeEmbedder(name="newer"))
    outcome = run(asked(desk.put("a.png", ink(0))), embedder=newer)
    assert outcome.error_code == "model_mismatch"


def test_too_many_pixels_are_refused(run: Verify, ada: str, desk: Desk) -> None:
    outcome = run(asked(desk.put("a.png", ink(0))), max_pixels=100)
    assert outcome.error_code == "image_too_large"


def test_a_decided_job_is_answered_from_the_record_without_fetching(
    run: Verify, ada: str, desk: Desk, sessions: Sessions, embedder: FakeEmbedder
) -> None:
    request = asked(desk.put("a.png", ink(0.3)))
    first = run(request)
    (desk.inbox / "a.png").unlink()
    before = embedder.embedded
    assert run(request) == first
    assert embedder.embedded == before
    assert job_of(sessions).deliveries == 1
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Decision)) == 1


def test_a_failed_job_stays_failed_when_delivered_again(
    run: Verify, ada: str, desk: Desk, sessions: Sessions
) -> None:
    request = asked((desk.inbox / "a.png").as_uri())
    first = run(request)
    desk.put("a.png", ink(0))
    assert run(request) == first
    assert job_of(sessions).status == "failed"


def test_of_two_workers_with_one_job_the_first_to_record_is_right(
    run: Verify, ada: str, desk: Desk, embedder: FakeEmbedder
) -> None:
    request = asked(desk.put("a.png", ink(0.3)))
    met: list[Outcome] = []

    class Overtaken(FakeEmbedder):
        def embed(self, images: Any, *, exact: bool = False) -> Any:
            met.append(run(request, embedder=embedder))
            return super().embed(images, exact=exact)

    assert run(request, embedder=Overtaken()) == met[0]


def test_a_job_id_that_stands_for_another_document_is_a_conflict(
    run: Verify, ada: str, desk: Desk
) -> None:
    first = run(asked(desk.put("a.png", ink(0))))
    with pytest.raises(JobConflict):
        run(asked(desk.put("b.png", ink(2))))
    assert run(asked(first.document)) == first


def test_a_job_whose_workers_keep_dying_is_set_aside(
    run: Verify, ada: str, desk: Desk, sessions: Sessions
) -> None:
    request = asked(desk.put("a.png", ink(0)))

    class Killed(BaseException):
        pass

    class Deadly(FakeEmbedder):
        def embed(self, images: Any, *, exact: bool = False) -> Any:
            raise Killed

    for lost in (False, True, True):
        with pytest.raises(Killed):
            run(replace(request, redelivered=lost), embedder=Deadly(), max_deliveries=3)
    assert job_of(sessions).deliveries == 3
    request = replace(request, redelivered=True)
    outcome = run(request, embedder=Deadly(), max_deliveries=3)
    assert outcome.error_code == "poison"
    assert "3 workers" in str(outcome.error_message)


@pytest.fixture
def crowded(sessions: Sessions) -> Iterator[Callable[[FakeEmbedder], Stages]]:
    """Makes the stages of a worker, which jobs share."""
    made: list[Stages] = []

    def make(embedder: FakeEmbedder) -> Stages:
        ledger = Ledger(sessions, ReferenceCache())
        made.append(together(ledger, embedder, None, threads=16))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for stages in made:
        stages.close()


def test_jobs_that_share_their_stages_are_decided_each_on_its_own(
    run: Verify,
    ada: str,
    desk: Desk,
    embedder: FakeEmbedder,
    crowded: Callable[[FakeEmbedder], Stages],
) -> None:
    stages = crowded(embedder)
    pages = {"accept": ink(0.3), "reject": ink(pi / 2), "blank_image": BLANK, "unreadable": b"x"}
    requests = [
        asked(desk.put(f"{n}-{name}", data), job_id=f"{name}-{n}")
        for n in range(8)
        for name, data in pages.items()
    ]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda request: run(request, stages=stages), requests))
    for request, outcome in zip(requests, found, strict=True):
        assert outcome.job_id == request.job_id
        assert request.job_id.startswith(outcome.error_code or outcome.verdict) or (
            outcome.error_code == "unreadable_image"
        )
    assert embedder.embedded == 16 + 2  # and the two specimens


def test_a_store_that_hangs_for_one_document_holds_up_no_other(
    run: Verify,
    ada: str,
    desk: Desk,
    embedder: FakeEmbedder,
    crowded: Callable[[FakeEmbedder], Stages],
) -> None:
    stages, goes_on = crowded(embedder), threading.Event()
    slow, fast = desk.put("slow.png", ink(0)), desk.put("fast.png", ink(0))

    class Hanging:
        def fetch(self, uri: str) -> bytes:
            assert uri != slow or goes_on.wait(60)
            return desk.images.fetch(uri)

    def decide(job_id: str, uri: str) -> str:
        return run(asked(uri, job_id=job_id), images=Hanging(), stages=stages).verdict

    with ThreadPoolExecutor(8) as pool:
        held = pool.submit(decide, "slow", slow)
        assert list(pool.map(decide, map(str, range(40)), [fast] * 40)) == ["accept"] * 40
        assert not held.done()
        goes_on.set()
        assert held.result(60) == "accept"


def test_a_close_call_is_embedded_again_exactly(
    run: Verify, ada: str, desk: Desk, crowded: Callable[[FakeEmbedder], Stages]
) -> None:
    asked_for: list[bool] = []

    class Careful(FakeEmbedder):
        def embed(self, images: Any, *, exact: bool = False) -> Any:
            asked_for.append(exact)
            return super().embed(images, exact=exact)

    careful = Careful(tolerance=0.05)
    angle = 0.2 + 2 * asin(0.48 / 2)  # 0.02 below the threshold
    for number, at in enumerate((angle, 0.3)):
        uri = desk.put(f"{number}.png", ink(at))
        stages = crowded(careful)
        assert run(asked(uri, job_id=f"j{number}"), embedder=careful, stages=stages).verdict == (
            "accept"
        )
    assert asked_for == [False, True, False]


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a bug")])
def test_what_may_work_later_leaves_the_job_queued_and_its_delivery_uncounted(
    run: Verify, ada: str, desk: Desk, sessions: Sessions, error: Exception
) -> None:
    request = asked(desk.put("a.png", ink(0)))
    with pytest.raises(type(error)):
        run(request, images=Trouble(desk.images, error))
    job = job_of(sessions)
    assert (job.status, job.deliveries) == ("queued", 0)
    assert run(request).verdict == "accept"


def test_a_bug_in_the_judgement_is_no_acceptance(
    run: Verify, ada: str, desk: Desk, sessions: Sessions
) -> None:
    class Broken(FakeEmbedder):
        def embed(self, images: Any, *, exact: bool = False) -> Any:
            return super().embed(images, exact=exact) * float("nan")

    with pytest.raises(ValueError, match="finite"):
        run(asked(desk.put("a.png", ink(0))), embedder=Broken())
    with sessions() as session:
        assert decisions.get(session, "j1") is None


def test_no_transaction_is_open_while_fetching_and_embedding(
    run: Verify, ada: str, desk: Desk, sessions: Sessions, embedder: FakeEmbedder
) -> None:
    open_now: list[str] = []
    engine = sessions.kw["bind"]
    event.listen(engine, "begin", lambda _: open_now.append("begun"))
    for ending in ("commit", "rollback"):
        event.listen(engine, ending, lambda _: open_now.clear())

    class Watched:
        def fetch(self, uri: str) -> bytes:
            assert not open_now
            return desk.images.fetch(uri)

    class Watching(FakeEmbedder):
        def embed(self, images: Any, *, exact: bool = False) -> Any:
            assert not open_now
            return super().embed(images, exact=exact)

    outcome = run(asked(desk.put("a.png", ink(0))), images=Watched(), embedder=Watching())
    assert outcome.verdict == "accept"


def test_the_times_of_the_stages_that_ran_are_recorded_with_a_failure(
    run: Verify, ada: str, desk: Desk
) -> None:
    outcome = run(asked(desk.put("a.png", BLANK)))
    assert outcome.error_code == BlankImage.code
    assert outcome.fetch_ms is not None
    assert outcome.preprocess_ms is not None
    assert outcome.ink is None
    assert outcome.embed_ms is None
    assert outcome.total_ms is not None


def test_the_ink_is_recorded_with_a_failure_that_comes_after_it_was_measured(
    run: Verify, ada: str, desk: Desk
) -> None:
    outcome = run(asked(desk.put("a.png", ink(0)), signer_id="nobody"))
    assert outcome.error_code == "unknown_signer"
    assert outcome.ink == INKED.as_dict()


def test_failing_a_job_without_a_row_makes_the_row(sessions: Sessions) -> None:
    outcome = fail(asked("s3://b/k"), "store_unavailable", "It is away.", sessions=sessions)
    assert (outcome.verdict, outcome.error_message) == ("error", "It is away.")
    assert job_of(sessions).status == "failed"


def test_failing_a_decided_job_leaves_the_decision(
    run: Verify, ada: str, desk: Desk, sessions: Sessions
) -> None:
    request = asked(desk.put("a.png", ink(0)))
    first = run(request)
    assert fail(request, "internal_error", "Late.", sessions=sessions) == first
    assert job_of(sessions).status == "done"


def test_without_a_database_nothing_is_decided(
    run: Verify, desk: Desk, embedder: FakeEmbedder
) -> None:
    from storage.database import make_engine, make_sessions

    engine = make_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable):
        run(asked(desk.put("a.png", ink(0))), sessions=make_sessions(engine))
    assert embedder.prepared == 0
    engine.dispose()


def test_an_image_above_the_byte_limit_is_refused(run: Verify, ada: str, desk: Desk) -> None:
    uri = desk.put("a.png", ink(0, "x" * 1_000_001))
    assert run(asked(uri)).error_code == "document_too_large"
