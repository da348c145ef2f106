"""What a running worker says about itself when it is asked over the broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery.worker import state
from celery.worker.control import inspect_command

from worker.app import make_app
from worker.errors import BrokerUnavailable
from worker.pulse import PULSE
from worker.runtime import get_runtime
from worker.settings import Settings

COMMAND = "sigctl_status"
PATIENCE = 2.0


@dataclass(frozen=True, kw_only=True)
class Status:
    """One worker. `model` is the checkpoint's sha256, None where it is not loaded (prefork).

    `ready` are all models that it has loaded, `work` the kinds of work that it takes. `fault` is
    what keeps its loops from turning, in a sentence.
    """

    name: str
    pool: str
    at_work: int
    model: str | None = None
    engine: str | None = None
    preprocessing: str | None = None
    ready: tuple[str, ...] = ()
    work: tuple[str, ...] = ()
    fault: str | None = None


@inspect_command(name=COMMAND)  # type: ignore[untyped-decorator]
def answer(_panel: Any, **_: Any) -> dict[str, Any]:
    """The model in use, the jobs at work and what is wrong with the loops."""
    runtime = get_runtime()
    values: dict[str, Any] = {"pool": runtime.settings.pool, "at_work": len(state.active_requests)}
    values |= {"work": runtime.settings.work, "ready": runtime.models.ready()}
    embedder = runtime.loaded
    if embedder is not None:
        values |= {"model": embedder.model_id, "engine": embedder.engine.name}
        values |= {"preprocessing": embedder.preprocessing.label}
    return values | {"fault": PULSE.fault() or runtime.fault()}


def ask(settings: Settings, patience: float = PATIENCE) -> list[Status]:
    """The workers that answer within `patience` seconds, by name. Raises BrokerUnavailable."""
    app = make_app(settings)
    with app.connection_for_write() as connection:
        try:
            replies = app.control.broadcast(
                COMMAND, reply=True, timeout=patience, connection=connection
            )
        except (OSError, *connection.connection_errors, *connection.channel_errors) as error:
            raise BrokerUnavailable(f"The broker does not answer: {error}") from error
    found = [_status(name, values) for reply in replies or () for name, values in reply.items()]
    return sorted(found, key=lambda status: status.name)


def _status(name: str, values: Mapping[str, Any]) -> Status:
    """The answer as a value; what another release adds to it is left out."""
    known: dict[str, Any] = {k: values[k] for k in Status.__dataclass_fields__ if k in values}
    return Status(**{"pool": "unknown", "at_work": 0} | known | {"name": name})  # type: ignore[arg-type]
