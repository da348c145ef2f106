from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import references, signers
from storage.errors import InvalidSignerId, SignerRetired, UnknownSigner
from tests.builders import a_reference


def test_a_signer_is_enrolled_once(sessions):
    with sessions.begin() as session:
        signers.ensure(session, "ada")
        first = signers.get(session, "ada")
    with sessions.begin() as session:
        signers.ensure(session, "ada")
        assert signers.get(session, "ada").enrolled_at == first.enrolled_at
        assert len(signers.search(session)) == 1


def test_an_unknown_signer_is_named(sessions):
    with sessions.begin() as session, pytest.raises(UnknownSigner, match="'ada'"):
        signers.get(session, "ada")


def test_a_retired_signer_is_refused_unless_asked_for(sessions):
    with sessions.begin() as session:
        signers.ensure(session, "ada")
        signers.retire(session, "ada")
    with sessions.begin() as session:
        with pytest.raises(SignerRetired, match="was retired on 20"):
            signers.get(session, "ada")
        assert signers.get(session, "ada", allow_retired=True).retired_at is not None


def test_enrolling_does_not_bring_a_retired_signer_back(sessions):
    with sessions.begin() as session:
        signers.ensure(session, "ada")
        signers.retire(session, "ada")
        with pytest.raises(SignerRetired):
            signers.ensure(session, "ada")


def test_only_restoring_brings_a_retired_signer_back(sessions):
    with sessions.begin() as session:
        signers.ensure(session, "ada")
        signers.retire(session, "ada")
        signers.restore(session, "ada")
        assert signers.get(session, "ada").retired_at is None


def test_retiring_twice_keeps_the_first_time(sessions):
    with sessions.begin() as session:
        signers.ensure(session, "ada")
        first = signers.retire(session, "ada").retired_at
    with sessions.begin() as session:
        assert signers.retire(session, "ada").retired_at == first


@pytest.mark.parametrize("act", [signers.retire, signers.restore])
def test_nobody_unknown_is_retired_or_restored(sessions, act):
    with sessions.begin() as session, pytest.raises(UnknownSigner):
        act(session, "ada")


def test_the_list_is_by_id_and_counts_live_references(sessions):
    with sessions.begin() as session:
        signers.ensure(session, "cyd")
        a_reference(session, "ada", "one")
        gone = a_reference(session, "ada", "two")
        a_reference(session, "bob", "three")
        references.retire(session, gone.id)
    with sessions.begin() as session:
        found = signers.search(session)
    assert [(s.id, s.references) for s in found] == [("ada", 1), ("bob", 1), ("cyd", 0)]


def test_the_list_can_be_narrowed(sessions):
    with sessions.begin() as session:
        for name in ("ACC-1", "ACC-2", "acc-3", "A%C"):
            signers.ensure(session, name)
        signers.retire(session, "ACC-2")

    def ids(*args, **kwargs):
        with sessions.begin() as session:
            return {s.id for s in signers.search(session, *args, **kwargs)}

    assert ids("acc") == {"ACC-1", "ACC-2", "acc-3"}
    assert ids("%") == {"A%C"}, "a percent sign is no wildcard"
    assert ids(retired=True) == {"ACC-2"}
    assert ids(retired=False) == {"ACC-1", "acc-3", "A%C"}
    assert len(ids(limit=2)) == 2
    assert ids("zzz") == set()


@pytest.mark.parametrize(
    ("signer_id", "sentence"),
    [
        ("", "must not be empty"),
        (None, "must not be empty"),
        (7, "must not be empty"),
        ("x" * 129, "at most 128"),
        ("a/b", "looks like a path"),
        ("a\\b", "looks like a path"),
        ("..", "looks like a path"),
        (".", "looks like a path"),
        ("a\nb", "cannot be shown"),
        ("a\0b", "cannot be shown"),
        ("a\x1b[2Jb", "cannot be shown"),
        ("a\u202eb", "cannot be shown"),
        ("a\ud800b", "cannot be shown"),
        (" a", "begins or ends with a blank"),
        ("a ", "begins or ends with a blank"),
    ],
)
def test_an_id_that_names_nobody_is_one_printable_sentence(sessions, signer_id, sentence):
    with pytest.raises(InvalidSignerId, match=sentence) as caught:
        signers.check_id(signer_id)
    assert str(caught.value).isprintable()
    assert caught.value.code == "invalid_signer_id"
    for act in (signers.ensure, signers.get, signers.retire):
        with sessions.begin() as session, pytest.raises(InvalidSignerId):
            act(session, signer_id)


@pytest.mark.parametrize("signer_id", ["a", "x" * 128, "Ada Lovelace", "Zoë", "山田", "a.b-c_d:1"])
def test_an_ordinary_id_is_taken_as_it_is(sessions, signer_id):
    with sessions.begin() as session:
        signers.ensure(session, signer_id)
        assert signers.get(session, signer_id).id == signer_id


@given(st.text(max_size=200))
def test_an_id_is_either_taken_whole_or_refused(text):
    with suppress(InvalidSignerId):
        assert signers.check_id(text) == text
        assert 0 < len(text) <= 128
        assert text.isprintable()
        assert not set(text) & set("/\\")
