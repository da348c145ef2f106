"""Which networks have embedded anything, so that a decision can be traced to its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.database import insert_new
from storage.errors import UnknownModel
from storage.tables import Model


def register(
    session: Session,
    *,
    id: str,
    uri: str,
    backbone: str,
    size: int,
    threshold: float,
    preprocessing: str,
    scoring: Mapping[str, Any],
) -> Model:
    """The model's row, made now if new; `id` is the sha256 of the checkpoint file, in hex."""
    standing = session.get(Model, id)
    if standing is not None:  # every job registers its model: reading takes no write lock
        return standing
    values = {
        "id": id,
        "uri": uri,
        "backbone": backbone,
        "size": size,
        "threshold": threshold,
        "preprocessing": preprocessing,
        "scoring": dict(scoring),
    }
    insert_new(session, Model, values, "id")
    return get(session, id)


def get(session: Session, id: str) -> Model:
    """The model of that digest. Raises UnknownModel."""
    model = session.get(Model, id)
    if model is None:
        raise UnknownModel(f"no model {id[:12]!r} has been registered")
    return model


def all(session: Session) -> list[Model]:
    """Every model, in the order of registration."""
    return list(session.scalars(select(Model).order_by(Model.registered_at, Model.id)))
