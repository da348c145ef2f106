"""Retraining: from what the service has learnt of its signers to a candidate, step by step.

    gather -> train -> compare -> replay -> register -> promote

What each step comes to lies in the folder of the run, whole or not at all. A run that was killed
goes on at the step it was in, in training at the epoch, and ends with the same candidate to the
byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.comparison import Comparison, comparison_from
from model.files import write_atomically
from model.flips import Flips, flips_of
from model.ruling import Ruling, rule
from storage import models
from storage.tables import ACTIVE
from worker import activation, learning, registry
from worker.gathering import Snapshot, gather, scan, snapshot_from
from worker.logs import get_logger
from worker.replay import replay
from worker.retrain_run import Asked, RunFolder, Watch
from worker.transactions import transaction

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.inference import Embedder
    from worker.runtime import Runtime

Activate = Callable[..., object]
"""`worker.activation.activate`, or what stands in for it."""

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """What became of a retraining.

    `promoted` says whether the candidate decides now; `reasons` why the rule forbids it, or why it
    was not done although the rule allows it.
    """

    candidate: str
    parent: str
    ruling: Ruling
    comparison: Comparison
    flips: Flips | None
    promoted: bool
    reasons: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    report: Path

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "candidate": self.candidate,
            "parent": self.parent,
            "promoted": self.promoted,
            "reasons": list(self.reasons),
            **metrics_of(self.comparison, self.flips, self.ruling),
            "left_out": [list(one) for one in self.left_out],
            "report": str(self.report),
        }


def retrain(
    folder: RunFolder,
    asked: Asked,
    *,
    runtime: Runtime,
    cache: Path,
    watch: Watch,
    device: str | None = None,
    activate: Activate = activation.activate,
) -> Retrained:
    """Do what was asked for, or go on with it; `activate` makes a model the active one.

    Raises DatasetError, TrainingError, CheckpointError and StorageError with the reason; Transient
    when the store or the database is away; and whatever `watch.go_on` raises.
    """
    with folder.held():
        folder.pin(asked)
        return _Retraining(folder, asked, runtime, cache, watch, device).done(activate)


def metrics_of(comparison: Comparison, flips: Flips | None, ruling: Ruling) -> dict[str, Any]:
    """What the registry keeps of a candidate: by which protocol it was measured to do what."""
    return {
        "comparison": comparison.as_dict(),
        "replay": None if flips is None else flips.as_dict(),
        "ruling": ruling.as_dict(),
    }


class _Retraining:
    """One process's work on a run."""

    def __init__(
        self,
        folder: RunFolder,
        asked: Asked,
        runtime: Runtime,
        cache: Path,
        watch: Watch,
        device: str | None,
    ) -> None:
        self.folder, self.asked, self.runtime = folder, asked, runtime
        self.cache, self.watch = cache, watch
        self.device = device or runtime.settings.device

    def done(self, activate: Activate) -> Retrained:
        """Every step that is left, and the report."""
        snapshot, parent = self._gathered()
        candidate = self._trained(snapshot, parent)
        comparison = self._compared(snapshot, parent.checkpoint, candidate)
        flips = self._replayed(snapshot, candidate)
        ruling = rule(comparison, flips, max_flips=self.asked.max_flips)
        self._registered(candidate, comparison, flips, ruling)
        reasons = self._promoted(snapshot, candidate.sha256, ruling, activate)
        return self._ended(snapshot, candidate, comparison, flips, ruling, reasons)

    def _gathered(self) -> tuple[Snapshot, Embedder]:
        values = self.folder.read("snapshot")
        if values is not None:
            snapshot = snapshot_from(values)
            return snapshot, self._embedder(parent_of(self.runtime, snapshot.parent))
        parent = self._embedder(parent_of(self.runtime))
        snapshot = gather(
            self.folder,
            self.asked.corpora,
            runtime=self.runtime,
            parent=parent,
            replay=self.asked.replay,
            watch=self.watch,
        )
        self.folder.write("snapshot", snapshot.as_dict())
        for what, reason in snapshot.left_out:
            self.watch.say(f"Left out: {what}, because {reason}.")
        return snapshot, parent

    def _trained(self, snapshot: Snapshot, parent: Embedder) -> Checkpoint:
        from model.checkpoint import load_checkpoint

        path = self.folder.path / "candidate.pt"
        if not path.exists():
            learning.train(
                self.folder.path,
                parent=parent.checkpoint,
                corpora=scan(self.asked.corpora, snapshot.corpora),
                enrolled=self._enrolled(snapshot),
                asked=self.asked,
                cache=self.cache,
                device=self.device,
                watch=self.watch,
            )
        return load_checkpoint(path)

    def _compared(
        self, snapshot: Snapshot, parent: Checkpoint, candidate: Checkpoint
    ) -> Comparison:
        values = self.folder.read("comparison")
        if values is not None:
            return comparison_from(values)
        self.watch.step("Comparing", 0, 1)
        comparison = learning.compared(
            parent=parent,
            candidate=candidate,
            corpora=scan(self.asked.corpora, snapshot.corpora),
            enrolled=self._enrolled(snapshot),
            seed=self.asked.seed,
            cache=self.cache,
            device=self.device,
        )
        self.folder.write("comparison", comparison.as_dict())
        return comparison

    def _replayed(self, snapshot: Snapshot, candidate: Checkpoint) -> Flips | None:
        if not self.asked.replay:
            return None
        values = self.folder.read("replay")
        if values is None:
            from dataclasses import asdict

            found = replay(
                snapshot.replay,
                sessions=self.runtime.sessions,
                images=self.runtime.images,
                embedder=self._embedder(candidate),
                max_pixels=self.runtime.settings.max_pixels,
                step=lambda done, of: self.watch.step("Replaying decisions", done, of),
            )
            if found.cards:
                from model.plots import comparison_sheet

                rows = [card.row() for card in found.cards]
                comparison_sheet(rows, self.folder.path / "flips.png")
            changes = [asdict(change) for change in found.flips.changes]
            values = {"changes": changes, "gone": found.flips.gone}
            self.folder.write("replay", values)
        return flips_of(values["changes"], values["gone"])

    def _registered(
        self,
        candidate: Checkpoint,
        comparison: Comparison,
        flips: Flips | None,
        ruling: Ruling,
    ) -> None:
        """Keep the file where every worker can have it, then the row that names it."""
        self.watch.step("Registering", 0, 1)
        path = self.folder.path / "candidate.pt"
        registry.register(
            self.runtime,
            path.read_bytes(),
            str(path),
            by=self.asked.by,
            metrics=metrics_of(comparison, flips, ruling),
        )
        log.info("candidate_registered", model=candidate.sha256, promotes=ruling.promotes)

    def _promoted(
        self, snapshot: Snapshot, candidate: str, ruling: Ruling, activate: Activate
    ) -> tuple[str, ...]:
        """Promote if that was asked for and may be, once; returns why it was not."""
        ended = self.folder.read("result")
        if ended is not None:
            return tuple(ended["reasons"])
        if not ruling.promotes:
            return ruling.reasons
        if not self.asked.promote:
            return ()
        with transaction(self.runtime.sessions) as session:
            if models.get(session, candidate).state == ACTIVE:
                return ()
            now = models.lineup(session).active
        if now not in (None, snapshot.parent):
            return (f"Model {str(now)[:12]} has become active meanwhile; compare with that one.",)
        activate(self.runtime, candidate, by=self.asked.by, progress=self.watch.step)
        return ()

    def _ended(
        self,
        snapshot: Snapshot,
        candidate: Checkpoint,
        comparison: Comparison,
        flips: Flips | None,
        ruling: Ruling,
        reasons: tuple[str, ...],
    ) -> Retrained:
        from worker.retrain_report import page

        found = Retrained(
            candidate=candidate.sha256,
            parent=snapshot.parent,
            ruling=ruling,
            comparison=comparison,
            flips=flips,
            promoted=self.asked.promote and not reasons,
            reasons=reasons,
            left_out=snapshot.left_out,
            report=self.folder.path / "index.html",
        )
        text = page(found, self.asked, candidate, self.folder.path)
        write_atomically(found.report, text.encode())
        self.folder.write("result", found.as_dict())
        self.folder.clear()
        return found

    def _enrolled(self, snapshot: Snapshot) -> list[Any]:
        """The enrolled signers with the paths of their canvases as they are here."""

        def here(paths: tuple[Path, ...]) -> tuple[Path, ...]:
            return tuple(self.folder.path / path for path in paths)

        return [
            replace(signer, genuine=here(signer.genuine), forged=here(signer.forged))
            for signer in snapshot.enrolled
        ]

    def _embedder(self, checkpoint: Checkpoint) -> Embedder:
        """The reference arithmetic; documents are decoded where they always are."""
        from model.inference import Embedder, choose_device
        from model.questioned import look

        sandbox = self.runtime.sandbox
        return Embedder(
            checkpoint,
            choose_device(self.device),
            exact=True,
            decode=look if sandbox is None else sandbox.look,
        )


def parent_of(runtime: Runtime, model_id: str | None = None) -> Checkpoint:
    """The checkpoint of that model, or of the one in use now. Raises CheckpointError, UnknownModel.

    StoreUnavailable and DatabaseUnavailable are worth another try.
    """
    loaded = runtime.models
    found = loaded.get(model_id) if model_id else loaded.use(loaded.lineup())
    return found.checkpoint
