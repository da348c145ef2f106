"""What is learnt in a retraining: who teaches, by which recipes, and how it turns out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model import evaluate
from model.arrays import Vectors
from model.cache import CachedImages
from model.checkpoint import Checkpoint, build_model, load_checkpoint
from model.comparison import Comparison, compare
from model.corpora import Parts, load_parts, with_generated
from model.dataset import Signer, Split
from model.inference import choose_device
from model.lineage import carried_on, divide, lineage_of
from model.promotion import finish
from model.recipes import PLACES, SEED, Recipe, from_dict, refined, stages_of
from model.sampling import writers_of
from model.train import Reporter, Trainer
from worker.retrain_run import Asked, Watch


def train(
    folder: Path,
    *,
    parent: Checkpoint,
    corpora: Sequence[Sequence[Signer]],
    enrolled: Sequence[Signer],
    asked: Asked,
    cache: Path,
    device: str,
    watch: Watch,
) -> None:
    """Write `candidate.pt`, a model of the same kind as the parent that has learnt from all this.

    Raises DatasetError, TrainingError, CheckpointMismatch.
    """
    known = lineage_of(parent.provenance)
    split = divide(corpora, enrolled, known, seed=asked.seed)
    whole = recipe_of(parent, asked.seed)
    stages = _stages(whole, asked)
    start = None if asked.from_scratch else parent
    told = {
        **carried_on(split, known),
        "corpora": sorted({signer.corpus for signer in (*split.train, *split.validation)}),
        "parent": parent.sha256,
        "whole_recipe": whole.as_dict(),
    }
    for number, recipe in enumerate(stages, start=1):
        last = number == len(stages)
        made = folder / ("candidate.pt" if last else "first.pt")
        if not made.exists():
            _stage(
                recipe,
                _parts(split, recipe, cache, watch),
                made,
                folder=folder / ("train" if last else "first"),
                start=start,
                told=told | {"start": start.sha256 if start else None},
                device=device,
                watch=watch,
                name=f"Stage {number} of {len(stages)}" if len(stages) > 1 else "Training",
            )
        start = load_checkpoint(made)


def compared(
    *,
    parent: Checkpoint,
    candidate: Checkpoint,
    corpora: Sequence[Sequence[Signer]],
    enrolled: Sequence[Signer],
    seed: int,
    cache: Path,
    device: str,
) -> Comparison:
    """Both models on the writers whom neither has learnt from."""
    split = divide(corpora, enrolled, lineage_of(parent.provenance), seed=seed)
    images = CachedImages(split.test, parent.preprocessing, cache)
    return compare(
        writers_of(split.test, images),
        active=parent,
        active_vectors=_embedded(parent, images, device),
        candidate=candidate,
        candidate_vectors=_embedded(candidate, images, device),
        seed=seed,
    )


def _embedded(checkpoint: Checkpoint, images: CachedImages, device: str) -> Vectors:
    where = choose_device(device)
    return evaluate.embed_rows(build_model(checkpoint, where), images, where)


def recipe_of(parent: Checkpoint, seed: int) -> Recipe:
    """The whole recipe of the parent's kind, on the parent's input and with another seed.

    A checkpoint that does not say how it was trained is taken for one of the seed's, or of places
    where it has them. Raises TrainingError.
    """
    told = parent.provenance.get("whole_recipe") or parent.provenance.get("recipe")
    recipe = from_dict(told) if told else SEED if parent.head == "seed" else PLACES
    return replace(recipe, backbone=parent.backbone, preprocessing=parent.preprocessing, seed=seed)


def _stages(whole: Recipe, asked: Asked) -> list[Recipe]:
    stages = stages_of(whole) if asked.from_scratch else (refined(whole),)
    changes: dict[str, Any] = {} if asked.epochs is None else {"epochs": asked.epochs}
    return [replace(recipe, **changes) for recipe in stages]


def _parts(split: Split, recipe: Recipe, cache: Path, watch: Watch) -> Parts:
    """The images of a stage; made-up signers teach in it where the recipe wants some."""
    if recipe.generated:
        split = with_generated(
            split, cache, recipe.generated, lambda n, of: watch.step("Making signers up", n, of)
        )
    return load_parts(
        split,
        recipe.preprocessing,
        cache,
        lambda done, total: watch.step("Reading images", done, total),
    )


def _stage(
    recipe: Recipe,
    parts: Parts,
    made: Path,
    *,
    folder: Path,
    start: Checkpoint | None,
    told: dict[str, Any],
    device: str,
    watch: Watch,
    name: str,
) -> None:
    def step(epoch: int, number: int, steps: int, loss: float) -> None:
        doing = f"{name}, epoch {epoch}/{recipe.epochs}, loss {loss:.4f}"
        watch.step(doing, (epoch - 1) * steps + number, recipe.epochs * steps)

    trainer = Trainer(
        recipe,
        parts.train,
        parts.validation,
        folder=folder,
        device=choose_device(device),
        reporter=Reporter(say=watch.say, step=step),
        start=start,
    )
    trainer.fit()
    watch.step(f"{name}: fitting the thresholds", 0, 1)
    # A leak does not keep the candidate from being looked at, but from being promoted.
    finish(trainer, parts.test, made, provenance=told, allow_leaky=True)
