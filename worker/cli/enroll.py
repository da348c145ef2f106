"""`sigctl enroll`: images of a signer's genuine signature become references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.rates import percent
from worker.cli import manifest as many
from worker.cli import offering, opening, places, show
from worker.cli.exits import CommandError, Exit
from worker.cli.options import Json

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
    signer: Annotated[
        str | None, typer.Argument(metavar="[SIGNER]", help="The signer's id.")
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES_OR_FOLDERS...",
            help="Image files, folders of them (searched to any depth), s3:// URIs or prefixes "
            "that end in a slash; one signature an image, at best 5 or more.",
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Many signers at once: a CSV with the columns signer and image, or JSON lines.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only, keep nothing.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Enrol also what the checks refuse; it is recorded that you did."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Enrol images of a genuine signature as a signer's references.

    Each image is checked, and accepted, accepted with a warning, or refused with the reason; the
    others go on. Enrolling the same image again is harmless. Images are copied into the store. The
    exit code is 2 if no image could be enrolled, or if a row of the manifest could not be used.
    """
    if manifest is not None:
        if signer or images:
            raise CommandError("Name a manifest, or a signer with images, but not both.")
        many.enroll(manifest, force=force, dry_run=dry_run, json=json)
    elif signer is None or not images:
        raise CommandError("Name a signer and images or folders, or a manifest with --manifest.")
    else:
        _one(signer, images, force=force, dry_run=dry_run, json=json)


def _one(signer: str, images: Sequence[str], *, force: bool, dry_run: bool, json: bool) -> None:
    from worker.enrolment import Fate
    from worker.messages import check_id

    check_id("signer_id", signer)
    found = places.expand(images)
    runtime = opening.runtime()
    found = offering.listed(found, runtime)
    offers = offering.Offering(runtime, force=force, dry_run=dry_run)
    with show.progress(hidden=json) as bar:
        task = bar.add_task(f"Enrolling {signer}", total=len(found))
        report, reports = offers.enroll(signer, found, lambda: bar.advance(task))
    if json:
        show.as_json(offering.as_dict(report, reports) | _outlook(report, runtime))
    else:
        show.table(COLUMNS, (_row(*pair, dry_run) for pair in zip(found, reports, strict=True)))
        _sum_up(report, reports)
        _look_ahead(report, runtime)
    if all(image.fate is Fate.REFUSED for image in reports):
        raise CommandError(f"No image could be enrolled for {signer}.", Exit.USAGE)


def _row(place: str, image: ImageReport, dry_run: bool) -> tuple[object, ...]:
    result = offering.result(image, dry_run=dry_run)
    return show.tail(place, 36), result, image.reference_id or "", offering.remark(image)


def _sum_up(report: EnrolReport, reports: Sequence[ImageReport]) -> None:
    from collections import Counter

    counts = Counter(str(image.fate) for image in reports)
    parts = ", ".join(f"{count} {fate}" for fate, count in counts.items())
    show.say(f"Signer {report.signer_id}: {parts}; {report.references} references in use.")
    if report.dry_run:
        show.say("This was a dry run: nothing was kept.")
    if report.re_embedded:
        show.say(f"{report.re_embedded} earlier references were embedded with the model in use.")
    for lost in report.lost:
        show.note(f"Not embedded with the model in use: {lost}")


def _look_ahead(report: EnrolReport, runtime: Runtime) -> None:
    """How well the references agree, what errors to expect, and whether more are needed."""
    from model.expectation import expectation, wanted

    if not report.references:
        return
    if found := report.consistency:
        usual = f", {found.word} (others: {found.usual:.2f})" if found.word else ""
        show.say(f"They lie {found.spread:.2f} from their nearest fellow on average{usual}.")
    provenance, point = runtime.embedder.provenance, runtime.settings.operating_point
    if rates := expectation(provenance, report.references, point):
        show.say(
            f"With {_references(rates.measured)} the model was measured to err in"
            f" {percent(rates.skilled_eer)} of comparisons with imitations and in"
            f" {percent(rates.random_eer)} of those with other people's signatures."
        )
        if rates.forged is not None and rates.genuine is not None:
            show.say(
                f"At the operating point {rates.point} it accepted {percent(rates.forged)} of"
                f" imitations and {percent(rates.genuine)} of genuine signatures at once."
            )
    number = wanted(provenance, report.references)
    show.say(
        "No more references are needed."
        if number is None
        else f"More references are needed: at best {number} or more."
    )


def _references(count: int) -> str:
    return "1 reference" if count == 1 else f"{count} references"


def _outlook(report: EnrolReport, runtime: Runtime) -> dict[str, Any]:
    """The same for a program to read."""
    from dataclasses import asdict

    from model.expectation import expectation, wanted

    provenance, point = runtime.embedder.provenance, runtime.settings.operating_point
    rates = expectation(provenance, report.references, point)
    return {
        "expected": None if rates is None else asdict(rates),
        "references_wanted": wanted(provenance, report.references),
    }
