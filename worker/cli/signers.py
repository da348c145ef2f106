"""`sigctl signers`: who is enrolled, with which references, and who is out of use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import opening, review, sheet, show
from worker.cli.options import Json, SignerId

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.signers import SignerSummary
    from storage.tables import Reference, Signer

app = typer.Typer(help="Who is enrolled, with which references.", no_args_is_help=True)

SIGNERS = (
    show.Column(title="signer"),
    show.Column(title="references", right=True),
    show.Column(title="enrolled at", whole=True),
    show.Column(title="retired at", whole=True),
)
REFERENCES = (
    show.Column(title="reference", right=True),
    show.Column(title="sha256", whole=True),
    show.Column(title="source"),
    show.Column(title="enrolled at", whole=True),
    show.Column(title="retired at", whole=True),
    show.Column(title="models"),
)


@app.command("list")
def list_(
    text: Annotated[str | None, typer.Argument(help="Only ids that contain this text.")] = None,
    retired: Annotated[
        bool | None, typer.Option("--retired/--live", help="Only retired signers, or only others.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    json: Json = False,
) -> None:
    """List signers with the number of their references in use."""
    from storage import signers

    with opening.transaction() as session:
        found = signers.search(session, text, retired=retired, limit=limit)
    if json:
        show.as_json([_line(signer) for signer in found])
    elif found:
        show.table(
            SIGNERS,
            (
                (s.id, s.references, show.when(s.enrolled_at), show.when(s.retired_at) or "")
                for s in found
            ),
        )
    else:
        show.say("No signer matches. `sigctl enroll SIGNER IMAGES...` enrols one.")


@app.command("show")
def show_(
    signer: SignerId,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--sheet",
            metavar="FILE.png",
            help="Draw the references in use, with their distances from each other.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show one signer and every reference, retired ones included."""
    from storage import references, signers

    with opening.transaction() as session:
        found = signers.get(session, signer, allow_retired=True)
        refs = references.of_signer(session, signer, retired=True)
        models = _models(session, refs)
    if picture is not None:
        sheet.draw(
            signer, [reference for reference in refs if reference.retired_at is None], picture
        )
    if json:
        show.as_json(_as_dict(found, refs, models))
        return
    live = sum(reference.retired_at is None for reference in refs)
    show.facts(
        {
            "signer": found.id,
            "enrolled at": show.when(found.enrolled_at),
            "retired at": show.when(found.retired_at),
            "erased at": show.when(found.erased_at),
            "references": f"{live} in use, {len(refs) - live} retired",
        }
    )
    if refs:
        show.table(REFERENCES, (_row(reference, models) for reference in refs))


@app.command("retire")
def retire(
    signer: SignerId,
    reference: Annotated[
        int | None, typer.Option(help="Retire only this reference, by its number.")
    ] = None,
    json: Json = False,
) -> None:
    """Take a signer, or one reference, out of use. Nothing is deleted; `restore` undoes it."""
    from storage import references, signers

    with opening.transaction() as session:
        if reference is None:
            retired_at = signers.retire(session, signer).retired_at
        else:
            _check_owner(session, signer, reference)
            retired_at = references.retire(session, reference).retired_at
    if json:
        show.as_json({"signer": signer, "reference": reference, "retired_at": retired_at})
        return
    what = f"Signer {signer}" if reference is None else f"Reference {reference} of {signer}"
    show.say(f"{what} is out of use since {show.when(retired_at)}.")


@app.command("erase")
def erase(
    signer: SignerId,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who erases; it is kept in the record.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Remove a signer's references, embeddings and stored images for good, and record that.

    Decisions stay readable. The name stays taken; `restore --erased` gives it back. When it is
    interrupted, run it again. Documents in other folders and buckets are not touched, nor backups.
    """
    from dataclasses import asdict

    from worker.erasure import erase as erase_signer

    runtime = opening.runtime()
    _check_known(signer)
    if not yes:
        typer.confirm(
            f"Remove all references and images of {signer} for good?", abort=True, err=True
        )
    with show.progress(hidden=json) as bar:
        task = bar.add_task(f"erasing {signer}", total=None)
        report = erase_signer(
            signer,
            sessions=runtime.sessions,
            images=runtime.images,
            by=by,
            progress=lambda _: bar.advance(task),
        )
    if json:
        show.as_json({"signer": signer, "by": by} | asdict(report))
        return
    kept = f" ({report.images_kept} kept, for others share them)" if report.images_kept else ""
    gone = (
        f"{show.count(report.references, 'reference')}, "
        f"{show.count(report.embeddings, 'embedding')} and {show.count(report.images, 'image')}"
    )
    show.say(f"Signer {signer} is erased: {gone} are gone{kept}.")


@app.command("restore")
def restore(
    signer: SignerId,
    reference: Annotated[
        int | None, typer.Option(help="Restore only this reference, by its number.")
    ] = None,
    erased: Annotated[
        bool, typer.Option("--erased", help="Also an erased one, who then has no references.")
    ] = False,
    json: Json = False,
) -> None:
    """Put a retired signer, or one retired reference, back into use."""
    from storage import references, signers

    with opening.transaction() as session:
        if reference is None:
            signers.restore(session, signer, erased=erased)
        else:
            _check_owner(session, signer, reference)
            references.restore(session, reference)
    if json:
        show.as_json({"signer": signer, "reference": reference, "retired_at": None})
    else:
        what = f"Signer {signer}" if reference is None else f"Reference {reference} of {signer}"
        show.say(f"{what} is in use.")


app.command("review")(review.review)


def _check_known(signer: str) -> None:
    from storage import signers

    with opening.transaction() as session:
        signers.get(session, signer, allow_retired=True)


def _check_owner(session: Session, signer: str, reference: int) -> None:
    from storage import references, signers
    from worker.cli.exits import CommandError

    signers.get(session, signer, allow_retired=True)
    if reference not in {r.id for r in references.of_signer(session, signer, retired=True)}:
        raise CommandError(
            f"Signer {signer} has no reference {reference}; `sigctl signers show {signer}` lists "
            "the references with their numbers."
        )


def _models(session: Session, refs: list[Reference]) -> dict[int, list[str]]:
    from sqlalchemy import select

    from storage.tables import Embedding

    query = select(Embedding.reference_id, Embedding.model_id).where(
        Embedding.reference_id.in_([reference.id for reference in refs])
    )
    found: dict[int, list[str]] = {reference.id: [] for reference in refs}
    for reference_id, model_id in session.execute(query.order_by(Embedding.model_id)):
        found[reference_id].append(model_id)
    return found


def _row(reference: Reference, models: dict[int, list[str]]) -> tuple[object, ...]:
    return (
        reference.id,
        show.short(reference.sha256),
        show.tail(reference.source, 24),
        show.when(reference.enrolled_at),
        show.when(reference.retired_at) or "",
        " ".join(show.short(model) or "" for model in models[reference.id]) or "none",
    )


def _as_dict(signer: Signer, refs: list[Reference], models: dict[int, list[str]]) -> dict[str, Any]:
    names = ("id", "uri", "sha256", "source", "enrolled_at", "retired_at")
    return {
        "id": signer.id,
        "enrolled_at": signer.enrolled_at,
        "retired_at": signer.retired_at,
        "erased_at": signer.erased_at,
        "references": [
            {name: getattr(reference, name) for name in names} | {"models": models[reference.id]}
            for reference in refs
        ],
    }


def _line(signer: SignerSummary) -> dict[str, Any]:
    names = ("id", "references", "enrolled_at", "retired_at")
    return {name: getattr(signer, name) for name in names}
