"""`sigctl enroll --manifest`: the signers of a list, several at a time.

What is done stays done: run again after an interruption, it goes through the files that are
enrolled already at the speed of reading them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.cli import offering, opening, places, show
from worker.cli.exits import CommandError, Exit, sentence

if TYPE_CHECKING:
    from worker.enrolment import EnrolReport, ImageReport
    from worker.manifest import Row
    from worker.runtime import Runtime

THREADS_PER_CORE = 4
"""Signers in work: what some of them wait to have embedded fills a batch, others read and write."""

COLUMNS = (
    show.Column(title="line", right=True),
    show.Column(title="signer"),
    show.Column(title="image"),
    show.Column(title="result", styled=True),
    show.Column(title="reason"),
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """What became of an image of a line, or of the line; `image` is None where it was no use."""

    line: int
    signer: str
    place: str
    image: ImageReport | None = None
    reason: str = ""


Offered = list[tuple[int, str]]
"""Line and place of each image of one signer, in the order of the manifest."""


def enroll(path: Path, *, force: bool, dry_run: bool, json: bool) -> None:
    """Enrol what the manifest lists; lines that cannot be used are told and stop nothing."""
    from model.engine import cores
    from worker.lanes import Lanes
    from worker.manifest import read

    rows, wrong = read(path)
    runtime = opening.runtime()
    lines = [Line(line=item.line, signer="", place="", reason=item.reason) for item in wrong]
    signers = _by_signer(rows, path, runtime, lines)
    reports: list[EnrolReport] = []
    with closing(Lanes(cores())) as lanes, show.progress(hidden=json) as bar:
        offers = offering.Offering(runtime, force=force, dry_run=dry_run, embed_with=lanes)
        total = sum(map(len, signers.values()))
        task = bar.add_task(f"Enrolling {len(signers)} signers", total=total)
        for report, done in _enrolled(signers, offers, lambda: bar.advance(task)):
            reports += [] if report is None else [report]
            lines += done
    lines.sort(key=lambda line: line.line)
    unusable = [line for line in lines if line.image is None]
    if json:
        show.as_json(_as_dict(lines, reports, dry_run))
    else:
        _tell(lines, reports, runtime, dry_run)
    if unusable:
        raise CommandError(
            f"{_count(len(unusable), 'line')} of {path} could not be used, the first is line"
            f" {unusable[0].line}: {show.as_sentence(unusable[0].reason)}"
        )
    if not any(line.image is not None and line.image.code is None for line in lines):
        raise CommandError(f"No image of {path} could be enrolled.", Exit.USAGE)


def _by_signer(
    rows: Sequence[Row], path: Path, runtime: Runtime, lines: list[Line]
) -> dict[str, Offered]:
    """The images of each signer; rows whose image is nowhere are added to `lines`."""
    from storage.errors import StorageError, Transient
    from worker.manifest import place

    signers: dict[str, Offered] = {}
    for row in rows:
        try:
            found = offering.listed(places.expand([place(row, path)]), runtime)
        except Transient:
            raise
        except (CommandError, StorageError) as error:
            reason = sentence(error)
            lines.append(Line(line=row.line, signer=row.signer, place=row.image, reason=reason))
        else:
            signers.setdefault(row.signer, []).extend((row.line, image) for image in found)
    return signers


def _enrolled(
    signers: dict[str, Offered], offers: offering.Offering, advance: Any
) -> Iterator[tuple[EnrolReport | None, list[Line]]]:
    """Each signer's report, None for one who cannot be enrolled, and what became of the lines."""
    from model.engine import cores, one_core_a_thread

    one_core_a_thread()
    with ThreadPoolExecutor(THREADS_PER_CORE * cores()) as pool:
        waiting = {
            pool.submit(offers.enroll, signer, [place for _, place in offered], advance): signer
            for signer, offered in signers.items()
        }
        try:
            for future in as_completed(waiting):
                signer = waiting[future]
                yield _outcome(signer, signers[signer], future)
        except BaseException:  # the store is away, or Ctrl-C: those not begun need not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _outcome(
    signer: str, offered: Offered, future: Future[tuple[EnrolReport, list[ImageReport]]]
) -> tuple[EnrolReport | None, list[Line]]:
    from storage.errors import SignerRetired

    try:
        report, images = future.result()
    except SignerRetired as error:
        reason = sentence(error)
        lines = [Line(line=at, signer=signer, place=to, reason=reason) for at, to in offered]
        return None, lines
    done = zip(offered, images, strict=True)
    return report, [Line(line=at, signer=signer, place=to, image=image) for (at, to), image in done]


def _tell(
    lines: Sequence[Line], reports: Sequence[EnrolReport], runtime: Runtime, dry_run: bool
) -> None:
    """Only lines there is something to say of: a list of thousands is mostly in order."""
    from model.expectation import wanted

    doubtful = [row for line in lines if (row := _row(line, dry_run)) is not None]
    if doubtful:
        show.table(COLUMNS, doubtful)
    fates = Counter(str(line.image.fate) for line in lines if line.image is not None)
    parts = ", ".join(f"{count} {fate}" for fate, count in fates.items()) or "no image"
    show.say(f"{_count(len(reports), 'signer')}: {parts}.")
    if dry_run:
        show.say("This was a dry run: nothing was kept.")
    few = [r for r in reports if wanted(runtime.embedder.provenance, r.references) is not None]
    if few:
        show.say(
            f"{_count(len(few), 'signer')} should have more references;"
            " `sigctl signers review` lists them."
        )
    for report in reports:
        for lost in report.lost:
            show.note(f"Not embedded with the model in use: {report.signer_id}, {lost}")


def _row(line: Line, dry_run: bool) -> tuple[object, ...] | None:
    if line.image is None:
        reason = show.as_sentence(line.reason)
        return line.line, line.signer, show.tail(line.place, 30), "not used", reason
    reason = offering.remark(line.image)
    if not reason:
        return None
    result = offering.result(line.image, dry_run=dry_run)
    return line.line, line.signer, show.tail(line.place, 30), result, reason


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def _as_dict(lines: Sequence[Line], reports: Sequence[EnrolReport], dry_run: bool) -> Any:
    from dataclasses import asdict

    return {
        "dry_run": dry_run,
        "signers": {report.signer_id: report.references for report in reports},
        "lines": [asdict(line) for line in lines],
    }
