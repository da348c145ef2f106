"""By which recipe a model's successor is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint, load_checkpoint
from model.errors import TrainingError
from model.preprocess import Preprocessing
from model.recipes import CELLS, WRITERS, refined
from worker.learning import recipe_of

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "siamese_vision_mamba_tiny.pt"


@pytest.fixture
def seed(tiny_checkpoint: Path) -> Checkpoint:
    """A checkpoint that says nothing of how it came about."""
    return load_checkpoint(tiny_checkpoint)


def test_the_shipped_model_is_followed_by_its_own_recipe() -> None:
    shipped = load_checkpoint(SHIPPED)
    recipe = recipe_of(shipped, 123)
    assert recipe == CELLS
    assert recipe.preprocessing == shipped.preprocessing


def test_a_checkpoint_without_a_recipe_gets_the_seeds_on_its_own_input(seed: Checkpoint) -> None:
    recipe = recipe_of(seed, 7)
    assert (recipe.name, recipe.head, recipe.seed) == ("seed", "seed", 7)
    assert recipe.backbone == "test_mambaout"
    assert recipe.preprocessing == Preprocessing(height=64, width=96)
    assert recipe_of(replace(seed, head="views"), 7).name == "places"


def test_a_line_of_models_does_not_train_ever_shorter(seed: Checkpoint) -> None:
    """The parent was refined itself; its successor is refined from the whole recipe again."""
    told = {"recipe": refined(WRITERS).as_dict(), "whole_recipe": WRITERS.as_dict()}
    parent = replace(seed, provenance=json.loads(json.dumps(told)))
    assert recipe_of(parent, 1).epochs == WRITERS.epochs


def test_a_recipe_of_another_release_is_refused_with_a_sentence(seed: Checkpoint) -> None:
    parent = replace(seed, provenance={"recipe": {"name": "of tomorrow"}})
    with pytest.raises(TrainingError, match="cannot be followed by this release"):
        recipe_of(parent, 1)
