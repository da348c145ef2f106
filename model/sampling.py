"""What one training step sees: pairs of images, or batches of writers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows
from .cache import CachedImages
from .dataset import Signer
from .errors import DatasetError

COMPANY = 8
"""Writers of one corpus in a batch, where it is not drawn more than once."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """The cache rows of one signer's readable images."""

    name: str
    corpus: str
    genuine: Rows
    forged: Rows


def writers_of(signers: Sequence[Signer], images: CachedImages) -> tuple[Writer, ...]:
    """The signers with at least two readable genuine signatures, as rows of the cache."""
    writers = (
        Writer(
            name=signer.name,
            corpus=signer.corpus,
            genuine=images.rows(signer.genuine),
            forged=images.rows(signer.forged),
        )
        for signer in signers
    )
    return tuple(writer for writer in writers if len(writer.genuine) >= 2)


def by_corpus(writers: Iterable[Writer]) -> dict[str, list[Writer]]:
    """The writers of each corpus, in their order."""
    found: dict[str, list[Writer]] = {}
    for writer in writers:
        found.setdefault(writer.corpus, []).append(writer)
    return found


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of cache rows: `first`, `second` (n,), `same` (n,) 1 for one signer's genuine pair."""

    first: Rows
    second: Rows
    same: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.same)


def genuine_pairs(writer: Writer) -> NDArray[np.intp]:
    """All pairs of a writer's genuine signatures, (n (n - 1) / 2, 2)."""
    return _pairs_among(writer.genuine)


def skilled_pairs(writer: Writer) -> NDArray[np.intp]:
    """All pairs of a genuine signature and a forgery of it, (n m, 2)."""
    return each_with_each(writer.genuine, writer.forged)


def _pairs_among(rows: Rows) -> NDArray[np.intp]:
    """Each row with each that comes after it, (n (n - 1) / 2, 2)."""
    i, j = np.triu_indices(len(rows), k=1)
    return np.stack([rows[i], rows[j]], axis=1)


def each_with_each(first: Rows, second: Rows) -> NDArray[np.intp]:
    """Each of n rows with each of m others, (n m, 2)."""
    grid = np.meshgrid(first, second, indexing="ij")
    return np.stack([side.ravel() for side in grid], axis=1)


def balanced_pairs(
    writers: Sequence[Writer],
    *,
    rng: np.random.Generator,
    random_share: float = 0.25,
    limit: int = 140_000,
) -> Pairs:
    """Half genuine pairs, half negatives, as the seed draws them.

    The negatives are all skilled pairs plus `random_share` as many pairs of two writers' genuine
    signatures; the larger class is thinned to the size of the smaller, and both to `limit` in
    all. Raises DatasetError when there is nothing to oppose.
    """
    positive = np.concatenate([genuine_pairs(writer) for writer in writers])
    skilled = np.concatenate([skilled_pairs(writer) for writer in writers])
    wanted = round((len(skilled) or len(positive)) * random_share)
    negative = np.concatenate([skilled, random_pairs(writers, wanted, rng=rng)])
    if not len(positive) or not len(negative):
        raise DatasetError("Pairs need signers with two genuine signatures, and forgeries.")
    half = min(len(positive), len(negative), limit // 2)
    chosen = [pairs[rng.choice(len(pairs), half, replace=False)] for pairs in (positive, negative)]
    order = rng.permutation(2 * half)
    rows = np.concatenate(chosen)[order]
    same = np.repeat(np.array([1, 0], np.int8), half)[order]
    return Pairs(first=rows[:, 0], second=rows[:, 1], same=same)


def random_pairs(
    writers: Sequence[Writer], count: int, *, rng: np.random.Generator
) -> NDArray[np.intp]:
    """`count` pairs of genuine signatures by two different writers, (count, 2)."""
    if len(writers) < 2:
        return np.zeros((0, 2), np.intp)
    first = rng.integers(0, len(writers), count)
    second = (first + rng.integers(1, len(writers), count)) % len(writers)
    return np.array(
        [
            (rng.choice(writers[a].genuine), rng.choice(writers[b].genuine))
            for a, b in zip(first, second, strict=True)
        ],
        dtype=np.intp,
    ).reshape(-1, 2)


@dataclass(frozen=True, kw_only=True)
class WriterBatch:
    """Cache rows (B,), the number of their writer (B,), whether they are genuine (B,), a seed."""

    rows: Rows
    writers: NDArray[np.int64]
    genuine: NDArray[np.bool_]
    seed: int

    def alike(self, members: Rows, other: Writer, rng: np.random.Generator) -> Rows:
        """Another writer's signatures for these of the batch: genuine ones for genuine ones."""
        kinds = self.genuine[members]
        drawn = [rng.choice(other.genuine if genuine else other.forged) for genuine in kinds]
        return np.array(drawn, np.intp)


def pairs_within(
    batch: WriterBatch, writers: Sequence[Writer], *, strangers: int
) -> tuple[Pairs, NDArray[np.int64]]:
    """What can be held against each other in a batch, as places in it, and whose each pair is (n,).

    Of each writer all genuine pairs, each genuine signature with each forgery, and some pairs with
    a genuine signature of others, who write the same script as far as the batch has any: another
    one's signature is easily told.
    """
    rng = np.random.default_rng(batch.seed)
    corpora = np.array([writers[number].corpus for number in batch.writers])
    found: list[tuple[NDArray[np.intp], int, np.int64]] = []
    for number in np.unique(batch.writers):
        own = batch.writers == number
        genuine, forged = (np.flatnonzero(own & which) for which in (batch.genuine, ~batch.genuine))
        others = rng.permutation(np.flatnonzero(~own & batch.genuine))
        elsewhere = corpora[others] != writers[number].corpus
        drawn = others[np.argsort(elsewhere, kind="stable")][:strangers]
        found.append((_pairs_among(genuine), 1, number))
        found.append((each_with_each(genuine, forged), 0, number))
        found.append((np.stack([rng.choice(genuine, len(drawn)), drawn], 1), 0, number))
    counts = [len(pairs) for pairs, _, _ in found]
    rows = np.concatenate([pairs for pairs, _, _ in found])
    same = np.repeat(np.array([same for _, same, _ in found], np.int8), counts)
    pairs = Pairs(first=rows[:, 0], second=rows[:, 1], same=same)
    return pairs, np.repeat(np.array([number for *_, number in found]), counts)


def writer_batches(
    writers: Sequence[Writer],
    *,
    steps: int,
    per_batch: int,
    images_each: int,
    rng: np.random.Generator,
) -> Iterator[WriterBatch]:
    """Batches of `per_batch` writers with `images_each` genuine signatures and own forgeries each.

    Either half of a batch, or every eight writers of a large one, come from one corpus, all corpora
    drawn alike: strangers in a batch then write the same script, and a large corpus does not drown
    a small one.
    """
    corpora: dict[str, list[int]] = {}
    for number, writer in enumerate(writers):
        corpora.setdefault(writer.corpus, []).append(number)
    groups = list(corpora.values())
    companies = max(per_batch // COMPANY, 2)
    sizes = [(per_batch + number) // companies for number in range(companies)]
    for _ in range(steps):
        wanted: dict[int, int] = {}  # by corpus, so that no writer comes twice
        for size in sizes:
            drawn = int(rng.integers(len(groups)))
            wanted[drawn] = wanted.get(drawn, 0) + size
        picked = [_draw(groups[drawn], size, rng) for drawn, size in wanted.items()]
        yield _batch(writers, np.concatenate(picked), images_each, rng)


def _draw(numbers: Sequence[int], count: int, rng: np.random.Generator) -> Rows:
    return rng.choice(np.array(numbers, np.intp), min(count, len(numbers)), replace=False)


def _batch(
    writers: Sequence[Writer], picked: Rows, each: int, rng: np.random.Generator
) -> WriterBatch:
    rows, names, genuine = [], [], []
    for number in picked:
        writer = writers[number]
        for source, is_genuine in ((writer.genuine, True), (writer.forged, False)):
            drawn = rng.choice(source, min(each, len(source)), replace=False)
            rows.append(drawn)
            names.append(np.full(len(drawn), number, np.int64))
            genuine.append(np.full(len(drawn), is_genuine))
    return WriterBatch(
        rows=np.concatenate(rows).astype(np.intp),
        writers=np.concatenate(names),
        genuine=np.concatenate(genuine),
        seed=int(rng.integers(2**63)),
    )
