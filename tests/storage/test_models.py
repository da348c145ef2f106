from __future__ import annotations

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from storage import models, references, signers
from storage.database import make_engine, make_sessions
from storage.errors import (
    ActivationUnderWay,
    ModelAltered,
    ModelChanged,
    ModelIncomplete,
    ModelInUse,
    NoActiveModel,
    UnknownModel,
)
from storage.models import Lineup
from storage.seal import Key, Keys
from tests.builders import MODEL_ID, a_model, a_reference, digest, unit_vector

OLD, NEW, THIRD = digest("old"), digest("new"), digest("third")


def registered(sessions, *ids):
    with sessions.begin() as session:
        for id in ids:
            a_model(session, id)
        models.adopt(session, ids[0], "setup")


def embedded(session, reference, *ids):
    for id in ids:
        references.put_embeddings(session, id, {reference.id: unit_vector(1)})


def lineup(sessions):
    with sessions.begin() as session:
        return models.lineup(session)


def states(sessions):
    with sessions.begin() as session:
        return {model.id: model.state for model in models.all(session)}


def test_a_model_comes_back_as_it_was_registered(sessions):
    with sessions.begin() as session:
        a_model(session, threshold=0.1 + 0.2, scoring={"rule": "nearest", "offsets": [0.1, 0.2]})
    with sessions.begin() as session:
        model = models.get(session, MODEL_ID)
    assert model.threshold == 0.1 + 0.2
    assert model.scoring == {"rule": "nearest", "offsets": [0.1, 0.2]}
    assert (model.backbone, model.size) == ("test_mambaout", 224)


def test_registering_again_changes_nothing(sessions):
    with sessions.begin() as session:
        a_model(session, uri="first.pt")
    with sessions.begin() as session:
        assert a_model(session, uri="second.pt").uri == "first.pt"
        assert len(models.all(session)) == 1


@pytest.mark.parametrize(
    "altered",
    [
        {"threshold": 1.9},
        {"size": 96},
        {"preprocessing": "seed_grey/1 224x224"},
        {"backbone": "resnet18"},
    ],
    ids=repr,
)
def test_a_record_that_contradicts_the_checkpoint_of_its_digest_is_refused(sessions, altered):
    with sessions.begin() as session:
        a_model(session, **altered)
    with sessions.begin() as session, pytest.raises(ModelAltered, match=next(iter(altered))):
        a_model(session)


def test_a_model_that_is_new_contradicts_nothing(sessions):
    with sessions.begin() as session:
        a_model(session)
        models.check(
            session, id=digest("new"), backbone="x", size=1, threshold=0.0, preprocessing="x"
        )


def test_models_are_listed_in_the_order_of_registration(sessions):
    names = ["c", "a", "b"]
    with sessions.begin() as session:
        for name in names:
            a_model(session, digest(name))
        assert [model.id for model in models.all(session)] == [digest(name) for name in names]


def test_an_unknown_model_is_named_by_its_beginning(sessions):
    with sessions.begin() as session, pytest.raises(UnknownModel, match=MODEL_ID[:12]):
        models.get(session, MODEL_ID)


def test_a_model_is_found_by_the_beginning_of_its_digest(sessions):
    with sessions.begin() as session:
        a_model(session, "ab" + "0" * 62)
        a_model(session, "ac" + "0" * 62)
        assert models.find(session, "AB").id.startswith("ab")
        assert models.find(session, "newest").id.startswith("ac")
        with pytest.raises(NoActiveModel):
            models.find(session, "active")
        models.adopt(session, "ab" + "0" * 62)
        assert models.find(session, "active").id.startswith("ab")
        for wrong in ("a", "", "ad", "%"):
            with pytest.raises(UnknownModel):
                models.find(session, wrong)


def test_a_registered_model_is_a_candidate_and_keeps_what_is_told_of_it(sessions):
    with sessions.begin() as session:
        a_model(session, NEW, metrics={"a": 1}, recipe={"b": 2}, parent_id=OLD, by="mia")
        model = models.get(session, NEW)
    assert (model.state, model.metrics, model.recipe) == ("candidate", {"a": 1}, {"b": 2})
    assert (model.parent_id, model.registered_by) == (OLD, "mia")
    assert lineup(sessions) == Lineup()


def test_the_first_model_is_adopted_and_no_second(sessions):
    registered(sessions, OLD, NEW)
    with sessions.begin() as session:
        assert not models.adopt(session, NEW)
        assert models.active(session).id == OLD
    assert lineup(sessions) == Lineup(active=OLD)


def test_without_an_active_model_one_is_asked_for_in_vain(sessions):
    with sessions.begin() as session, pytest.raises(NoActiveModel):
        models.active(session)


def test_an_activation_retires_the_model_before_and_is_on_record(sessions):
    registered(sessions, OLD, NEW)
    with sessions.begin() as session:
        embedded(session, a_reference(session), OLD, NEW)
        assert models.activate(session, NEW, "mia") == OLD
        assert models.previous(session).id == OLD
    assert states(sessions) == {OLD: "retired", NEW: "active"}
    with sessions.begin() as session:
        entries = session.execute(
            text("SELECT subject, detail FROM chain_entries WHERE kind = 'activation'")
        ).all()
    assert [entry.subject for entry in entries] == [OLD, NEW]
    assert '"by": "mia"' in entries[1].detail
    assert OLD in entries[1].detail


def test_a_model_that_lacks_a_live_reference_is_not_activated(sessions):
    registered(sessions, OLD, NEW)
    with sessions.begin() as session:
        first, second, third = (a_reference(session, "ada", name) for name in "abc")
        fourth = a_reference(session, "bo", "d")
        embedded(session, first, OLD, NEW)
        references.retire(session, second.id)  # what is out of use is not missed
        signers.retire(session, "bo")
        assert models.lacking(session, NEW) == [third.id]
        assert (models.count_lacking(session, NEW), models.count_live(session)) == (1, 2)
        assert fourth.id not in models.lacking(session, NEW)
    with pytest.raises(ModelIncomplete, match="1 of the references"), sessions.begin() as session:
        models.activate(session, NEW)
    assert lineup(sessions) == Lineup(active=OLD)
    with sessions.begin() as session:
        models.activate(session, NEW, lost=[third.id])
    assert lineup(sessions) == Lineup(active=NEW)


def test_an_emergency_does_not_wait_for_what_is_missing(sessions):
    registered(sessions, OLD, NEW)
    with sessions.begin() as session:
        a_reference(session)
        models.activate(session, NEW, now=True)
    assert lineup(sessions) == Lineup(active=NEW)


def test_the_second_of_two_operators_is_told_of_the_first(sessions):
    registered(sessions, OLD, NEW, THIRD)
    with sessions.begin() as session:
        models.announce(session, NEW, "mia")
        models.announce(session, NEW, "mia")  # goes on
    for act in (models.announce, models.activate):
        with sessions.begin() as session, pytest.raises(ActivationUnderWay, match="by mia"):
            act(session, THIRD, "ben")
    with sessions.begin() as session:
        assert models.withdraw(session, NEW).state == "candidate"
        assert models.announce(session, THIRD).state == "incoming"


def test_a_model_that_was_active_is_retired_when_it_is_withdrawn(sessions):
    registered(sessions, OLD, NEW)
    with sessions.begin() as session:
        models.activate(session, NEW)
        models.announce(session, OLD)
        assert models.withdraw(session, OLD).state == "retired"
        with pytest.raises(ModelInUse, match="nothing to cancel"):
            models.withdraw(session, OLD)


def test_the_active_model_is_not_activated_again(sessions):
    registered(sessions, OLD)
    with sessions.begin() as session, pytest.raises(ModelInUse, match="active already"):
        models.activate(session, OLD)


def test_a_model_in_the_shadow_has_a_share_and_embeds_what_is_enrolled(sessions):
    registered(sessions, OLD, NEW, THIRD)
    with sessions.begin() as session:
        reference = a_reference(session)
        with pytest.raises(ModelIncomplete):
            models.shadow(session, NEW, 0.1)
        embedded(session, reference, NEW, THIRD)
        models.shadow(session, NEW, 0.1, "mia")
        with pytest.raises(ModelInUse):
            models.shadow(session, THIRD, 0.1)
        models.announce(session, THIRD)
    found = lineup(sessions)
    assert found == Lineup(active=OLD, incoming=THIRD, shadow=NEW, shadow_share=0.1)
    assert found.embedding == (OLD, NEW, THIRD)
    with sessions.begin() as session:
        models.withdraw(session, THIRD)
        models.activate(session, NEW)
    assert lineup(sessions) == Lineup(active=NEW)
    with sessions.begin() as session:
        assert models.get(session, NEW).shadow_share is None


def test_there_is_no_rollback_without_a_model_before(sessions):
    registered(sessions, OLD)
    with sessions.begin() as session, pytest.raises(UnknownModel, match="none to return to"):
        models.previous(session)


def test_a_rollback_returns_to_what_was_replaced_whatever_was_cancelled_since(sessions):
    registered(sessions, OLD, NEW, THIRD)
    with sessions.begin() as session:
        models.activate(session, NEW)
        models.activate(session, THIRD)
        models.announce(session, OLD)
        models.withdraw(session, OLD)
        assert models.previous(session).id == NEW


def test_embeddings_are_pruned_of_models_that_are_not_in_use_and_of_no_other(sessions):
    registered(sessions, OLD, NEW)
    with sessions.begin() as session:
        for name in "abc":
            embedded(session, a_reference(session, name=name), OLD, NEW)
        assert [models.prune(session, NEW, limit=2) for _ in range(3)] == [2, 1, 0]
        assert models.count_lacking(session, OLD) == 0
        with pytest.raises(ModelInUse, match="is active"):
            models.prune(session, OLD)


def test_the_database_itself_allows_no_second_active_model(sessions):
    registered(sessions, OLD, NEW)
    with sessions.begin() as session, pytest.raises(IntegrityError):
        session.execute(text("UPDATE models SET state = 'active'"))


def test_of_many_who_activate_at_once_each_change_is_whole(sessions):
    ids = [digest(f"model {n}") for n in range(6)]
    registered(sessions, *ids)
    faults = []

    def activate(id):
        try:
            with sessions.begin() as session:
                models.activate(session, id)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=activate, args=[id]) for id in ids[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert sorted(states(sessions).values()) == ["active"] + 5 * ["retired"]
    with sessions.begin() as session:
        replaced = session.scalars(
            text("SELECT detail FROM chain_entries WHERE kind = 'activation'")
        ).all()
    assert len(set(replaced)) == 6  # each has replaced another


def test_an_activation_waits_for_those_who_are_enrolling_and_sees_what_they_wrote(sessions):
    registered(sessions, OLD, NEW)
    writing, asked = threading.Event(), threading.Event()
    outcome = []

    def activate():
        writing.wait(10)
        asked.set()
        try:
            with sessions.begin() as session:
                models.activate(session, NEW)
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=activate)
    thread.start()
    with sessions.begin() as session:
        models.still_active(session, OLD)
        writing.set()
        asked.wait(10)
        embedded(session, a_reference(session), OLD)
    thread.join()
    (error,) = outcome
    assert isinstance(error, ModelIncomplete)


def test_whoever_enrols_by_a_model_that_has_been_replaced_is_told(sessions):
    registered(sessions, OLD, NEW)
    with sessions.begin() as session:
        models.activate(session, NEW)
    with sessions.begin() as session, pytest.raises(ModelChanged):
        models.still_active(session, OLD)


KEY = Key.of("k" * 32)


@pytest.fixture
def keyed(database_url):
    engine = make_engine(database_url)
    yield make_sessions(engine, KEY)
    engine.dispose()


def by_key(sessions, keys=Keys(current=KEY)):  # noqa: B008
    with sessions.begin() as session:
        return models.sealed(session, keys)


def test_the_newest_sealed_activation_says_which_model_is_active(keyed):
    assert by_key(keyed) is None
    registered(keyed, OLD, NEW)
    assert by_key(keyed) == OLD
    with keyed.begin() as session:
        models.activate(session, NEW)
    assert by_key(keyed) == NEW
    assert by_key(keyed, Keys(current=Key.of("o" * 32))) is None
    assert by_key(keyed, Keys(current=Key.of("o" * 32), old=(KEY,))) == NEW


def test_whoever_has_the_database_but_not_the_key_activates_nothing(keyed):
    registered(keyed, OLD, NEW)
    forger = make_sessions(keyed.kw["bind"], Key.of("f" * 32))
    with forger.begin() as session:
        models.activate(session, NEW)
    unkeyed = make_sessions(keyed.kw["bind"])
    with unkeyed.begin() as session:
        models.confirm(session, NEW)
    assert lineup(keyed) == Lineup(active=NEW)
    assert by_key(keyed) == OLD
    with keyed.begin() as session:  # a copy of the genuine entry, under the other's name
        copied = "INSERT INTO chain_entries SELECT 99, position, kind, :id, detail, key_id,"
        session.execute(
            text(f"{copied} recorded_at, mac FROM chain_entries WHERE subject = :old"),
            {"id": NEW, "old": OLD},
        )
    assert by_key(keyed) == OLD


def test_an_active_model_is_confirmed_under_a_key_that_came_later(sessions):
    registered(sessions, OLD, NEW)
    assert by_key(sessions) is None
    keyed = make_sessions(sessions.kw["bind"], KEY)
    with keyed.begin() as session:
        models.confirm(session, OLD, "mia")
        with pytest.raises(ModelInUse):
            models.confirm(session, NEW)
    assert by_key(sessions) == OLD
