"""What a worker and an auditor ask of the record, with other values each time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from bench.rows import CODES, END, MODELS, RARE, Size
from storage import decisions, references
from storage.decisions import DecisionFilter
from storage.tables import VERDICTS

PAGE = 50  # what `sigctl audit list` shows

Ask = Callable[[Session], object]
Fields = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Question:
    """Something that is asked with other values each time; `share` is of the usual draws."""

    name: str
    draw: Callable[[Size, np.random.Generator], Ask]
    target_ms: float | None = None  # for the p99, on PostgreSQL
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Fields of a filter with random values; each reading draws anew."""

    size: Size
    rng: np.random.Generator

    @property
    def signer(self) -> Fields:
        """The busier, the likelier."""
        return {"signer_id": self.size.signer(self.rng.random())}

    @property
    def busiest(self) -> Fields:
        """The signer with the most decisions."""
        return {"signer_id": self.size.signer(0.0)}

    @property
    def verdict(self) -> Fields:
        """Any of the four."""
        return {"verdict": self._one(VERDICTS)}

    @property
    def model(self) -> Fields:
        """Any of the three, each of its own time."""
        return {"model_id": self._one(MODELS)}

    @property
    def shortened(self) -> Fields:
        """A model by the beginning of its digest."""
        return {"model_id": self._one(MODELS)[:12]}

    @property
    def code(self) -> Fields:
        """Any that is still met."""
        return {"error_code": self._one(CODES)}

    @property
    def day(self) -> Fields:
        """A day of the record, which for a very short one is more than all of it."""
        days = max((END - self.size.begin) / timedelta(days=1), 1.0)
        since = END - timedelta(days=1 + (days - 1) * self.rng.random())
        return {"since": since, "until": since + timedelta(days=1)}

    def distance(self, low: float, high: float) -> Fields:
        """A range of 0.01."""
        begin = self.rng.uniform(low, high)
        return {"min_distance": begin, "max_distance": begin + 0.01}

    def _one(self, of: Sequence[str]) -> str:
        return of[int(self.rng.integers(len(of)))]


PAGES: dict[str, Callable[[Draw], Fields]] = {
    "newest": lambda _: {},
    "a signer": lambda draw: draw.signer,
    "a verdict": lambda draw: draw.verdict,
    "a model": lambda draw: draw.model,
    "a model by 12 characters": lambda draw: draw.shortened,
    "a day": lambda draw: draw.day,
    "a day and a verdict": lambda draw: draw.day | draw.verdict,
    "an error code": lambda draw: draw.code,
    "an error code long gone": lambda _: {"error_code": RARE},
    "a signer and a verdict": lambda draw: draw.signer | draw.verdict,
    "the busiest signer's errors": lambda draw: draw.busiest | {"verdict": "error"},
    "a model and a verdict": lambda draw: draw.model | {"verdict": "reject"},
    "distances in a range of 0.01": lambda draw: draw.distance(0.05, 1.25),
    "a signer's larger distances": lambda draw: draw.signer | {"min_distance": 0.4},
}


def questions() -> Iterator[Question]:
    """What is asked, in the order of the table."""
    yield Question(name="references of a signer", draw=_references, target_ms=3.0, share=4.0)
    yield Question(name="decision of a job", draw=_decision, share=4.0)
    for name, fields in PAGES.items():
        yield Question(name=f"page: {name}", draw=_page(fields), target_ms=20.0)
    nothing = _page(lambda draw: draw.distance(2.0, 3.0))
    yield Question(name="page: distances that nothing has", draw=nothing, share=0.1)
    yield Question(name="sums: a signer", draw=_sums(lambda draw: draw.signer))
    yield Question(name="sums: a day", draw=_sums(lambda draw: draw.day), share=0.5)
    yield Question(name="sums: everything", draw=_sums(lambda _: {}), share=0.01)


def _references(size: Size, rng: np.random.Generator) -> Ask:
    signer = size.signer(rng.random() ** 0.5)  # each as likely as any other
    return lambda session: references.embeddings(session, signer, MODELS[-1])


def _decision(size: Size, rng: np.random.Generator) -> Ask:
    name = size.job(int(rng.integers(size.decisions)))
    return lambda session: decisions.get(session, name)


def _page(fields: Callable[[Draw], Fields]) -> Callable[[Size, np.random.Generator], Ask]:
    def draw(size: Size, rng: np.random.Generator) -> Ask:
        wanted = DecisionFilter(limit=PAGE, **fields(Draw(size=size, rng=rng)))
        return lambda session: list(decisions.search(session, wanted))

    return draw


def _sums(fields: Callable[[Draw], Fields]) -> Callable[[Size, np.random.Generator], Ask]:
    def draw(size: Size, rng: np.random.Generator) -> Ask:
        wanted = DecisionFilter(**fields(Draw(size=size, rng=rng)))
        return lambda session: decisions.stats(session, wanted)

    return draw
