"""`sigctl compare`: two images, one distance; nothing is enrolled and nothing is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import opening, show
from worker.cli.exits import CommandError, Exit, sentence
from worker.cli.files import read
from worker.cli.options import Checkpoint, Json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.inference import Embedder


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="An image file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another image file.")],
    checkpoint: Checkpoint = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw both side by side into this PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare two images: are they signatures of the same person?

    Exit code 0: yes, their distance is below the checkpoint's threshold; 3: no.
    """
    import numpy as np

    settings = opening.settings()
    data = [read(path, settings.max_bytes) for path in (a, b)]

    from model.inference import load_embedder

    embedder = load_embedder(checkpoint or settings.checkpoint, device=settings.device)
    prepared = [
        _prepare(embedder, path, content, settings.max_pixels)
        for path, content in zip((a, b), data, strict=True)
    ]
    first, second = embedder.embed(np.stack(prepared)).astype(np.float64)
    distance = float(np.linalg.norm(first - second))
    same = distance < embedder.threshold
    if picture is not None:
        _draw(picture, data, (distance, embedder.threshold), same, settings.max_pixels)
    if json:
        numbers = {"distance": distance, "threshold": embedder.threshold, "same": same}
        show.as_json(numbers | {"model_id": embedder.model_id, "picture": picture})
    else:
        _tell(embedder, distance, same, picture)
    raise typer.Exit(Exit.DONE if same else Exit.NOT_ACCEPTED)


def _prepare(embedder: Embedder, path: Path, data: bytes, max_pixels: int) -> NDArray[np.float32]:
    from model.errors import ModelError

    try:
        return embedder.prepare(data, max_pixels=max_pixels)
    except ModelError as error:
        raise CommandError(f"{path}: {sentence(error)}") from error


def _tell(embedder: Embedder, distance: float, same: bool, picture: Path | None) -> None:
    side = "below" if same else "not below"
    show.facts(
        {
            "result": "same signer" if same else "different signers",
            "distance": show.number(distance),
            "threshold": f"{show.number(embedder.threshold)} (the distance is {side} it)",
            "model": show.short(embedder.model_id),
            "picture": picture,
        }
    )


def _draw(
    path: Path, data: list[bytes], numbers: tuple[float, float], same: bool, max_pixels: int
) -> None:
    from model.plots import SheetRow, comparison_sheet
    from model.preprocess import decode_grey

    left, right = (decode_grey(content, max_pixels=max_pixels) for content in data)
    distance, threshold = map(show.number, numbers)
    row = SheetRow(
        title="same signer" if same else "different signers",
        questioned=left,
        nearest=right,
        caption=f"distance {distance}, threshold {threshold}",
        verdict="accept" if same else "reject",
    )
    comparison_sheet([row], path)
