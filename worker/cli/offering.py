"""Offers places for enrolment and says what came of each, for `enroll` with and without a list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.cli import places, show
from worker.cli.exits import CommandError, sentence
from worker.cli.files import read

if TYPE_CHECKING:
    from worker.enrolment import EnrolReport, ImageReport
    from worker.register import Register
    from worker.runtime import Runtime
    from worker.standing import Embed


class Offering:
    """Enrols the images at places; safe to share between threads."""

    def __init__(
        self, runtime: Runtime, *, force: bool, dry_run: bool, embed_with: Embed | None = None
    ) -> None:
        from worker.register import Register
        from worker.standing import alone

        self._runtime = runtime
        self._embed_with = embed_with or alone
        self._register: Register = Register(runtime.embedder.model_id)
        self._force, self._dry_run = force, dry_run

    def enroll(
        self, signer: str, found: Sequence[str], advance: Callable[[], None]
    ) -> tuple[EnrolReport, list[ImageReport]]:
        """The worker's report, and one entry for each place in order, unreadable files included."""
        from storage.errors import ModelChanged

        try:
            return self._enroll(signer, found, advance)
        except ModelChanged:  # and nothing was written
            self._follow()
            return self._enroll(signer, found, lambda: None)

    def _follow(self) -> None:
        from worker.register import Register

        models = self._runtime.models
        self._register = Register(models.use(models.lineup()).model_id)

    def _enroll(
        self, signer: str, found: Sequence[str], advance: Callable[[], None]
    ) -> tuple[EnrolReport, list[ImageReport]]:
        from worker import enrolment

        unread: dict[int, ImageReport] = {}

        def readable() -> Iterator[tuple[str, bytes]]:
            for position, place in enumerate(found):
                try:
                    yield _source(place), self._bytes_of(place)
                except Unread as error:
                    unread[position] = _refusal(place, error)
                    advance()

        report = enrolment.enroll(
            signer,
            readable(),
            sessions=self._runtime.sessions,
            images=self._runtime.images,
            embedder=self._runtime.embedder,
            others=self._runtime.models.get,
            register=self._register,
            force=self._force,
            dry_run=self._dry_run,
            max_pixels=self._runtime.settings.max_pixels,
            progress=lambda _source: advance(),
            embed_with=self._embed_with,
        )
        done = iter(report.images)
        return report, [unread.get(i) or next(done) for i in range(len(found))]

    def _bytes_of(self, place: str) -> bytes:
        """A file as its owner may read it; a URI only within the allowed buckets and roots."""
        from storage.errors import StorageError, Transient

        try:
            if places.is_uri(place):
                return self._runtime.images.fetch(place)
            return read(Path(place).expanduser(), self._runtime.settings.max_bytes)
        except Transient:
            raise
        except (StorageError, CommandError) as error:
            raise Unread(sentence(error)) from error


class Unread(Exception):
    """A place whose bytes cannot be had; `__cause__` says why."""

    code = "unreadable_file"


def listed(found: Sequence[str], runtime: Runtime) -> list[str]:
    """The same places with each `s3://bucket/prefix/` in place of which its images stand.

    Raises CommandError for a prefix without an image, and what `Images.list` raises.
    """
    return [image for place in found for image in _listed(place, runtime)]


def _listed(place: str, runtime: Runtime) -> list[str]:
    if not (place.startswith("s3://") and place.endswith("/")):
        return [place]
    images = [uri for uri in runtime.images.list(place) if places.has_image_suffix(uri)]
    if not images:
        raise CommandError(f"There is no image below {place}.")
    return images


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


def result(image: ImageReport, *, dry_run: bool = False) -> str:
    """What became of an image, in a word or two."""
    from worker.enrolment import Fate

    fate = str(image.fate)
    if image.fate is Fate.ADDED and dry_run:
        fate = "would be added"
    if image.forced:
        return f"{fate}, forced"
    return f"{fate}, warning" if image.remarks else fate


def remark(image: ImageReport) -> str:
    """Why it was refused, or what there is to say against it."""
    if image.reason:
        return show.as_sentence(image.reason)
    return " ".join(show.as_sentence(remark.sentence) for remark in image.remarks)


def as_dict(report: EnrolReport, reports: Sequence[ImageReport]) -> dict[str, Any]:
    """The report for a program to read."""
    from dataclasses import asdict

    return {
        "signer_id": report.signer_id,
        "model_id": report.model_id,
        "dry_run": report.dry_run,
        "references": report.references,
        "re_embedded": report.re_embedded,
        "lost": report.lost,
        "consistency": None if report.consistency is None else asdict(report.consistency),
        "images": [asdict(image) for image in reports],
    }
