"""`sigctl requeue`: send jobs and training runs again whose messages are lost."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import moments, opening, show
from worker.cli.options import Json


def requeue(
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Waiting for longer than this, as in 10m; else what SIGCTL_REQUEUE_AFTER says.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Send jobs and training runs to the workers again that Redis has forgotten.

    Those are jobs without a decision, and runs without an end, of which nothing was heard for long
    and that Redis has no message of. Sending one twice is harmless: it is done once. Without a
    broker the jobs are decided here and now.
    """
    from worker import client, training_runs

    age = None if older_than is None else moments.duration(older_than)
    runtime = opening.runtime()
    if runtime.settings.broker_url is None:
        _ = runtime.embedder  # a missing model is said at once, not job by job
    with show.progress(hidden=json) as bar:
        bar.add_task("Sending", total=None)
        sent = client.requeue(age, settings=runtime.settings)
        runs = training_runs.requeue(runtime, age)
    if json:
        show.as_json({"requeued": sent, "training_runs": runs})
        return
    for run_id in runs:
        show.say(f"Training run {run_id} was sent again.")
    if sent:
        decided = "decided" if runtime.settings.broker_url is None else "sent again"
        show.say(f"{len(sent)} {'job was' if len(sent) == 1 else 'jobs were'} {decided}:")
        for job_id in sent:
            show.say(f"  {job_id}")
    else:
        show.say("No job is lost that has waited that long.")
