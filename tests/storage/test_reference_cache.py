"""The cache answers as the database would, whatever has changed meanwhile."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import event

from storage import references, signers
from storage.errors import ModelMismatch, NoReferences, SignerRetired, UnknownSigner
from storage.reference_cache import ReferenceCache
from tests.builders import a_model, a_specimen, digest

MODEL = digest("model")


def enrol(sessions, name="ada", *angles, model=MODEL):
    with sessions.begin() as session:
        a_model(session, model)
        offered = [
            a_specimen(
                f"{name}{angle}", vector=np.array([np.cos(angle), np.sin(angle)], np.float32)
            )
            for angle in angles
        ]
        references.enrol(session, name, model, offered)


def ask(sessions, cache, *names, model=MODEL):
    with sessions.begin() as session:
        return cache.embeddings(session, names or ("ada",), model)


@pytest.fixture
def reads(sessions):
    """The statements that read vectors, since the test began."""
    seen = []

    def note(_connection, _cursor, statement, *_):
        if "embeddings.vector" in statement:
            seen.append(statement)

    engine = sessions.kw["bind"]
    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def test_a_signers_references_are_read_once(sessions, reads):
    enrol(sessions, "ada", 0.0, 1.0)
    cache = ReferenceCache()
    first = ask(sessions, cache)["ada"]
    assert ask(sessions, cache)["ada"] is first
    assert len(reads) == 1
    assert len(first.ids) == 2
    assert first.vectors[0] == pytest.approx([1.0, 0.0])


def test_several_signers_are_answered_together_each_with_their_own_reason(sessions):
    enrol(sessions, "ada", 0.0)
    enrol(sessions, "bo", 0.0, model=digest("older"))
    with sessions.begin() as session:
        signers.ensure(session, "empty")
        signers.ensure(session, "gone")
        signers.retire(session, "gone")
    found = ask(sessions, ReferenceCache(), "ada", "bo", "empty", "gone", "nobody")
    assert len(found["ada"].ids) == 1
    assert isinstance(found["bo"], ModelMismatch)
    assert isinstance(found["empty"], NoReferences)
    assert isinstance(found["gone"], SignerRetired)
    assert isinstance(found["nobody"], UnknownSigner)


def test_every_change_of_the_references_is_seen_at_once(sessions):
    enrol(sessions, "ada", 0.0)
    cache = ReferenceCache()
    first = ask(sessions, cache)["ada"]
    enrol(sessions, "ada", 1.0)
    second = ask(sessions, cache)["ada"]
    assert (len(first.ids), len(second.ids)) == (1, 2)
    with sessions.begin() as session:
        references.retire(session, second.ids[0])
    assert ask(sessions, cache)["ada"].ids == second.ids[1:]
    enrol(sessions, "ada", 0.0)  # restores it
    assert ask(sessions, cache)["ada"].ids == second.ids


def test_a_retired_signer_is_refused_and_a_restored_one_is_back(sessions):
    enrol(sessions, "ada", 0.0)
    cache = ReferenceCache()
    kept = ask(sessions, cache)["ada"]
    with sessions.begin() as session:
        signers.retire(session, "ada")
    assert isinstance(ask(sessions, cache)["ada"], SignerRetired)
    with sessions.begin() as session:
        signers.restore(session, "ada")
    assert ask(sessions, cache)["ada"].ids == kept.ids


def test_two_models_are_never_mixed(sessions):
    newer = digest("newer")
    enrol(sessions, "ada", 0.0)
    cache = ReferenceCache()
    ask(sessions, cache)
    assert isinstance(ask(sessions, cache, model=newer)["ada"], ModelMismatch)
    with sessions.begin() as session:
        a_model(session, newer)
        (reference,) = references.of_signer(session, "ada")
        references.put_embeddings(session, newer, {reference.id: np.ones(3, np.float32)})
    assert ask(sessions, cache, model=newer)["ada"].vectors.shape == (1, 3)
    assert ask(sessions, cache)["ada"].vectors.shape == (1, 2)


def test_what_was_not_asked_for_longest_is_forgotten(sessions, reads):
    for name in ("ada", "bo", "cy"):
        enrol(sessions, name, 0.0)
    cache = ReferenceCache(2)
    for name in ("ada", "bo", "ada", "cy", "ada"):
        ask(sessions, cache, name)
    assert len(reads) == 3
    ask(sessions, cache, "bo")
    assert len(reads) == 4


def test_no_more_is_kept_than_the_memory_given(sessions, reads):
    """One signer's two references of two numbers take 16 bytes, so two signers fit into 40."""
    for name in ("ada", "bo", "cy"):
        enrol(sessions, name, 0.0, 1.0)
    cache = ReferenceCache(memory=40)
    for name in ("ada", "bo", "ada", "bo"):
        ask(sessions, cache, name)
    assert len(reads) == 2
    ask(sessions, cache, "cy")  # in the place of ada
    ask(sessions, cache, "bo")
    assert len(reads) == 3
    ask(sessions, cache, "ada")
    assert len(reads) == 4
