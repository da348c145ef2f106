"""Which networks have embedded anything, so that a decision can be traced to its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.database import insert_new
from storage.errors import ModelAltered, UnknownModel
from storage.tables import Model

FIXED = ("backbone", "size", "threshold", "preprocessing")
"""What a checkpoint says and its row repeats."""


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
    """The model's row, made now if new; `id` is the sha256 of the checkpoint file, in hex.

    Raises ModelAltered as `check` does.
    """
    if session.get(Model, id) is None:  # reading takes no write lock
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
    check(
        session,
        id=id,
        backbone=backbone,
        size=size,
        threshold=threshold,
        preprocessing=preprocessing,
    )
    return get(session, id)


def check(
    session: Session, *, id: str, backbone: str, size: int, threshold: float, preprocessing: str
) -> None:
    """Raises ModelAltered if a row of that digest says otherwise; a model without one is new.

    One digest is one file, so a row that differs was changed by somebody.
    """
    model = session.get(Model, id)
    if model is None:
        return
    loaded = (backbone, size, threshold, preprocessing)
    for name, value in zip(FIXED, loaded, strict=True):
        if getattr(model, name) != value:
            raise ModelAltered(
                f"the record of model {id[:12]!r} was changed: its {name} is"
                f" {getattr(model, name)!r}, but the checkpoint's is {value!r}"
            )


def get(session: Session, id: str) -> Model:
    """The model of that digest. Raises UnknownModel."""
    model = session.get(Model, id)
    if model is None:
        raise UnknownModel(f"no model {id[:12]!r} has been registered")
    return model


def all(session: Session) -> list[Model]:
    """Every model, in the order of registration."""
    return list(session.scalars(select(Model).order_by(Model.registered_at, Model.id)))
