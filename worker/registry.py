"""Bringing a checkpoint into the registry: its file into the store, what it says into the row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model.checkpoint import parse_checkpoint
from storage import models
from storage.tables import Model
from worker import checkpoints
from worker.transactions import fixed, told_by, transaction

if TYPE_CHECKING:
    from worker.runtime import Runtime


def register(
    runtime: Runtime,
    data: bytes,
    source: str,
    *,
    by: str | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Model:
    """Register a checkpoint's bytes as a candidate; what is registered already stays as it is.

    `metrics` are figures beside those that its provenance has. Raises CheckpointError,
    ModelAltered, and what keeping the file raises.
    """
    checkpoint = parse_checkpoint(data, source)
    uri = checkpoints.keep(runtime.images, data, checkpoint.sha256)
    told = told_by(checkpoint.provenance)
    told["metrics"] = {**(told["metrics"] or {}), **(metrics or {})} or None
    with transaction(runtime.sessions) as session:
        model = models.register(
            session,
            uri=uri,
            by=by,
            scoring=checkpoint.scoring.as_dict(),
            **fixed(checkpoint.sha256, checkpoint),
            **told,
        )
        if model.uri != uri:
            models.moved(session, model.id, uri)
        return models.get(session, model.id)
