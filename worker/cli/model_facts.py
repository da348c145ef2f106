"""What `sigctl models` tells of one model, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worker.cli import show

if TYPE_CHECKING:
    from storage.tables import Model

FIGURES = ("skilled_eer", "skilled_low", "skilled_high", "random_eer", "frr", "far_skilled")


def line(model: Model, embedded: int | None = None) -> dict[str, Any]:
    """A model in a list."""
    skilled, random = errors(model.metrics)
    return {
        "id": model.id,
        "state": model.state,
        "since": model.state_since,
        "by": model.state_by,
        "shadow_share": model.shadow_share,
        "backbone": model.backbone,
        "registered_at": model.registered_at,
        "registered_by": model.registered_by,
        "parent_id": model.parent_id,
        "embedded": embedded,
        "skilled_eer": skilled,
        "random_eer": random,
    }


def whole(model: Model) -> dict[str, Any]:
    """Everything that the registry knows."""
    columns = model.__table__.columns.keys()
    return {name: getattr(model, name) for name in columns}


def state(model: Model) -> str:
    """The state, with its share for a model in the shadow."""
    return model.state if model.shadow_share is None else f"shadow {model.shadow_share:.0%}"


def errors(metrics: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """The 1:1 EER on its own test writers against skilled and random forgeries, in percent."""
    for row in (metrics or {}).get("test") or ():
        if row.get("protocol") == "1:1":
            return _percent(row.get("skilled_eer")), _percent(row.get("random_eer"))
    return None, None


def facts(model: Model) -> dict[str, object]:
    """The facts that are one line each."""
    return {
        "model": model.id,
        "state": state(model),
        "since": show.when(model.state_since),
        "by": model.state_by,
        "registered": show.when(model.registered_at),
        "registered by": model.registered_by,
        "parent": model.parent_id,
        "file": model.uri,
        "backbone": model.backbone,
        "input": model.preprocessing,
        "threshold": show.number(model.threshold),
        "thresholds by references": value(model.scoring.get("thresholds")),
        "operating points": ", ".join(model.scoring.get("accept") or ()) or None,
        "recipe": (model.recipe or {}).get("name"),
    }


def tell_figures(model: Model) -> None:
    """The figures with their protocol, as a table."""
    rows = (model.metrics or {}).get("test") or ()
    if not rows:
        show.note("No figures are known of this model.")
        return
    corpora = ", ".join((model.metrics or {}).get("corpora") or ())
    columns = [show.Column(title="protocol", whole=True)]
    columns += [show.Column(title=name.replace("_", " "), right=True) for name in FIGURES]
    show.table(
        columns,
        [(row.get("protocol"), *(_percent(row.get(name)) for name in FIGURES)) for row in rows],
        title=f"In percent, on its own test writers, never trained or tuned on ({corpora})",
    )


def flat(model: Model) -> dict[str, Any]:
    """What two models can differ in, by dotted names."""
    told = {
        "backbone": model.backbone,
        "input": model.preprocessing,
        "threshold": model.threshold,
        "parent": model.parent_id,
        "recipe": model.recipe,
        "scoring": model.scoring,
        "figures": {
            str(row.get("protocol")): {name: row.get(name) for name in FIGURES}
            for row in (model.metrics or {}).get("test") or ()
        },
    }
    return dict(_leaves("", told))


def value(found: object) -> str | None:
    """One value in a cell."""
    if isinstance(found, float):
        return f"{found:.4g}"
    if isinstance(found, Mapping):
        return ", ".join(f"{name}: {value(inner)}" for name, inner in found.items())
    return None if found is None else str(found)


def _leaves(name: str, found: Any) -> list[tuple[str, Any]]:
    if not isinstance(found, Mapping):
        return [(name, found)]
    prefix = f"{name}." if name else ""
    return [leaf for key, inner in found.items() for leaf in _leaves(f"{prefix}{key}", inner)]


def _percent(rate: Any) -> str | None:
    return f"{100 * rate:.1f}" if isinstance(rate, int | float) else None
