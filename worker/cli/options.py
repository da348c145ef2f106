"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
SignerId = Annotated[str, typer.Argument(metavar="SIGNER", help="The signer's id.")]
Document = Annotated[
    str,
    typer.Argument(
        metavar="DOCUMENT",
        help="The scan: a path, file:///path or s3://bucket/key. Paths must lie below "
        "SIGCTL_ROOTS, buckets must be named in SIGCTL_BUCKETS.",
    ),
]
Page = Annotated[int | None, typer.Option(min=1, help="The page, counted from 1; else the first.")]
Region = Annotated[
    str | None,
    typer.Option(metavar="X,Y,W,H", help="Where the signature is, in pixels of the upright page."),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Use this checkpoint instead of SIGCTL_CHECKPOINT."),
]

Cache = Annotated[
    Path, typer.Option(metavar="DIR", help="Where preprocessed corpora are kept between runs.")
]
DEFAULT_CACHE = Path(".cache/sigctl")
