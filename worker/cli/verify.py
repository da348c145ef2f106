"""`sigctl verify`: decide one document here and now, and record the decision like any other."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import exits, opening, places, record, show
from worker.cli.audit import reference_sources
from worker.cli.options import Document, Json, Page, Region, SignerId

if TYPE_CHECKING:
    from worker.pipeline import Outcome
    from worker.runtime import Runtime


class Far(StrEnum):
    """The operating points, and the balanced threshold."""

    BALANCED = "balanced"
    TENTH = "0.1%"
    ONE = "1%"
    FIVE = "5%"


def verify(
    signer: SignerId,
    document: Document,
    page: Page = None,
    region: Region = None,
    far: Annotated[
        Far | None,
        typer.Option(
            help="Share of skilled forgeries that may be accepted, doubtful documents being left "
            "for review, or balanced: one threshold, no review. Else SIGCTL_FAR."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Verify a document against a signer's references, in this process, and record it.

    Exit code 0: accepted; 3: rejected or left for review; 4: no verdict, the reason is on record.
    """
    import uuid

    from storage.errors import Transient
    from worker import pipeline
    from worker.messages import parse

    question = {"page": page, "region": places.region(region), "document": places.as_uri(document)}
    request = parse({"job_id": str(uuid.uuid4()), "signer_id": signer, **question})
    runtime = opening.runtime()
    settings = runtime.settings
    if far is not None:
        settings = settings.model_copy(update={"far": far.value})
    try:
        outcome = pipeline.verify(
            request,
            sessions=runtime.sessions,
            images=runtime.images,
            embedder=runtime.embedder,
            far=settings.operating_point,
            max_pixels=settings.max_pixels,
            max_deliveries=settings.max_deliveries,
        )
    except Transient:
        show.note(f"Job {request.job_id} is not decided.")
        raise
    tell(outcome, runtime, json=json)


def tell(outcome: Outcome, runtime: Runtime, *, json: bool) -> None:
    """Print a decision and leave with the exit code that belongs to it."""
    from worker.transactions import transaction

    if json:
        show.as_json(record.as_dict(outcome))
    else:
        with transaction(runtime.sessions) as session:
            sources = reference_sources(session, outcome)
        nearest = sources.get(outcome.nearest_reference or 0)
        show.facts(record.result(outcome, nearest))
        if advice := record.advice(outcome):
            show.note(advice)
    raise typer.Exit(exits.for_verdict(outcome.verdict))
