"""`sigctl models`: which model decides, which may come after it, and the way between them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import canary, model_facts, opening, show
from worker.cli.exits import CommandError, Exit
from worker.cli.options import Json
from worker.cli.retrain import share as share_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.tables import Model
    from worker.activation import Change

app = typer.Typer(help="Which model decides, and how it is changed.", no_args_is_help=True)

app.command("compare")(canary.compare)

ModelId = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A digest, how it begins, or one of active and newest."),
]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who does it.")]

MODELS = (
    show.Column(title="model", whole=True),
    show.Column(title="state", whole=True),
    show.Column(title="since", whole=True),
    show.Column(title="by"),
    show.Column(title="backbone", whole=True),
    show.Column(title="embedded", right=True),
    show.Column(title="skilled EER %", right=True),
    show.Column(title="random EER %", right=True),
)


@app.command("list")
def list_(json: Json = False) -> None:
    """List all models with their state, the references they have embedded, and their errors."""
    from storage import models

    with opening.transaction() as session:
        total = models.count_live(session)
        found = [(m, total - models.count_lacking(session, m.id)) for m in models.all(session)]
    if json:
        show.as_json([model_facts.line(model, embedded) for model, embedded in found])
    elif found:
        show.table(MODELS, [_line(model, embedded, total) for model, embedded in found])
        if not any(model.state == "active" for model, _ in found):
            show.note("None is active yet: the first worker or enrolment makes its own model so.")
    else:
        show.say("No model is registered yet: the first worker or enrolment registers its own.")


def _line(model: Model, embedded: int, total: int) -> tuple[object, ...]:
    skilled, random = model_facts.errors(model.metrics)
    since = show.when(model.state_since or model.registered_at)
    return (
        show.short(model.id),
        model_facts.state(model),
        since,
        model.state_by or model.registered_by or "",
        model.backbone,
        f"{embedded} of {total}",
        skilled,
        random,
    )


@app.command("show")
def show_(model: ModelId, json: Json = False) -> None:
    """Tell all that is known of a model: thresholds, figures and their protocol, parent."""
    from storage import models

    with opening.transaction() as session:
        found = models.find(session, model)
        embedded = models.count_live(session) - models.count_lacking(session, found.id)
    if json:
        show.as_json(model_facts.whole(found) | {"embedded": embedded})
        return
    show.facts(model_facts.facts(found) | {"references embedded": embedded})
    model_facts.tell_figures(found)


@app.command()
def diff(first: ModelId, second: ModelId, json: Json = False) -> None:
    """Show where two models differ: thresholds, rule, figures, recipe."""
    from storage import models

    with opening.transaction() as session:
        pair = [model_facts.flat(models.find(session, name)) for name in (first, second)]
    names = sorted(pair[0].keys() | pair[1].keys())
    rows = [
        (name, *(each.get(name) for each in pair))
        for name in names
        if pair[0].get(name) != pair[1].get(name)
    ]
    if json:
        show.as_json({name: {"first": one, "second": other} for name, one, other in rows})
    elif rows:
        columns = [show.Column(title=title) for title in ("", first, second)]
        show.table(columns, [(name, *map(model_facts.value, values)) for name, *values in rows])
    else:
        show.say("They do not differ.")


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint.")],
    by: By = None,
    json: Json = False,
) -> None:
    """Register a checkpoint as a candidate and put its file into the store."""
    from worker import registry
    from worker.checkpoints import MAX_BYTES
    from worker.cli.files import read

    data = read(file, MAX_BYTES)
    runtime = opening.runtime()
    found = registry.register(runtime, data, str(file), by=by)
    if json:
        show.as_json(model_facts.whole(found))
        return
    show.say(
        f"Model {show.short(found.id)} is registered and is {found.state}; its file lies at"
        f" {found.uri}. `sigctl models activate {show.short(found.id)}` lets it decide."
    )


@app.command()
def activate(
    model: ModelId,
    shadow: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Only look on: decide with the old model, and keep what this one says of a share"
            " of the jobs, such as 10%.",
        ),
    ] = None,
    without_lost: Annotated[
        bool,
        typer.Option("--without-lost", help="Go on without references that it cannot embed."),
    ] = False,
    allow_leaky: Annotated[
        bool, typer.Option("--allow-leaky", help="Though it failed a gate against leaks.")
    ] = False,
    by: By = None,
    json: Json = False,
) -> None:
    """Let a model decide, once it has embedded every reference in use.

    The workers embed, and go on deciding with the old model meanwhile; they take over the new one
    without a restart. Stopped, the same command goes on where it was.
    """
    from worker import activation

    share = None if shadow is None else _some_share(shadow)
    runtime = opening.runtime()
    found = _found(model)
    _check_gates(found, allow_leaky)
    with _progress(json) as tell:
        if share is None:
            done = activation.activate(
                runtime, found.id, by=by, give_up_lost=without_lost, progress=tell
            )
        else:
            done = activation.shadow(runtime, found.id, share, by=by, progress=tell)
    if share is None:
        _tell_change(done, json)
    elif json:
        show.as_json(_change(done) | {"shadow_share": share})
    else:
        show.say(
            f"Model {show.short(done.model_id)} looks on at {share:.0%} of the jobs;"
            f" {show.short(done.before) or 'the model of the settings'} decides. `sigctl models"
            f" compare {show.short(done.model_id)}` tells what it would have said."
        )


@app.command()
def rollback(
    now: Annotated[
        bool,
        typer.Option("--now", help="Embed what was enrolled since only after the change."),
    ] = False,
    by: By = None,
    json: Json = False,
) -> None:
    """Go back to the model that was active before; its embeddings are still there."""
    from worker import activation

    runtime = opening.runtime()
    with _progress(json) as tell:
        done = activation.rollback(runtime, by=by, now=now, progress=tell)
    _tell_change(done, json)


@app.command()
def cancel(model: ModelId, by: By = None, json: Json = False) -> None:
    """Take back a model that is on its way in or in the shadow; what it embedded stays."""
    from storage import models

    with opening.transaction() as session:
        found = models.withdraw(session, models.find(session, model).id, by)
    if json:
        show.as_json(model_facts.line(found))
    else:
        show.say(f"Model {show.short(found.id)} is {found.state} again.")


@app.command()
def prune(model: ModelId, json: Json = False) -> None:
    """Delete the embeddings of a model that is not in use; it can be activated again all the same.

    Its row, its file and the decisions it made stay.
    """
    from storage import models

    runtime = opening.runtime()
    from worker.transactions import transaction

    found, gone = _found(model), 0
    while True:
        with transaction(runtime.sessions) as session:
            some = models.prune(session, found.id)
        gone += some
        if not some:
            break
    if json:
        show.as_json({"model": found.id, "rows": gone})
    else:
        show.say(f"{gone} rows of model {show.short(found.id)} are deleted.")


def _found(model: str) -> Model:
    from storage import models

    with opening.transaction() as session:
        return models.find(session, model)


def _some_share(text: str) -> float:
    """A share above 0, as people type it. Raises CommandError."""
    found = share_of(text)
    if not found:
        raise CommandError("A share of 0 would show it nothing; type one such as 10%.")
    return found


def _check_gates(model: Model, allow_leaky: bool) -> None:
    gates = (model.metrics or {}).get("gates") or {}
    if gates.get("failures") and not allow_leaky:
        raise CommandError(
            f"{' '.join(gates['failures'])} Model {show.short(model.id)} is not activated;"
            " --allow-leaky does so all the same.",
            Exit.UNEXPECTED,
        )


@contextmanager
def _progress(json: bool) -> Iterator[Callable[[str, int, int], None]]:
    with show.progress(hidden=json) as bar:
        task = bar.add_task("Looking at the file", total=None)

        def tell(stage: str, done: int, total: int) -> None:
            bar.update(task, description=f"{stage:9}", completed=done, total=total or None)

        yield tell


def _tell_change(done: Change, json: bool) -> None:
    if json:
        show.as_json(_change(done))
        return
    for number, reason in done.lost.items():
        show.note(f"Reference {number} is lost to this model: {show.as_sentence(reason)}")
    before = f" in place of {show.short(done.before)}" if done.before else ""
    show.say(f"Model {show.short(done.model_id)} decides now{before}.")
    if done.embedded:
        embedded = show.count(done.embedded, "reference was", "references were")
        show.say(f"{embedded} embedded for it.")
    if done.workers:
        followed = done.workers - len(done.late)
        show.say(f"{followed} of {done.workers} workers had followed after {done.seconds:.1f} s.")
    for name in done.late:
        show.note(f"{name} still decides with another model; its log says why.")


def _change(done: Change) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(done)
