"""What thresholds that were fitted on other corpora do to writers of a corpus that nobody saw.

    python -m bench.thresholds --data DIR [--checkpoint FILE]

DIR holds the corpora of the checkpoint's development and test writers. Each corpus is left out in
turn: thresholds are fitted on the development writers of the others, with the checkpoint's rule,
and applied to its writers in three ways: as they are; moved by what is between the middles of
genuine scores here and there; and moved and stretched, so that the middles of strangers' scores
agree as well. The middles come from signers' specimens among themselves, so that a service could
take them of what it has enrolled: nothing that is known to be forged is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.rule import corpora_of, embedded, options_of, percent
from model import evaluate, metrics
from model.arrays import Floats, Vectors
from model.checkpoint import load_checkpoint
from model.lineage import lineage_of
from model.sampling import Writer
from model.scoring import Scoring, scores
from worker.cli import show

CANNOT = 2
SHARES = (0.01, 0.05)
"""Of skilled forgeries that a threshold may accept."""
STRANGERS = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Scores of one corpus with so many references, and the middles of its specimens' own."""

    scores: evaluate.Scores
    genuine: float
    strangers: float

    def on_scale(self, kind: str, way: str) -> Floats:
        """Scores of this kind on the scale on which a way of applying thresholds compares them."""
        return WAYS[way](self.scores.of(kind), self)


WAYS: Mapping[str, Callable[[Floats, Found], Floats]] = {
    "as fitted": lambda scores, _: scores,
    "moved": lambda scores, own: scores - own.genuine,
    "and stretched": lambda scores, own: (scores - own.genuine) / (own.strangers - own.genuine),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each corpus that is left out."""
    options = options_of("Thresholds on a corpus that nobody saw.", arguments)
    checkpoint = load_checkpoint(options.checkpoint)
    lineage = lineage_of(checkpoint.provenance)
    corpora = list(corpora_of(options.data, lineage.tuning | lineage.testing))
    if len(corpora) < 2:
        show.say("--data holds fewer than two of the checkpoint's own corpora.", stderr=True)
        return CANNOT
    names = [signers[0].corpus for signers in corpora]
    parts = embedded(corpora, checkpoint, options)
    found = {
        name: _by_count(*part, checkpoint.scoring) for name, part in zip(names, parts, strict=True)
    }
    teaching = {
        name
        for name, signers in zip(names, corpora, strict=True)
        if lineage.tuning.issuperset(signer.name for signer in signers)
    }
    for name in names:
        _table(name, found[name], [found[other] for other in sorted(teaching - {name})])
    return 0


def _by_count(vectors: Vectors, writers: Sequence[Writer], rule: Scoring) -> dict[int, Found]:
    return {
        count: _found(vectors, able, count, rule)
        for count in evaluate.REFERENCE_COUNTS
        if len(able := [writer for writer in writers if len(writer.genuine) > count]) > 1
    }


def _found(vectors: Vectors, writers: Sequence[Writer], count: int, rule: Scoring) -> Found:
    """Everything about the writers who have more than so many genuine signatures."""
    rng = np.random.default_rng(count)
    genuine, strangers = [], []
    for number, writer in enumerate(writers):
        own = vectors[writer.genuine[: count + 1]]
        for row in range(len(own)):
            genuine += [*scores(own[row][None], np.delete(own, row, axis=0), rule)]
        others = [other for other in range(len(writers)) if other != number]
        drawn = rng.choice(others, min(STRANGERS, len(others)), replace=False)
        asked = vectors[[writers[other].genuine[0] for other in drawn]]
        strangers += [*scores(asked, own[:count], rule)]
    found = evaluate.with_references(vectors, writers, references=count, scoring=rule, rng=rng)
    return Found(
        scores=found,
        genuine=float(np.median(genuine)),
        strangers=float(np.median(strangers)),
    )


def accepted(here: Found, there: Sequence[Found], way: str, share: float) -> tuple[float, float]:
    """Shares of skilled forgeries and genuine signatures below the threshold of other corpora.

    The threshold accepts no more than `share` of their skilled forgeries.
    """
    genuine, skilled = (
        np.concatenate([one.on_scale(kind, way) for one in there])
        for kind in ("genuine", "skilled")
    )
    accept = metrics.threshold(genuine, skilled, "far", far=share)
    found = (here.on_scale(kind, way) for kind in ("skilled", "genuine"))
    below, rightly = (float(np.mean(scores < accept)) for scores in found)
    return below, rightly


def _table(corpus: str, own: Mapping[int, Found], others: Sequence[Mapping[int, Found]]) -> None:
    rows = []
    for count, here in own.items():
        there = [other[count] for other in others if count in other]
        if not there:
            continue
        for way in WAYS:
            shares = [accepted(here, there, way, share) for share in SHARES]
            rows.append([str(count), way, *(percent(*pair) for pair in shares)])
    titles = ("references", "thresholds", *(f"{share:.0%}" for share in SHARES))
    show.table(
        [show.Column(title=title, right=title != "thresholds") for title in titles],
        rows,
        title=f"{corpus}: skilled / genuine accepted in %, by thresholds of other corpora",
    )


if __name__ == "__main__":
    sys.exit(main())
