"""`sigctl retrain`: a candidate from what the service has learnt of its signers, and the rule."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.rates import percent
from worker.cli import opening, show
from worker.cli import training_runs as remotely
from worker.cli.exits import CommandError, Exit
from worker.cli.options import DEFAULT_CACHE, Cache, Json

if TYPE_CHECKING:
    from rich.progress import Progress

    from worker.retrain import Retrained
    from worker.retrain_run import Asked, RunFolder, Watch
    from worker.runtime import Runtime
    from worker.settings import Settings

DIFFERENCES = (
    show.Column(title="equal error rates", whole=True),
    show.Column(title="forgeries"),
    show.Column(title="active", right=True),
    show.Column(title="candidate", right=True),
    show.Column(title="difference, points", right=True),
    show.Column(title=""),
)
FLIPS = (
    show.Column(title="from"),
    show.Column(title="to"),
    show.Column(title="decisions", right=True),
    show.Column(title="towards a label", right=True),
)


def retrain(
    run_id: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="For --watch and --cancel; else the newest."),
    ] = None,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="A base corpus; may be repeated. Else SIGCTL_CORPORA."),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="From random weights, not the active model's.")
    ] = False,
    promote: Annotated[
        bool,
        typer.Option("--promote", help="Let the candidate decide if it is better by the rule."),
    ] = False,
    replay: Annotated[
        int | None, typer.Option(min=0, help="Decisions to make again; 0 for none. Else 200.")
    ] = None,
    max_flips: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Verdicts that may flip, not counting those that a label confirms. Else 2%.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Else as the recipe says. With 0 the network stays, and the rest is fitted anew.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all randomness. Else 123.")] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or cuda. Else SIGCTL_DEVICE.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The run's folder; a run found there goes on as it began."
        ),
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who wants it.")] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="Let a worker do it, with the corpora that it has.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow a remote run to its end.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End a remote run.")] = False,
    cache: Cache = DEFAULT_CACHE,
    json: Json = False,
) -> None:
    """Train a candidate with enrolled signers and labelled decisions, and hold it to the rule.

    The candidate is compared with the active model on writers whom neither has learnt from, and by
    the service's last decisions, and is registered with its report. Exit code 0: it is better by
    the rule; 7: it is registered, but not better, and is not promoted. A run that was stopped goes
    on with --run.
    """
    options = {
        "from_scratch": from_scratch or None,
        "promote": promote or None,
        "replay": replay,
        "max_flips": None if max_flips is None else share(max_flips),
        "epochs": epochs,
        "seed": seed,
        "by": by,
    }
    if remote + watch + cancel > 1:
        raise CommandError("--remote, --watch and --cancel are three different things; name one.")
    if run_id is not None and not (watch or cancel):
        raise CommandError("A run is named for --watch and --cancel; folders go by --run.")
    if cancel:
        remotely.cancel(run_id, json=json)
    elif watch:
        remotely.watch(run_id, json=json)
    elif remote:
        if corpus or run or device:
            raise CommandError("A remote run has the corpora, folder and device of its worker.")
        given = {name: value for name, value in options.items() if value is not None}
        remotely.request(given, json=json)
    else:
        _here(corpus, options, run, cache=cache, device=device, json=json)


def _here(
    corpus: list[Path] | None,
    options: dict[str, Any],
    run: Path | None,
    *,
    cache: Path,
    device: str | None,
    json: bool,
) -> None:
    found = opening.settings()
    place = _folder(run, found)
    asked = _asked(place, found, corpora=corpus, **options)
    runtime = opening.runtime(found)
    result = _run(place, asked, runtime, cache=cache, device=device, hidden=json)
    if json:
        show.as_json(result.as_dict())
    else:
        _tell(result)
    if not result.ruling.promotes:
        raise typer.Exit(Exit.NOT_BETTER)


def share(text: str) -> float:
    """A share as people type it, `2%` or `0.02`, in 0 to 1. Raises CommandError.

    >>> share("2%"), share("0.5")
    (0.02, 0.5)
    """
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise CommandError(f"{text} is no share; type it as 2% or 0.02.")
    return value


def _folder(run: Path | None, found: Settings) -> RunFolder:
    from worker.retrain_run import RunFolder

    now, other = datetime.now(UTC), secrets.token_hex(2)  # two may begin in one second
    return RunFolder(run or found.runs / f"retrain-{now:%Y%m%d-%H%M%S}-{other}")


def _asked(
    place: RunFolder, found: Settings, *, corpora: list[Path] | None, **options: Any
) -> Asked:
    """What was typed; what was not, as the run began or by default."""
    from dataclasses import replace

    from worker.retrain_run import Asked

    given = {name: value for name, value in options.items() if value is not None}
    if corpora:
        given["corpora"] = tuple(str(folder.resolve()) for folder in corpora)
    standing = place.asked()
    if standing is None:
        given.setdefault("corpora", tuple(map(str, found.corpora)))
    asked = replace(standing or Asked(corpora=()), **given)
    if not asked.corpora:
        raise CommandError(
            "A base corpus is needed, whose writers tune and test the candidate: name its folder"
            " with --corpus or in SIGCTL_CORPORA."
        )
    return asked


def _run(
    place: RunFolder,
    asked: Asked,
    runtime: Runtime,
    *,
    cache: Path,
    device: str | None,
    hidden: bool,
) -> Retrained:
    from worker import retrain as retraining

    with show.progress(hidden=hidden) as bar:
        try:
            return retraining.retrain(
                place, asked, runtime=runtime, cache=cache, watch=_watch(bar), device=device
            )
        except KeyboardInterrupt:
            show.note(f"Stopped; `sigctl retrain --run {place.name}` goes on.")
            raise


def _watch(bar: Progress) -> Watch:
    from worker.retrain_run import Watch

    task = bar.add_task("Retraining", total=None)
    return Watch(
        say=show.note,
        progress=lambda doing, done, total: bar.update(
            task, description=doing, completed=done, total=total
        ),
    )


def _tell(found: Retrained) -> None:
    show.table(
        DIFFERENCES,
        (
            (
                one.protocol,
                one.kind,
                percent(one.active),
                percent(one.candidate),
                f"{100 * one.low:+.1f} to {100 * one.high:+.1f}",
                "better" if one.better else "worse" if one.worse else "",
            )
            for one in found.comparison.differences
        ),
        title=f"{show.count(len(found.comparison.writers), 'writer')} whom neither has learnt from",
    )
    if found.flips and found.flips.flipped:
        title = f"Verdicts that flip, of {show.count(len(found.flips.changes), 'decision')}"
        show.table(FLIPS, found.flips.table(), title=title)
    for condition in found.ruling.conditions:
        show.say(f"{'met' if condition.met else 'NOT MET'}: {condition.sentence}")
    show.say(f"Candidate {show.short(found.candidate)} is registered. Report: {found.report}")
    show.say(_conclusion(found))


def _conclusion(found: Retrained) -> str:
    if found.promoted:
        return "It is better by the rule, and decides from now on."
    if not found.ruling.promotes:
        return "It is not promoted: not every condition of the rule is met."
    reasons = " ".join(found.reasons)
    return f"It is better by the rule. {reasons or 'With --promote it would decide now.'}"
