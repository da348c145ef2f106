"""Whom a model and its ancestors know, and who may therefore teach, tune or test its successor.

Nobody tests whom any model of the line was trained or tuned on: a checkpoint's provenance carries
them on from parent to child. Whoever has tested the active model tests its successor, too, so that
both are measured by the same hands.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .corpora import check_names
from .dataset import Signer, Split, check_disjoint, split_by_signer
from .errors import DatasetError

ENROLLED = "enrolled"
"""The corpus that enrolled signers make up."""

KEPT = 5
"""One enrolled signer in so many never teaches, but tests."""

FEWEST = 4
"""Writers of a corpus that nobody knows yet, below which all of them teach."""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Writers by what they are to a model.

    `taught` have trained or tuned it or an ancestor; `tuning` and `testing` are its own development
    and test writers.
    """

    taught: frozenset[str] = frozenset()
    tuning: frozenset[str] = frozenset()
    testing: frozenset[str] = frozenset()

    @property
    def known(self) -> frozenset[str]:
        """Everybody with a part already."""
        return self.taught | self.tuning | self.testing


def lineage_of(provenance: Mapping[str, Any]) -> Lineage:
    """What a checkpoint says of its writers; nothing where it has no provenance."""
    tuning = frozenset(provenance.get("development_writers", ()))
    taught = frozenset(provenance.get("train_writers", ()))
    return Lineage(
        taught=taught | tuning | frozenset(provenance.get("taught_writers", ())),
        tuning=tuning - taught,
        testing=frozenset(provenance.get("test_writers", ())),
    )


def enrolled_name(signer_id: str) -> str:
    """What an enrolled signer is called in a corpus: a number that does not tell the id.

    Nobody reads the id off it, but whoever guesses an id can check the guess.

    >>> enrolled_name("ACC-0042")
    'enrolled/6443290202100'
    """
    number = int.from_bytes(hashlib.sha256(signer_id.encode()).digest()[:6], "big")
    return f"{ENROLLED}/{number}"


def is_kept(name: str) -> bool:
    """Whether an enrolled signer is kept for evaluation, today and for ever."""
    return int(name.rsplit("/", 1)[1]) % KEPT == 0


def divide(
    corpora: Sequence[Sequence[Signer]],
    enrolled: Sequence[Signer],
    known: Lineage,
    *,
    seed: int,
) -> Split:
    """Who teaches, tunes and tests the successor of the model that has this lineage.

    Each writer keeps the part he has. New writers of a corpus that the model knows teach; a corpus
    of which it knows nobody is split by `seed`. Raises DatasetError when nobody is left to tune or
    to test, and when two corpora have the same name.
    """
    named = [corpus for corpus in (*corpora, enrolled) if corpus]
    check_names(named)
    train: list[Signer] = []
    development: list[Signer] = []
    test: list[Signer] = []
    for corpus in corpora:
        parts = _parts(corpus, known, seed)
        train += parts.train
        development += parts.validation
        test += parts.test
    for signer in enrolled:
        kept = is_kept(signer.name) and signer.name not in known.taught
        (test if kept else train).append(signer)
    if not development:
        raise DatasetError("No writer of the corpora is left to fit thresholds on; name another.")
    if not test:
        raise DatasetError(
            "No writer is left to compare the models on: all have taught the model in use or one"
            " before it. Name a further corpus."
        )
    split = Split(train=tuple(train), validation=tuple(development), test=tuple(test))
    check_disjoint(split)
    return split


def _parts(corpus: Sequence[Signer], known: Lineage, seed: int) -> Split:
    forged = [signer for signer in corpus if signer.forged]
    if not any(signer.name in known.known for signer in corpus):
        if len(forged) >= FEWEST:
            return split_by_signer(forged, seed=seed)
        return Split(train=tuple(forged), validation=(), test=())
    tuning = tuple(signer for signer in corpus if signer.name in known.tuning)
    testers = known.testing - known.taught
    testing = tuple(signer for signer in corpus if signer.name in testers)
    teaching = tuple(
        signer
        for signer in corpus
        if signer.name in known.taught - known.tuning
        or (signer.name not in known.known and signer.forged)
    )
    return Split(train=teaching, validation=tuning, test=testing)


def carried_on(split: Split, known: Lineage) -> dict[str, list[str]]:
    """What the provenance of a model that was trained so says of its writers."""
    names = {
        part: [signer.name for signer in signers]
        for part, signers in (
            ("train_writers", split.train),
            ("development_writers", split.validation),
            ("test_writers", split.test),
        )
    }
    new = {*names["train_writers"], *names["development_writers"]}
    return names | {"taught_writers": sorted(known.taught | new)}
