"""Where a transaction begins and ends, and what each one that names a model needs first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from storage import models
from storage.database import Sessions, database_errors
from storage.tables import CANDIDATE, Model

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.inference import Embedder


@contextmanager
def transaction(sessions: Sessions) -> Iterator[Session]:
    """One transaction: committed at the end, rolled back by any error.

    Raises DatabaseUnavailable or DatabaseNotMigrated in place of the driver's errors.
    """
    with database_errors(), sessions.begin() as session:
        yield session


def register_model(session: Session, embedder: Embedder) -> Model:
    """The row of the model at work, made now if new; later ones only compare.

    It becomes the active one where none is. Raises ModelAltered.
    """
    model = models.register(
        session,
        uri=embedder.source,
        scoring=embedder.scoring.as_dict(),
        **fixed(embedder.model_id, embedder),
        **told_by(embedder.provenance),
    )
    if model.state == CANDIDATE and models.lineup(session).active is None:
        models.adopt(session, model.id)
    return model


def told_by(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint's provenance tells the registry: figures, recipe, and whose weights."""
    figures = {name: provenance.get(name) for name in ("test", "gates", "corpora")}
    return {
        "metrics": {name: value for name, value in figures.items() if value} or None,
        "recipe": provenance.get("recipe"),
        "parent_id": provenance.get("parent") or provenance.get("start"),
    }


def check_model(session: Session, embedder: Embedder) -> None:
    """Raise ModelAltered if the record of this model contradicts its checkpoint."""
    models.check(session, **fixed(embedder.model_id, embedder))


def fixed(model_id: str, found: Embedder | Checkpoint) -> dict[str, Any]:
    """What the registry repeats of a checkpoint, and never lets differ from it."""
    return {
        "id": model_id,
        "backbone": found.backbone,
        "size": found.size,
        "threshold": found.threshold,
        "preprocessing": found.preprocessing.label,
    }
