from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, select

from model.errors import CheckpointNotFound
from model.scoring import Scoring
from storage import models, references, signers
from storage.database import Sessions
from storage.errors import (
    InvalidSignerId,
    ModelChanged,
    SignerRetired,
    StoreUnavailable,
    UnknownSigner,
)
from storage.tables import ChainEntry
from tests.fakes import BLANK, FakeEmbedder, Trouble, ink
from tests.worker.conftest import Desk, make_active
from worker.enrolment import EnrolReport, Fate, ImageReport, enroll
from worker.register import Register
from worker.transactions import register_model, transaction

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


def test_the_database_is_asked_as_much_for_many_images_as_for_one(
    run: Enroll, sessions: Sessions, desk: Desk
) -> None:
    run(("a.png", ink(0)))  # makes the model's row
    asked: list[str] = []

    def note(*given: Any) -> None:
        asked.append(given[2])

    event.listen(sessions.kw["bind"], "before_cursor_execute", note)
    run(("a.png", ink(0)), signer="bo")
    one, asked[:] = len(asked), []
    run(*((f"{n}.png", ink(n)) for n in range(5)), signer="cy")
    assert len(asked) == one <= 9  # on SQLite one more than on PostgreSQL


def test_enrolling_again_is_harmless(run: Enroll, sessions: Sessions) -> None:
    run(("a.png", ink(0)))
    with sessions() as session:
        before = signers.revisions(session, ["ada"])
    assert fates(run(("a.png", ink(0)))) == [Fate.ALREADY]
    with sessions() as session:
        assert signers.revisions(session, ["ada"]) == before, "workers need not read anything anew"
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
    make_active(sessions, newer)
    report = run(("c.png", ink(2)), embedder=newer)
    assert (report.references, report.re_embedded) == (3, 2)
    assert run(embedder=newer).re_embedded == 0
    with sessions() as session:
        assert len(references.embeddings(session, "ada", newer.model_id).ids) == 3
        assert len(references.embeddings(session, "ada", FakeEmbedder().model_id).ids) == 2


def test_without_new_images_enrolling_only_moves_the_signer_to_the_model(
    run: Enroll, sessions: Sessions
) -> None:
    run(("a.png", ink(0)))
    make_active(sessions, FakeEmbedder(name="newer"))
    report = run(embedder=FakeEmbedder(name="newer"))
    assert (report.images, report.references, report.re_embedded) == ((), 1, 1)


def test_whoever_enrols_by_a_model_that_was_replaced_is_told_and_nothing_is_written(
    run: Enroll, sessions: Sessions
) -> None:
    run(("a.png", ink(0)))
    make_active(sessions, FakeEmbedder(name="newer"))
    with pytest.raises(ModelChanged):
        run(("b.png", ink(1)))
    with sessions() as session:
        assert len(references.of_signer(session, "ada")) == 1


def test_what_is_enrolled_is_embedded_for_the_models_to_come_as_well(
    run: Enroll, sessions: Sessions
) -> None:
    newer, canary = FakeEmbedder(name="newer"), FakeEmbedder(name="canary")
    run(("a.png", ink(0)))
    with transaction(sessions) as session:
        for embedder in (newer, canary):
            register_model(session, embedder)
        (reference,) = references.of_signer(session, "ada")
        vector = np.ones(3, np.float32)
        references.put_embeddings(session, canary.model_id, {reference.id: vector})
        models.shadow(session, canary.model_id, 0.5)
        models.announce(session, newer.model_id)
    others = {each.model_id: each for each in (newer, canary)}
    run(("b.png", ink(1)), ("blank.png", BLANK), others=others.__getitem__)
    with sessions() as session:
        assert models.lacking(session, canary.model_id) == []
        (missing,) = models.lacking(session, newer.model_id)
        assert missing == references.of_signer(session, "ada")[0].id


def test_a_model_to_come_that_fails_spoils_no_enrolment(run: Enroll, sessions: Sessions) -> None:
    run(("a.png", ink(0)))
    with transaction(sessions) as session:
        register_model(session, newer := FakeEmbedder(name="newer"))
        models.announce(session, newer.model_id)

    def gone(_: str) -> FakeEmbedder:
        raise CheckpointNotFound("There is no checkpoint.")

    assert run(("b.png", ink(1)), others=gone).references == 2
    with sessions() as session:
        assert models.count_lacking(session, newer.model_id) == 2


def test_a_stored_image_that_vanished_is_reported_and_the_others_go_on(
    run: Enroll, sessions: Sessions, desk: Desk
) -> None:
    run(("a.png", ink(0)), ("b.png", ink(1)))
    with sessions() as session:
        uri = references.of_signer(session, "ada")[0].uri
    Path(uri.removeprefix("file://")).unlink()
    make_active(sessions, FakeEmbedder(name="newer"))
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
    make_active(sessions, FakeEmbedder(name="newer"))
    report = run(embedder=FakeEmbedder(name="newer"))
    assert (report.references, report.re_embedded) == (0, 0)
    assert "is no longer the image that it was" in report.lost[0]


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
    run(("a.png", ink(0)))
    with sessions() as session:
        (model,) = models.all(session)
    assert (model.id, model.uri, model.backbone) == (embedder.model_id, "fake.pt", "fake")
    assert (model.size, model.threshold) == (224, 0.5)
    assert model.preprocessing == "strokes/2 224x224"
    assert model.scoring["thresholds"] == {"1": 0.5}


def codes(image: ImageReport) -> list[str]:
    return [remark.code for remark in image.remarks]


def test_a_page_of_doubtful_resolution_is_accepted_with_a_warning(run: Enroll) -> None:
    [image] = run(("a.png", ink(0, "coarse"))).images
    assert (image.fate, codes(image), image.forced) == (Fate.ADDED, ["low_resolution"], False)


def test_a_page_of_too_low_a_resolution_is_refused_and_leaves_nothing_in_the_store(
    run: Enroll, desk: Desk
) -> None:
    [image] = run(("a.png", ink(0, "tiny"))).images
    assert (image.fate, image.code) == (Fate.REFUSED, "low_resolution")
    assert image.reason is not None
    assert "50 pixels" in image.reason
    assert not [path for path in desk.store.rglob("*") if path.is_file()]


def test_a_near_duplicate_is_refused_whether_it_comes_together_or_later(run: Enroll) -> None:
    report = run(("a.png", ink(0)), ("again.png", ink(0, "saved again")))
    assert fates(report) == [Fate.ADDED, Fate.REFUSED]
    assert report.images[1].code == "near_duplicate"
    assert "a.png" in (report.images[1].reason or "")
    [later] = run(("later.png", ink(0, "saved once more"))).images
    assert (later.fate, later.code) == (Fate.REFUSED, "near_duplicate")
    assert f"reference {report.images[0].reference_id}" in (later.reason or "")


def test_a_close_specimen_of_other_strokes_is_no_duplicate(run: Enroll) -> None:
    assert fates(run(("a.png", ink(0)), ("b.png", ink(0.1)))) == [Fate.ADDED, Fate.ADDED]


def test_a_near_duplicate_of_an_image_that_is_gone_cannot_be_told_and_is_accepted(
    run: Enroll, sessions: Sessions
) -> None:
    run(("a.png", ink(0)))
    with sessions() as session:
        uri = references.of_signer(session, "ada")[0].uri
    Path(uri.removeprefix("file://")).unlink()
    assert fates(run(("later.png", ink(0, "saved again")))) == [Fate.ADDED]


def test_the_odd_one_of_a_set_is_warned_of_and_the_others_are_not(run: Enroll) -> None:
    report = run(("a.png", ink(0)), ("odd.png", ink(2)), ("b.png", ink(0.3)))
    assert [codes(image) for image in report.images] == [[], ["far_from_own"], []]
    [fitting] = run(("c.png", ink(2.3))).images
    assert codes(fitting) == []


@pytest.fixture
def strict() -> FakeEmbedder:
    """With an operating point, so that other signers can be asked."""
    scoring = Scoring(thresholds={1: 0.5}, accept={"1%": {1: 0.3}}, reject={1: 0.8})
    return FakeEmbedder(scoring=scoring)


def test_a_specimen_like_another_signers_is_warned_of_and_refused_if_far_from_the_own(
    run: Enroll, strict: FakeEmbedder
) -> None:
    register = Register(strict.model_id)
    run(("a.png", ink(0)), signer="ada", embedder=strict, register=register)
    [like] = run(("b.png", ink(0.25)), signer="bo", embedder=strict, register=register).images
    assert (like.fate, codes(like)) == (Fate.ADDED, ["near_another"])
    run(("c.png", ink(2)), signer="chen", embedder=strict, register=register)
    [strange] = run(("d.png", ink(-0.2)), signer="chen", embedder=strict, register=register).images
    assert (strange.fate, strange.code) == (Fate.REFUSED, "near_another")
    assert "ada" in (strange.reason or "")


def test_the_very_file_of_another_signer_is_refused(run: Enroll, embedder: FakeEmbedder) -> None:
    register = Register(embedder.model_id)
    run(("a.png", ink(0)), signer="ada", register=register)
    [image] = run(("b.png", ink(0)), signer="bo", register=register).images
    assert (image.fate, image.code) == (Fate.REFUSED, "anothers_image")
    assert "enrolled for ada" in (image.reason or "")


def test_force_enrols_what_the_checks_refuse_but_not_what_is_no_signature(run: Enroll) -> None:
    report = run(("a.png", ink(0, "tiny")), ("blank.png", BLANK), force=True)
    assert fates(report) == [Fate.ADDED, Fate.REFUSED]
    assert (report.images[0].forced, codes(report.images[0])) == (True, ["low_resolution"])


def test_what_was_forced_is_sealed_in_the_record_and_in_the_log(
    run: Enroll, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    report = run(("a.png", ink(0, "tiny")), ("b.png", ink(0.4)), force=True)
    assert "enrolment_forced" in caplog.text
    with sessions() as session:
        [entry] = session.scalars(select(ChainEntry).where(ChainEntry.kind == "forced"))
    assert entry.subject == "ada"
    assert json.loads(entry.detail or "") == {
        "reference": report.images[0].reference_id,
        "sha256": report.images[0].sha256,
        "codes": ["low_resolution"],
    }


def test_a_dry_run_reports_the_same_and_keeps_nothing(
    run: Enroll, sessions: Sessions, desk: Desk
) -> None:
    images = (
        ("a.png", ink(0)),
        ("a again.png", ink(0)),
        ("b.png", ink(1)),
        ("c.png", ink(0, "tiny")),
    )
    dry = run(*images, dry_run=True)
    with sessions() as session:
        assert signers.search(session) == []
    assert not desk.store.exists()
    wet = run(*images)
    assert fates(dry) == fates(wet)
    assert (dry.references, dry.dry_run) == (wet.references, True) == (2, True)
    assert [image.code for image in dry.images] == [image.code for image in wet.images]


def test_what_is_enrolled_already_is_neither_decoded_nor_embedded_again(
    run: Enroll, embedder: FakeEmbedder
) -> None:
    run(("a.png", ink(0)), ("b.png", ink(1)))
    before = embedder.prepared, embedder.embedded
    run(("a.png", ink(0)), ("b.png", ink(1)))
    assert (embedder.prepared, embedder.embedded) == before


def test_a_retired_reference_comes_back_when_its_image_is_enrolled_again(
    run: Enroll, sessions: Sessions
) -> None:
    report = run(("a.png", ink(0)), ("b.png", ink(1)))
    with sessions.begin() as session:
        references.retire(session, report.images[0].reference_id or 0)
    [image] = run(("a.png", ink(0))).images
    assert (image.fate, image.reference_id) == (Fate.ADDED, report.images[0].reference_id)


def test_the_report_says_how_the_references_agree(run: Enroll) -> None:
    assert run(("a.png", ink(0))).consistency is None
    found = run(("b.png", ink(1))).consistency
    assert found is not None
    assert found.spread == pytest.approx(2 * math.sin(0.5), rel=1e-5)
