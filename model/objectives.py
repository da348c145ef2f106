"""One epoch of losses: batches drawn, augmented, embedded and compared as the recipe says."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from . import matching
from .alignment import TWICE, VIEW
from .arrays import Images
from .cache import CachedImages
from .changes import Drawn, changed, draw
from .descriptor import orientation_histograms
from .disguise import beside
from .loading import prefetch
from .losses import contrastive_loss, multi_similarity_loss, order_loss
from .precision import mixed_precision
from .preprocess import Grey, shrunk, to_range
from .recipes import Recipe
from .sampling import (
    Pairs,
    Writer,
    WriterBatch,
    balanced_pairs,
    by_corpus,
    pairs_within,
    writer_batches,
)
from .siamese import EMBEDDING_SIZE, SiameseNet

Item = TypeVar("Item")
Result = TypeVar("Result")

STRANGERS = 8
"""Signatures of others that each writer of a batch is held against."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the split: its writers and their images, rows counted within the part."""

    writers: tuple[Writer, ...]
    images: CachedImages


class Objective:
    """What a recipe asks of the network on the training part."""

    def __init__(self, recipe: Recipe, part: Part, device: torch.device) -> None:
        self.recipe, self.part, self.device = recipe, part, device
        self.pixels = _as_learnt(recipe, part.images.pixels)
        self.augmentation = recipe.augmentation
        if recipe.head != "seed":  # given for the frame at its usual size
            self.augmentation = recipe.augmentation.finer(self.pixels.shape[1] / VIEW[0])
        self.changes_whole_batches = device.type == "cuda"
        self._mean_descriptor: Tensor | None = None
        self.by_corpus = by_corpus(part.writers)

    def losses(
        self, model: SiameseNet, epoch: int, rng: np.random.Generator
    ) -> tuple[int, Iterator[Tensor]]:
        """The number of steps in an epoch, and their losses, computed one at a time."""
        if self.recipe.sampling == "pairs":
            return self._pair_losses(model, epoch, rng)
        if self.recipe.head == "cells":
            return self._cell_losses(model, rng)
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
        seeds = rng.integers(2**63, size=len(batches))

        def losses() -> Iterator[Tensor]:
            ready = _prefetched(
                lambda item: (item[0], self._pair_images(pairs, *item)),
                zip(batches, seeds, strict=True),
            )
            for batch, (first, second) in ready:
                same = torch.from_numpy(pairs.same[batch]).to(self.device)
                with mixed_precision(self.device):
                    distances, _, _ = model(self._placed(first), self._placed(second))
                yield contrastive_loss(distances, same, margin)

        return len(batches), losses()

    def _pair_images(self, pairs: Pairs, batch: slice, seed: int) -> tuple[Images, Images]:
        rng = np.random.default_rng(seed)
        return (
            self._augmented(self.pixels[pairs.first[batch]], rng),
            self._augmented(self.pixels[pairs.second[batch]], rng),
        )

    def _batches(self, rng: np.random.Generator) -> tuple[int, Iterator[WriterBatch]]:
        """The number of steps in an epoch, and their batches of writers."""
        recipe, writers = self.recipe, self.part.writers
        per_batch = min(recipe.writers_per_batch, len(writers))
        images = per_batch * recipe.images_each * 2
        steps = recipe.steps or max(
            sum(len(w.genuine) + len(w.forged) for w in writers) // images, 1
        )
        return steps, writer_batches(
            writers, steps=steps, per_batch=per_batch, images_each=recipe.images_each, rng=rng
        )

    def _cell_losses(
        self, model: SiameseNet, rng: np.random.Generator
    ) -> tuple[int, Iterator[Tensor]]:
        """Of the cells alone, by pairs within the batches."""
        steps, batches = self._batches(rng)

        def losses() -> Iterator[Tensor]:
            for batch, inputs in self._changed(batches):
                with mixed_precision(self.device):
                    cells = model.cells_of(model.see(inputs))
                pairs, whose = pairs_within(batch, self.part.writers, strangers=STRANGERS)
                apart = matching.apart(cells[pairs.first], cells[pairs.second])
                same = pairs.same == 1
                beside = torch.from_numpy(whose[same][:, None] == whose[~same][None])
                yield order_loss(apart[same], apart[~same], beside.to(self.device))

        return steps, losses()

    def _writer_losses(
        self, model: SiameseNet, epoch: int, rng: np.random.Generator
    ) -> tuple[int, Iterator[Tensor]]:
        recipe = self.recipe
        steps, batches = self._batches(rng)

        def losses() -> Iterator[Tensor]:
            for number, (batch, inputs) in enumerate(self._changed(batches)):
                with mixed_precision(self.device):
                    embeddings = model.embed(inputs)
                loss = embeddings.new_zeros(())
                if epoch >= recipe.descriptor_epochs:
                    loss = multi_similarity_loss(
                        embeddings,
                        torch.from_numpy(batch.writers).to(self.device),
                        torch.from_numpy(batch.genuine).to(self.device),
                        own_forgery_weight=recipe.own_forgery_weight,
                    )
                weight = self._descriptor_weight(epoch, steps * epoch + number)
                if weight:
                    loss = loss + weight * self._descriptor_loss(model, inputs, embeddings)
                yield loss

        return steps, losses()

    def _descriptor_weight(self, epoch: int, step: int) -> float:
        recipe = self.recipe
        if recipe.descriptor_epochs:
            past, left = epoch - recipe.descriptor_epochs, recipe.epochs - recipe.descriptor_epochs
            return min(1 - past / max(left, 1), 1.0)  # a run may be shorter than those epochs
        return max(1 - step / recipe.descriptor_steps, 0.0) if recipe.descriptor_steps else 0.0

    def _descriptor_loss(self, model: SiameseNet, inputs: Tensor, embeddings: Tensor) -> Tensor:
        """One minus the cosine between embeddings and what their images' descriptors say.

        The descriptor's mean over the training set is taken off first: it says what all
        signatures share. What is left fills the first dimensions of the embedding, or with a head
        that keeps places apart of what the network says of the whole.
        """
        if self._mean_descriptor is None:
            self._mean_descriptor = self._descriptors_of_a_thousand(model).mean(0)
        target = _descriptors(model, inputs) - self._mean_descriptor
        whole = embeddings[:, :EMBEDDING_SIZE]
        padded = functional.pad(target, (0, whole.shape[1] - target.shape[1]))
        return 1 - functional.cosine_similarity(padded, whole).mean()

    def _descriptors_of_a_thousand(self, model: SiameseNet) -> Tensor:
        rows = np.concatenate([writer.genuine for writer in self.part.writers])
        rows = rows[np.linspace(0, len(rows) - 1, 1000).astype(np.intp)]
        return _descriptors(model, self._placed(to_range(self.pixels[rows])))

    def _changed(self, batches: Iterable[WriterBatch]) -> Iterator[tuple[WriterBatch, Tensor]]:
        """Each batch with its images augmented, every writer of it behind a disguise.

        A processor changes image by image on several threads, a GPU the batch as a whole.
        """
        if not self.changes_whole_batches:
            for batch, images in _prefetched(lambda one: (one, self._disguised(one)), batches):
                yield batch, self._placed(images)
            return
        for batch, drawn in _prefetched(lambda one: (one, self._drawn(one)), batches):
            yield batch, changed(self._canvases, drawn)

    @cached_property
    def _canvases(self) -> Tensor:
        """All pixels on the device, brought there once and not in every epoch."""
        return torch.from_numpy(self.pixels).to(self.device)

    def _drawn(self, batch: WriterBatch) -> Drawn:
        return draw(
            batch,
            self.part.writers,
            self.by_corpus,
            augmentation=self.augmentation,
            disguise=self.recipe.disguise,
            shape=self.pixels.shape[1:],
        )

    def _disguised(self, batch: WriterBatch) -> Images:
        """Augmented images of the batch, every writer of it behind a disguise of its own."""
        rng = np.random.default_rng(batch.seed)
        shape = (self.pixels.shape[1], self.pixels.shape[2])
        images = [self.pixels[row] for row in batch.rows]
        for number in np.unique(batch.writers):
            members = np.flatnonzero(batch.writers == number)
            writer = self.part.writers[number]
            partner = self.recipe.disguise.partner(writer, self.by_corpus[writer.corpus], rng)
            if partner is not None:
                other, share = partner
                for member, row in zip(members, batch.alike(members, other, rng), strict=True):
                    images[member] = beside(images[member], self.pixels[row], share)
            change = self.recipe.disguise.draw(shape, rng)
            for member in members:
                images[member] = change(images[member])
        return self._augmented(images, rng)

    def _augmented(self, images: Iterable[Grey], rng: np.random.Generator) -> Images:
        return to_range(np.stack([self.augmentation(image, rng) for image in images]))

    def _placed(self, images: Images) -> Tensor:
        return torch.from_numpy(images).to(self.device)


@torch.no_grad()
def _descriptors(model: SiameseNet, inputs: Tensor) -> Tensor:
    """Of what the network is shown: coarser than the images, with a head that keeps places."""
    return orientation_histograms(model.see(inputs)[:, :1])


def _as_learnt(recipe: Recipe, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The canvases (N, H, W) as they are changed: with places no finer than a network sees them."""
    finest = TWICE if recipe.preprocessing.detail else VIEW
    if recipe.head == "seed" or pixels.shape[1] <= finest[0]:
        return pixels
    return np.stack([shrunk(canvas, *finest) for canvas in pixels])


def _prefetched(prepare: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    workers = os.cpu_count() or 1
    return prefetch(prepare, items, workers=workers, ahead=2 * workers)
