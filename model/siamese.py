"""The Siamese network: one embedding for each image, the Euclidean distance between two."""

from collections.abc import Iterator
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pixel_shuffle, pixel_unshuffle

from . import distance, matching
from .alignment import TWICE, VIEW, aligned, at_view, detailed
from .backbone import DEFAULT_BACKBONE, VisionBackbone, build_backbone
from .outline import KEPT as KEPT_OF_OUTLINES
from .outline import KEPT_BY_PLACE, Outlines
from .places import Places
from .preprocess import Preprocessing
from .views import KEPT, Views

EMBEDDING_SIZE = distance.VECTOR
CHANNELS = 3  # of what the backbone is shown

Head = Literal["seed", "places", "views", "outlines", "cells"]
"""The seed's; beside it, features kept apart by place; beside both, gradient histograms; beside all
of them, how the outline turns; and after all of that, cells that are matched."""

STAGES = {1: 8, 2: 24}
"""Stage of the backbone -> numbers kept of each cell of its map, in the head `places`."""

VIEWS_WEIGHTS = {"views": 1.0, "outlines": 0.7}
"""Of the gradient histograms in the embedding, by head, where what is learnt weighs 1."""


class SiameseNet(nn.Module):
    """Backbone, projection head, unit length.

    Module names and sizes are those of the seed notebook, so that its checkpoints load strictly:
    `backbone.encoder` and `head` = Linear, BatchNorm1d, ReLU, Dropout, Linear. The head `places`
    sees the aligned image at 64 x 128, however fine the canvas is, in the spare channels the places
    of its pixels or `detail`, and keeps features of two stages apart by place; with `views` and
    `outlines`, classical descriptors stand beside them and all is brought to 512 numbers again.
    `notices` holds the sentences about fall-backs that whoever builds the network should show;
    `preprocessing` is the input it was trained on, once known.
    """

    preprocessing: Preprocessing | None = None

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        *,
        pretrained: bool = False,
        drop_path: float = 0.0,
        coordinates: bool = False,
        detail: bool = False,
        head: Head = "seed",
    ) -> None:
        super().__init__()
        if head == "cells" and not detail:
            raise ValueError("the head `cells` wants to be shown the detail")
        self.coordinates, self.detail = coordinates, detail
        self.backbone: VisionBackbone
        self.backbone, self.notices = build_backbone(
            backbone, pretrained=pretrained, drop_path=drop_path
        )
        self.head = nn.Sequential(
            nn.Linear(self.backbone.width, EMBEDDING_SIZE),
            nn.BatchNorm1d(EMBEDDING_SIZE),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE),
        )
        places = list(self._places()) if head != "seed" else []
        self.places = nn.ModuleList(places) if places else None
        self.learnt_size = EMBEDDING_SIZE + sum(place.size for place in places)
        self.views: Views | None = None
        self.outlines: Outlines | None = None
        self.reduced: nn.Linear | None = None
        if head not in ("seed", "places"):
            self.add_descriptors(outlines=head != "views")
        self.cells = matching.Cells() if head == "cells" else None

    def _places(self) -> Iterator[Places]:
        height, width = VIEW
        for stage, kept in STAGES.items():
            channels, side = self.backbone.stage(stage)
            yield Places((height // side) * (width // side), channels, kept)

    def add_descriptors(self, *, outlines: bool) -> tuple[Views, Outlines | None, nn.Linear]:
        """Let a network with the head `places` have the head `views`, or `outlines`.

        What is returned is yet to be fitted: the descriptors, and the map of all parts to 512
        numbers. `closed_form.complete` does so.
        """
        self.views = Views()
        self.outlines = Outlines() if outlines else None
        size = self.learnt_size + KEPT + (KEPT_OF_OUTLINES + KEPT_BY_PLACE if outlines else 0)
        self.reduced = nn.Linear(size, EMBEDDING_SIZE, bias=False)
        return self.views, self.outlines, self.reduced

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 1 or 3, H, W) -> embeddings (B, D), float32.

        A unit vector of 512 numbers, of `learnt_size` for the head `places`; for the head `cells`
        followed by the cells, `matching.SIZE` more.
        """
        seen = self.see(images)
        return self.complete(self.learnt(seen), images, seen)

    def see(self, images: Tensor) -> Tensor:
        """Images (B, 1 or 3, H, W) -> what the backbone is shown (B, 3, H', W').

        With the head `cells` followed by the frame of twice the pixels, every four in channels.
        """
        if self.places is not None:
            canvas = images[:, :1]
            if self.detail:
                frame, _ = aligned(at_view(canvas, TWICE), TWICE)
                shown = detailed(frame)
                return torch.cat([shown, pixel_unshuffle(frame, 2)], 1) if self.cells else shown
            return torch.cat(aligned(at_view(canvas)), 1)
        return self._three_channels(images) if images.shape[1] == 1 else images

    def learnt(self, seen: Tensor) -> Tensor:
        """What is learnt by descent, and nearly all of the work: (B, 3, H', W') -> unit vectors.

        With the head `cells` followed by these.
        """
        if self.places is None:
            return normalize(self.head(self.backbone(seen)).float(), dim=1)
        features, maps = self.backbone.with_maps(seen[:, :CHANNELS], [*STAGES])
        parts = [normalize(self.head(features).float(), dim=1)]
        parts += [place(found) for place, found in zip(self.places, maps, strict=True)]
        found = normalize(torch.cat(parts, 1), dim=1)
        return found if self.cells is None else torch.cat([found, self.cells(_frame(seen))], 1)

    def cells_of(self, seen: Tensor) -> Tensor:
        """The cells (B, matching.SIZE) of what is seen, for a network with this head."""
        cells, frame = cast(matching.Cells, self.cells), _frame(seen)
        return matching.inked(cells(frame), frame)

    def complete(self, learnt: Tensor, images: Tensor, seen: Tensor) -> Tensor:
        """Embeddings from what is learnt, with the classical descriptors where there are any."""
        if self.reduced is None:
            return learnt
        with torch.autocast(learnt.device.type, enabled=False):
            whole = normalize(self.reduced(self._joint(learnt, images, seen)), dim=1)
            if self.cells is None:
                return whole
            cells = matching.inked(learnt[:, self.learnt_size :], _frame(seen))
            return torch.cat([whole, matching.rounded(cells)], 1)

    def joint(self, images: Tensor) -> Tensor:
        """Images (B, 1, H, W) -> all parts of the embedding at their full size, a unit vector."""
        seen = self.see(images)
        return self._joint(self.learnt(seen), images, seen)

    def _joint(self, learnt: Tensor, images: Tensor, seen: Tensor) -> Tensor:
        learnt = learnt[:, : self.learnt_size]
        if self.views is None:
            return learnt
        canvas = images[:, :1]
        weight = VIEWS_WEIGHTS["outlines" if self.outlines else "views"]
        parts = [learnt, weight * self.views(canvas, seen[:, :1])]
        if self.outlines:
            parts.append(self.outlines(canvas))
        return normalize(torch.cat(parts, 1), dim=1)

    def _three_channels(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 3, H, W): the seed's stem has three, which may say x and y."""
        if not self.coordinates:
            return images.expand(-1, 3, -1, -1)
        height, width = images.shape[2:]
        x = torch.linspace(-1, 1, width, device=images.device).view(1, 1, 1, width)
        y = torch.linspace(-1, 1, height, device=images.device).view(1, 1, height, 1)
        return torch.cat([images, x.expand_as(images), y.expand_as(images)], dim=1)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two batches (B, C, H, W) -> distances (B,) in [0, 2], and both embeddings (B, D)."""
        e1, e2 = self.embed(first), self.embed(second)
        return matching.between(e1, e2), e1, e2


def _frame(seen: Tensor) -> Tensor:
    """The frame (B, 1, 2 H, 2 W) that is seen behind what the backbone is shown (B, 7, H, W)."""
    return pixel_shuffle(seen[:, CHANNELS:], 2)
