"""One epoch of losses: batches drawn, augmented, embedded and compared as the recipe says."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .cache import CachedImages
from .descriptor import orientation_histograms
from .losses import contrastive_loss, multi_similarity_loss
from .preprocess import to_range
from .recipes import Recipe
from .sampling import Writer, balanced_pairs, writer_batches
from .siamese import SiameseNet


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the split: its writers and their images, rows counted within the part."""

    writers: tuple[Writer, ...]
    images: CachedImages


class Objective:
    """What a recipe asks of the network on the training part.

    `focus` is the corpus that half of every batch of writers comes from.
    """

    def __init__(self, recipe: Recipe, part: Part, device: torch.device, focus: str | None) -> None:
        self.recipe, self.part, self.device, self.focus = recipe, part, device, focus
        self._mean_descriptor: Tensor | None = None

    def losses(
        self, model: SiameseNet, epoch: int, rng: np.random.Generator
    ) -> tuple[int, Iterator[Tensor]]:
        """The number of steps in an epoch, and their losses, computed one at a time."""
        if self.recipe.sampling == "pairs":
            return self._pair_losses(model, epoch, rng)
        return self._writer_losses(model, epoch, rng)

    def _pair_losses(
        self, model: SiameseNet, epoch: int, rng: np.random.Generator
    ) -> tuple[int, Iterator[Tensor]]:
        recipe = self.recipe
        pairs = balanced_pairs(self.part.writers, rng=rng)
        batches = [slice(i, i + recipe.batch) for i in range(0, len(pairs), recipe.batch)]
        # BatchNorm wants full batches; the rest of the pairs comes in another epoch's order.
        batches = [batch for batch in batches if batch.stop <= len(pairs)] or batches
        batches = batches[: recipe.steps]
        share = epoch / max(recipe.epochs - 1, 1)
        margin = recipe.margin[0] + share * (recipe.margin[1] - recipe.margin[0])

        def losses() -> Iterator[Tensor]:
            for batch in batches:
                first = self._augmented(pairs.first[batch], rng)
                second = self._augmented(pairs.second[batch], rng)
                same = torch.from_numpy(pairs.same[batch]).to(self.device)
                with self._mixed_precision():
                    distances, _, _ = model(first, second)
                yield contrastive_loss(distances, same, margin)

        return len(batches), losses()

    def _writer_losses(
        self, model: SiameseNet, epoch: int, rng: np.random.Generator
    ) -> tuple[int, Iterator[Tensor]]:
        recipe, writers = self.recipe, self.part.writers
        per_batch = min(recipe.writers_per_batch, len(writers))
        images = per_batch * recipe.images_each * 2
        steps = recipe.steps or max(len(self.part.images.pixels) // images, 1)
        batches = writer_batches(
            writers,
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
                with self._mixed_precision():
                    embeddings = model.embed(inputs)
                loss = embeddings.new_zeros(())
                if past >= 0:
                    loss = multi_similarity_loss(
                        embeddings,
                        torch.from_numpy(batch.writers).to(self.device),
                        torch.from_numpy(batch.genuine).to(self.device),
                        own_forgery_weight=recipe.own_forgery_weight,
                    )
                if recipe.descriptor_epochs:
                    loss = loss + descriptor_weight * self._descriptor_loss(inputs, embeddings)
                yield loss

        return steps, losses()

    def _descriptor_loss(self, inputs: Tensor, embeddings: Tensor) -> Tensor:
        """One minus the cosine between embeddings and what their images' descriptors say.

        The descriptor's mean over the training set is taken off first: it says what all
        signatures share. What is left fills the first dimensions of the embedding.
        """
        if self._mean_descriptor is None:
            self._mean_descriptor = self._descriptors_of_a_thousand().mean(0)
        target = orientation_histograms(inputs) - self._mean_descriptor
        padded = functional.pad(target, (0, embeddings.shape[1] - target.shape[1]))
        return 1 - functional.cosine_similarity(padded, embeddings).mean()

    def _descriptors_of_a_thousand(self) -> Tensor:
        rows = np.linspace(0, len(self.part.images.pixels) - 1, 1000).astype(np.intp)
        return orientation_histograms(
            torch.from_numpy(self.part.images.images(rows)).to(self.device)
        )

    def _augmented(self, rows: NDArray[np.intp], rng: np.random.Generator) -> Tensor:
        pixels, augment = self.part.images.pixels, self.recipe.augmentation
        changed = np.stack([augment(pixels[row], rng) for row in rows])
        return torch.from_numpy(to_range(changed)).to(self.device)

    def _mixed_precision(self) -> torch.autocast:
        """bf16 where matrix products are faster in it: GPUs, and processors with AMX."""
        enabled = self.device.type == "cuda" or (
            self.device.type == "cpu" and torch.cpu._is_amx_tile_supported()
        )
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)
