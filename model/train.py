"""Training: epochs of a recipe over writer-disjoint parts, resumable after every one of them."""

import copy
import csv
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from . import evaluate
from .checkpoint import Checkpoint, begin_with
from .errors import TrainingError
from .files import write_atomically
from .objectives import Objective, Part
from .precision import depthwise_in_float32, mixed_precision
from .rates import percent
from .recipes import Recipe
from .siamese import SiameseNet

LOG_FIELDS = ("epoch", "loss", "skilled_eer", "random_eer", "learning_rate", "seconds")


@dataclass(frozen=True, kw_only=True)
class Reporter:
    """Where progress goes: `say` takes sentences, `step` (epoch, step, steps, loss)."""

    say: Callable[[str], None]
    step: Callable[[int, int, int, float], None]


class Trainer:
    """The state of a run. `folder` receives log.csv, last.pt after each epoch, and the result.

    It begins with the weights of `start`, or else as the recipe says. Then `fit` trains, going on
    with a run that is found in `folder`, or `keep` leaves all as it is. Raises CheckpointMismatch.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: Part,
        validation: Part,
        *,
        folder: Path,
        device: torch.device,
        reporter: Reporter,
        start: Checkpoint | None = None,
    ) -> None:
        self.recipe, self.validation = recipe, validation
        self.folder, self.device, self.reporter = folder, device, reporter
        self.objective = Objective(recipe, train, device)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.model = SiameseNet(
                recipe.backbone,
                pretrained=recipe.pretrained,
                drop_path=recipe.drop_path,
                coordinates=recipe.preprocessing.coordinates,
                detail=recipe.preprocessing.detail,
                head=recipe.head,
            )
        self.refining = start is not None
        if start is not None:
            begin_with(self.model, start)
        if self.model.cells:  # they learn when all else has
            self.model.requires_grad_(False)
            self.model.cells.requires_grad_(True)
        depthwise_in_float32(self.model)
        # In this order oneDNN runs the depthwise convolutions 1.2 times as fast in float32.
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.to(device)
        for notice in self.model.notices:
            reporter.say(notice)
        self.average = copy.deepcopy(self.model) if recipe.ema else self.model
        self.optimizer = torch.optim.AdamW(
            [
                {"params": self._head_parameters(), "share": 1.0},
                {"params": self.model.backbone.parameters(), "share": recipe.backbone_rate},
            ],
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.epoch, self.step = 0, 0
        self.best_error = math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.log: list[dict[str, float]] = []

    def _head_parameters(self) -> list[nn.Parameter]:
        return [
            parameter
            for name, parameter in self.model.named_parameters()
            if not name.startswith("backbone.")
        ]

    def fit(self) -> dict[str, Tensor]:
        """Train the epochs that are left; returns the best epoch's weights, a copy of their own.

        Where no epoch is better on the development writers than the weights that the run began
        with, it is these: who goes on learning from a model does not end with a worse one. Raises
        TrainingError when the loss stops being a number, and where the folder holds a run of
        another recipe. Killed at any moment, a run loses the epoch it was in and no more.
        """
        self._resume()
        if self.refining and self.epoch == 0:
            self._keep_if_better(scores := self._validate())
            self.reporter.say(f"as it begins: {_errors_sentence(scores)}")
        for epoch in range(self.epoch, self.recipe.epochs):
            started = time.monotonic()
            loss = self._train_epoch(epoch)
            scores = self._validate()
            self.epoch = epoch + 1
            self._keep_if_better(scores)
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
            self.reporter.say(
                f"epoch {self.epoch}/{self.recipe.epochs}: loss {loss:.4f},"
                f" {_errors_sentence(scores)}, {self.log[-1]['seconds']:.0f} s"
            )
        return self.best_weights

    def _keep_if_better(self, scores: evaluate.Scores) -> None:
        """Keep the averaged weights, whose scores these are, if none before were as good."""
        if scores.selection_error < self.best_error:
            self.best_error = scores.selection_error
            self.keep()

    def keep(self) -> None:
        """Take the averaged weights as they are for the run's result; before `fit`, the start's."""
        self.best_weights = copy.deepcopy(self.average.state_dict())

    def _train_epoch(self, epoch: int) -> float:
        frozen = self.model.cells is not None or epoch < self.recipe.freeze_epochs
        self.model.backbone.requires_grad_(not frozen)
        self.model.train()
        if frozen:
            self.model.backbone.eval()
        losses = []
        with torch.random.fork_rng():
            torch.manual_seed(hash((self.recipe.seed, epoch)))
            rng = np.random.default_rng((self.recipe.seed, epoch))
            steps, batch_losses = self.objective.losses(self.model, epoch, rng)
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
        loss.backward()  # type: ignore[no-untyped-call]
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
        learnt = "cells." if self.model.cells else ""
        for name, value in self.average.state_dict().items():
            if not name.startswith(learnt):
                continue
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])

    def _validate(self) -> evaluate.Scores:
        with mixed_precision(self.device):
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


def _errors_sentence(scores: evaluate.Scores) -> str:
    return (
        f"1:1 EER on development writers {percent(scores.eer('skilled'))} skilled,"
        f" {percent(scores.eer('random'))} random"
    )
