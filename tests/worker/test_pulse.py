from __future__ import annotations

import pytest

from worker import pulse
from worker.pulse import Pulse


def test_a_loop_that_has_not_begun_is_not_alive() -> None:
    assert Pulse().fault() == "The worker has not begun to take messages."


def test_a_loop_that_turns_is_alive() -> None:
    found = Pulse()
    found.beat()
    assert (found.fault(), found.absence()) == (None, None)


def test_a_loop_that_stands_still_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Pulse()
    found.beat()
    monkeypatch.setattr(pulse, "STILL", -1.0)
    assert "has stood still" in (found.fault() or "")


def test_a_loop_that_looks_for_its_broker_is_alive_but_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Pulse()
    found.beat()
    found.rest()
    monkeypatch.setattr(pulse, "STILL", -1.0)
    assert found.fault() is None
    assert found.absence() == "The worker is not connected to its broker."
    found.beat()
    assert found.absence() is None
