"""The Siamese network: one embedding for each image, the Euclidean distance between two."""

import torch
from torch import Tensor, nn

from .backbone import DEFAULT_BACKBONE, VisionBackbone, build_backbone
from .preprocess import Preprocessing

EMBEDDING_SIZE = 512


class SiameseNet(nn.Module):
    """Backbone, projection head, unit length.

    Module names and sizes are those of the seed notebook, so that its checkpoints load strictly:
    `backbone.encoder` and `head` = Linear, BatchNorm1d, ReLU, Dropout, Linear. `notices` holds
    the sentences about fall-backs that whoever builds the network should show; `preprocessing`
    is the input it was trained on, once known.
    """

    preprocessing: Preprocessing | None = None

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        *,
        pretrained: bool = False,
        drop_path: float = 0.0,
        coordinates: bool = False,
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
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

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 1 or 3, H, W) -> unit embeddings (B, 512), float32."""
        if images.shape[1] == 1:
            images = self._three_channels(images)
        embeddings = self.head(self.backbone(images)).float()
        return nn.functional.normalize(embeddings, dim=1)

    def _three_channels(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 3, H, W): the seed's stem has three, which may say x and y."""
        if not self.coordinates:
            return images.expand(-1, 3, -1, -1)
        height, width = images.shape[2:]
        x = torch.linspace(-1, 1, width, device=images.device).view(1, 1, 1, width)
        y = torch.linspace(-1, 1, height, device=images.device).view(1, 1, height, 1)
        return torch.cat([images, x.expand_as(images), y.expand_as(images)], dim=1)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two batches (B, C, H, W) -> distances (B,) in [0, 2], and both embeddings (B, 512)."""
        e1, e2 = self.embed(first), self.embed(second)
        return torch.linalg.vector_norm(e1 - e2, dim=1), e1, e2
