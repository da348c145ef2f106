"""What a retraining learns from, gathered once: corpora, enrolled signers, labelled documents.

Of signers and documents only what the network sees is kept, in the folder of the run and for as
long as the run lasts; it is decoded where documents are always decoded. What cannot be had is left
out and named. The snapshot pins it all, so that a run that is resumed learns from the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.orm import Session

from model.cache import CANVAS, write_canvas
from model.dataset import Signer, scan_dataset
from model.errors import CheckpointError, DatasetError, ModelError
from model.lineage import enrolled_name
from model.preprocess import Region
from storage import decisions, jobs, labels, references
from storage.decisions import DecisionFilter
from storage.errors import StorageError, Transient
from storage.labels import GENUINE
from storage.tables import ERROR
from worker.retrain_run import RunFolder, Watch
from worker.transactions import transaction

if TYPE_CHECKING:
    from model.inference import Embedder
    from worker.runtime import Runtime

FETCHING = 8
"""Images fetched and decoded at a time."""

Kind = Literal["genuine", "forged"]


@dataclass(frozen=True, kw_only=True)
class Material:
    """One image of an enrolled signer: where it lies, what it must be, and what it shows."""

    signer_id: str
    what: str
    uri: str
    sha256: str | None
    kind: Kind
    page: int | None = None
    region: Region | None = None

    @property
    def content(self) -> str:
        """The same for the same part of the same image."""
        text = f"{self.sha256 or self.uri} {self.page or 1} {self.region}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def path(self) -> Path:
        """Where its canvas is kept, below the folder of the run."""
        folder = Path("signatures") / enrolled_name(self.signer_id).rsplit("/", 1)[1]
        return folder / f"{self.kind}-{self.content}{CANVAS}"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one run uses.

    `corpora` says by folder which files it held, as a digest; `writers` are those of each folder,
    `enrolled` those of the service, with paths below the folder of the run. `left_out` holds what
    could not be had, with the reason; `replay` the jobs to decide again, each with what is known of
    the truth, the newest first.
    """

    parent: str
    corpora: Mapping[str, str]
    enrolled: tuple[Signer, ...]
    left_out: tuple[tuple[str, str], ...]
    replay: tuple[tuple[str, str | None], ...]
    labelled: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        signers = [
            {
                "name": signer.name,
                "genuine": [str(path) for path in signer.genuine],
                "forged": [str(path) for path in signer.forged],
            }
            for signer in self.enrolled
        ]
        return {**asdict(self), "enrolled": signers}


def snapshot_from(values: Mapping[str, Any]) -> Snapshot:
    """What `as_dict` was made of."""
    enrolled = tuple(
        Signer(
            name=one["name"],
            genuine=tuple(map(Path, one["genuine"])),
            forged=tuple(map(Path, one["forged"])),
        )
        for one in values["enrolled"]
    )
    pairs = {name: tuple(map(tuple, values[name])) for name in ("left_out", "replay")}
    return Snapshot(**{**values, **pairs, "enrolled": enrolled})


def scan(folders: Sequence[str], pinned: Mapping[str, str] | None = None) -> list[Any]:
    """The writers of each folder. Raises DatasetError for what is no corpus, or has changed."""
    corpora = [scan_dataset(Path(folder)) for folder in folders]
    for folder, corpus in zip(folders, corpora, strict=True):
        if pinned is not None and pinned.get(folder) != fingerprint(corpus):
            raise DatasetError(
                f"{folder} is not what it was when this run began; begin another run with it."
            )
    return corpora


def fingerprint(corpus: Sequence[Signer]) -> str:
    """A digest of the names, sizes and times of a corpus's files."""
    digest = hashlib.sha256()
    for path in sorted(path for signer in corpus for path in signer.files):
        stat = path.stat()
        digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def gather(
    folder: RunFolder,
    corpora: Sequence[str],
    *,
    runtime: Runtime,
    parent: Embedder,
    replay: int,
    watch: Watch,
) -> Snapshot:
    """Fetch what the run learns from into its folder. Raises DatasetError, Transient."""
    scanned = scan(corpora)
    with transaction(runtime.sessions) as session:
        offered = list(_references(session))
        in_use = {one.signer_id for one in offered}
        labelled = [one for one in _labelled(session) if one.signer_id in in_use]
        again = _to_replay(session, parent.model_id, replay)
    wanted, left_out = _agreeing([*offered, *labelled])
    fetched = _fetch(folder, wanted, runtime=runtime, parent=parent, watch=watch)
    left_out += [(one.what, reason) for one, reason in fetched if reason]
    kept = [one for one, reason in fetched if not reason]
    told = set(labelled)
    return Snapshot(
        parent=parent.model_id,
        corpora=dict(zip(corpora, map(fingerprint, scanned), strict=True)),
        enrolled=_signers(kept),
        left_out=tuple(sorted(left_out)),
        replay=tuple(again),
        labelled=sum(one in told for one in kept),
    )


def _references(session: Session) -> Iterator[Material]:
    for reference in references.live(session):
        yield Material(
            signer_id=reference.signer_id,
            what=f"reference {reference.id}",
            uri=reference.uri,
            sha256=reference.sha256,
            kind="genuine",
        )


def _labelled(session: Session) -> Iterator[Material]:
    for decision, label in labels.labelled(session):
        job = jobs.get(session, decision.job_id)
        region = None if job.region is None else tuple(job.region)
        yield Material(
            signer_id=decision.signer_id,
            what=f"job {decision.job_id}",
            uri=job.document,
            sha256=decision.document_sha256,
            kind="genuine" if label.finding == GENUINE else "forged",
            page=job.page,
            region=region,
        )


def _to_replay(session: Session, model_id: str, count: int) -> list[tuple[str, str | None]]:
    """The last decisions of the model in use that have a verdict."""
    found: list[tuple[str, str | None]] = []
    if not count:
        return found
    for decision in decisions.search(session, DecisionFilter(model_id=model_id)):
        if decision.verdict == ERROR:
            continue
        standing = labels.of_job(session, decision.job_id)
        found.append((decision.job_id, standing[-1].finding if standing else None))
        if len(found) == count:
            break
    return found


def _agreeing(offered: Sequence[Material]) -> tuple[list[Material], list[tuple[str, str]]]:
    """Each image once, without those of which people say both."""
    said: dict[tuple[str, str], set[str]] = {}
    for one in offered:
        said.setdefault((one.signer_id, one.content), set()).add(one.kind)
    wanted: dict[Path, Material] = {}
    left_out = []
    for one in offered:
        if len(said[one.signer_id, one.content]) > 1:
            left_out.append((one.what, "the same image is called genuine and forged"))
        else:
            wanted.setdefault(one.path, one)
    return list(wanted.values()), left_out


def _fetch(
    folder: RunFolder,
    wanted: Sequence[Material],
    *,
    runtime: Runtime,
    parent: Embedder,
    watch: Watch,
) -> list[tuple[Material, str]]:
    """Each image with the reason why it cannot be had, empty where it lies in the folder."""

    def one(material: Material) -> tuple[Material, str]:
        path = folder.path / material.path
        if path.exists():
            return material, ""
        try:
            write_canvas(path, _canvas(material, runtime, parent))
        except (Transient, CheckpointError):
            raise
        except (StorageError, ModelError) as error:
            return material, str(error)
        return material, ""

    found: list[tuple[Material, str]] = []
    pool = ThreadPoolExecutor(FETCHING, thread_name_prefix="gathering")
    try:
        for done, result in enumerate(pool.map(one, wanted), start=1):
            found.append(result)
            watch.step("Fetching signatures", done, len(wanted))
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _canvas(material: Material, runtime: Runtime, parent: Embedder) -> Any:
    return parent.prepare(
        runtime.images.fetch(material.uri, sha256=material.sha256),
        page=material.page,
        region=material.region,
        max_pixels=runtime.settings.max_pixels,
    )


def _signers(kept: Sequence[Material]) -> tuple[Signer, ...]:
    """By name, each with the paths of its canvases in order."""
    paths: dict[str, dict[str, list[Path]]] = {}
    for one in kept:
        own = paths.setdefault(enrolled_name(one.signer_id), {"genuine": [], "forged": []})
        own[one.kind].append(one.path)
    return tuple(
        Signer(
            name=name,
            genuine=tuple(sorted(paths[name]["genuine"])),
            forged=tuple(sorted(paths[name]["forged"])),
        )
        for name in sorted(paths)
    )
