"""Images as they are offered for enrolment: opened, embedded, judged, and kept if they are good."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TypeVar

from model.arrays import Canvas, Vector
from model.errors import CheckpointError, ModelError
from model.specimen import Remark, Specimen, Weight
from storage.errors import StorageError, Transient
from worker.inspection import Fellow, Inspection
from worker.standing import Work

Result = TypeVar("Result")


class Fate(StrEnum):
    """What became of an image that was offered for enrolment."""

    ADDED = "added"
    ALREADY = "already enrolled"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class ImageReport:
    """What became of one image. `code` and `reason` are set where it was refused.

    `remarks` are the warnings of an image that was accepted; of one that was `forced`, also what
    it would have been refused for.
    """

    source: str
    fate: Fate
    sha256: str
    reference_id: int | None = None
    code: str | None = None
    reason: str | None = None
    remarks: tuple[Remark, ...] = ()
    forced: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Accepted:
    """An image that can be enrolled: in the store, with its embedding (D,)."""

    source: str
    sha256: str
    uri: str
    vector: Vector
    remarks: tuple[Remark, ...] = ()

    @property
    def forced(self) -> bool:
        """Whether it is accepted though something speaks against it."""
        return any(remark.weight is Weight.REFUSAL for remark in self.remarks)


Examined = Accepted | ImageReport


@dataclass(frozen=True, kw_only=True, eq=False)
class _Offer:
    """An image as it was offered."""

    source: str
    data: bytes
    sha256: str

    def refused(self, code: str, reason: str) -> ImageReport:
        """The report of a refusal."""
        return ImageReport(
            source=self.source, fate=Fate.REFUSED, sha256=self.sha256, code=code, reason=reason
        )


def examine(
    work: Work, inspection: Inspection, known: dict[str, int], some: Sequence[tuple[str, bytes]]
) -> list[Examined]:
    """What comes of some images; `known` are the references in use, by the hash of their file."""
    offers = [
        _Offer(source=source, data=data, sha256=hashlib.sha256(data).hexdigest())
        for source, data in some
    ]
    opened = [_opened(work, known, offer) for offer in offers]
    embedded = work.embed([page.canvas for page in opened if isinstance(page, Specimen)])
    left = zip(embedded, inspection.neighbours(embedded), strict=True)
    examined: list[Examined] = []
    for offer, page in zip(offers, opened, strict=True):
        if isinstance(page, ImageReport):
            examined.append(page)
            continue
        vector, neighbour = next(left)
        beside = [other for other in embedded if other is not vector]
        fellow = Fellow(
            name=offer.source, sha256=offer.sha256, vector=vector, canvas=partial(_canvas, page)
        )
        remarks = inspection.judge(fellow, page.measures, neighbour, beside)
        examined.append(_kept(work, inspection, offer, fellow, remarks))
    return examined


def _canvas(page: Specimen) -> Canvas:
    return page.canvas


def _opened(work: Work, known: dict[str, int], offer: _Offer) -> Specimen | ImageReport:
    """A decoded image; or a report, where it is known already or cannot be used."""
    if offer.sha256 in known:
        return ImageReport(
            source=offer.source,
            fate=Fate.ALREADY,
            sha256=offer.sha256,
            reference_id=known[offer.sha256],
        )
    examine = partial(work.embedder.examine, offer.data, max_pixels=work.max_pixels)
    return _or_refusal(offer, examine)


def _kept(
    work: Work,
    inspection: Inspection,
    offer: _Offer,
    specimen: Fellow,
    remarks: tuple[Remark, ...],
) -> Examined:
    """Judge first, store second: what is refused leaves nothing in the store."""
    refusals = [remark for remark in remarks if remark.weight is Weight.REFUSAL]
    if refusals and not work.force:
        return offer.refused(refusals[0].code, refusals[0].sentence)
    keep = partial(work.images.put, offer.data, sha256=offer.sha256)
    uri = "" if work.dry_run else _or_refusal(offer, keep)
    if isinstance(uri, ImageReport):
        return uri
    inspection.accept(specimen)
    return Accepted(
        source=offer.source,
        sha256=offer.sha256,
        uri=uri,
        vector=specimen.vector,
        remarks=remarks,
    )


def _or_refusal(offer: _Offer, work: Callable[[], Result]) -> Result | ImageReport:
    """What `work` returns, or why the image cannot be enrolled."""
    try:
        return work()
    except (CheckpointError, Transient):
        raise
    except (ModelError, StorageError) as error:
        return offer.refused(error.code, str(error))
