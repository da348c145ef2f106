"""`sigctl submit`: hand a document to the workers and, if asked, wait for the decision."""

from __future__ import annotations

import json as jsons
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import moments, opening, places, show
from worker.cli.exits import CommandError, Exit
from worker.cli.options import Document, Json, Page, Region, SignerId
from worker.cli.verify import tell

if TYPE_CHECKING:
    from worker.pipeline import Outcome
    from worker.runtime import Runtime


def submit(
    signer: SignerId,
    document: Document,
    page: Page = None,
    region: Region = None,
    job_id: Annotated[
        str | None, typer.Option(help="The job's id; the same id twice is one job. Else made up.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE|JSON", help="Kept with the decision; may be repeated."),
    ] = None,
    bulk: Annotated[
        bool, typer.Option("--bulk", help="Let documents go first that somebody waits for.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the decision.")] = False,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long to wait.")] = "5m",
    json: Json = False,
) -> None:
    """Queue a document for the workers; without a broker, decide it here and now.

    Exit code 0: queued. Where the decision is known (with --wait, or without a broker): 0
    accepted, 3 rejected or left for review, 4 failed, 6 no decision within the time.
    """
    from worker import client

    patience = moments.duration(timeout).total_seconds()
    uri, where, upstream = places.as_uri(document), places.region(region), parse(metadata or ())
    runtime = opening.runtime()
    queued = runtime.settings.broker_url is not None
    if not queued:
        _ = runtime.embedder  # a missing model is said at once, not recorded with the job
    job_id = client.submit(
        signer,
        uri,
        job_id=job_id,
        page=page,
        region=where,
        metadata=upstream,
        priority="bulk" if bulk else "interactive",
        settings=runtime.settings,
    )
    if queued and not wait:
        _say_queued(job_id, json=json)
        return
    tell(_decided(job_id, runtime, patience, hidden=json), runtime, json=json)


def parse(given: Sequence[str]) -> dict[str, Any]:
    """Metadata from `name=value` and JSON objects, the later ones winning.

    Raises CommandError for text that is neither.
    """
    found: dict[str, Any] = {}
    for text in given:
        found |= _object(text) if text.lstrip().startswith("{") else _pair(text)
    return found


def _pair(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    if not (equals and name.strip()):
        raise CommandError(
            f"The metadata {text!r} is neither NAME=VALUE nor a JSON object in braces."
        )
    return {name.strip(): value}


def _object(text: str) -> Mapping[str, Any]:
    try:
        found: dict[str, Any] = jsons.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"The metadata {text!r} is not valid JSON: {error}.") from error
    return found


def _say_queued(job_id: str, *, json: bool) -> None:
    if json:
        show.as_json({"job_id": job_id, "status": "queued"})
    else:
        show.say(f"Job {job_id} is queued; `sigctl audit show {job_id}` shows what comes of it.")


def _decided(job_id: str, runtime: Runtime, patience: float, *, hidden: bool) -> Outcome:
    """The job's decision, waited for. Raises CommandError when it does not come in time."""
    from worker import client
    from worker.errors import NotDecided

    try:
        with show.progress(hidden=hidden) as bar:
            bar.add_task("Waiting for a worker", total=None)
            return client.wait(job_id, timeout=patience, settings=runtime.settings)
    except NotDecided as error:
        raise CommandError(
            f"{error} It will be decided all the same once a worker takes it: `sigctl doctor` "
            f"says whether one answers, `sigctl audit show {job_id}` what became of the job.",
            Exit.UNAVAILABLE,
        ) from error
