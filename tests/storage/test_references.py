from __future__ import annotations

import threading

import numpy as np
import pytest
from sqlalchemy import event, insert

from storage import references, signers
from storage.errors import (
    InvalidVector,
    ModelMismatch,
    NoReferences,
    SignerRetired,
    UnknownModel,
    UnknownReference,
    UnknownSigner,
)
from storage.tables import Embedding, Reference
from tests.builders import (
    MODEL_ID,
    a_model,
    a_reference,
    a_specimen,
    an_embedded_reference,
    digest,
    unit_vector,
)


def specimen(name="first", seed=0, **changes):
    usual = {"uri": f"file:///store/{name}", "vector": unit_vector(seed)}
    return a_specimen(name, **(usual | changes))


def enrol(session, name="first", **changes):
    """The reference, and whether this call brought it into use."""
    offered = specimen(name, **changes)
    [(number, new)] = references.enrol(session, "ada", MODEL_ID, [offered]).values()
    return references.numbered(session, [number])[number], new


@pytest.fixture
def ada(sessions):
    with sessions.begin() as session:
        a_model(session)
        signers.ensure(session, "ada")
    return sessions


def test_a_reference_keeps_where_it_is_and_where_it_came_from(ada):
    with ada.begin() as session:
        reference, created = enrol(session, source="scan 7.png")
    assert created
    assert (reference.uri, reference.source) == ("file:///store/first", "scan 7.png")
    assert reference.sha256 == digest("first")
    assert reference.retired_at is None


def test_the_same_image_is_enrolled_once_and_never_overwritten(ada):
    with ada.begin() as session:
        first, _ = enrol(session, source="a.png")
    with ada.begin() as session:
        again, created = enrol(session, source="b.png", uri="file:///elsewhere")
    assert not created
    assert (again.id, again.source, again.uri) == (first.id, "a.png", first.uri)


def test_the_same_image_can_belong_to_two_signers(ada):
    with ada.begin() as session:
        first = enrol(session)[0]
        second = a_reference(session, "bob", "first")
        assert first.id != second.id


def test_enrolling_a_retired_image_restores_it(ada):
    with ada.begin() as session:
        reference, _ = enrol(session, source="a.png")
        enrolled_at = reference.enrolled_at
        references.retire(session, reference.id)
        assert references.of_signer(session, "ada") == []
    with ada.begin() as session:
        again, created = enrol(session, source="b.png")
        assert created, "this call brought it into use"
        assert (again.id, again.source, again.retired_at) == (reference.id, "a.png", None)
        assert again.enrolled_at == enrolled_at
        assert not enrol(session)[1]


def test_nothing_is_enrolled_for_a_signer_who_is_retired_or_by_a_model_that_is_unknown(sessions):
    with sessions.begin() as session:
        with pytest.raises(UnknownModel):
            enrol(session)
        a_model(session)
        signers.retire(session, "ada")
        with pytest.raises(SignerRetired):
            enrol(session)


def test_of_many_who_enrol_the_same_image_at_once_exactly_one_creates_it(ada):
    def one() -> None:
        barrier.wait()
        try:
            with ada.begin() as session:
                reference, created = enrol(session)
                results.append((reference.id, created))
        except Exception as error:
            results.append(error)

    results: list[object] = []
    barrier = threading.Barrier(6)
    _together([one] * 6)
    assert len({result[0] for result in results}) == 1
    assert sorted(result[1] for result in results) == [False] * 5 + [True]


def test_live_references_come_oldest_first_and_retired_ones_on_request(ada):
    with ada.begin() as session:
        ids = [enrol(session, name)[0].id for name in ("a", "b", "c")]
        references.retire(session, ids[1])
    with ada.begin() as session:
        assert [r.id for r in references.of_signer(session, "ada")] == [ids[0], ids[2]]
        assert [r.id for r in references.of_signer(session, "ada", retired=True)] == ids


def test_retiring_twice_keeps_the_first_time(ada):
    with ada.begin() as session:
        reference, _ = enrol(session)
        first = references.retire(session, reference.id).retired_at
    with ada.begin() as session:
        assert references.retire(session, reference.id).retired_at == first


def test_an_unknown_reference_is_named(sessions):
    with sessions.begin() as session, pytest.raises(UnknownReference, match="reference 99"):
        references.retire(session, 99)


def test_embeddings_are_the_live_references_of_one_signer_as_one_model_sees_them(sessions):
    other = digest("another model")
    with sessions.begin() as session:
        kept = [an_embedded_reference(session, "ada", name, seed=i) for i, name in enumerate("ab")]
        gone = an_embedded_reference(session, "ada", "c", seed=2)
        an_embedded_reference(session, "bob", "d", seed=3)
        a_model(session, other)
        references.put_embeddings(session, other, {kept[0].id: unit_vector(9)})
        references.retire(session, gone.id)
    with sessions.begin() as session:
        found = references.embeddings(session, "ada", MODEL_ID)
        by_other = references.embeddings(session, "ada", other)
    assert found.ids == tuple(reference.id for reference in kept)
    np.testing.assert_array_equal(found.vectors, np.stack([unit_vector(0), unit_vector(1)]))
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(by_other.vectors, unit_vector(9)[None])


def test_the_references_of_a_signer_are_one_statement(sessions):
    with sessions.begin() as session:
        an_embedded_reference(session)
    sent: list[str] = []
    with sessions.begin() as session:
        event.listen(
            session.connection(), "before_cursor_execute", lambda *given: sent.append(given[2])
        )
        assert len(references.embeddings(session, "ada", MODEL_ID).ids) == 1
    assert len(sent) == 1


def test_the_first_embedding_of_a_reference_by_a_model_stands(sessions):
    with sessions.begin() as session:
        an_embedded_reference(session, seed=0)
        an_embedded_reference(session, seed=1)
        found = references.embeddings(session, "ada", MODEL_ID)
    np.testing.assert_array_equal(found.vectors, unit_vector(0)[None])


def test_there_is_nothing_to_compare_with_for_a_signer_unknown_retired_or_without_images(sessions):
    with sessions.begin() as session:
        with pytest.raises(UnknownSigner):
            references.embeddings(session, "ada", MODEL_ID)
        signers.ensure(session, "ada")
        with pytest.raises(NoReferences, match="'ada'"):
            references.embeddings(session, "ada", MODEL_ID)
        reference = an_embedded_reference(session)
        references.retire(session, reference.id)
        with pytest.raises(NoReferences):
            references.embeddings(session, "ada", MODEL_ID)
        signers.retire(session, "ada")
        with pytest.raises(SignerRetired):
            references.embeddings(session, "ada", MODEL_ID)


def test_two_models_embeddings_are_never_mixed(sessions):
    with sessions.begin() as session:
        an_embedded_reference(session)
        with pytest.raises(ModelMismatch, match="another model") as caught:
            references.embeddings(session, "ada", digest("another model"))
    assert caught.value.code == "model_mismatch"


def test_a_reference_that_was_never_embedded_is_a_mismatch_and_not_an_empty_set(sessions):
    with sessions.begin() as session:
        a_reference(session)
        with pytest.raises(ModelMismatch):
            references.embeddings(session, "ada", MODEL_ID)


def test_an_embedding_needs_a_finite_row_and_a_registered_model(sessions):
    with sessions.begin() as session:
        known = a_reference(session).id
        with pytest.raises(UnknownModel):
            references.put_embeddings(session, MODEL_ID, {known: unit_vector(0)})
        a_model(session)
        with pytest.raises(InvalidVector):
            references.put_embeddings(session, MODEL_ID, {known: np.array([np.nan])})
        assert references.put_embeddings(session, MODEL_ID, {known + 1: unit_vector(0)}) == 0
        assert references.put_embeddings(session, MODEL_ID, {known: unit_vector(0)}) == 1
        assert references.put_embeddings(session, MODEL_ID, {known: unit_vector(1)}) == 0


def test_stored_embeddings_that_differ_in_length_are_refused(sessions):
    with sessions.begin() as session:
        an_embedded_reference(session, "ada", "a")
        second = a_reference(session, "ada", "b")
        session.execute(
            insert(Embedding).values(
                reference_id=second.id, model_id=MODEL_ID, vector=b"\0" * 8, dimensions=2
            )
        )
        with pytest.raises(InvalidVector, match="differ in length"):
            references.embeddings(session, "ada", MODEL_ID)


def test_a_damaged_embedding_is_refused(sessions):
    with sessions.begin() as session:
        reference: Reference = a_reference(session)
        a_model(session)
        session.execute(
            insert(Embedding).values(
                reference_id=reference.id, model_id=MODEL_ID, vector=b"\0" * 7, dimensions=2
            )
        )
        with pytest.raises(InvalidVector, match="7 bytes"):
            references.embeddings(session, "ada", MODEL_ID)


def _together(actions) -> None:
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_several_specimens_are_enrolled_at_once_and_only_once(sessions) -> None:
    with sessions.begin() as session:
        a_model(session)
        first = references.enrol(
            session, "ada", MODEL_ID, [specimen("b", 1), specimen("aa", 2), specimen("b", 9)]
        )
        again = references.enrol(session, "ada", MODEL_ID, [specimen("aa", 9), specimen("ccc", 3)])
        assert references.enrol(session, "ada", MODEL_ID, []) == {}
        found = references.embeddings(session, "ada", MODEL_ID)
        assert references.count(session, "ada", MODEL_ID) == 3
    assert [first[digest(name)][1] for name in ("b", "aa")] == [True, True]
    assert again == {
        digest("aa"): (first[digest("aa")][0], False),
        digest("ccc"): (again[digest("ccc")][0], True),
    }
    assert first[digest("b")][0] < first[digest("aa")][0]  # in the order given
    np.testing.assert_array_equal(found.vectors, [unit_vector(n) for n in (1, 2, 3)])


def test_enrolling_at_once_restores_what_was_retired_and_changes_the_revision(sessions) -> None:
    with sessions.begin() as session:
        a_model(session)
        [(number, _)] = references.enrol(session, "ada", MODEL_ID, [specimen("b")]).values()
        references.retire(session, number)
        before = signers.revisions(session, ["ada"])["ada"]
        restored = references.enrol(session, "ada", MODEL_ID, [specimen("b")])
        assert restored == {digest("b"): (number, True)}
        assert signers.revisions(session, ["ada"])["ada"] > before
        assert references.count(session, "ada", MODEL_ID) == 1


def test_a_retired_reference_is_restored_and_another_left_as_it_is(sessions) -> None:
    with sessions.begin() as session:
        reference = an_embedded_reference(session)
        references.retire(session, reference.id)
        before = signers.revisions(session, ["ada"])["ada"]
        assert references.restore(session, reference.id).retired_at is None
        after = signers.revisions(session, ["ada"])["ada"]
        assert after > before
        references.restore(session, reference.id)
        assert signers.revisions(session, ["ada"])["ada"] == after
        with pytest.raises(UnknownReference):
            references.restore(session, 999)
