"""`sigctl retrain --remote`, `--watch` and `--cancel`: retraining that a worker does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from worker.cli import opening, show
from worker.cli.exits import Exit

if TYPE_CHECKING:
    from storage.tables import Model, TrainingRun
    from worker.runtime import Runtime

COLUMNS = (
    "id",
    "state",
    "options",
    "progress",
    "requested_by",
    "candidate_id",
    "error_code",
    "error_message",
    "cancelled_at",
    "created_at",
    "updated_at",
)


def request(options: Mapping[str, Any], *, json: bool) -> None:
    """Ask the workers that train for a run."""
    from worker import training_runs
    from worker.retrain_run import Asked

    run_id = training_runs.request(Asked(corpora=(), **options), opening.runtime())
    if json:
        show.as_json({"run": run_id})
    else:
        show.say(f"Training run {run_id} waits for a worker; `sigctl retrain --watch` follows it.")


def cancel(beginning: str | None, *, json: bool) -> None:
    """Ask for the end of a run; its worker heeds that within seconds."""
    from storage import runs
    from storage.tables import CANCELLED
    from worker.transactions import transaction

    with transaction(opening.runtime().sessions) as session:
        run = runs.cancel(session, runs.find(session, beginning).id)
    if json:
        show.as_json(as_dict(run))
    elif run.state == CANCELLED:
        show.say(f"Training run {run.id} is cancelled.")
    else:
        show.say(f"Training run {run.id} ends after the step that it is in.")


def watch(beginning: str | None, *, json: bool) -> None:
    """Follow a run to its end; with `json` say how it stands and leave."""
    from storage import runs
    from worker.training_runs import wait
    from worker.transactions import transaction

    runtime = opening.runtime()
    with transaction(runtime.sessions) as session:
        found = runs.find(session, beginning)
    if json:
        show.as_json(as_dict(found, _candidate(found, runtime)))
        return
    with show.progress() as bar:
        task = bar.add_task("Waiting for a worker", total=None)
        said = None
        for run in wait(found.id, runtime):
            at = run.progress
            if at.get("said") not in (None, said):
                said = at["said"]
                show.note(said)
            if at:
                bar.update(
                    task, description=at["doing"], completed=at["done"], total=at["total"] or None
                )
    raise typer.Exit(_tell(run, runtime))


def as_dict(run: TrainingRun, candidate: Model | None = None) -> dict[str, Any]:
    """A run as programs read it."""
    ruling = None if candidate is None else (candidate.metrics or {}).get("ruling")
    return {name: getattr(run, name) for name in COLUMNS} | {"ruling": ruling}


def _candidate(run: TrainingRun, runtime: Runtime) -> Model | None:
    from storage import models
    from worker.transactions import transaction

    if run.candidate_id is None:
        return None
    with transaction(runtime.sessions) as session:
        return models.get(session, run.candidate_id)


def _tell(run: TrainingRun, runtime: Runtime) -> Exit:
    """What came of a run that has ended."""
    candidate = _candidate(run, runtime)
    if candidate is None:
        reason = f": {run.error_message}" if run.error_message else ""
        show.say(show.as_sentence(f"Training run {run.id} is {run.state}{reason}"))
        return Exit.FAILED
    ruling = (candidate.metrics or {}).get("ruling", {"promotes": False, "conditions": []})
    for condition in ruling["conditions"]:
        show.say(f"{'met' if condition['met'] else 'NOT MET'}: {condition['sentence']}")
    show.say(f"Candidate {show.short(candidate.id)} is {candidate.state}.")
    return Exit.DONE if ruling["promotes"] else Exit.NOT_BETTER
