"""`sigctl compare`: two images, one distance; nothing is enrolled and nothing is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import opening, show
from worker.cli.exits import CommandError, Exit, sentence
from worker.cli.files import read
from worker.cli.options import Checkpoint, Json

if TYPE_CHECKING:
    from model.arrays import Canvas
    from model.inference import Embedder


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    distance: float
    threshold: float

    @property
    def same(self) -> bool:
        return self.distance < self.threshold

    @property
    def result(self) -> str:
        return "same signer" if self.same else "different signers"

    @property
    def caption(self) -> str:
        return f"distance {show.number(self.distance)}, threshold {show.number(self.threshold)}"


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="An image file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another image file.")],
    checkpoint: Checkpoint = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw both side by side into this PNG.")
    ] = None,
    saliency: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Paint which strokes moved the distance into this PNG."),
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
    from model.scoring import distances_to

    embedder = load_embedder(
        checkpoint or settings.checkpoint,
        device=settings.device,
        sha256=None if checkpoint else settings.checkpoint_sha256,
    )
    prepared = [
        _prepare(embedder, path, content, settings.max_pixels)
        for path, content in zip((a, b), data, strict=True)
    ]
    first, second = embedder.embed(np.stack(prepared), exact=True)
    found = _Comparison(
        distance=float(distances_to(first, second[None])[0]), threshold=embedder.threshold
    )
    if picture is not None:
        _draw(picture, data, found, settings.max_pixels)
    if saliency is not None:
        _explain(saliency, embedder, prepared, found)
    drawn = {"picture": picture, "saliency": saliency}
    if json:
        numbers = {"distance": found.distance, "threshold": found.threshold, "same": found.same}
        show.as_json(numbers | {"model_id": embedder.model_id} | drawn)
    else:
        _tell(found, embedder.model_id, drawn)
    raise typer.Exit(Exit.DONE if found.same else Exit.NOT_ACCEPTED)


def _prepare(embedder: Embedder, path: Path, data: bytes, max_pixels: int) -> Canvas:
    from model.errors import ModelError

    try:
        return embedder.prepare(data, max_pixels=max_pixels)
    except ModelError as error:
        raise CommandError(f"{path}: {sentence(error)}") from error


def _tell(found: _Comparison, model_id: str, drawn: dict[str, Path | None]) -> None:
    side = "below" if found.same else "not below"
    show.facts(
        {
            "result": found.result,
            "distance": show.number(found.distance),
            "threshold": f"{show.number(found.threshold)} (the distance is {side} it)",
            "model": show.short(model_id),
            **drawn,
        }
    )


def _draw(path: Path, data: list[bytes], found: _Comparison, max_pixels: int) -> None:
    from model.plots import SheetRow, comparison_sheet
    from model.preprocess import decode_grey

    left, right = (decode_grey(content, max_pixels=max_pixels) for content in data)
    row = SheetRow(
        title=found.result,
        questioned=left,
        nearest=right,
        caption=found.caption,
        verdict="accept" if found.same else "reject",
    )
    comparison_sheet([row], path)


def _explain(path: Path, embedder: Embedder, prepared: list[Canvas], found: _Comparison) -> None:
    from model.saliency import explain, saliency_plot

    first, second = prepared
    pictures = explain(embedder.model, first, second)
    saliency_plot(pictures, f"{found.result}: {found.caption}", path)
