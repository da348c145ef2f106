"""How a network is trained: the seed's settings, and ours."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from .augment import Augmentation
from .disguise import Disguise
from .errors import ModelError, TrainingError
from .metrics import Policy
from .preprocess import VERSIONS, Preprocessing
from .siamese import Head


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides how a run goes, beside the data.

    `sampling` is "pairs" (contrastive loss, margin rising linearly from the first to the second
    value) or "writers" (multi-similarity loss over batches of `writers_per_batch` writers with
    `images_each` genuine and as many forged signatures). `steps` bounds an epoch; None means all
    pairs. During `freeze_epochs` only the head learns, then the backbone at `backbone_rate` times
    the learning rate. During `descriptor_epochs` a writers run learns the descriptor alone; its
    weight then falls to 0 at the end. Or it learns it beside the rest from the beginning, by a
    weight that falls to 0 in `descriptor_steps`. `ema` is the decay of the averaged weights, 0 for
    none. `generated` made-up signers are added to the training writers; they tune and test nothing.
    A run with the head `places` learns at 64 x 128, however fine the canvas is, its augmentation
    given in pixels of that. When it has ended it is completed by classical descriptors: by how
    outlines turn, too, where the canvas is finer. A run with the head `cells` goes on from such a
    checkpoint, and its cells alone learn.
    """

    name: str
    backbone: str = "mambaout_tiny"
    head: Head = "seed"
    pretrained: bool = True
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    augmentation: Augmentation = field(default_factory=Augmentation)
    disguise: Disguise = field(default_factory=Disguise)
    sampling: Literal["pairs", "writers"] = "pairs"
    batch: int = 16
    writers_per_batch: int = 8
    images_each: int = 4
    own_forgery_weight: float = 3.0
    descriptor_epochs: int = 0
    descriptor_steps: int = 0
    margin: tuple[float, float] = (0.7, 1.1)
    epochs: int = 6
    steps: int | None = None
    learning_rate: float = 2e-4
    weight_decay: float = 1e-4
    warmup_steps: int = 0
    freeze_epochs: int = 1
    backbone_rate: float = 0.25
    drop_path: float = 0.0
    ema: float = 0.0
    policy: Policy = "youden"
    generated: int = 0
    seed: int = 123

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the checkpoint's provenance and to tell whether a run is the same."""
        return asdict(self)


SEED = Recipe(
    name="seed",
    augmentation=Augmentation(rotation=3.0, shear=3.0, blur=0.8),
)

WRITERS = Recipe(
    name="writers",
    pretrained=False,
    preprocessing=Preprocessing(height=64, width=128, coordinates=True),
    augmentation=Augmentation(
        rotation=8.0, shear=6.0, scale=0.12, shift=0.03, elastic=0.8, pen=1.0, blur=0.6, erase=0.1
    ),
    disguise=Disguise(mirror=0.45, bend=0.7, window=0.4),
    sampling="writers",
    descriptor_epochs=3,
    epochs=35,
    steps=120,
    learning_rate=7e-4,
    weight_decay=0.05,
    warmup_steps=50,
    freeze_epochs=0,
    backbone_rate=1.0,
    drop_path=0.05,
    ema=0.998,
    policy="eer",
    generated=1200,
)

PLACES = replace(
    WRITERS,
    name="places",
    head="places",
    preprocessing=Preprocessing(height=256, width=512, coordinates=True),
    disguise=Disguise(mirror=0.45, bend=0.7, window=0.3, splice=0.35),
    descriptor_epochs=0,
    epochs=32,
    learning_rate=4e-4,
    warmup_steps=100,
    generated=0,
)

FINE = replace(
    PLACES,
    name="fine",
    preprocessing=Preprocessing(height=256, width=512, detail=True),
    writers_per_batch=32,
    descriptor_steps=150,
    epochs=36,
    steps=125,
    learning_rate=1e-3,
    warmup_steps=200,
    drop_path=0.1,
    ema=0.999,
)

CELLS = replace(
    FINE,
    name="cells",
    head="cells",
    writers_per_batch=8,
    descriptor_steps=0,
    epochs=4,
    steps=1000,
    learning_rate=1e-3,
    weight_decay=0.02,
    warmup_steps=100,
    drop_path=0.0,
    ema=0.998,
)

FEWER_EPOCHS = 0.5
GENTLER = 0.25
"""Shares of a recipe's epochs and learning rate by which a network that has learnt goes on."""

RECIPES = {recipe.name: recipe for recipe in (SEED, WRITERS, PLACES, FINE, CELLS)}


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `as_dict` was made of, by this release or one before.

    Raises TrainingError for one that this release cannot follow.
    """
    try:
        made = {
            "preprocessing": Preprocessing(**values["preprocessing"]),
            "augmentation": Augmentation(**values["augmentation"]),
            "disguise": Disguise(**values["disguise"]),
            "margin": tuple(values["margin"]),
        }
        return Recipe(**{**values, **made})
    except (KeyError, TypeError, ModelError) as error:
        raise TrainingError(f"The recipe cannot be followed by this release: {error}.") from error


def refined(recipe: Recipe) -> Recipe:
    """How a network that was trained so goes on with more data: shorter, and more gently.

    By small batches, so that a machine without a GPU is done within an hour or two.
    """
    few = min(recipe.writers_per_batch, WRITERS.writers_per_batch)
    smaller = math.sqrt(few / recipe.writers_per_batch)  # a step by fewer images says less
    return replace(
        recipe,
        name=f"{recipe.name}, refined",
        pretrained=False,
        epochs=math.ceil(FEWER_EPOCHS * recipe.epochs),
        writers_per_batch=few,
        learning_rate=GENTLER * smaller * recipe.learning_rate,
        freeze_epochs=0,
        descriptor_epochs=0,
        descriptor_steps=0,
        generated=0,
    )


def stages_of(recipe: Recipe) -> tuple[Recipe, ...]:
    """What a network is trained by from random weights: places go on from a run of writers.

    But not those that begin with the descriptor themselves. Cells go on from those that do.
    """
    if recipe.head == "cells":
        same = {name: getattr(recipe, name) for name in ("backbone", "preprocessing", "seed")}
        return replace(FINE, **same), recipe
    if recipe.head != "places" or recipe.descriptor_steps:
        return (recipe,)
    how, coarse = recipe.preprocessing, WRITERS.preprocessing
    height, width = min(how.height, coarse.height), min(how.width, coarse.width)
    first = replace(
        WRITERS,
        backbone=recipe.backbone,
        preprocessing=replace(how, height=height, width=width),
        steps=recipe.steps,
        seed=recipe.seed,
    )
    return first, recipe


def with_mode(recipe: Recipe, mode: str) -> Recipe:
    """The same recipe on another input, `strokes` or `seed_grey`."""
    how = replace(recipe.preprocessing, name=mode, version=VERSIONS[mode][-1])
    return replace(recipe, preprocessing=how)
