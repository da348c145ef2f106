"""Signatures compared place by place, where a place may give: cells that have learnt to match.

A vector compares what lies at a place with what lies at the very same place of the other signature,
but no hand puts a stroke to the same place twice. So a cell of one signature is compared with the
likest of those around its place in the other, both ways. Every second cell of every second row
asks, and all are asked: how finely the other is searched matters, and how many ask does not.
"""

import math
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import distance
from .alignment import VIEW
from .descriptor import gradients_of

GRID = (VIEW[0] // 4, VIEW[1] // 4)
"""Rows and columns of the cells that ask."""

PHASES = tuple(product(range(2), repeat=2))
"""Row and column of a cell within two by two; the first of the four asks."""

KEPT = 8
"""Numbers that say what a cell shows: a unit vector, or zeros where there is no ink around."""

GIVE = 5
"""Cells by which a stroke may lie elsewhere, up, down and to either side: 20 of 256 pixels."""

REACH = (GIVE + 1) // 2
STEPS = 2 * REACH
"""As far, and how many there are, in steps of two cells: those from -REACH to REACH - 1."""

PRICE = 0.004
"""Of a shift by one cell; by more it grows with the square."""

OWN = 0.5
"""Of what a shift is worth to a cell, its own likeness; the rest is its neighbours' and its own."""

EACH = (1 - OWN) / 9
"""Of what it is worth, the likeness of each of three by three cells."""

AT_ONCE = 8
"""Pairs that are compared in one go: more take as long each, and leave the processor's cache."""

SIZE = distance.CELLS
"""Numbers of one signature: what its cells show, and how much each of those that ask counts."""

STEP = 1 / 128
"""Of which the numbers are multiples, below 1 either way, so that a byte keeps one."""

CHANNELS, BLOCKS = 48, 3
ORIENTATIONS = 8
TURNS = tuple(2 * math.pi * number / ORIENTATIONS for number in range(ORIENTATIONS))
"""Twice the angles of strokes, which have no direction."""
SOFT = 1e-4
BLANK = 1e-3
"""Share of ink below which a cell shows nothing, if its neighbours have no more."""


class Cells(nn.Module):
    """A signature in its frame -> its cells: a small network that is taught by matching them.

    It looks some six cells far, and is the same everywhere, so that there is little to learn a
    writer by heart with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(ORIENTATIONS, CHANNELS, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(*(_Block(CHANNELS) for _ in range(BLOCKS)))
        self.shown = nn.Conv2d(CHANNELS, KEPT, 1)
        self.weight = nn.Conv2d(CHANNELS, 1, 1)
        nn.init.zeros_(self.weight.weight)

    def forward(self, frame: Tensor) -> Tensor:
        """Signatures in the frame (B, 1, 128, 256), paper 1 and ink -1 -> cells (B, SIZE).

        What the cells show (4, KEPT, *GRID), phase by phase, then how much those that ask count
        (*GRID): the steepness around them by a learnt factor, the most of a signature 1.
        """
        votes = oriented(frame)
        features = self.blocks(self.stem((votes + SOFT).sqrt()))
        ink = functional.avg_pool2d(votes, 2).sum(1, keepdim=True)
        shown = functional.normalize(self.shown(features).float(), dim=1)
        counts = (ink * self.weight(features).float().clamp(-4, 4).exp())[..., ::2, ::2]
        counts = counts / counts.amax((2, 3), keepdim=True).clamp_min(1e-9)
        phases = [shown[..., row::2, column::2] for row, column in PHASES]
        return torch.cat([*phases, counts], 1).flatten(1)


class _Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.share = nn.Parameter(torch.full((channels, 1, 1), 0.2))

    def forward(self, features: Tensor) -> Tensor:
        changed = self.second(functional.gelu(self.first(self.norm(features))))
        mixed: Tensor = features + self.share * changed
        return mixed


def oriented(frame: Tensor) -> Tensor:
    """Signatures (B, 1, H, W) -> how steep each orientation is (B, 8, H / 2, W / 2).

    Of every two by two pixels the mean, after smoothing, so that half a pixel matters little.
    """
    across, down = gradients_of(frame.float())
    steep = (across.square() + down.square() + 1e-12).sqrt()
    along, beside = (across.square() - down.square()) / steep, 2 * across * down / steep
    turns = along.new_tensor([[math.cos(turn), math.sin(turn)] for turn in TURNS])[..., None, None]
    return functional.avg_pool2d(functional.relu(along * turns[:, 0] + beside * turns[:, 1]), 2)


def inked(cells: Tensor, frame: Tensor) -> Tensor:
    """The same (B, SIZE) without what is shown where the frame (B, 1, 128, 256) has no ink around.

    Apart from the network, for whatever runs that in half precision would be of two minds here.
    """
    ink = functional.avg_pool2d((1 - frame) / 2, 4)
    near = (functional.max_pool2d(ink, 3, 1, 1) > BLANK).to(cells.dtype)
    phases = [near[..., row::2, column::2].expand(-1, KEPT, -1, -1) for row, column in PHASES]
    kept = torch.cat([*phases, torch.ones_like(phases[0][:, :1])], 1)
    return cells * kept.flatten(1)


def rounded(cells: Tensor) -> Tensor:
    """The same to the nearest multiple of `STEP` that a signed byte holds; gradients pass."""
    steps = (cells / STEP).round().clamp(-127, 127) * STEP
    return steps.detach() + (cells - cells.detach())


def between(first: Tensor, second: Tensor) -> Tensor:
    """Distances (N,) in [0, 2] of embeddings (N, D) to others, with or without cells.

    Those of `model.scoring`, but gradients pass.
    """
    one, other = distance.vectors_of(first), distance.vectors_of(second)
    vectors: Tensor = torch.linalg.vector_norm(one - other, dim=1)
    if not distance.has_cells(first):
        return vectors
    cells = added(first[:, distance.VECTOR :], second[:, distance.VECTOR :])
    return distance.share(first) * vectors + cells


def added(first: Tensor, second: Tensor) -> Tensor:
    """What cells (N, SIZE) and others add to the distances (N,) of their embeddings."""
    return distance.WEIGHT * apart(first, second).clamp(max=distance.FAR)


def apart(first: Tensor, second: Tensor) -> Tensor:
    """Distances (N,) in [0, 2] of cells (N, SIZE) to others (N, SIZE); gradients pass.

    One less the likeness (cosine) of each cell that asks to the likest around its place, mean over
    what counts in either signature.
    """
    (shown, counts), (others, count) = _parts(first), _parts(second)
    found = (likest(shown[:, 0], others) * counts).sum((1, 2))
    theirs = (likest(others[:, 0], shown) * count).sum((1, 2))
    return 1 - (found + theirs) / 2


def likest(asking: Tensor, asked: Tensor) -> Tensor:
    """Likeness of cells (N, KEPT, H, W) to the likest around their places: (N, H, W).

    `asked` (N, 4, KEPT, H, W) are all cells of the other signature, by phase. Neighbours shift
    alike: half of what a shift is worth to a cell is what it is worth to three by three of them.
    """
    worth: Tensor = _Likest.apply(asking, asked)  # type: ignore[no-untyped-call]
    return worth


class _Likest(torch.autograd.Function):
    """The gradient is that of the shifts that were found, without what all others were worth."""

    @staticmethod
    def forward(ctx: Any, asking: Tensor, asked: Tensor) -> Tensor:
        parts = zip(torch.split(asking, AT_ONCE), torch.split(asked, AT_ONCE), strict=True)
        if not any(ctx.needs_input_grad):
            return torch.cat([_worth(*part).amax(1) for part in parts])
        best, shifts = zip(*(_worth(*part).max(1) for part in parts), strict=True)
        ctx.save_for_backward(asking, asked, torch.cat(shifts))
        return torch.cat(best)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        asking, asked, shifts = ctx.saved_tensors
        with torch.enable_grad():
            leaves = asking.detach().requires_grad_(), asked.detach().requires_grad_()
            found = (leaves[0].permute(0, 2, 3, 1) * _found(leaves[1], shifts, gradient)).sum()
            asking_gradient, asked_gradient = torch.autograd.grad(found, leaves)
        return asking_gradient, asked_gradient


def _found(asked: Tensor, shifts: Tensor, weights: Tensor) -> Tensor:
    """Sums (N, H, W, KEPT) of the cells that cells were compared with, by their own shift and by
    their neighbours'; `weights` (N, H, W) are those of the cells whose shifts they are.
    """
    count, rows, columns = shifts.shape
    across = len(PHASES) * STEPS
    # Rows and columns of the finer grid, and how far off the found ones lie.
    down = 2 * (shifts // across - REACH) + shifts % across // (2 * STEPS)
    right = 2 * (shifts % STEPS - REACH) + shifts // STEPS % 2
    there, shares = [], []
    for row, column in product((-1, 0, 1), repeat=2):
        rolled = [_rolled(map_, row, column) for map_ in (down, right, weights)]
        y = 2 * torch.arange(rows, device=shifts.device)[:, None] + rolled[0]
        x = 2 * torch.arange(columns, device=shifts.device) + rolled[1]
        outside = (y < 0) | (y >= 2 * rows) | (x < 0) | (x >= 2 * columns)
        there.append((y.clamp(0, 2 * rows - 1) * 2 * columns) + x.clamp(0, 2 * columns - 1))
        share = OWN * (row == column == 0) + EACH
        shares.append(rolled[2] * share * ~outside)
    signatures = torch.arange(count, device=shifts.device)[:, None, None, None]
    places = torch.stack(there, 3) + signatures * 4 * rows * columns
    fine = asked.view(count, 2, 2, KEPT, rows, columns).permute(0, 4, 1, 5, 2, 3)
    sums = functional.embedding_bag(
        places.flatten(0, 2),
        fine.reshape(-1, KEPT),
        mode="sum",
        per_sample_weights=torch.stack(shares, 3).flatten(0, 2),
    )
    return sums.view(count, rows, columns, KEPT)


def _rolled(values: Tensor, row: int, column: int) -> Tensor:
    """Of each cell (N, H, W) the value of the one so many rows above and columns to the left."""
    moved = functional.pad(values, (1, 1, 1, 1))
    return moved[:, 1 - row : values.shape[1] + 1 - row, 1 - column : values.shape[2] + 1 - column]


def _worth(asking: Tensor, asked: Tensor) -> Tensor:
    """What shifts, by row, phase and column, are worth to cells: (N, STEPS * 4 * STEPS, H, W).

    Rows are made as long as those of the other signature with a margin on both sides: a shift is a
    step along all of them, one after the other. In the margins nothing is alike to anything.
    """
    count, _, rows, columns = asking.shape
    line = columns + 2 * REACH
    asked = functional.pad(asked, [REACH] * 4)
    asking = functional.pad(asking * EACH, (0, 2 * REACH)).view(count, KEPT, 1, 1, 1, rows * line)
    signature, phase, number, _, _ = asked.stride()
    shifted = asked.as_strided(
        (KEPT, count, STEPS, len(PHASES), STEPS, rows * line),
        (number, signature, line, phase, 1, 1),
    )
    alike = asking.new_zeros(shifted.shape[1:])
    for there, here in zip(shifted, asking.unbind(1), strict=True):
        alike.addcmul_(there, here)
    alike = alike.flatten(1, 3)
    across = alike.clone()
    across[..., 1:] += alike[..., :-1]
    across[..., :-1] += alike[..., 1:]
    worth = alike.mul_(OWN / EACH).add_(across).sub_(_price(asking.device))
    worth[..., line:] += across[..., :-line]
    worth[..., :-line] += across[..., line:]
    return worth.view(*worth.shape[:2], rows, line)[..., :columns]


@cache
def _price(device: torch.device) -> Tensor:
    """What a shift costs, by row, phase and column (STEPS * 4 * STEPS, 1); too far a one all."""
    steps = 2 * (torch.arange(STEPS, device=device) - REACH)
    by_phase = []
    for row, column in PHASES:
        down, right = (steps + row)[:, None], (steps + column)[None]
        far = torch.maximum(down.abs(), right.abs()) > GIVE
        by_phase.append((PRICE * (down.square() + right.square())).masked_fill(far, torch.inf))
    return torch.stack(by_phase, 1).view(-1, 1)


def _parts(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Cells (N, SIZE) -> what they show (N, 4, KEPT, *GRID), and what counts (N, *GRID), of 1."""
    shown, counts = torch.split(cells.view(len(cells), -1, *GRID), [len(PHASES) * KEPT, 1], dim=1)
    shown, counts = shown.reshape(len(cells), len(PHASES), KEPT, *GRID), counts[:, 0]
    return shown, counts / counts.sum((1, 2), keepdim=True).clamp_min(1e-9)
