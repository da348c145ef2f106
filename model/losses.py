"""What training minimises: the seed's contrastive loss, multi-similarity, the order of pairs."""

import torch
from torch import Tensor
from torch.nn import functional


def contrastive_loss(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """Mean of y d^2 + (1 - y) max(0, m - d)^2 over pairs (Hadsell, Chopra, LeCun, CVPR 2006).

    `distances` (B,) of unit embeddings lie in [0, 2]; `same` (B,) is 1 for one signer's genuine
    pair and 0 for a forgery or another signer.

    >>> contrastive_loss(torch.tensor([0.5, 0.5]), torch.tensor([1, 0]), margin=1.0).item()
    0.25
    """
    same = same.to(distances.dtype)
    apart = (margin - distances).clamp(min=0)
    return (same * distances.square() + (1 - same) * apart.square()).mean()


def multi_similarity_loss(
    embeddings: Tensor,
    writers: Tensor,
    genuine: Tensor,
    *,
    alpha: float = 2.0,
    beta: float = 30.0,
    base: float = 0.5,
    own_forgery_weight: float = 3.0,
) -> Tensor:
    """Multi-similarity loss (Wang et al., CVPR 2019, eq. 8) with own forgeries as hard negatives.

    `embeddings` (B, D) are unit vectors, `writers` (B,) integers, `genuine` (B,) booleans. Only
    genuine signatures are anchors: a forgery is near to nothing but what it imitates. Positives
    are the writer's other genuine signatures; negatives are everything else, the writer's own
    forgeries counted `own_forgery_weight` times. Returns the mean over the anchors that have a
    positive, zero when none has.
    """
    similarity = embeddings @ embeddings.T
    same_writer = writers[:, None] == writers[None, :]
    itself = torch.eye(len(writers), dtype=torch.bool, device=writers.device)
    positive = same_writer & genuine[None, :] & ~itself
    negative_weight = (~same_writer).float()
    negative_weight += own_forgery_weight * (same_writer & ~genuine[None, :]).float()
    anchors = genuine & positive.any(dim=1)
    if not anchors.any():
        return embeddings.sum() * 0.0
    pull = torch.exp(-alpha * (similarity - base)) * positive
    push = torch.exp(beta * (similarity - base)) * negative_weight
    per_anchor = torch.log1p(pull.sum(1)) / alpha + torch.log1p(push.sum(1)) / beta
    return per_anchor[anchors].mean()


def order_loss(
    genuine: Tensor,
    others: Tensor,
    same_writer: Tensor,
    *,
    order: float = 30.0,
    steep: float = 24.0,
    middle: float = 0.32,
) -> Tensor:
    """Genuine pairs nearer than the others of their writer, and either on its side of `middle`.

    `genuine` (P,) and `others` (Q,) are distances in [0, 2], `same_writer` (P, Q) says which are
    held against each other. Logistic in both parts, with slopes of `order` and `steep`; the former
    is what references of one signer ask for, the latter what one threshold for all does.
    """
    margins = functional.softplus(order * (genuine[:, None] - others[None]))
    ordered = (margins * same_writer).sum() / same_writer.sum().clamp(min=1)
    near = functional.softplus(steep * (genuine - middle)).mean()
    far = functional.softplus(steep * (middle - others)).mean()
    return ordered + near + far
