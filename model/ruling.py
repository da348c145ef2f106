"""The rule by which a candidate may take the place of the active model.

All of this must hold: against skilled and against random forgeries, and by every protocol, the
candidate is not worse, and by the mean over all numbers of references it is better in one of the
two; no gate against leaks fails; few enough of the service's last verdicts would flip; and of those
that people have judged no more would flip away from what they found out than towards it, and its
scores tell what they called genuine from what they called forged. Worse and better are what the
interval of the difference over writers does not put down to chance.
"""

from dataclasses import asdict, dataclass
from typing import Any

from .comparison import FORGERIES, Comparison
from .flips import Flips
from .rates import percent

FEW = 10
"""Documents that people called genuine, or forged, below which nothing is said of the labels."""

LEARNT = 0.85
"""Area under the ROC of what was labelled, 0.5 for labels at random."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One part of the rule, whether it is met, and a sentence that says by which figures."""

    name: str
    met: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What the rule says of a candidate."""

    conditions: tuple[Condition, ...]

    @property
    def promotes(self) -> bool:
        """Whether every condition is met."""
        return all(condition.met for condition in self.conditions)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of the conditions that are not met."""
        return tuple(condition.sentence for condition in self.conditions if not condition.met)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "promotes": self.promotes,
            "conditions": [asdict(condition) for condition in self.conditions],
        }


def rule(comparison: Comparison, flips: Flips | None, *, max_flips: float) -> Ruling:
    """Whether the candidate is better and safe; `flips` is None where no replay was wanted.

    `max_flips` is the share, 0 to 1, of verdicts that may flip without being known to be corrected.
    """
    return Ruling(
        conditions=(
            *(_no_worse(comparison, kind) for kind in FORGERIES),
            _one_better(comparison),
            _gates(comparison),
            _few_flips(flips, max_flips),
            _labels_confirmed(flips),
            _labels_learnt(flips),
        )
    )


def _no_worse(comparison: Comparison, kind: str) -> Condition:
    rows = [found for found in comparison.differences if found.kind == kind]
    measured = [found for found in rows if found.measured]
    worse = [found for found in measured if found.worse]
    if not measured:
        sentence = f"There was nothing to compare the models by against {kind} forgeries."
    elif worse:
        listed = "; ".join(map(str, worse))
        sentence = f"The candidate is worse against {kind} forgeries ({listed})."
    else:
        sentence = f"By no protocol is the candidate worse against {kind} forgeries."
    return Condition(name=f"{kind}_no_worse", met=bool(measured) and not worse, sentence=sentence)


def _one_better(comparison: Comparison) -> Condition:
    better = [found for found in comparison.deciding if found.measured and found.better]
    if better:
        listed = "; ".join(map(str, better))
        sentence = f"The candidate is better beyond the choice of writers ({listed})."
    else:
        listed = "; ".join(map(str, comparison.deciding))
        sentence = f"The candidate is not shown to be better ({listed})."
    return Condition(name="one_better", met=bool(better), sentence=sentence)


def _gates(comparison: Comparison) -> Condition:
    leaks = " ".join(comparison.leaks)
    sentence = f"A gate against leaks fails. {leaks}" if leaks else "No gate against leaks fails."
    return Condition(name="gates", met=not leaks, sentence=sentence)


def _few_flips(flips: Flips | None, max_flips: float) -> Condition:
    if flips is None:
        return Condition(name="flips", met=True, sentence="No replay of decisions was asked for.")
    if not flips.asked:
        return Condition(
            name="flips", met=True, sentence="The active model has made no decision to replay."
        )
    if not flips.changes:
        sentence = f"None of the last {flips.asked} decisions could be replayed."
        return Condition(name="flips", met=False, sentence=sentence)
    sentence = (
        f"Of {len(flips.changes)} decisions replayed, {len(flips.flipped)} flip, of which"
        f" {len(flips.corrected)} towards what people found out; the others are"
        f" {percent(flips.doubtful)}, and {percent(max_flips)} may be."
    )
    return Condition(name="flips", met=flips.doubtful <= max_flips, sentence=sentence)


def _labels_confirmed(flips: Flips | None) -> Condition:
    """What was labelled at random cannot be learnt, even where other writers gain by it."""
    if flips is None or not (flips.corrected or flips.contradicted):
        sentence = "No verdict flips towards what people found out, or away from it."
        return Condition(name="labels", met=True, sentence=sentence)
    corrected, contradicted = len(flips.corrected), len(flips.contradicted)
    sentence = (
        f"Of the verdicts that flip, {corrected} go towards what people found out and"
        f" {contradicted} away from it."
    )
    return Condition(name="labels", met=contradicted <= corrected, sentence=sentence)


def _labels_learnt(flips: Flips | None) -> Condition:
    """Most of them were taught: who cannot tell them apart then was taught nothing, or errs."""
    area, genuine, forged = (flips or Flips(gone={})).told_apart()
    if min(genuine, forged) < FEW:
        sentence = (
            f"Of the documents replayed people called {genuine} genuine and {forged} forged; fewer"
            f" than {FEW} of either say nothing of the labels."
        )
        return Condition(name="learnt", met=True, sentence=sentence)
    sentence = (
        f"The candidate's scores tell {forged} documents that people called forged from {genuine}"
        f" that they called genuine with an AUC of {area:.2f}; {LEARNT} is the least."
    )
    return Condition(name="learnt", met=area >= LEARNT, sentence=sentence)
