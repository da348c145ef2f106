"""`sigctl audit verify`, `adopt` and `sign-off`: whether the record is as it was written."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import moments, opening, show
from worker.cli.exits import CommandError, Exit
from worker.cli.options import Json

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from storage.seal import Keys
    from storage.verification import Places, Report

UNKEYED = (
    "No key is set (SIGCTL_CHAIN_KEY), so the seals show accidents but not forgers: whoever may "
    "write to the database can make such seals."
)
UNCHAINED = (
    "Such decisions are from before the chain, or by a worker of an older release, or somebody put "
    "them in by hand. Where they are as expected, `sigctl audit adopt` enters them."
)

Since = Annotated[
    str | None, typer.Option(help="Only from here on: 2026-11-23 or 24h.", metavar="TIME")
]
Until = Annotated[
    str | None, typer.Option(help="Only up to here; a bare date includes it.", metavar="TIME")
]


def verify(
    since: Since = None,
    signed_off: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A sign-off that must still stand.")
    ] = None,
    json: Json = False,
) -> None:
    """Make every seal of the record again and compare; exit code 1 when something is wrong.

    The first row that is not as it was written is named. Decisions without an entry in the chain
    are told apart from broken ones, and are wrong all the same until they are adopted.
    """
    keys = _keys()
    places = None if signed_off is None else _places(signed_off, keys)
    began = None if since is None else moments.moment(since)
    report = _verified(keys, hidden=json, since=began, signed_off=places)
    if json:
        show.as_json(_as_dict(report, keys))
    else:
        _tell(report, keys)
    if report.faults or report.unchained:
        raise typer.Exit(Exit.UNEXPECTED)


def adopt(json: Json = False) -> None:
    """Enter decisions that have no entry in the chain, and seal all chains with the key in use.

    What is adopted counts as adopted forever: the chain vouches for it from now on, not before.
    """
    from storage import chain
    from worker.transactions import transaction

    sessions, adopted = opening.runtime().sessions, 0
    with show.progress(hidden=json) as bar:
        task = bar.add_task("adopting", total=None)
        jobs = [""]
        while jobs:
            with transaction(sessions) as session:
                jobs = chain.adopt(session, after=jobs[-1])
            adopted += len(jobs)
            bar.advance(task, len(jobs))
    with transaction(sessions) as session:
        chain.of(session).anchor(session)
    if json:
        show.as_json({"adopted": adopted})
    else:
        show.say(f"{show.count(adopted, 'decision')} adopted; all chains are anchored.")


def sign_off(
    output: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the sign-off.")],
    since: Since = None,
    until: Until = None,
    json: Json = False,
) -> None:
    """Verify a period and write down the heads of all chains, sealed and with the time.

    Keep the file where the database's administrators cannot write: `audit verify --signed-off`
    shows by it whether the record was cut off or replaced since.
    """
    from storage.signoff import signed_off

    keys = _keys()
    began = None if since is None else moments.moment(since)
    ended = None if until is None else moments.moment(until, end_of_day=True)
    report = _verified(keys, hidden=json, since=began, until=ended)
    if report.faults or report.unchained:
        _tell(report, keys)
        raise CommandError("Nothing is signed off while the record does not hold.", Exit.UNEXPECTED)
    document = signed_off(report, keys.current, began, ended)
    try:
        output.write_text(json_module.dumps(document, indent=2) + "\n")
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}.") from error
    if json:
        show.as_json(document)
    else:
        show.say(f"{_holds(report)} Signed off in {output}.")
        _warn(keys)


def _keys() -> Keys:
    from worker.keys import chain_keys

    return chain_keys(opening.settings())


def _places(file: Path, keys: Keys) -> Places:
    from storage.signoff import places

    try:
        return places(json_module.loads(file.read_text()), keys)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise CommandError(f"{file} is no sign-off.") from error


def _verified(
    keys: Keys,
    *,
    hidden: bool,
    since: datetime | None = None,
    until: datetime | None = None,
    signed_off: Places | None = None,
) -> Report:
    from storage import verification

    with opening.transaction() as session, _progress(session, hidden) as progress:
        return verification.verify(
            session, keys, since=since, until=until, signed_off=signed_off, progress=progress
        )


@contextmanager
def _progress(session: Session, hidden: bool) -> Iterator[Callable[[int], None]]:
    from storage import verification

    with show.progress(hidden=hidden) as bar:
        task = bar.add_task("verifying", total=verification.size(session))
        yield lambda done: bar.advance(task, done)


def _tell(report: Report, keys: Keys) -> None:
    if report.faults:
        first, *others = report.faults
        show.say(f"The record is broken: {first}.", style="red")
        if others:
            show.say(f"{show.count(len(others), 'more fault')}:")
        for fault in others[:20]:
            show.say(f"  {fault}")
    else:
        show.say(_holds(report))
    if report.unchained:
        count, jobs = report.unchained_count, ", ".join(report.unchained)
        more = ", ..." if count > len(report.unchained) else ""
        show.say(f"{show.count(count, 'decision')} without an entry in the chain: {jobs}{more}.")
        show.say(UNCHAINED)
    _warn(keys)


def _holds(report: Report) -> str:
    kinds = report.kinds
    parts = f"{show.count(report.decisions, 'decision')} ({kinds['adopted']:,} of them adopted)"
    nouns = {
        "label": "label",
        "erasure": "erasure",
        "forced": "forced enrolment",
        "activation": "change of the model",
        "anchor": "anchor",
    }
    nouns_of_many = {"activation": "changes of the model"}
    rest = ", ".join(
        show.count(kinds[kind], noun, nouns_of_many.get(kind)) for kind, noun in nouns.items()
    )
    return f"The record holds: {show.count(report.entries, 'entry', 'entries')}, {parts}, {rest}."


def _warn(keys: Keys) -> None:
    from storage.seal import PUBLIC

    if keys.current == PUBLIC:
        show.say(UNKEYED, style="yellow")


def _as_dict(report: Report, keys: Keys) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "holds": not report.faults and not report.unchained,
        "entries": report.entries,
        "kinds": report.kinds,
        "keys": report.keys,
        "key_in_use": keys.current.id,
        "faults": [asdict(fault) | {"sentence": f"{fault}."} for fault in report.faults],
        "without_entry": {"count": report.unchained_count, "first_jobs": report.unchained},
    }
