"""The losses against plain loops over their formulas."""

import math

import pytest
import torch

from model.losses import contrastive_loss, multi_similarity_loss


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(5)


def test_contrastive_loss_is_its_formula(generator):
    distances = 2 * torch.rand(50, generator=generator)
    same = (torch.rand(50, generator=generator) < 0.5).int()
    margin = 0.9
    expected = 0.0
    for d, y in zip(distances.tolist(), same.tolist(), strict=True):
        expected += y * d**2 + (1 - y) * max(0.0, margin - d) ** 2
    assert contrastive_loss(distances, same, margin).item() == pytest.approx(expected / 50)


def test_contrastive_loss_pushes_no_pair_beyond_the_margin():
    distances = torch.tensor([1.5], requires_grad=True)
    contrastive_loss(distances, torch.tensor([0]), 1.0).backward()
    assert distances.grad.item() == 0.0


def looped_multi_similarity(embeddings, writers, genuine, alpha, beta, base, weight):
    losses = []
    for i in range(len(writers)):
        if not genuine[i]:
            continue
        pull = push = 0.0
        for j in range(len(writers)):
            similarity = float(embeddings[i] @ embeddings[j])
            if j != i and writers[i] == writers[j] and genuine[j]:
                pull += math.exp(-alpha * (similarity - base))
            elif writers[i] != writers[j]:
                push += math.exp(beta * (similarity - base))
            elif not genuine[j]:
                push += weight * math.exp(beta * (similarity - base))
        if pull:
            losses.append(math.log1p(pull) / alpha + math.log1p(push) / beta)
    return sum(losses) / len(losses) if losses else 0.0


def test_multi_similarity_loss_is_its_formula(generator):
    embeddings = torch.nn.functional.normalize(torch.randn(24, 8, generator=generator), dim=1)
    writers = torch.arange(24) % 4
    genuine = torch.rand(24, generator=generator) < 0.6
    found = multi_similarity_loss(
        embeddings, writers, genuine, alpha=2.0, beta=10.0, base=0.4, own_forgery_weight=3.0
    )
    expected = looped_multi_similarity(embeddings, writers, genuine, 2.0, 10.0, 0.4, 3.0)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_forgeries_are_never_anchors():
    embeddings = torch.eye(4)
    loss = multi_similarity_loss(embeddings, torch.zeros(4).long(), torch.zeros(4).bool())
    assert loss.item() == 0.0


def test_a_forgery_that_moves_away_lowers_the_loss():
    writers, genuine = torch.zeros(3).long(), torch.tensor([True, True, False])
    near = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [1, 0.05]]), dim=1)
    far = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1.0]]), dim=1)
    assert multi_similarity_loss(far, writers, genuine) < multi_similarity_loss(
        near, writers, genuine
    )
