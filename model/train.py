"""Training: epochs of a recipe over writer-disjoint parts, resumable after every one of them."""

import copy
import csv
import io
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from . import evaluate
from .cache import CachedImages
from .checkpoint import Checkpoint, save_checkpoint
from .descriptor import orientation_histograms
from .errors import TrainingError
from .files import write_atomically
from .losses import contrastive_loss, multi_similarity_loss
from .preprocess import to_range
from .recipes import Recipe
from .sampling import Writer, balanced_pairs, writer_batches
from .siamese import SiameseNet

Pixels = NDArray[np.uint8]
LOG_FIELDS = ("epoch", "loss", "skilled_eer", "random_eer", "learning_rate", "seconds")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the split: its writers and their images, rows counted within the part."""

    writers: tuple[Writer, ...]
    images: CachedImages


@dataclass(frozen=True, kw_only=True)
class Reporter:
    """Where progress goes: `say` takes sentences, `step` (epoch, step, steps, loss)."""

    say: Callable[[str], None]
    step: Callable[[int, int, int, float], None]


class Trainer:
    """The state of a run. `folder` receives log.csv, last.pt after each epoch, and the result."""

    def __init__(
        self,
        recipe: Recipe,
        train: Part,
        validation: Part,
        *,
        folder: Path,
        device: torch.device,
        reporter: Reporter,
        focus: str | None = None,
    ) -> None:
        self.recipe, self.train_part, self.validation = recipe, train, validation
        self.folder, self.device, self.reporter, self.focus = folder, device, reporter, focus
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.model = SiameseNet(
                recipe.backbone,
                pretrained=recipe.pretrained,
                drop_path=recipe.drop_path,
                coordinates=recipe.preprocessing.coordinates,
            ).to(device)
        for notice in self.model.notices:
            reporter.say(notice)
        self.average = copy.deepcopy(self.model) if recipe.ema else self.model
        self.optimizer = torch.optim.AdamW(
            [
                {"params": self.model.head.parameters(), "share": 1.0},
                {"params": self.model.backbone.parameters(), "share": recipe.backbone_rate},
            ],
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        self.epoch, self.step = 0, 0
        self.best_error = math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.log: list[dict[str, float]] = []
        self._mean_descriptor: Tensor | None = None
        self._resume()

    def fit(self) -> dict[str, Tensor]:
        """Train the epochs that are left; returns the best epoch's weights, a copy of their own.

        Raises TrainingError when the loss stops being a number. Killed at any moment, a run
        loses the epoch it was in and no more.
        """
        for epoch in range(self.epoch, self.recipe.epochs):
            started = time.monotonic()
            loss = self._train_epoch(epoch)
            scores = self._validate()
            self.epoch = epoch + 1
            if scores.selection_error < self.best_error:
                self.best_error = scores.selection_error
                self.best_weights = copy.deepcopy(self.average.state_dict())
            self.log.append(
                {
                    "epoch": self.epoch,
                    "loss": loss,
                    "skilled_eer": scores.eer("skilled"),
                    "random_eer": scores.eer("random"),
                    "learning_rate": self.optimizer.param_groups[0]["lr"],
                    "seconds": time.monotonic() - started,
                }
            )
            self._save()
            self.reporter.say(_epoch_sentence(self.log[-1], self.recipe.epochs))
        return self.best_weights

    def _train_epoch(self, epoch: int) -> float:
        frozen = epoch < self.recipe.freeze_epochs
        self.model.backbone.requires_grad_(not frozen)
        self.model.train()
        if frozen:
            self.model.backbone.eval()
        losses = []
        with torch.random.fork_rng():
            torch.manual_seed(hash((self.recipe.seed, epoch)))
            steps, batch_losses = self._losses(epoch)
            for number, loss in enumerate(batch_losses, start=1):
                losses.append(self._descend(loss, steps))
                self.reporter.step(epoch + 1, number, steps, float(np.mean(losses[-20:])))
        return float(np.mean(losses))

    def _descend(self, loss: Tensor, steps: int) -> float:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss became {value} in step {self.step + 1}; a lower learning rate may help. "
                f"The last whole epoch is kept in {self.folder}."
            )
        rate = self._learning_rate(steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return value

    def _learning_rate(self, steps: int) -> float:
        """Linear warm-up, then cosine to zero over the whole run."""
        warmup, total = self.recipe.warmup_steps, steps * self.recipe.epochs
        if self.step < warmup:
            return self.recipe.learning_rate * (self.step + 1) / warmup
        progress = (self.step - warmup) / max(total - warmup, 1)
        return self.recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is self.model:
            return
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))  # follows fast at first
        current = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])

    def _losses(self, epoch: int) -> tuple[int, Iterator[Tensor]]:
        rng = np.random.default_rng((self.recipe.seed, epoch))
        if self.recipe.sampling == "pairs":
            return self._pair_losses(epoch, rng)
        return self._writer_losses(epoch, rng)

    def _pair_losses(self, epoch: int, rng: np.random.Generator) -> tuple[int, Iterator[Tensor]]:
        recipe = self.recipe
        pairs = balanced_pairs(self.train_part.writers, rng=rng)
        batches = [slice(i, i + recipe.batch) for i in range(0, len(pairs), recipe.batch)]
        batches = [b for b in batches if b.stop <= len(pairs)] or batches  # BatchNorm needs full
        batches = batches[: recipe.steps]
        share = epoch / max(recipe.epochs - 1, 1)
        margin = recipe.margin[0] + share * (recipe.margin[1] - recipe.margin[0])

        def losses() -> Iterator[Tensor]:
            for batch in batches:
                first = self._augmented(pairs.first[batch], rng)
                second = self._augmented(pairs.second[batch], rng)
                same = torch.from_numpy(pairs.same[batch]).to(self.device)
                with self._mixed_precision():
                    distances, _, _ = self.model(first, second)
                yield contrastive_loss(distances, same, margin)

        return len(batches), losses()

    def _writer_losses(self, epoch: int, rng: np.random.Generator) -> tuple[int, Iterator[Tensor]]:
        recipe = self.recipe
        per_batch = min(recipe.writers_per_batch, len(self.train_part.writers))
        images = per_batch * recipe.images_each * 2
        steps = recipe.steps or max(len(self.train_part.images.pixels) // images, 1)
        batches = writer_batches(
            self.train_part.writers,
            steps=steps,
            per_batch=per_batch,
            images_each=recipe.images_each,
            focus=self.focus,
            rng=rng,
        )

        past = epoch - recipe.descriptor_epochs
        descriptor_weight = min(1 - past / (recipe.epochs - recipe.descriptor_epochs), 1.0)

        def losses() -> Iterator[Tensor]:
            for batch in batches:
                inputs = self._augmented(batch.rows, rng)
                writers = torch.from_numpy(batch.writers).to(self.device)
                genuine = torch.from_numpy(batch.genuine).to(self.device)
                with self._mixed_precision():
                    embeddings = self.model.embed(inputs)
                loss = embeddings.new_zeros(())
                if past >= 0:
                    loss = multi_similarity_loss(
                        embeddings,
                        writers,
                        genuine,
                        own_forgery_weight=recipe.own_forgery_weight,
                    )
                if recipe.descriptor_epochs:
                    loss = loss + descriptor_weight * self._descriptor_loss(inputs, embeddings)
                yield loss

        return steps, losses()

    def _descriptor_loss(self, inputs: Tensor, embeddings: Tensor) -> Tensor:
        """One minus the cosine between embeddings and what their images' descriptors say.

        The descriptor's mean over the training set is taken off first: it says what all
        signatures share. It fills the first dimensions of the embedding.
        """
        if self._mean_descriptor is None:
            sample = np.linspace(0, len(self.train_part.images.pixels) - 1, 1000).astype(np.intp)
            images = torch.from_numpy(self.train_part.images.images(sample)).to(self.device)
            self._mean_descriptor = orientation_histograms(images).mean(0)
        target = orientation_histograms(inputs) - self._mean_descriptor
        width = target.shape[1]
        padded = functional.pad(target, (0, embeddings.shape[1] - width))
        return 1 - functional.cosine_similarity(padded, embeddings).mean()

    def _augmented(self, rows: NDArray[np.intp], rng: np.random.Generator) -> Tensor:
        images, augment = self.train_part.images, self.recipe.augmentation
        changed = np.stack([augment(images.pixels[row], rng) for row in rows])
        return torch.from_numpy(to_range(changed)).to(self.device)

    def _mixed_precision(self) -> torch.autocast:
        enabled = self.device.type == "cuda" or (
            self.device.type == "cpu" and torch.cpu._is_amx_tile_supported()
        )
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _validate(self) -> evaluate.Scores:
        vectors = evaluate.embed_rows(self.average, self.validation.images, self.device)
        if not np.isfinite(vectors).all():
            raise TrainingError("The network's embeddings are no longer numbers.")
        rng = np.random.default_rng(self.recipe.seed)
        return evaluate.one_to_one(vectors, self.validation.writers, rng)

    def _save(self) -> None:
        buffer = io.BytesIO()
        torch.save(
            {
                "recipe": repr(self.recipe),
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "best_weights": self.best_weights,
                "best_error": self.best_error,
                "epoch": self.epoch,
                "step": self.step,
                "log": self.log,
            },
            buffer,
        )
        write_atomically(self.folder / "last.pt", buffer.getvalue())
        text = io.StringIO()
        writer = csv.DictWriter(text, LOG_FIELDS)
        writer.writeheader()
        writer.writerows(self.log)
        write_atomically(self.folder / "log.csv", text.getvalue().encode())

    def _resume(self) -> None:
        last = self.folder / "last.pt"
        if not last.exists():
            return
        state = torch.load(last, map_location=self.device, weights_only=True)
        if state["recipe"] != repr(self.recipe):
            raise TrainingError(
                f"{self.folder} holds a run of another recipe; choose another folder or remove it."
            )
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_weights, self.best_error = state["best_weights"], state["best_error"]
        self.epoch, self.step, self.log = state["epoch"], state["step"], state["log"]
        self.reporter.say(f"Resuming after epoch {self.epoch} of {self.recipe.epochs}.")


def _epoch_sentence(row: dict[str, float], epochs: int) -> str:
    return (
        f"epoch {row['epoch']:.0f}/{epochs}: loss {row['loss']:.4f}, 1:1 EER on development "
        f"writers {100 * row['skilled_eer']:.1f} % skilled, {100 * row['random_eer']:.1f} % "
        f"random, {row['seconds']:.0f} s"
    )


def finish(trainer: Trainer, test: Part, path: Path, *, provenance: dict[str, Any]) -> Checkpoint:
    """Fit thresholds and rule on the development writers, test, and save the best weights.

    Saved in half precision; thresholds and test figures are those of the rounded weights, for
    they belong to what is shipped. The test rows are in the checkpoint's provenance.
    """
    recipe, model = trainer.recipe, trainer.average
    weights = {
        name: value.half().float() if value.is_floating_point() else value
        for name, value in trainer.best_weights.items()
    }
    model.load_state_dict(weights)
    rng = np.random.default_rng(recipe.seed)
    vectors = evaluate.embed_rows(model, trainer.validation.images, trainer.device)
    development = trainer.validation.writers
    pairs = evaluate.one_to_one(vectors, development, rng)
    threshold = evaluate.fit_threshold(pairs, recipe.policy)
    scoring = evaluate.fit_scoring(vectors, development, policy=recipe.policy, rng=rng)
    rows = []
    if test.writers:
        rows = evaluate.summary(
            evaluate.embed_rows(model, test.images, trainer.device),
            test.writers,
            threshold=threshold,
            scoring=scoring,
            seed=recipe.seed,
        )
    checkpoint = Checkpoint(
        weights=weights,
        backbone=recipe.backbone,
        size=recipe.preprocessing.width,
        threshold=threshold,
        preprocessing=recipe.preprocessing,
        scoring=scoring,
        provenance={
            "recipe": recipe.as_dict(),
            "test": rows,
            "versions": {"torch": str(torch.__version__), "python": platform.python_version()},
            **provenance,
        },
    )
    save_checkpoint(path, checkpoint, half=True)
    return checkpoint
