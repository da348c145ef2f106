"""From the best weights of a run to a checkpoint that may serve: calibrated, tested, gated."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from . import evaluate, leakage
from .arrays import Vectors
from .calibration import fit_scoring, fit_threshold
from .checkpoint import Checkpoint, save_checkpoint
from .closed_form import complete
from .distance import vectors_of
from .errors import TrainingError
from .lineage import ENROLLED
from .objectives import Part
from .recipes import Recipe
from .sampling import Writer
from .seed_protocol import VALIDATION, seed_table
from .train import Trainer

COHORT = 256
"""Writers in the cohort: at 512 half-precision numbers each, a quarter of a megabyte."""


class ModelRefused(TrainingError):
    """The model failed a gate against leaks, so it is not promoted."""

    code = "model_refused"


def finish(
    trainer: Trainer,
    test: Part,
    path: Path,
    *,
    provenance: dict[str, Any],
    allow_leaky: bool = False,
) -> Checkpoint:
    """Fit rule and thresholds on the development writers, test, pass the gates, and save.

    Saved in half precision; thresholds and test figures are those of the rounded weights, for
    they belong to what is shipped. The gates are measured on the test writers, without any on the
    development writers. A model that fails one is kept in the run's folder as `refused.pt` and
    ModelRefused is raised, unless `allow_leaky`; either way the checkpoint says so.
    """
    recipe, rng = trainer.recipe, np.random.default_rng(trainer.recipe.seed)
    weights = {name: _rounded(value) for name, value in trainer.best_weights.items()}
    trainer.average.load_state_dict(weights)
    head = recipe.head
    if head in ("places", "cells"):
        weights = _completed(trainer)
    if head == "places":
        head = "outlines" if trainer.average.outlines else "views"
    parts = {VALIDATION: trainer.validation} | ({"test": test} if test.writers else {})
    writers = {name: part.writers for name, part in parts.items()}
    vectors = {
        name: evaluate.embed_rows(trainer.average, part.images, trainer.device)
        for name, part in parts.items()
    }
    tuned = (vectors[VALIDATION], writers[VALIDATION])
    threshold = fit_threshold(evaluate.one_to_one(*tuned, rng), recipe.policy)
    cohort = _cohort(trainer, rng)
    scoring = fit_scoring(*tuned, cohort=cohort, policy=recipe.policy, rng=rng)
    rows = []
    if test.writers:
        rows = evaluate.summary(
            vectors["test"],
            test.writers,
            threshold=threshold,
            scoring=scoring,
            seed=recipe.seed,
        )
    held_out = "test" if test.writers else VALIDATION
    gates = _gates(vectors[held_out], writers[held_out], recipe.seed)
    checkpoint = Checkpoint(
        weights=weights,
        backbone=recipe.backbone,
        size=recipe.preprocessing.width,
        threshold=threshold,
        preprocessing=recipe.preprocessing,
        scoring=scoring,
        head=head,
        provenance=_as_plain(
            {
                "recipe": recipe.as_dict(),
                "test": rows,
                **_seed_rows(recipe, vectors, writers),
                "gates": gates.as_dict(),
                "allow_leaky": allow_leaky,
                "log": [_without_times(row) for row in trainer.log],
                "versions": versions(),
                **provenance,
            }
        ),
    )
    if gates.failures and not allow_leaky:
        kept = trainer.folder / "refused.pt"
        save_checkpoint(kept, checkpoint, half=True)
        raise ModelRefused(f"{' '.join(gates.failures)} The model is refused and kept as {kept}.")
    save_checkpoint(path, checkpoint, half=True)
    return checkpoint


def _completed(trainer: Trainer) -> dict[str, Tensor]:
    """The rounded weights of the trained network with what is fitted to the same writers."""
    rng = np.random.default_rng(trainer.recipe.seed)
    complete(trainer.average, trainer.objective.part, trainer.device, rng)
    weights = {name: _rounded(value) for name, value in trainer.average.state_dict().items()}
    trainer.average.load_state_dict(weights)
    return weights


def _as_plain(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, whatever run they come from: pickle writes a text that is met twice once.

    A run that was resumed has other objects than one that was not, and the file's sha256 is to be
    the same.
    """
    plain: dict[str, Any] = json.loads(json.dumps(provenance))
    return plain


def _without_times(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "seconds"}


def versions() -> dict[str, str]:
    """The libraries that decide what a run comes to."""
    libraries = ("torch", "timm", "numpy", "opencv-python-headless", "scikit-learn")
    found = {name: metadata.version(name) for name in libraries}
    return {"python": platform.python_version(), **found}


def _rounded(value: Tensor) -> Tensor:
    return value.half().float() if value.is_floating_point() else value


def _gates(vectors: Vectors, writers: Sequence[Writer], seed: int) -> leakage.Gates:
    pairs, _ = evaluate.folds_of_five(vectors, writers, np.random.default_rng(seed))
    return leakage.check(
        vectors,
        writers,
        skilled_eer=pairs.eer("skilled"),
        random_eer=pairs.eer("random"),
        seed=seed,
    )


def _seed_rows(
    recipe: Recipe,
    vectors: Mapping[str, Vectors],
    writers: Mapping[str, Sequence[Writer]],
) -> dict[str, Any]:
    """The seed's own table, for runs by its recipe on writers with skilled forgeries."""
    forged = all(any(len(writer.forged) for writer in part) for part in writers.values())
    if recipe.sampling != "pairs" or not forged:
        return {}
    table = seed_table(vectors, writers, policy=recipe.policy, seed=recipe.seed)
    return {"seed_table": table}


def _cohort(trainer: Trainer, rng: np.random.Generator) -> Vectors:
    """One genuine signature each of up to 256 training writers, their vectors: (K, 512).

    None of an enrolled signer: near to himself, he would be refused for it, and an embedding that
    is in a checkpoint can never be erased.
    """
    part = trainer.objective.part
    writers = [writer for writer in part.writers if writer.corpus != ENROLLED]
    chosen = rng.permutation(len(writers))[:COHORT]
    rows = np.array([rng.choice(writers[number].genuine) for number in chosen], np.intp)
    found = evaluate.embed_rows(trainer.average, part.images, trainer.device, rows=rows)
    return vectors_of(found)
