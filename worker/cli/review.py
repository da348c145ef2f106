"""`sigctl signers review`: whose references want an operator's eye."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from worker.cli import opening, show
from worker.cli.options import Json

COLUMNS = (
    show.Column(title="signer"),
    show.Column(title="references", right=True),
    show.Column(title="newest", whole=True),
    show.Column(title="why"),
)


def review(
    older_than: Annotated[
        int, typer.Option(min=1, metavar="DAYS", help="Newest references older than this are old.")
    ] = 3 * 365,
    json: Json = False,
) -> None:
    """List signers with few, varied or old references, or signatures that drift from them."""
    from dataclasses import asdict

    from worker import review
    from worker.transactions import transaction

    runtime = opening.runtime()
    embedder = runtime.embedder
    with transaction(runtime.sessions) as session:
        found = list(review.review(session, embedder, old=timedelta(days=older_than)))
    if json:
        show.as_json([asdict(finding) for finding in found])
    elif found:
        show.table(
            COLUMNS,
            (
                (
                    finding.signer_id,
                    finding.references,
                    show.when(finding.newest) or "",
                    "; ".join(reason.words for reason in finding.reasons),
                )
                for finding in found
            ),
        )
    else:
        show.say("There is nothing to say against the references of any signer.")
