"""`sigctl signers show --sheet`: a picture of a signer's specimens with their distances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.cli import opening

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from storage.tables import Reference
    from worker.runtime import Runtime

PICTURE = (160, 320)
"""Height and width of a specimen, in pixels; its strokes are brought onto that."""


def draw(signer: str, live: Sequence[Reference], path: Path) -> None:
    """Write the sheet. Raises PlotError without live references, and FileNotWritten."""
    from model.sheet import Tile, specimen_sheet

    runtime = opening.runtime()
    pictures = [_picture(reference, runtime) for reference in live]
    tiles = [
        Tile(name=str(reference.id), picture=picture)
        for reference, picture in zip(live, pictures, strict=True)
    ]
    specimen_sheet(f"{signer}: distances of references", tiles, _distances(live, runtime), path)


def _picture(reference: Reference, runtime: Runtime) -> Any:
    """Decoded where documents are, as strokes; None where the image cannot be had."""
    from model.errors import ModelError
    from model.preprocess import Preprocessing, to_pixels
    from model.questioned import look
    from storage.errors import StorageError, Transient

    how = Preprocessing(height=PICTURE[0], width=PICTURE[1])
    decode = look if runtime.sandbox is None else runtime.sandbox.look
    try:
        return to_pixels(decode(runtime.images.fetch(reference.uri), how).canvas)
    except Transient:
        raise
    except (ModelError, StorageError):
        return None


def _distances(live: Sequence[Reference], runtime: Runtime) -> NDArray[Any]:
    """The table (N, N) by the model in use, NaN where it has not seen a reference."""
    import numpy as np

    from model.scoring import distances_to
    from worker.standing import seen
    from worker.transactions import transaction

    model_id = runtime.embedder.model_id
    with transaction(runtime.sessions) as session:
        vectors = seen(session, live, model_id)
    table = np.full((len(live), len(live)), np.nan)
    known = [place for place, reference in enumerate(live) if reference.id in vectors]
    if known:
        stacked = np.stack([vectors[live[place].id] for place in known])
        for place in known:
            table[place, known] = distances_to(vectors[live[place].id], stacked)
    return table
