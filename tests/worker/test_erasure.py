"""An erased signer leaves no image and no vector behind, and every decision as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import func, select

from storage import chain, decisions, references, signers, verification
from storage.database import Sessions
from storage.errors import ImageForbidden, SignerErased, StoreUnavailable, UnknownSigner
from storage.images import Images
from storage.reference_cache import ReferenceCache
from storage.seal import Keys
from storage.tables import ChainEntry, Embedding, Reference
from tests.builders import a_decision, a_job
from tests.conftest import Bucket
from tests.fakes import FakeEmbedder, Trouble, ink
from tests.worker.conftest import Desk
from worker.enrolment import enroll
from worker.erasure import ErasureReport, erase


@pytest.fixture(autouse=True)
def enrolled(sessions: Sessions, desk: Desk, embedder: FakeEmbedder) -> None:
    """ada with two images, bo with one of his own and one of hers; a decision about ada."""
    enrol(sessions, desk.images, embedder, "ada", ink(0), ink(1))
    enrol(sessions, desk.images, embedder, "bo", ink(1), ink(2))
    with sessions.begin() as session:
        a_job(session)
        decisions.record(session, [a_decision()])


def enrol(
    sessions: Sessions, images: Images, embedder: FakeEmbedder, name: str, *data: bytes
) -> None:
    enroll(
        name,
        [(f"{number}.png", each) for number, each in enumerate(data)],
        sessions=sessions,
        images=images,
        embedder=embedder,  # type: ignore[arg-type]
    )


def stored(desk: Desk) -> set[bytes]:
    return {path.read_bytes() for path in desk.store.rglob("*") if path.is_file()}


def test_references_embeddings_and_images_go_and_those_of_others_stay(
    sessions: Sessions, desk: Desk, embedder: FakeEmbedder
) -> None:
    report = erase("ada", sessions=sessions, images=desk.images)
    assert report == ErasureReport(references=2, embeddings=2, images=1, images_kept=1)
    assert stored(desk) == {ink(1), ink(2)}
    with sessions.begin() as session:
        assert references.of_signer(session, "ada", retired=True) == []
        assert session.scalar(select(func.count()).select_from(Embedding)) == 2
        assert len(references.embeddings(session, "bo", embedder.model_id).ids) == 2


def test_retired_references_go_as_well(sessions: Sessions, desk: Desk) -> None:
    with sessions.begin() as session:
        for reference in references.of_signer(session, "ada"):
            references.retire(session, reference.id)
    assert erase("ada", sessions=sessions, images=desk.images).references == 2
    with sessions.begin() as session:
        assert session.scalar(select(func.count()).select_from(Reference)) == 2


def test_decisions_stay_and_the_chain_holds_with_the_erasure_in_it(
    sessions: Sessions, desk: Desk
) -> None:
    erase("ada", sessions=sessions, images=desk.images, by="the data officer")
    with sessions.begin() as session:
        assert decisions.get(session, "job-1").verdict == "accept"  # type: ignore[union-attr]
        report = verification.verify(session, Keys())
        (entry,) = session.scalars(select(ChainEntry).where(ChainEntry.kind == "erasure"))
    assert (report.faults, report.decisions, report.kinds["erasure"]) == ([], 1, 1)
    assert entry.subject == "ada"
    detail = json.loads(entry.detail or "")
    assert detail == {
        "by": "the data officer",
        "references": 2,
        "embeddings": 2,
        "images": 1,
        "images_kept": 1,
    }


def test_the_name_is_not_enrolled_again_unless_it_is_given_back(
    sessions: Sessions, desk: Desk, embedder: FakeEmbedder
) -> None:
    erase("ada", sessions=sessions, images=desk.images)
    with pytest.raises(SignerErased, match="was erased on"):
        enrol(sessions, desk.images, embedder, "ada", ink(3))
    with sessions.begin() as session, pytest.raises(SignerErased):
        signers.restore(session, "ada")
    with sessions.begin() as session:
        signers.restore(session, "ada", erased=True)
    enrol(sessions, desk.images, embedder, "ada", ink(3))
    with sessions.begin() as session:
        assert len(references.of_signer(session, "ada")) == 1


def test_a_worker_that_has_read_the_references_compares_with_them_no_more(
    sessions: Sessions, desk: Desk, embedder: FakeEmbedder
) -> None:
    cache = ReferenceCache()
    with sessions.begin() as session:
        known = cache.embeddings(session, ["ada"], embedder.model_id)["ada"]
        assert not isinstance(known, Exception)
    erase("ada", sessions=sessions, images=desk.images)
    with sessions.begin() as session:
        found = cache.embeddings(session, ["ada"], embedder.model_id)["ada"]
    assert isinstance(found, SignerErased)
    assert cache._kept == {}


def test_an_erasure_that_was_stopped_is_finished_by_the_next(
    sessions: Sessions, desk: Desk
) -> None:
    broken = Trouble(desk.images, StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        erase("ada", sessions=sessions, images=broken)  # type: ignore[arg-type]
    with sessions.begin() as session, pytest.raises(SignerErased):
        signers.get(session, "ada")
    assert ink(0) in stored(desk)
    assert erase("ada", sessions=sessions, images=desk.images).references == 2
    assert ink(0) not in stored(desk)


def test_one_that_was_stopped_before_its_rows_went_is_finished_too(
    sessions: Sessions, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(references, "erase", Trouble(references, KeyboardInterrupt()).erase)  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            erase("ada", sessions=sessions, images=desk.images)
    assert ink(0) not in stored(desk)
    with sessions.begin() as session:
        assert len(references.of_signer(session, "ada")) == 2
        assert chain.heads(session)
    assert erase("ada", sessions=sessions, images=desk.images).references == 2


def test_erasing_twice_is_harmless_and_recorded_twice(sessions: Sessions, desk: Desk) -> None:
    erase("ada", sessions=sessions, images=desk.images)
    again = erase("ada", sessions=sessions, images=desk.images)
    assert again == ErasureReport(references=0, embeddings=0, images=0, images_kept=0)
    with sessions.begin() as session:
        assert verification.verify(session, Keys()).kinds["erasure"] == 2


def test_nobody_is_erased_who_was_never_enrolled(sessions: Sessions, desk: Desk) -> None:
    with pytest.raises(UnknownSigner):
        erase("zoe", sessions=sessions, images=desk.images)


def test_a_document_outside_the_store_is_never_deleted(desk: Desk, tmp_path: Path) -> None:
    outside = desk.put("scan.png", b"a document")
    with pytest.raises(ImageForbidden):
        desk.images.delete(outside)
    link = desk.store / "link"
    desk.store.mkdir(exist_ok=True)
    link.symlink_to(desk.inbox)
    with pytest.raises(ImageForbidden):
        desk.images.delete((link / "scan.png").as_uri())
    with pytest.raises(ImageForbidden):
        desk.images.delete("s3://elsewhere/scan.png")
    assert (desk.inbox / "scan.png").exists()


def test_images_of_a_bucket_are_deleted_below_its_prefix_only(s3: Bucket) -> None:
    images = Images(
        roots=(),
        buckets=(),
        store=f"s3://{s3.bucket}/store",
        s3=s3.config,
        max_bytes=1000,
    )
    uri, other = images.put(b"signature"), s3.put("inbox/scan.png", b"a document")
    images.delete(uri)
    images.delete(uri)
    with pytest.raises(ImageForbidden):
        images.delete(other)
    left = s3.client().list_objects_v2(Bucket=s3.bucket).get("Contents", [])
    assert [entry["Key"] for entry in left] == ["inbox/scan.png"]
