"""What is said of a writer's own specimens, and of a stranger's, is counted by what it is."""

from __future__ import annotations

import numpy as np
import pytest

from bench.strangers import REFUSED, Writer, of_strangers, of_their_own
from model.scoring import Scoring
from model.specimen import Measures
from worker.inspection import Fellow

SOUND = Measures(long=300.0, strokes=5.0, crossings=0.0, crossed=0.0, beside=0.0, above=0.0)
RULE = Scoring(thresholds={1: 0.5}, accept={"1%": {1: 0.3}}, reject={1: 0.7})


def writer(name: str, angle: float, *turns: float) -> Writer:
    """Embeddings on a circle, each turned away from the writer's own angle."""
    fellows = []
    for number, turn in enumerate(turns):
        at = angle + turn
        vector = np.array([np.cos(at), np.sin(at)], np.float32)
        sha256 = f"{name}-{number}"
        fellows.append((Fellow(name=sha256, sha256=sha256, vector=vector, canvas=canvas), SOUND))
    return Writer(name=name, specimens=fellows)


def canvas() -> None:
    """None is to be had."""


STEPS = (0.0, 0.05, 0.1, 0.15, 0.2)


def test_what_stands_apart_from_its_own_is_counted() -> None:
    sound = writer("ada", 0.0, *STEPS)
    odd = writer("bo", 2.0, *STEPS[:4], 1.0)
    assert of_their_own([sound], RULE) == {}
    assert of_their_own([sound, odd], RULE) == {"far_from_own": 1}


@pytest.mark.parametrize("turn", [0.2, 1.2])
def test_a_stranger_is_far_and_refused_where_the_others_are_known_to_be_near(turn: float) -> None:
    found = [writer("ada", 0.0, *STEPS), writer("bo", 2.0, *STEPS[:4], turn)]
    told = of_strangers(found, RULE)
    assert told["far_from_own"] == 2
    assert told[REFUSED] == (2 if turn == 0.2 else 1)
