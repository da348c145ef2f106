"""Enrolling a signer: images become references in the store, each with its embedding.

Each is looked at first (docs/enrolment.md) and accepted, accepted with a warning, or refused with
the reason. Doing it again is harmless, and is also how a signer moves to another model: whatever
the model in use has not embedded yet is embedded from the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from model.arrays import Vector
from model.errors import ModelError
from model.expectation import Consistency, consistency
from model.preprocess import MAX_PIXELS
from storage import chain, models, references, signers
from storage.chain import Event
from storage.database import Sessions
from storage.errors import StorageError
from storage.images import Images
from storage.models import Lineup
from storage.tables import FORCED
from worker import standing
from worker.embedding import TOGETHER, embed_references
from worker.inspection import Inspection
from worker.logs import get_logger
from worker.offers import Accepted, Examined, Fate, ImageReport, examine
from worker.register import Register
from worker.standing import Embed, Work, alone
from worker.transactions import register_model, transaction

if TYPE_CHECKING:
    from model.inference import Embedder

__all__ = ["EnrolReport", "Fate", "ImageReport", "enroll"]

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class EnrolReport:
    """What enrolling came to: one entry for each image, in the order given.

    `references` counts the live ones that the model in use can compare with; `re_embedded`
    those of earlier enrolments that it had not seen yet; `lost` names those whose stored image
    could not be embedded, with the reason. A dry run reports what would have come of it.
    """

    signer_id: str
    model_id: str
    images: tuple[ImageReport, ...]
    references: int
    re_embedded: int
    lost: tuple[str, ...] = ()
    consistency: Consistency | None = None
    dry_run: bool = False

    def with_fate(self, fate: Fate) -> tuple[ImageReport, ...]:
        """The images that fared so."""
        return tuple(image for image in self.images if image.fate is fate)


def enroll(
    signer_id: str,
    images_in: Iterable[tuple[str, bytes]],
    *,
    sessions: Sessions,
    images: Images,
    embedder: Embedder,
    others: Callable[[str], Embedder] | None = None,
    register: Register | None = None,
    force: bool = False,
    dry_run: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[str], None] | None = None,
    embed_with: Embed = alone,
) -> EnrolReport:
    """Enrol (source, bytes) pairs for a signer, who is made when new.

    An image that is no use as a specimen is refused with the reason, and the others go on; with
    `force` only what cannot be read or is blank is. `register` knows the other signers. With
    `dry_run` nothing is kept. `progress` is told the source of each image that is done. Who enrols
    several signers at a time may let them share batches (`lanes.Lanes`) by `embed_with`. All rows
    are written in one transaction at the end; with no image accepted nothing is written. What is
    new is then embedded with the models of `others`, too, that are on their way in or in the
    shadow. Raises SignerRetired, InvalidSignerId, CheckpointError, and Transient when the store or
    the database is away; ModelChanged, when another model than `embedder` has become the active
    one and nothing was written.
    """
    work = Work(
        signer_id=signers.check_id(signer_id),
        sessions=sessions,
        images=images,
        embedder=embedder,
        register=register,
        max_pixels=max_pixels,
        force=force,
        dry_run=dry_run,
        embed_with=embed_with,
    )
    rows = standing.standing(work)
    unseen, lost = standing.embed_unseen(work, rows)
    fellows = standing.fellows(work, rows, unseen)
    inspection = Inspection(signer_id, fellows, embedder.scoring, register)
    known = {row.reference.sha256: row.reference.id for row in rows if row.vector is not None}
    examined: list[Examined] = []
    offered = iter(images_in)
    while some := list(islice(offered, TOGETHER)):
        examined += examine(work, inspection, known, some)
        if progress is not None:
            for source, _ in some:
                progress(source)
    examined = [_with_distance(item, inspection) for item in examined]
    if dry_run:
        reports, count = list(_reports(examined, {})), len(inspection.vectors)
    else:
        reports, count, lineup = _written(work, examined, unseen)
        if others is not None:
            _embed_for_others(work, reports, lineup, others)
    return EnrolReport(
        signer_id=signer_id,
        model_id=embedder.model_id,
        images=tuple(reports),
        references=count,
        re_embedded=len(unseen),
        lost=lost,
        consistency=consistency(inspection.vectors, embedder.scoring),
        dry_run=dry_run,
    )


def _with_distance(item: Examined, inspection: Inspection) -> Examined:
    """With a remark if it is far from the others, which only the whole set can tell."""
    if isinstance(item, ImageReport):
        return item
    far = inspection.far(item.sha256)
    return item if far is None else replace(item, remarks=(*item.remarks, far))


def _written(
    work: Work, examined: Sequence[Examined], unseen: dict[int, Vector]
) -> tuple[list[ImageReport], int, Lineup]:
    """Write all rows in one transaction.

    The reports, how many references can be used, and which models have something to do.
    """
    model_id = work.embedder.model_id
    kept = [_kept(item) for item in examined if isinstance(item, Accepted)]
    with transaction(work.sessions) as session:
        if unseen or kept:
            model = register_model(session, work.embedder)  # held, so that it is read once
            models.still_active(session, model.id)
        lineup = models.lineup(session)
        if unseen:
            references.put_embeddings(session, model_id, unseen)
        numbers = references.enrol(session, work.signer_id, model_id, kept) if kept else {}
        reports = list(_reports(examined, numbers))
        chain.of(session).append(session, [_forced(work, r) for r in reports if r.forced])
        count = references.count(session, work.signer_id, model_id)
    _tell(work, examined, reports)
    return reports, count, lineup


def _embed_for_others(
    work: Work,
    reports: Sequence[ImageReport],
    lineup: Lineup,
    others: Callable[[str], Embedder],
) -> None:
    """Whoever activates a model looks for what it lacks, so a failure here is only told."""
    new = [report.reference_id for report in reports if report.reference_id is not None]
    for model_id in lineup.embedding:
        if not new or model_id == work.embedder.model_id:
            continue
        try:
            embed_references(
                new,
                sessions=work.sessions,
                images=work.images,
                embedder=others(model_id),
                max_pixels=work.max_pixels,
            )
        except (ModelError, StorageError) as error:
            log.warning("not_embedded", model=model_id, code=error.code, reason=str(error))


def _forced(work: Work, report: ImageReport) -> Event:
    """What the record keeps of a reference that was enrolled against the checks."""
    codes = [remark.code for remark in report.remarks]
    detail = {"reference": report.reference_id, "sha256": report.sha256, "codes": codes}
    return Event(kind=FORCED, subject=work.signer_id, detail=detail)


def _kept(item: Accepted) -> references.Specimen:
    return references.Specimen(
        uri=item.uri, sha256=item.sha256, source=item.source, vector=item.vector
    )


def _reports(
    examined: Iterable[Examined], numbers: Mapping[str, tuple[int, bool]]
) -> Iterator[ImageReport]:
    """What became of each; a file that was offered twice was added once."""
    told: set[str] = set()
    for item in examined:
        number, new = numbers.get(item.sha256, (None, True))
        yield _report(item, added=new and item.sha256 not in told, reference_id=number)
        if isinstance(item, Accepted):
            told.add(item.sha256)


def _report(item: Examined, *, added: bool, reference_id: int | None) -> ImageReport:
    if isinstance(item, ImageReport):
        return item
    return ImageReport(
        source=item.source,
        fate=Fate.ADDED if added else Fate.ALREADY,
        sha256=item.sha256,
        reference_id=reference_id,
        remarks=item.remarks if added else (),
        forced=item.forced and added,
    )


def _tell(work: Work, examined: Sequence[Examined], reports: Sequence[ImageReport]) -> None:
    """Once it stands: the register learns what is new, and the log what was doubtful."""
    for item, report in zip(examined, reports, strict=True):
        if not isinstance(item, Accepted) or report.reference_id is None:
            continue
        if work.register is not None:
            work.register.learn(report.reference_id, work.signer_id, item.sha256, item.vector)
        if report.remarks:
            log.warning(
                "enrolment_forced" if report.forced else "enrolled_with_warning",
                signer_id=work.signer_id,
                reference=report.reference_id,
                codes=[remark.code for remark in report.remarks],
            )
