from __future__ import annotations

import pytest

from storage import models
from storage.errors import ModelAltered, UnknownModel
from tests.builders import MODEL_ID, a_model, digest


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
