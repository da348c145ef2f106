"""The bench of the record, on a record of a thousand decisions."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select

from bench import lookup
from bench.record import fill
from bench.rows import CODES, MODELS, RARE, Size
from model.distance import WITH_CELLS
from storage import decisions, jobs, references
from storage.database import make_engine, make_sessions
from storage.decisions import DecisionFilter
from storage.tables import Decision, Job
from tests import services

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folders(monkeypatch):
    """The folders that servers and databases were put into."""
    made = []
    new = services.new_folder
    for module in (services, lookup):
        monkeypatch.setattr(module, "new_folder", lambda name: made.append(new(name)) or made[-1])
    return made


def test_both_databases_are_measured_at_two_sizes_and_removed(folders, tmp_path, capsys):
    file = tmp_path / "lookup.json"
    code = lookup.main(["--scale", "0.0002", "--draws", "3", "--json", str(file)])
    result = json.loads(file.read_text())
    assert code == (0 if lookup.met(result) else 1)
    said = capsys.readouterr().out
    for name in ("PostgreSQL", "SQLite"):
        found = result["databases"][name]
        assert found["full"]["decisions"] == {"PostgreSQL": 2000, "SQLite": 200}[name]
        assert found["small"]["decisions"] == 100
        for row in found["questions"]:
            assert 0 < row["full"]["p50_ms"] <= row["full"]["p99_ms"]
            assert row["growth"] == row["full"]["p50_ms"] / row["small"]["p50_ms"]
            assert row["plan"]
            assert f"| {row['name']} | " in said
    assert "| p99 < 3 |" in said
    assert len(folders) == 2
    assert not any(folder.exists() for folder in folders)


def test_one_target_missed_is_told_by_the_exit_code(monkeypatch, capsys):
    def row(p99, target):
        times = {"p50_ms": 1.0, "p99_ms": p99, "draws": 9}
        facts = {"name": "n", "target_ms": target, "growth": 1.0, "plan": "Index Scan"}
        return facts | {"small": times, "full": times}

    counts = {"references": 5, "decisions": 10}
    facts = {"version": "18", "bytes": 1, "fill_seconds": 1.0, "small": counts, "full": counts}
    for p99, code in ((2.9, 0), (3.0, 1)):
        rows = [row(1.0, 20.0), row(99.0, None), row(p99, 3.0)]
        result = {"databases": {"PostgreSQL": facts | {"questions": rows}}}
        monkeypatch.setattr(lookup, "measure", lambda result=result, **_: result)
        assert lookup.main([]) == code
    assert (
        "| n | 1.00 / 2.90 | 1.00 / 2.90 | 1.0x | p99 < 3 | Index Scan |" in capsys.readouterr().out
    )


def test_a_disk_that_is_too_small_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(lookup.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    assert lookup.main([]) == 2
    said = capsys.readouterr().err
    assert "36 GB" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("wrong", [["--scale", "2"], ["--scale", "0"], ["--draws", "0"]])
def test_an_impossible_size_is_refused(wrong, capsys):
    with pytest.raises(SystemExit) as caught:
        lookup.main(wrong)
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_a_bench_that_is_stopped_leaves_nothing_behind(tmp_path):
    """SIGTERM in the middle of the fill, as from a `timeout`."""
    program = (
        "import os, signal, sys\n"
        "from bench import lookup, record\n"
        "from tests import services\n"
        "new = services.new_folder\n"
        "def noted(name):\n"
        "    folder = new(name); print(folder, flush=True); return folder\n"
        "services.new_folder = noted\n"
        "lookup.fill = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(lookup.main(['--scale', '0.0001']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 128 + 15
    folder = Path(done.stdout.strip())
    assert folder.name.startswith("sigctl-test-postgres")
    assert not folder.exists()


def test_the_record_is_what_the_service_would_have_written(empty_database_url):
    size = Size(signers=40, decisions=2_000, seconds=60.0)
    parts = []
    fill(empty_database_url, size, lambda part, done: parts.append((part, done)))
    assert {part for part, done in parts if done == 1.0} == {
        *("signers", "references", "embeddings", "jobs", "decisions", "indexes")
    }
    engine = make_engine(empty_database_url)
    with make_sessions(engine).begin() as session:
        known = references.embeddings(session, "signer-0000039", MODELS[-1])
        assert known.vectors.shape == (5, WITH_CELLS)
        assert known.ids == (196, 197, 198, 199, 200)
        first, last = decisions.get(session, size.job(0)), decisions.get(session, size.job(1999))
        assert (first.decided_at, first.model_id) == (size.begin, MODELS[0])
        assert last.decided_at - first.decided_at == timedelta(minutes=1999)
        assert jobs.get(session, size.job(1999)).signer_id == last.signer_id
        assert session.scalar(select(func.count()).select_from(Job)) == 2_000
        for row in decisions.search(session, DecisionFilter()):
            if row.verdict == "error":
                assert row.error_code in (*CODES, RARE)
            else:
                assert row.distances[0]["reference"] == row.nearest_reference
                assert len(row.distances) == 5
        shares = {line.verdict: line.count for line in decisions.stats(session, DecisionFilter())}
        assert 1_700 < shares["accept"] < 1_900
        busy = session.scalar(select(func.count()).where(Decision.signer_id == size.signer(0.0)))
        assert busy > 200  # of 50, were they all alike
    engine.dispose()
