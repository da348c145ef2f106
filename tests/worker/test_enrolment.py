from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.errors import CheckpointNotFound
from storage import references, signers
from storage.database import Sessions
from storage.errors import InvalidSignerId, SignerRetired, StoreUnavailable, UnknownSigner
from tests.fakes import BLANK, FakeEmbedder, Trouble, ink
from tests.worker.conftest import Desk
from worker.enrolment import EnrolReport, Fate, enroll

Enroll = Callable[..., EnrolReport]


@pytest.fixture
def run(sessions: Sessions, desk: Desk, embedder: FakeEmbedder) -> Enroll:
    def call(*images: tuple[str, bytes], signer: str = "ada", **other: Any) -> EnrolReport:
        usual = {"sessions": sessions, "images": desk.images, "embedder": embedder}
        return enroll(signer, images, **usual | other)

    return call


def fates(report: EnrolReport) -> list[Fate]:
    return [image.fate for image in report.images]


def test_images_become_references_in_the_store_with_their_embeddings(
    run: Enroll, sessions: Sessions, desk: Desk, embedder: FakeEmbedder
) -> None:
    report = run(("a.png", ink(0)), ("b.png", ink(1)))
    assert fates(report) == [Fate.ADDED, Fate.ADDED]
    assert (report.references, report.re_embedded, report.lost) == (2, 0, ())
    with sessions() as session:
        first, second = references.of_signer(session, "ada")
        known = references.embeddings(session, "ada", embedder.model_id)
    assert (first.source, second.source) == ("a.png", "b.png")
    assert first.sha256 == hashlib.sha256(ink(0)).hexdigest()
    assert desk.images.fetch(first.uri) == ink(0)
    assert Path(desk.store).as_uri() in first.uri
    assert known.ids == tuple(image.reference_id for image in report.images)
    assert known.vectors[0, 0] == pytest.approx(1)


def test_enrolling_again_is_harmless(run: Enroll, sessions: Sessions) -> None:
    run(("a.png", ink(0)))
    report = run(("copy of a.png", ink(0)), ("b.png", ink(1)), ("b again.png", ink(1)))
    assert fates(report) == [Fate.ALREADY, Fate.ADDED, Fate.ALREADY]
    assert report.references == 2
    with sessions() as session:
        assert references.of_signer(session, "ada")[0].source == "a.png"


def test_what_cannot_be_used_is_refused_with_a_reason_and_the_rest_is_enrolled(
    run: Enroll, desk: Desk
) -> None:
    report = run(("blank.png", BLANK), ("a.png", ink(0)), ("notes.txt", b"no image"))
    assert fates(report) == [Fate.REFUSED, Fate.ADDED, Fate.REFUSED]
    refused = report.with_fate(Fate.REFUSED)
    assert [image.code for image in refused] == ["blank_image", "unreadable_image"]
    assert all(image.reason for image in refused)
    stored = [path for path in desk.store.rglob("*") if path.is_file()]
    assert len(stored) == 1


def test_a_signer_is_not_made_when_every_image_is_refused(run: Enroll, sessions: Sessions) -> None:
    report = run(("blank.png", BLANK))
    assert report.references == 0
    with sessions() as session, pytest.raises(UnknownSigner):
        signers.get(session, "ada")


def test_enrolling_with_another_model_embeds_the_earlier_references_too(
    run: Enroll, sessions: Sessions
) -> None:
    run(("a.png", ink(0)), ("b.png", ink(1)))
    newer = FakeEmbedder(name="newer")
    report = run(("c.png", ink(2)), embedder=newer)
    assert (report.references, report.re_embedded) == (3, 2)
    assert run(embedder=newer).re_embedded == 0
    with sessions() as session:
        assert len(references.embeddings(session, "ada", newer.model_id).ids) == 3
        assert len(references.embeddings(session, "ada", FakeEmbedder().model_id).ids) == 2


def test_without_new_images_enrolling_only_moves_the_signer_to_the_model(run: Enroll) -> None:
    run(("a.png", ink(0)))
    report = run(embedder=FakeEmbedder(name="newer"))
    assert (report.images, report.references, report.re_embedded) == ((), 1, 1)


def test_a_stored_image_that_vanished_is_reported_and_the_others_go_on(
    run: Enroll, sessions: Sessions, desk: Desk
) -> None:
    run(("a.png", ink(0)), ("b.png", ink(1)))
    with sessions() as session:
        uri = references.of_signer(session, "ada")[0].uri
    Path(uri.removeprefix("file://")).unlink()
    report = run(embedder=FakeEmbedder(name="newer"))
    assert (report.references, report.re_embedded) == (1, 1)
    assert len(report.lost) == 1


def test_a_stored_image_that_was_replaced_becomes_no_reference_for_a_newer_model(
    run: Enroll, sessions: Sessions
) -> None:
    run(("a.png", ink(0)))
    with sessions() as session:
        (reference,) = references.of_signer(session, "ada")
    Path(reference.uri.removeprefix("file://")).write_bytes(ink(2))
    report = run(embedder=FakeEmbedder(name="newer"))
    assert (report.references, report.re_embedded) == (0, 0)
    assert "is not the image that was enrolled" in report.lost[0]


def test_a_retired_signer_is_refused_before_any_work(
    run: Enroll, sessions: Sessions, embedder: FakeEmbedder
) -> None:
    run(("a.png", ink(0)))
    with sessions.begin() as session:
        signers.retire(session, "ada")
    before = embedder.prepared
    with pytest.raises(SignerRetired):
        run(("b.png", ink(1)))
    assert embedder.prepared == before


@pytest.mark.parametrize("signer", ["", "../x", "a" * 129])
def test_an_id_that_cannot_name_a_signer_is_refused(run: Enroll, signer: str) -> None:
    with pytest.raises(InvalidSignerId):
        run(("a.png", ink(0)), signer=signer)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), CheckpointNotFound("none")])
def test_what_is_no_fault_of_an_image_ends_the_enrolment_and_writes_nothing(
    run: Enroll, sessions: Sessions, desk: Desk, error: Exception
) -> None:
    with pytest.raises(type(error)):
        run(("a.png", ink(0)), images=Trouble(desk.images, error))
    with sessions() as session:
        assert signers.search(session) == []


def test_progress_is_told_of_each_image(run: Enroll) -> None:
    told: list[str] = []
    run(("a.png", ink(0)), ("blank.png", BLANK), progress=told.append)
    assert told == ["a.png", "blank.png"]


def test_the_model_is_registered_with_all_that_a_decision_rests_on(
    run: Enroll, sessions: Sessions, embedder: FakeEmbedder
) -> None:
    from storage import models

    run(("a.png", ink(0)))
    with sessions() as session:
        (model,) = models.all(session)
    assert (model.id, model.uri, model.backbone) == (embedder.model_id, "fake.pt", "fake")
    assert (model.size, model.threshold) == (224, 0.5)
    assert model.preprocessing == "strokes/1 224x224"
    assert model.scoring["thresholds"] == {"1": 0.5}
