from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from model.errors import CheckpointNotFound
from storage.errors import DatabaseUnavailable
from worker.runtime import Runtime, close_runtimes, get_runtime
from worker.settings import Settings


def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    settings = Settings(
        database_url="postgresql://nobody@127.0.0.1:1/none",
        s3_endpoint="http://127.0.0.1:1",
        store="s3://bucket",
        checkpoint=tmp_path / "none.pt",
    )
    runtime = Runtime(settings)
    assert runtime.sessions is runtime.sessions
    assert runtime.images is runtime.images
    with pytest.raises(DatabaseUnavailable):  # which knows the model in use
        _ = runtime.embedder
    runtime.close()


def test_without_a_registry_the_model_of_the_settings_is_used(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.db"
    runtime = Runtime(Settings(database_url=url, checkpoint=tmp_path / "none.pt"))
    with pytest.raises(CheckpointNotFound):
        _ = runtime.embedder
    assert not (tmp_path / "none.db").exists()
    runtime.close()


def test_threads_that_arrive_together_load_one_model(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import model.inference

    loads: list[str] = []
    real = model.inference.Embedder

    def counted(checkpoint: object, device: object, **others: Any) -> object:
        loads.append(str(device))
        return real(checkpoint, device, **others)  # type: ignore[arg-type]

    monkeypatch.chdir(tiny_checkpoint.parent)
    monkeypatch.setattr(model.inference, "Embedder", counted)
    runtime = Runtime(Settings(checkpoint=tiny_checkpoint, device="cpu"))
    barrier = threading.Barrier(4)
    seen: list[object] = []

    def arrive() -> None:
        barrier.wait()
        seen.append(runtime.embedder)

    threads = [threading.Thread(target=arrive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["cpu"]
    assert len(set(map(id, seen))) == 1


def test_one_process_has_one_runtime_for_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in __import__("os").environ if name.startswith("SIGCTL_")]:
        monkeypatch.delenv(name)
    assert get_runtime() is get_runtime()
    assert get_runtime() is get_runtime(Settings())
    assert get_runtime(Settings(queue="other")) is not get_runtime()


def test_a_closed_runtime_can_be_used_again(sqlite_url: str) -> None:
    runtime = get_runtime(Settings(database_url=sqlite_url))
    for _ in range(2):
        with runtime.sessions() as session:
            session.connection()
        close_runtimes()
    assert get_runtime(runtime.settings) is not runtime


def test_submitting_does_not_load_torch() -> None:
    """A client that only submits must start fast."""
    import subprocess

    code = "import sys, worker.client; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
