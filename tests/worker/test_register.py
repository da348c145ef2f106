from __future__ import annotations

import numpy as np
import pytest

from model.matching import SIZE
from storage import references, signers
from storage.database import Sessions
from tests.builders import (
    MODEL_ID,
    a_model,
    a_reference,
    a_specimen,
    an_embedded_reference,
    digest,
    unit_vector,
)
from worker.register import Register
from worker.transactions import transaction


def test_the_nearest_other_signer_is_found_with_all_their_references(sessions: Sessions) -> None:
    register = Register(MODEL_ID, every=0)
    with transaction(sessions) as session:
        for seed, (signer, name) in enumerate((("ada", "a"), ("bo", "b"), ("bo", "c"))):
            an_embedded_reference(session, signer, name, seed=seed)
        register.catch_up(session)
    asked = np.stack([unit_vector(0), unit_vector(2)])
    first, second = register.nearest(asked, but="zoe")
    assert first is not None
    assert second is not None
    assert (first.signer_id, second.signer_id) == ("ada", "bo")
    np.testing.assert_array_equal(second.references, np.stack([unit_vector(1), unit_vector(2)]))
    [other] = register.nearest(unit_vector(0)[None], but="ada")
    assert other is not None
    assert other.signer_id == "bo"


def test_a_neighbour_comes_with_cells_and_is_found_without(sessions: Sessions) -> None:
    register = Register(MODEL_ID, every=0)
    rng = np.random.default_rng(1)
    known = {
        name: np.concatenate([unit_vector(seed), rng.integers(-127, 128, SIZE) / 128])
        for seed, name in enumerate(("ada", "bo"))
    }
    with transaction(sessions) as session:
        a_model(session)
        for name, embedding in known.items():
            offered = [a_specimen(name, vector=embedding.astype(np.float32))]
            references.enrol(session, name, MODEL_ID, offered)
        register.catch_up(session)
    asked = np.concatenate([unit_vector(1), np.zeros(SIZE)]).astype(np.float32)
    [found] = register.nearest(asked[None], but="zoe")
    assert found is not None
    assert found.signer_id == "bo"
    np.testing.assert_array_equal(found.references, known["bo"].astype(np.float32)[None])


def test_fewer_are_kept_of_a_model_with_cells(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.register.MOST_WITH_CELLS", 1)
    with transaction(sessions) as session:
        for id, dimensions in ((MODEL_ID, 512), (digest("with cells"), 512 + SIZE)):
            a_model(session, id)
            for seed, name in enumerate(("ada", "bo")):
                embedding = np.zeros(dimensions, np.float32)
                embedding[seed] = 1
                references.enrol(session, name, id, [a_specimen(name, vector=embedding)])
        plain, with_cells = (Register(id, every=0) for id in (MODEL_ID, digest("with cells")))
        plain.catch_up(session)
        with_cells.catch_up(session)
    asked = np.zeros((1, 512 + SIZE), np.float32)
    asked[0, 0] = 1
    found = plain.nearest(asked[:, :512], but="zoe"), with_cells.nearest(asked, but="zoe")
    assert [one.signer_id for [one] in found if one is not None] == ["ada", "bo"]


def test_with_nobody_else_there_is_no_neighbour(sessions: Sessions) -> None:
    register = Register(MODEL_ID, every=0)
    assert register.nearest(unit_vector(0)[None], but="ada") == [None]
    with transaction(sessions) as session:
        an_embedded_reference(session, "ada")
        register.catch_up(session)
    assert register.nearest(unit_vector(0)[None], but="ada") == [None]


def test_only_what_is_new_is_read_and_what_was_learnt_counts_once(sessions: Sessions) -> None:
    register = Register(MODEL_ID, every=0)
    with transaction(sessions) as session:
        an_embedded_reference(session, "ada", "a", seed=0)
        register.catch_up(session)
    with transaction(sessions) as session:
        late = an_embedded_reference(session, "bo", "b", seed=1).id
        register.learn(late, "bo", digest("b"), unit_vector(1))
        register.catch_up(session)
    [found] = register.nearest(unit_vector(1)[None], but="ada")
    assert found is not None
    assert found.references.shape == (1, 512)


def test_retired_references_and_signers_and_other_models_are_left_out(sessions: Sessions) -> None:
    with transaction(sessions) as session:
        gone = an_embedded_reference(session, "ada", "a", seed=0)
        references.retire(session, gone.id)
        an_embedded_reference(session, "bo", "b", seed=1)
        signers.retire(session, "bo")
        a_reference(session, "chen", "c")
        register, other = Register(MODEL_ID, every=0), Register(digest("another model"))
        register.catch_up(session)
        other.catch_up(session)
    assert register.nearest(unit_vector(0)[None], but="zoe") == [None]
    assert other.nearest(unit_vector(0)[None], but="zoe") == [None]


def test_of_more_references_than_fit_the_newest_are_kept(sessions: Sessions) -> None:
    register = Register(MODEL_ID, most=2)
    with transaction(sessions) as session:
        for seed, signer in enumerate(("ada", "bo", "chen")):
            an_embedded_reference(session, signer, signer, seed=seed)
        register.catch_up(session)
    [found] = register.nearest(unit_vector(0)[None], but="zoe")
    assert found is not None
    assert found.signer_id != "ada"


def test_the_owner_of_a_file_is_another_signer(sessions: Sessions) -> None:
    register = Register(MODEL_ID, every=0)
    with transaction(sessions) as session:
        an_embedded_reference(session, "ada", "a")
        register.catch_up(session)
    assert register.owner(digest("a"), but="bo") == "ada"
    assert register.owner(digest("a"), but="ada") is None
    assert register.owner(digest("b"), but="bo") is None


def test_others_are_looked_at_only_every_so_often(sessions: Sessions) -> None:
    register = Register(MODEL_ID, every=60)
    with transaction(sessions) as session:
        register.catch_up(session)
        an_embedded_reference(session, "ada", "a")
        register.catch_up(session)
    assert register.owner(digest("a"), but="bo") is None
