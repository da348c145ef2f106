"""`sigctl demo`: the whole thing on generated signers, told as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import opening, record, schema, show
from worker.cli.options import Json

if TYPE_CHECKING:
    from worker.demo import Result
    from worker.pipeline import Outcome

COLUMNS = (
    show.Column(title="document"),
    show.Column(title="truth"),
    show.Column(title="verdict", styled=True),
    show.Column(title="distance", right=True),
    show.Column(title="score", right=True),
    show.Column(title="threshold", right=True),
    show.Column(title="nearest"),
    show.Column(title="reason"),
)


def demo(
    folder: Annotated[
        Path, typer.Option(help="Where all of it is kept; made anew each time.")
    ] = Path("demo-output"),
    seed: Annotated[int, typer.Option(min=0, help="Another number makes other signers.")] = 7,
    corpus: Annotated[
        int,
        typer.Option(
            min=0, metavar="WRITERS", help="Make up so many writers more, a corpus to retrain with."
        ),
    ] = 0,
    json: Json = False,
) -> None:
    """Show the whole thing on generated signers: no server, no network, no GPU.

    Enrols six signers with five references each, sends seventeen documents through the worker's
    task (genuine, imitated, by somebody else, blank, corrupt, missing, of an unknown signer) and
    draws what was compared with what.
    """
    configured = opening.settings(logs="critical")
    from worker import demo

    demo.make_folder(folder)
    folder = folder.resolve()
    with demo.environment(folder, configured) as settings, show.progress(hidden=json) as bar:
        schema.upgrade(settings.database_url)
        task = bar.add_task("Starting", total=None)

        def step(stage: str, done: int, total: int) -> None:
            bar.update(task, description=f"{stage:20}", completed=done, total=total)

        results = demo.run(settings, folder, seed, step)
        step("Drawing", 0, 1)
        demo.draw(results, folder / demo.SHEET)
        if corpus:
            demo.write_corpus(folder, corpus, seed, step)
    if json:
        _as_json(results, folder / demo.SHEET)
    else:
        _tell(results, folder / demo.SHEET)


def _tell(results: Sequence[Result], picture: Path) -> None:
    show.table(COLUMNS, map(_row, results))
    for result in results:
        if result.outcome.error_message:
            reason = show.as_sentence(result.outcome.error_message)
            show.say(f"{result.document.path.name}: {reason}")
    right = sum(result.right for result in results)
    show.say(f"{right} of {len(results)} outcomes agree with the truth.")
    _say_names("Left for a person to review", [r for r in results if r.undecided])
    _say_names("Not right", [r for r in results if not (r.right or r.undecided)])
    show.say(_rule(results))
    show.say(f"Signature, nearest reference and distance of each document: {picture}")


def _say_names(what: str, results: Sequence[Result]) -> None:
    if results:
        show.say(f"{what}: {', '.join(result.document.path.name for result in results)}.")


def _rule(results: Sequence[Result]) -> str:
    if all(result.outcome.reject_threshold is None for result in results):
        said = "Accepted is a score below the threshold."
    else:
        said = (
            "Accepted is a score below the first threshold, rejected one at the second or above; "
            "what lies between is for a person to review."
        )
    return f"{said} Distances and scores: lower is closer."


def _thresholds(outcome: Outcome) -> str | None:
    if outcome.reject_threshold is None:
        return show.number(outcome.threshold)
    return f"{show.number(outcome.threshold)} / {show.number(outcome.reject_threshold)}"


def _row(result: Result) -> tuple[object, ...]:
    outcome, nearest = result.outcome, result.nearest
    return (
        result.document.path.name,
        result.document.truth,
        outcome.verdict,
        show.number(outcome.distance),
        show.number(outcome.score),
        _thresholds(outcome),
        None if nearest is None else f"{nearest.parent.name}/{nearest.stem}",
        outcome.error_code or "",
    )


def _as_json(results: Sequence[Result], picture: Path) -> None:
    documents: list[dict[str, Any]] = [
        record.as_dict(result.outcome)
        | {"truth": result.document.truth, "expected": result.document.expected}
        | {"right": result.right}
        for result in results
    ]
    right = sum(result.right for result in results)
    review = sum(result.undecided for result in results)
    show.as_json({"right": right, "review": review, "documents": documents, "picture": picture})
