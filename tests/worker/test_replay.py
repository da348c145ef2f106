"""Decisions made again by another model: what flips, against which references, and what is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.plots import comparison_sheet
from model.scoring import Scoring
from storage import references
from storage.database import Sessions
from storage.errors import StoreUnavailable
from tests.fakes import FakeEmbedder, Trouble, ink
from tests.worker.conftest import Desk
from worker.enrolment import enroll
from worker.messages import VerifyRequest
from worker.pipeline import verify
from worker.replay import Replay, replay

Decide = Callable[..., None]


@pytest.fixture
def decide(sessions: Sessions, desk: Desk, embedder: FakeEmbedder) -> Decide:
    """Record a decision of the fake model, whose threshold is 0.5, about a document of ada's."""
    specimens = [("first.png", ink(0)), ("second.png", ink(0.2))]
    enroll("ada", specimens, sessions=sessions, images=desk.images, embedder=embedder)

    def call(job_id: str, angle: float, **more: Any) -> None:
        document = desk.put(f"{job_id}.png", ink(angle))
        request = VerifyRequest(job_id=job_id, signer_id="ada", document=document, **more)
        verify(request, sessions=sessions, images=desk.images, embedder=embedder)

    return call


@pytest.fixture
def again(sessions: Sessions, desk: Desk) -> Callable[..., Replay]:
    """Decide jobs again, by a model with another threshold."""

    def call(*jobs: str, threshold: float = 0.3, truth: str | None = None, **more: Any) -> Replay:
        other = FakeEmbedder(name="other", scoring=Scoring(thresholds={1: threshold}))
        usual: dict[str, Any] = {"images": desk.images, "embedder": other, "max_pixels": 10**8}
        return replay([(job, truth) for job in jobs], sessions=sessions, **usual | more)

    return call


def test_only_the_model_differs_so_the_same_model_flips_nothing(
    decide: Decide, again: Callable[..., Replay], embedder: FakeEmbedder
) -> None:
    decide("near", 0.3)
    decide("far", 2.0)
    found = again("near", "far", embedder=embedder)
    assert [(c.before, c.after) for c in found.flips.changes] == [
        ("accept", "accept"),
        ("reject", "reject"),
    ]
    assert found.cards == ()


def test_a_stricter_model_flips_what_lies_between_the_thresholds(
    decide: Decide, again: Callable[..., Replay], tmp_path: Path
) -> None:
    decide("near", 0.3)
    decide("between", 0.6)
    found = again("near", "between", truth="forged")
    (flip,) = found.flips.flipped
    assert (flip.job_id, flip.before, flip.after, flip.corrects) == (
        "between",
        "accept",
        "reject",
        True,
    )
    (card,) = found.cards
    assert card.questioned is not None
    assert card.nearest is not None
    assert "was accept: 0.397 (0.500)\nwould be reject: 0.397 (0.300)" in card.row().caption
    comparison_sheet([card.row()], tmp_path / "flips.png")


def test_a_document_is_compared_with_the_references_that_its_decision_rests_on(
    decide: Decide, again: Callable[..., Replay], sessions: Sessions
) -> None:
    decide("near", 0.3)
    with sessions.begin() as session:  # the nearest of them has been retired since
        references.retire(session, references.of_signer(session, "ada")[1].id)
    (change,) = again("near").flips.changes
    assert (change.before, change.after) == ("accept", "accept")


def test_page_and_region_of_the_job_are_heeded(
    decide: Decide, again: Callable[..., Replay]
) -> None:
    decide("part", 0.3, page=1, region=(0, 0, 200, 100))
    (change,) = again("part", threshold=0.5).flips.changes
    assert change.after == "accept"
    small = FakeEmbedder(name="small", size=100, scoring=Scoring(thresholds={1: 0.5}))
    (change,) = again("part", embedder=small).flips.changes
    assert change.after == "error"  # the region does not lie on what this one sees


def test_what_is_gone_or_altered_is_counted_by_the_reason(
    decide: Decide, again: Callable[..., Replay], desk: Desk, sessions: Sessions
) -> None:
    for job in ("kept", "lost", "altered"):
        decide(job, 0.3)
    (desk.inbox / "lost.png").unlink()
    desk.put("altered.png", ink(0.31))
    found = again("kept", "lost", "altered").flips
    assert [change.job_id for change in found.changes] == ["kept"]
    assert found.gone == {"image_altered": 1, "image_not_found": 1}
    with sessions.begin() as session:
        references.erase(session, "ada")
    assert again("kept").flips.gone == {"reference_gone": 1}


def test_a_store_that_is_away_ends_the_replay_instead_of_counting_as_gone(
    decide: Decide, again: Callable[..., Replay], desk: Desk
) -> None:
    decide("near", 0.3)
    with pytest.raises(StoreUnavailable):
        again("near", images=Trouble(desk.images, StoreUnavailable("away")))


def test_pictures_are_kept_of_the_first_twenty_flips_alone(
    decide: Decide, again: Callable[..., Replay]
) -> None:
    jobs = [f"job-{number}" for number in range(22)]
    for job in jobs:
        decide(job, 0.6)
    found = again(*jobs)
    assert (len(found.flips.flipped), len(found.cards)) == (22, 20)
