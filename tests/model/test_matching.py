"""Cells that are matched: by hand, in the embedding, in distances and in the rule."""

from itertools import product

import numpy as np
import pytest
import torch

from model import distance
from model.evaluate import PlacesSeen, with_references
from model.losses import order_loss
from model.matching import (
    GIVE,
    GRID,
    KEPT,
    PHASES,
    PRICE,
    SIZE,
    Cells,
    apart,
    between,
    inked,
    likest,
    rounded,
)
from model.sampling import Writer, WriterBatch, pairs_within
from model.scoring import (
    Scoring,
    distances_at_least,
    distances_to,
    judge,
    places,
    places_of_one,
    scores,
    scores_at_least,
    spread,
)
from model.siamese import SiameseNet

ROWS, COLUMNS = 2 * GRID[0], 2 * GRID[1]


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def made_up(count, seed=1):
    """Cells (count, SIZE) of unit length that count at random, somewhat alike."""
    shape = len(PHASES), KEPT, *GRID
    shown = torch.randn(shape, generator=generator(0))
    shown = shown + 0.4 * torch.randn(count, *shape, generator=generator(seed))
    shown = torch.nn.functional.normalize(shown, dim=2)
    counts = torch.rand(count, *GRID, generator=generator(seed))
    return rounded(torch.cat([shown.flatten(1), counts.flatten(1)], 1))


def laid_out(cells):
    """Cells (N, SIZE) -> what they show by row and column (N, ROWS, COLUMNS, KEPT), and counts."""
    shaped = cells.view(len(cells), -1, *GRID)
    grid = torch.zeros(len(cells), ROWS, COLUMNS, KEPT)
    for number, (row, column) in enumerate(PHASES):
        phase = shaped[:, number * KEPT : (number + 1) * KEPT]
        grid[:, row::2, column::2] = phase.permute(0, 2, 3, 1)
    return grid, shaped[:, -1]


def embeddings(count, seed=1):
    vectors = torch.randn(count, distance.VECTOR, generator=generator(seed))
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    return torch.cat([vectors, made_up(count, seed)], 1).numpy()


def by_hand(first, second):
    """The distance of one signature's cells to another's, by loops over shifts and neighbours."""
    total = 0.0
    for (one, counts), (other, _) in ((first, second), (second, first)):
        padded = torch.nn.functional.pad(other, (0, 0, GIVE, GIVE, GIVE, GIVE))
        worth = []
        for down, across in product(range(2 * GIVE + 1), repeat=2):
            beside = padded[down : down + ROWS : 2, across : across + COLUMNS : 2]
            alike = torch.nn.functional.pad((one[::2, ::2] * beside).sum(-1), (1, 1, 1, 1))
            around = sum(
                alike[row : row + GRID[0], column : column + GRID[1]]
                for row, column in product(range(3), repeat=2)
            )
            price = PRICE * ((down - GIVE) ** 2 + (across - GIVE) ** 2)
            worth.append(0.5 * alike[1:-1, 1:-1] + 0.5 * around / 9 - price)
        best = torch.stack(worth).amax(0)
        total = total + (counts / counts.sum() * (1 - best)).sum() / 2
    return total


def test_a_distance_is_what_loops_find():
    cells = made_up(2)
    (grids, counts) = laid_out(cells)
    expected = by_hand((grids[0], counts[0]), (grids[1], counts[1]))
    assert apart(cells[:1], cells[1:]).item() == pytest.approx(expected.item(), abs=1e-5)


def test_so_is_its_gradient():
    cells = made_up(4).requires_grad_()
    (apart(cells[:2], cells[2:]) * torch.tensor([1.0, -2.0])).sum().backward()
    found, cells.grad = cells.grad.clone(), None
    (grids, counts) = laid_out(cells)
    each = [by_hand((grids[n], counts[n]), (grids[n + 2], counts[n + 2])) for n in range(2)]
    (each[0] - 2 * each[1]).backward()
    assert found.abs().max() > 1e-4
    torch.testing.assert_close(found, cells.grad)


def test_it_is_symmetric_and_least_to_oneself():
    cells = made_up(6)
    assert (apart(cells, cells) < apart(cells, cells.flip(0))).all()
    torch.testing.assert_close(apart(cells, cells.flip(0)), apart(cells.flip(0), cells))
    assert (apart(cells, cells.flip(0)) > 0.1).all()


@pytest.mark.parametrize(("by", "found_again"), [(0, True), (GIVE, True), (GIVE + 2, False)])
def test_a_stroke_is_found_again_within_its_give(by, found_again):
    grid = torch.zeros(1, ROWS, COLUMNS, KEPT)
    grid[0, 10, 20] = torch.nn.functional.normalize(torch.arange(1.0, KEPT + 1), dim=0)
    moved = grid.roll((by, -by), (1, 2))
    asking = grid[:, ::2, ::2].permute(0, 3, 1, 2)
    asked = torch.stack(
        [moved[:, row::2, column::2].permute(0, 3, 1, 2) for row, column in PHASES], 1
    )
    worth = 0.5 + 0.5 / 9 - PRICE * 2 * by**2  # nothing beside it shifts with it
    assert likest(asking, asked)[0, 5, 10].item() == pytest.approx(found_again * worth)


def test_cells_that_lie_far_apart_say_no_more_than_that():
    near, far = embeddings(2), embeddings(2)
    far[1, 512:] = -far[1, 512:]  # nothing alike, and nothing counts less
    far[1, -GRID[0] * GRID[1] :] = near[1, -GRID[0] * GRID[1] :]
    rows = np.array([0]), np.array([1])
    assert 0 < distance.by_place(near, near, *rows)[0] < distance.WEIGHT * distance.FAR
    assert distance.by_place(far, far, *rows)[0] == pytest.approx(distance.WEIGHT * distance.FAR)


def test_numbers_are_steps_that_a_byte_holds_and_gradients_pass():
    cells = torch.tensor([0.1, -1.0, 1.0, 0.0], requires_grad=True)
    steps = rounded(cells)
    assert (steps * 128).tolist() == [13, -127, 127, 0]
    steps.sum().backward()
    assert cells.grad.tolist() == [1, 1, 1, 1]


def test_paper_alone_shows_nothing_and_counts_nothing():
    with torch.no_grad():
        paper = torch.ones(1, 1, 128, 256)
        blank = inked(Cells().eval()(paper), paper)
        paper[0, 0, 64, 128] = -1  # a dot
        dot = inked(Cells().eval()(paper), paper)
    assert not blank.any()
    shown, counts = laid_out(dot)
    assert shown.any(-1).nonzero()[:, 1:].amin(0).tolist() == [15, 31]
    assert shown.any(-1).nonzero()[:, 1:].amax(0).tolist() == [17, 33]
    assert counts.max() == 1
    assert apart(blank, made_up(1)).isfinite().all()


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return SiameseNet("test_mambaout", detail=True, head="cells").eval()


def test_the_embedding_is_the_vector_and_then_the_cells(network):
    images = torch.rand(3, 1, 256, 512, generator=generator()) * 2 - 1
    with torch.no_grad():
        found = network.embed(images)
    assert found.shape == (3, distance.VECTOR + SIZE)
    torch.testing.assert_close(torch.linalg.vector_norm(found[:, :512], dim=1), torch.ones(3))
    with torch.no_grad():
        cells = network.cells_of(network.see(images))
    torch.testing.assert_close(found[:, 512:], rounded(cells))
    first, second = images[:1], images[1:2]
    with torch.no_grad():
        apart_by, one, other = network(first, second)
    assert distances_to(one[0].numpy(), other.numpy()) == pytest.approx(apart_by.numpy(), abs=1e-5)


def test_cells_want_the_detail():
    with pytest.raises(ValueError, match="detail"):
        SiameseNet("test_mambaout", head="cells")


def test_vectors_alone_are_compared_as_ever():
    vectors = embeddings(4)[:, :512]
    expected = np.linalg.norm(vectors[1:].astype(float) - vectors[0], axis=1)
    assert distances_to(vectors[0], vectors[1:]) == pytest.approx(expected, abs=1e-12)
    assert not places(vectors[:1], vectors[1:]).asked.any()


def test_a_judgement_takes_vectors_and_cells_together():
    questioned, references = embeddings(1, seed=2)[0], embeddings(3)
    rule = Scoring(
        thresholds={1: 1.0}, centre_weight=0.5, spread_weight=0.25, population_spread=0.7, prior=2
    )
    found = judge(questioned, references, rule)
    pairs = torch.from_numpy(np.repeat(questioned[None], 3, 0)), torch.from_numpy(references)
    assert found.distances == pytest.approx(between(*pairs).tolist(), abs=1e-5)
    vectors, cells = references[:, :512].astype(float), torch.from_numpy(references[:, 512:])
    centre = (1 - distance.WEIGHT) * np.linalg.norm(vectors.mean(0) - questioned[:512])
    centre += distance.WEIGHT * apart(pairs[0][:, 512:], cells).mean().item()
    between_them = np.mean(
        [apart(cells, cells[[n] * 3]).numpy() * (np.arange(3) != n) for n in range(3)]
    )
    centre -= distance.WEIGHT * between_them / 2
    assert found.terms["centre"] == pytest.approx(0.5 * (centre - found.distance), abs=1e-5)
    among = [
        distances_to(one, np.delete(references, n, 0)).min() for n, one in enumerate(references)
    ]
    assert spread(references)[0] == pytest.approx(np.mean(among), abs=1e-6)
    assert found.score == pytest.approx(sum(found.terms.values()))


@pytest.mark.parametrize("centre", [0.0, 0.75])
@pytest.mark.parametrize("spread_weight", [0.0, 0.5])
def test_scores_are_not_below_the_least_they_can_be(centre, spread_weight):
    rule = Scoring(
        thresholds={1: 1.0},
        centre_weight=centre,
        spread_weight=spread_weight,
        population_spread=0.4,
        prior=2,
    )
    questioned, references = embeddings(3, seed=2), embeddings(4)
    near = references + 0.1 * (embeddings(4, seed=3) - references)  # their cells are alike
    for known in (references, near, references[:1]):
        least, found = (ask(questioned, known, rule) for ask in (scores_at_least, scores))
        assert (least <= found + 1e-9).all()
        if len(known) == 1 or not (centre or spread_weight):
            assert least == pytest.approx(found)
    vectors = questioned[:, :512], references[:, :512]
    assert scores_at_least(*vectors, rule) == pytest.approx(scores(*vectors, rule))
    assert (distances_at_least(questioned[0], near) <= distances_to(questioned[0], near)).all()


def test_by_a_rule_that_rewards_references_far_apart_nothing_is_known_beforehand():
    odd = Scoring(thresholds={1: 1.0}, spread_weight=-0.5)
    questioned, references = embeddings(2, seed=2), embeddings(3)
    expected = scores(questioned, references, odd)
    assert scores_at_least(questioned, references, odd) == pytest.approx(expected)


def test_each_of_some_references_beside_the_others(compared):
    references = embeddings(4)
    found = [places_of_one(references, number) for number in range(4)]
    assert len(compared) == 6
    for number, by_place in enumerate(found):
        others = np.delete(references, number, axis=0)
        expected = places(references[[number]], others)
        assert by_place.asked == pytest.approx(expected.asked)
        assert by_place.among == pytest.approx(expected.among)


@pytest.fixture
def compared(monkeypatch):
    """The pairs of rows whose cells were compared."""
    pairs = []
    plain = distance.by_place

    def counted(first, second, rows, others):
        pairs.extend(zip(rows.tolist(), others.tolist(), strict=True))
        return plain(first, second, rows, others)

    monkeypatch.setattr(distance, "by_place", counted)
    return pairs


def test_what_was_compared_once_is_not_compared_again(compared):
    vectors = embeddings(12)
    writers = [
        Writer(
            name=name,
            corpus="made",
            genuine=np.arange(at, at + 4),
            forged=np.arange(at + 4, at + 6),
        )
        for at, name in ((0, "ada"), (6, "bo"))
    ]
    seen, rule = PlacesSeen(vectors, vectors), Scoring(thresholds={1: 1.0}, spread_weight=0.5)

    def ask():
        rng = np.random.default_rng(3)
        return with_references(
            vectors, writers, references=2, scoring=rule, rng=rng, draws=6, seen=seen
        )

    first = ask()
    assert len(compared) == len(set(compared))
    before = len(compared)
    again = ask()
    assert len(compared) == before
    for kind in ("genuine", "skilled", "random"):
        np.testing.assert_array_equal(first.of(kind), again.of(kind))
    rows = np.array([4, 5])
    expected = scores(vectors[rows], vectors[[0, 1]], rule)
    found = scores(vectors[rows], vectors[[0, 1]], rule, seen.of(np.array([0, 1]), rows))
    assert found == pytest.approx(expected, abs=1e-9)


def test_pairs_of_a_batch_are_genuine_forged_and_strangers():
    batch = WriterBatch(
        rows=np.arange(9),
        writers=np.array([0, 0, 0, 0, 1, 1, 1, 2, 2]),
        genuine=np.array([True, True, True, False, True, True, False, True, True]),
        seed=5,
    )
    writers = [
        Writer(name=name, corpus=corpus, genuine=batch.rows[:0], forged=batch.rows[:0])
        for name, corpus in (("ada", "one"), ("bo", "one"), ("cy", "other"))
    ]
    pairs, whose = pairs_within(batch, writers, strangers=2)
    of = [
        (int(whose[n]), int(pairs.same[n]), (int(pairs.first[n]), int(pairs.second[n])))
        for n in range(len(pairs))
    ]
    assert {pair for writer, same, pair in of if writer == 0 and same} == {(0, 1), (0, 2), (1, 2)}
    others = [pair for writer, same, pair in of if writer == 0 and not same]
    assert {(0, 3), (1, 3), (2, 3)} <= set(others)
    strangers = [pair for pair in others if pair[1] != 3]
    assert len(strangers) == 2
    assert all(one in (0, 1, 2) and other in (4, 5) for one, other in strangers)


def test_the_loss_of_order_is_what_loops_find():
    genuine, others = torch.tensor([0.1, 0.4]), torch.tensor([0.2, 0.6, 0.9])
    same = torch.tensor([[True, False, True], [True, True, False]])
    ordered = [
        np.log1p(np.exp(30 * float(genuine[p] - others[q])))
        for p, q in product(range(2), range(3))
        if same[p, q]
    ]
    near = [np.log1p(np.exp(24 * (float(value) - 0.32))) for value in genuine]
    far = [np.log1p(np.exp(24 * (0.32 - float(value)))) for value in others]
    expected = np.mean(ordered) + np.mean(near) + np.mean(far)
    assert order_loss(genuine, others, same).item() == pytest.approx(expected, abs=1e-5)
    nobody = torch.zeros_like(same)
    assert order_loss(genuine, others, nobody).isfinite()


def test_references_are_compared_with_each_other_once(monkeypatch):
    references, asked = embeddings(4), embeddings(2, seed=5)
    compared = []
    plain = distance.by_place

    def counted(first, second, rows, others):
        compared.append(len(rows))
        return plain(first, second, rows, others)

    monkeypatch.setattr(distance, "by_place", counted)
    first = places(asked, references)
    again = places(asked, references)
    assert compared == [8, 6, 8]
    np.testing.assert_array_equal(first.among, again.among)
    other = places(asked, references[:3].copy())
    assert compared == [8, 6, 8, 6, 3]
    np.testing.assert_allclose(other.among, first.among[:3, :3], atol=1e-7)
