"""`sigctl audit drift` on both databases: sentences, table, JSON and picture."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage import decisions, jobs
from storage.database import make_engine, make_sessions
from storage.tables import Decision
from tests.builders import MODEL_ID, digest
from tests.conftest import Databases
from tests.worker.cli.conftest import Sigctl
from tests.worker.test_drift import made_up
from worker.cli.exits import Exit
from worker.drift_words import NO_INK

OTHER = digest("the model before")


MOVES: dict[str, dict[str, Any]] = {
    "calm": {},
    "moved": {"shift": 0.1},
    "scanner": {"factors": (1.4, 1, 1)},
}


@pytest.fixture(scope="module", params=MOVES)
def moves(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What moves at the second branch: nothing, its distances, or the width of its strokes."""
    return MOVES[str(request.param)]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def made_record(
    request: pytest.FixtureRequest,
    sqlite_template: Path,
    tmp_path_factory: pytest.TempPathFactory,
    moves: dict[str, Any],
) -> Iterator[str]:
    """The database of `recorded`, which tests only read and therefore share."""
    if request.param == "sqlite":
        path = shutil.copy(sqlite_template, tmp_path_factory.mktemp("record") / "sigctl.db")
        yield _filled(f"sqlite:///{path}", moves)
    else:
        databases: Databases = request.getfixturevalue("databases")
        url = databases.lend()
        yield _filled(url, moves)
        databases.take_back(url)


def _filled(url: str, moves: dict[str, Any]) -> str:
    made = [_decision(row) for row in made_up(1, **moves)]
    made += [_decision(row, before=True) for row in made_up(2, shift=0.3) if row.distance]
    engine = make_engine(url)
    with make_sessions(engine).begin() as session:
        for start in range(0, len(made), 500):
            part = made[start : start + 500]
            jobs.start(session, [_question(decision) for decision in part])
            decisions.record(session, part)
    engine.dispose()
    return url


@pytest.fixture
def recorded(made_record: str, monkeypatch: pytest.MonkeyPatch, here: Path) -> str:
    """Eight weeks of two branches on either database; another model decided otherwise before."""
    monkeypatch.setenv("SIGCTL_DATABASE_URL", made_record)
    return made_record


def _question(decision: Decision) -> dict[str, str]:
    return {
        "id": decision.job_id,
        "signer_id": decision.signer_id,
        "document": decision.document,
    }


def _decision(row, before: bool = False) -> Decision:
    values = row._asdict()
    values["upstream"] = {"scanner": f"{row.document.split('/')[3]}-scanner"}
    if row.distance is not None:
        values |= {"score": row.distance, "threshold": 0.5, "model_id": MODEL_ID}
    if before:
        values |= {"job_id": f"old-{row.job_id}", "model_id": OTHER, "ink": None}
        values["decided_at"] -= timedelta(days=100)
    return Decision(**values)


def test_a_shift_is_said_and_drawn_and_calm_is_said_as_well(
    sigctl: Sigctl, recorded: str, here: Path, moves: dict[str, Any]
) -> None:
    done = sigctl("audit", "drift", "--plot", "drift.png")
    assert done.code == 0, done.text
    lines = done.out.splitlines()
    assert max(len(line) for line in lines if "decisions)" not in line) <= 100
    assert "prep ms" in done.text
    assert "stroke width px ink share % long side px" in done.text
    if moves:
        first = done.out.splitlines()[0]
        what = "documents of s3://scans/branch-12 lie 0."
        if "factors" in moves:
            what = (
                "the strokes of documents of s3://scans/branch-12 are 1.4 times as wide as before"
            )
        assert first.startswith(f"Since 2026-W42 {what}")
        assert "branch-11" not in done.text
    else:
        assert done.out.startswith("Nothing moved.\n")
    assert "baseline to 2026-W37" in done.text
    with Image.open(here / "drift.png") as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
        assert picture.height > 300 * (2 if moves else 1)


def test_programs_read_the_same_as_json(
    sigctl: Sigctl, recorded: str, moves: dict[str, Any]
) -> None:
    found = sigctl("audit", "drift", "--json").json
    assert found["moved"] is bool(moves)
    assert found["model_id"] == MODEL_ID
    assert set(found["sources"]) == {"all sources", "s3://scans/branch-11", "s3://scans/branch-12"}
    total = sum(cell["decisions"] for cell in found["sources"]["all sources"])
    assert total == len(list(made_up(1, **moves)))
    widths = [cell["ink"]["stroke_width"] for cell in found["sources"]["s3://scans/branch-12"]]
    assert widths[0]["median"] == pytest.approx(3.7, rel=0.1)
    assert sum(widths[0]["histogram"].values()) == widths[0]["decisions"] > 200
    if moves:
        assert {each["measure"] for each in found["findings"]} == (
            {"stroke_width"} if "factors" in moves else {"distance", "accepted"}
        )
        assert {each["source"] for each in found["findings"]} == {"s3://scans/branch-12"}
        assert found["findings"][0]["p"] <= found["level"]
        assert found["sentences"] == [each["sentence"] for each in found["findings"]]
    else:
        assert found["sentences"] == ["Nothing moved."]


@pytest.mark.parametrize("moves", ["moved"], indirect=True, scope="module")
def test_sources_signers_models_and_periods_can_be_chosen(sigctl: Sigctl, recorded: str) -> None:
    def asked(*options: str):
        return sigctl("audit", "drift", "--json", *options).json

    fields = asked("--source-field", "scanner")
    assert "branch-12-scanner" in fields["sources"]
    assert {each["source"] for each in fields["findings"]} == {"branch-12-scanner"}
    calm = asked("--source", "s3://scans/branch-11")
    assert (calm["moved"], set(calm["sources"])) == (
        False,
        {"all sources", "s3://scans/branch-11"},
    )
    before = asked("--model", OTHER[:8])
    assert (before["model_id"], before["remarks"]) == (OTHER, [NO_INK])  # from before ink
    days = asked("--by", "day", "--until", "2026-09-20")["sources"]["all sources"]
    assert days[-1]["period"] == "2026-09-18"
    since = asked("--since", "2026-10-12")
    assert since["moved"] is False  # all of it is after the shift
    assert asked("--baseline", "2026-09-07..2026-09-20")["moved"] is True
    signer = next(row.signer_id for row in made_up(1))
    few = asked("--signer", signer)
    assert few["sentences"][0].startswith("Nothing can be said yet")


@pytest.mark.parametrize("moves", ["calm"], indirect=True, scope="module")
def test_what_makes_no_sense_is_one_sentence(sigctl: Sigctl, recorded: str) -> None:
    for *options, words in (
        ("--baseline", "2026-09-07", "is not a period such as"),
        ("--baseline", "2026-09-07..2026-09-01", "ends before it begins"),
        ("--source", "s3://nowhere", "No decision matches."),
        ("--model", "zz", "No model 'zz' has decided."),
        ("--plot", "/proc/none/drift.png", "drift.png"),
    ):
        done = sigctl("audit", "drift", *options)
        assert (done.code, done.out) == (Exit.USAGE, "")
        assert words in done.text


def test_an_empty_record_is_one_sentence(sigctl: Sigctl) -> None:
    done = sigctl("audit", "drift")
    assert done.code == Exit.USAGE
    assert "No model has decided anything yet." in done.text
