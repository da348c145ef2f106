"""`sigctl enroll`: images of a signer's genuine signature become references."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import opening, places, show
from worker.cli.exits import CommandError, Exit, sentence
from worker.cli.files import read
from worker.cli.options import Json, SignerId

if TYPE_CHECKING:
    from worker.enrolment import EnrolReport, ImageReport
    from worker.runtime import Runtime

COLUMNS = (
    show.Column(title="image"),
    show.Column(title="result", styled=True),
    show.Column(title="reference", right=True),
    show.Column(title="reason"),
)


def enroll(
    signer: SignerId,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES_OR_FOLDERS...",
            help="Image files, folders of them (searched to any depth) or s3:// URIs; one "
            "signature an image, at best 5 or more.",
        ),
    ],
    json: Json = False,
) -> None:
    """Enrol images of a genuine signature as a signer's references.

    An image that cannot be used is refused with the reason and the others go on; enrolling the
    same image again is harmless. Images are copied into the store. The exit code is 2 if no image
    could be enrolled.
    """
    from worker.enrolment import Fate
    from worker.messages import check_id

    check_id("signer_id", signer)
    found = places.expand(images)
    runtime = opening.runtime()
    with show.progress(hidden=json) as bar:
        task = bar.add_task(f"Enrolling {signer}", total=len(found))
        report, reports = _enroll(signer, found, runtime, lambda: bar.advance(task))
    refused = sum(image.fate is Fate.REFUSED for image in reports)
    if json:
        show.as_json(_as_dict(report, reports))
    else:
        show.table(COLUMNS, map(_row, found, reports))
        _sum_up(report, reports)
    if refused == len(reports):
        raise CommandError(f"No image could be enrolled for {signer}.", Exit.USAGE)


def _enroll(
    signer: str, found: Sequence[str], runtime: Runtime, advance: Callable[[], None]
) -> tuple[EnrolReport, list[ImageReport]]:
    """The worker's report, and one entry for each place in order, unreadable files included."""
    from worker import enrolment

    unread: dict[int, ImageReport] = {}

    def readable() -> Iterator[tuple[str, bytes]]:
        for position, place in enumerate(found):
            try:
                yield _source(place), _bytes_of(place, runtime)
            except Unread as error:
                unread[position] = _refusal(place, error)
                advance()

    report = enrolment.enroll(
        signer,
        readable(),
        sessions=runtime.sessions,
        images=runtime.images,
        embedder=runtime.embedder,
        max_pixels=runtime.settings.max_pixels,
        progress=lambda _source: advance(),
    )
    done = iter(report.images)
    return report, [unread.get(i) or next(done) for i in range(len(found))]


class Unread(Exception):
    """A place whose bytes cannot be had; `__cause__` says why."""

    code = "unreadable_file"


def _bytes_of(place: str, runtime: Runtime) -> bytes:
    """A file as its owner may read it; a URI only within the allowed buckets and roots."""
    from storage.errors import StorageError, Transient

    try:
        if places.is_uri(place):
            return runtime.images.fetch(place)
        return read(Path(place).expanduser(), runtime.settings.max_bytes)
    except Transient:
        raise
    except (StorageError, CommandError) as error:
        raise Unread(sentence(error)) from error


def _source(place: str) -> str:
    """What the record keeps: it must still mean something in another folder."""
    return place if places.is_uri(place) else str(Path(place).expanduser().resolve())


def _refusal(place: str, error: Unread) -> ImageReport:
    from worker.enrolment import Fate, ImageReport

    code = getattr(error.__cause__, "code", None)
    return ImageReport(
        source=_source(place),
        fate=Fate.REFUSED,
        sha256="",  # its bytes were never seen
        code=code if isinstance(code, str) else Unread.code,
        reason=str(error),
    )


def _row(place: str, image: ImageReport) -> tuple[object, ...]:
    return show.tail(place, 36), str(image.fate), image.reference_id or "", image.reason or ""


def _sum_up(report: EnrolReport, reports: Sequence[ImageReport]) -> None:
    from collections import Counter

    counts = Counter(str(image.fate) for image in reports)
    parts = ", ".join(f"{count} {fate}" for fate, count in counts.items())
    show.say(f"Signer {report.signer_id}: {parts}; {report.references} references in use.")
    if report.re_embedded:
        show.say(f"{report.re_embedded} earlier references were embedded with the model in use.")
    for lost in report.lost:
        show.note(f"Not embedded with the model in use: {lost}")


def _as_dict(report: EnrolReport, reports: Sequence[ImageReport]) -> dict[str, Any]:
    return {
        "signer_id": report.signer_id,
        "model_id": report.model_id,
        "references": report.references,
        "re_embedded": report.re_embedded,
        "lost": report.lost,
        "images": [asdict(image) for image in reports],
    }
