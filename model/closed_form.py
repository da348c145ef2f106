"""What is fitted to the training signatures after the network has learnt, without any descent."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .alignment import VIEW
from .arrays import Rows
from .objectives import Part
from .outline import outline_histograms, with_other_pens
from .siamese import EMBEDDING_SIZE, SiameseNet
from .views import histograms

BATCH = 64
SAMPLE = 5000
"""Signatures by which the joint vector's directions are found."""


@torch.no_grad()
def complete(model: SiameseNet, part: Part, device: torch.device, rng: np.random.Generator) -> None:
    """Set the classical descriptors beside what a network with the head `places` has learnt.

    Their maps are fitted to all signatures of the part, by its writers; the joint vector is then
    brought to 512 numbers along its principal directions, which costs 0.3 points. Outlines are
    among them where the canvas is finer than what the network sees, and says how they turn.
    """
    fine = part.images.how.height > VIEW[0] and part.images.how.width > VIEW[1]
    views, outlines, reduced = model.add_descriptors(outlines=fine)
    model.eval().to(device)
    every = np.arange(len(part.images.pixels))
    batches = _batches(part, every, device)
    found = [histograms(images, model.see(images)[:, :1]) for images in batches]
    views.fit(torch.cat(found), part.writers)
    if outlines:
        outlines.fit(*_outlines(part, every, device), part.writers)
    some = rng.permutation(every)[:SAMPLE]
    joint = torch.cat([model.joint(images) for images in _batches(part, some, device)])
    reduced.weight.copy_(_principal(joint, EMBEDDING_SIZE))


def _outlines(part: Part, rows: Rows, device: torch.device) -> tuple[Tensor, Tensor]:
    """How the outlines of these signatures turn, and those of the same by other pens."""
    found, penned = [], []
    for images in _batches(part, rows, device):
        found.append(outline_histograms(images))
        penned.append(outline_histograms(with_other_pens(images)))
    return torch.cat(found), torch.cat(penned)


def _batches(part: Part, rows: Rows, device: torch.device) -> Iterator[Tensor]:
    for start in range(0, len(rows), BATCH):
        yield torch.from_numpy(part.images.images(rows[start : start + BATCH])).to(device)


def _principal(vectors: Tensor, count: int) -> Tensor:
    """Vectors (N, D) -> the directions (count, D) in which they are longest; none is centred."""
    # Not by the eigenvectors of V^T V, which take seconds for the 2,880 numbers of even a hundred
    # signatures. Those beyond the rank complete the basis.
    few = len(vectors) < count
    axes: Tensor = torch.linalg.svd(vectors.double(), full_matrices=few).Vh
    return axes[:count].to(vectors.dtype)
