"""The registry of models: what each is, where its file lies, and which of them decides.

Exactly one is active once there is any; the database itself allows no second. A change of the
active model is one transaction, and an entry of the chain says who made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, Select, delete, exists, func, select, text, update
from sqlalchemy.orm import Session

from storage import chain
from storage.chain import Event
from storage.database import insert_new
from storage.errors import (
    ActivationUnderWay,
    ModelAltered,
    ModelChanged,
    ModelIncomplete,
    ModelInUse,
    NoActiveModel,
    UnknownModel,
)
from storage.seal import Keys
from storage.tables import (
    ACTIVATION,
    ACTIVE,
    CANDIDATE,
    INCOMING,
    IS_ACTIVATION,
    RETIRED,
    SHADOW,
    STANDING_BY,
    ChainEntry,
    Embedding,
    Model,
    Reference,
    ShadowDecision,
    Signer,
    utc_now,
)

FIXED = ("backbone", "size", "threshold", "preprocessing")
"""What a checkpoint says and its row repeats."""

NEWEST = "newest"
MOST_ENTRIES = 1000
LOCK = 7_364_003
"""Any number, the same in every process: the key of PostgreSQL's advisory lock."""


@dataclass(frozen=True, kw_only=True)
class Lineup:
    """Which models have something to do now, each by its digest.

    `active` decides; the references are being embedded with `incoming`; `shadow` sees a share of
    the jobs as well.
    """

    active: str | None = None
    incoming: str | None = None
    shadow: str | None = None
    shadow_share: float = 0.0

    @property
    def embedding(self) -> tuple[str, ...]:
        """All that a new reference is to be embedded with."""
        found = (self.active, self.shadow, self.incoming)
        return tuple(model for model in found if model is not None)


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
    metrics: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    parent_id: str | None = None,
    by: str | None = None,
) -> Model:
    """The model's row, made now if new; `id` is the sha256 of the checkpoint file, in hex.

    A new one is a candidate. Raises ModelAltered as `check` does.
    """
    model = session.get(Model, id)  # reading takes no write lock
    if model is None:
        values = {
            "id": id,
            "uri": uri,
            "backbone": backbone,
            "size": size,
            "threshold": threshold,
            "preprocessing": preprocessing,
            "scoring": dict(scoring),
            "metrics": None if metrics is None else dict(metrics),
            "recipe": None if recipe is None else dict(recipe),
            "parent_id": parent_id,
            "registered_by": by,
        }
        insert_new(session, Model, values, "id")
        model = get(session, id)
    _compare(model, (backbone, size, threshold, preprocessing))
    return model


def check(
    session: Session, *, id: str, backbone: str, size: int, threshold: float, preprocessing: str
) -> None:
    """Raises ModelAltered if a row of that digest says otherwise; a model without one is new.

    One digest is one file, so a row that differs was changed by somebody.
    """
    model = session.get(Model, id)
    if model is not None:
        _compare(model, (backbone, size, threshold, preprocessing))


def _compare(model: Model, loaded: tuple[str, int, float, str]) -> None:
    for name, value in zip(FIXED, loaded, strict=True):
        if getattr(model, name) != value:
            raise ModelAltered(
                f"the record of model {model.id[:12]!r} was changed: its {name} is"
                f" {getattr(model, name)!r}, but the checkpoint's is {value!r}"
            )


def get(session: Session, id: str) -> Model:
    """The model of that digest. Raises UnknownModel."""
    model = session.get(Model, id, populate_existing=True)
    if model is None:
        raise UnknownModel(f"no model {id[:12]!r} has been registered")
    return model


def require(session: Session, id: str) -> None:
    """Raises UnknownModel for one without a row, which never goes again once it is there."""
    if session.get(Model, id) is None:
        raise UnknownModel(f"no model {id[:12]!r} has been registered")


def find(session: Session, beginning: str) -> Model:
    """The one model whose digest begins so, or the `newest` registered, or the `active` one.

    Raises UnknownModel for none and for several, NoActiveModel.
    """
    if beginning == ACTIVE:
        return active(session)
    if beginning == NEWEST and (registered := all(session)):
        return registered[-1]
    query = select(Model).where(Model.id.startswith(beginning.lower(), autoescape=True))
    found = list(session.scalars(query.order_by(Model.id).limit(2)))
    if not beginning or not found:
        raise UnknownModel(f"no model {beginning!r} has been registered")
    if len(found) > 1:
        raise UnknownModel(f"more than one model begins with {beginning!r}; give more of it")
    return found[0]


def all(session: Session) -> list[Model]:
    """Every model, in the order of registration."""
    return list(session.scalars(select(Model).order_by(Model.registered_at, Model.id)))


def lineup(session: Session) -> Lineup:
    """Who has something to do; one small query, for whoever asks every second."""
    rows = session.execute(select(Model.state, Model.id, Model.shadow_share).where(STANDING_BY))
    found = {row.state: row for row in rows}
    ids = {state: found[state].id if state in found else None for state in (ACTIVE, INCOMING)}
    shadow = found.get(SHADOW)
    return Lineup(
        active=ids[ACTIVE],
        incoming=ids[INCOMING],
        shadow=None if shadow is None else shadow.id,
        shadow_share=0.0 if shadow is None else shadow.shadow_share or 0.0,
    )


def active(session: Session) -> Model:
    """The model that decides. Raises NoActiveModel."""
    model = session.scalar(select(Model).where(Model.state == ACTIVE))
    if model is None:
        raise NoActiveModel("no model is active yet; a worker or an enrolment makes it so")
    return model


def sealed(session: Session, keys: Keys) -> str | None:
    """The model of the newest activation that was sealed with one of the keys; None without any.

    Whoever can write to the database without the key can name another model active, but cannot
    make such an entry, nor take one away.
    """
    query = select(ChainEntry).where(IS_ACTIVATION).order_by(ChainEntry.recorded_at.desc())
    for entry in session.scalars(query.limit(MOST_ENTRIES)):
        if chain.holds(session, entry, keys):
            return entry.subject
    return None


def confirm(session: Session, id: str, by: str | None = None) -> None:
    """Enters once more that the active model is active, under the key in use.

    Raises ModelInUse for another model.
    """
    _lock(session)
    if lineup(session).active != id:
        raise ModelInUse(f"model {id[:12]} is not the active one")
    _enter(session, id, id, by)


def still_active(session: Session, id: str) -> None:
    """Keeps the active model active until the transaction ends. Raises ModelChanged.

    Whoever writes embeddings asks this first, so that no reference slips in between the last look
    at what is missing and the change.
    """
    if not chain.is_postgres(session):
        _take_sqlite(session)
    query = select(Model.state).where(Model.id == id).with_for_update(read=True)
    if session.scalar(query) != ACTIVE:
        raise ModelChanged(f"model {id[:12]} is no longer the one in use")


def adopt(session: Session, id: str, by: str | None = None) -> bool:
    """Makes a registered model the active one if none is; says whether it did."""
    _lock(session)
    if lineup(session).active is not None:
        return False
    _make_active(session, id, None, by)
    return True


def announce(session: Session, id: str, by: str | None = None) -> Model:
    """Marks a model as the incoming one: from now on it embeds what is enrolled.

    Marking it again is harmless, so an activation that was interrupted goes on. Raises
    UnknownModel, ModelInUse for the active one, and ActivationUnderWay while it is another's turn.
    """
    _lock(session)
    model = get(session, id)
    if model.state == ACTIVE:
        raise ModelInUse(f"model {id[:12]} is active already")
    now = lineup(session).incoming
    if now is not None and now != id:
        other = get(session, now)
        who = f" by {other.state_by}" if other.state_by else ""
        raise ActivationUnderWay(
            f"model {now[:12]} has been on its way in since"
            f" {other.state_since:%Y-%m-%d %H:%M} UTC{who}; wait for it, or cancel it first"
        )
    if model.state not in (INCOMING, SHADOW):  # the shadow is complete, or nearly so
        _set(session, id, INCOMING, by)
    return get(session, id)


def withdraw(session: Session, id: str, by: str | None = None) -> Model:
    """Takes a model that was incoming or in the shadow back among the candidates.

    Raises UnknownModel, and ModelInUse for one that is neither.
    """
    _lock(session)
    model = get(session, id)
    if model.state not in (INCOMING, SHADOW):
        raise ModelInUse(f"model {id[:12]} is {model.state}: there is nothing to cancel")
    _set(session, id, CANDIDATE if model.activated_at is None else RETIRED, by)
    return get(session, id)


def shadow(session: Session, id: str, share: float, by: str | None = None) -> Model:
    """Shows a share of the jobs, above 0 and up to 1, to a model that has embedded everything.

    Raises UnknownModel, ModelInUse while another is in the shadow, and ModelIncomplete.
    """
    _lock(session)
    now = lineup(session)
    if now.shadow not in (None, id):
        raise ModelInUse(f"model {str(now.shadow)[:12]} is in the shadow; cancel it first")
    if now.active == id:
        raise ModelInUse(f"model {id[:12]} is active already")
    _check_complete(session, id)
    _set(session, id, SHADOW, by, share)
    return get(session, id)


def activate(
    session: Session, id: str, by: str | None = None, *, lost: Sequence[int] = (), now: bool = False
) -> str | None:
    """Makes a model the active one and retires the one before, whose digest is returned.

    Raises UnknownModel, ModelInUse, ActivationUnderWay, and ModelIncomplete if it lacks a live
    reference other than those that were given up as `lost`; with `now` it may lack any.
    """
    announce(session, id, by)  # which makes others who change the lineup wait
    if not now:
        _check_complete(session, id, lost)
    before = lineup(session).active
    if before is not None:
        _set(session, before, RETIRED, by)
    _make_active(session, id, before, by)
    return before


def previous(session: Session) -> Model:
    """The model that was active before this one, which a rollback returns to.

    Raises UnknownModel when there is none, NoActiveModel.
    """
    before = active(session).replaced_id
    if before is None:
        raise UnknownModel("no model was active before this one, so there is none to return to")
    return get(session, before)


def lacking(session: Session, id: str) -> list[int]:
    """Live references that the model has not embedded, by number."""
    return list(session.scalars(_lacking(id).order_by(Reference.id)))


def count_lacking(session: Session, id: str) -> int:
    """How many live references the model has not embedded."""
    return _count(session, _lacking(id))


def count_live(session: Session) -> int:
    """How many references are in use, whichever model has embedded them."""
    return _count(session, _live())


def embedded(session: Session, id: str, numbers: Sequence[int]) -> set[int]:
    """Those of the references that the model has embedded."""
    query = select(Embedding.reference_id)
    found = query.where(Embedding.model_id == id, Embedding.reference_id.in_(numbers))
    return set(session.scalars(found))


def prune(session: Session, id: str, limit: int = 10_000) -> int:
    """Deletes embeddings and shadow decisions of a model that nobody uses, at most so many each.

    Returns how many rows went; 0 is the end. The model's row and file stay. Raises UnknownModel
    and ModelInUse.
    """
    if (model := get(session, id)).state not in (CANDIDATE, RETIRED):
        raise ModelInUse(f"model {id[:12]} is {model.state}, so its embeddings are needed")
    return _delete_some(session, ShadowDecision.job_id, id, limit) + _delete_some(
        session, Embedding.reference_id, id, limit
    )


def _delete_some(session: Session, key: Any, id: str, limit: int) -> int:
    table = key.class_
    some = select(key).where(table.model_id == id).limit(limit).scalar_subquery()
    statement = delete(table).where(table.model_id == id, key.in_(some))
    done = session.execute(statement.execution_options(synchronize_session=False))
    return cast(CursorResult[Any], done).rowcount


def moved(session: Session, id: str, uri: str) -> None:
    """Notes where the model's file lies now."""
    session.execute(update(Model).where(Model.id == id).values(uri=uri))


def _live() -> Select[int]:
    query = select(Reference.id).join(Signer, Signer.id == Reference.signer_id)
    return query.where(Reference.retired_at.is_(None), Signer.retired_at.is_(None))


def _lacking(id: str) -> Select[int]:
    seen = exists().where(Embedding.reference_id == Reference.id, Embedding.model_id == id)
    return _live().where(~seen)


def _count(session: Session, query: Select[int]) -> int:
    return session.scalar(select(func.count()).select_from(query.subquery())) or 0


def _check_complete(session: Session, id: str, lost: Sequence[int] = ()) -> None:
    missing = set(lacking(session, id)) - set(lost)
    if missing:
        raise ModelIncomplete(
            f"model {id[:12]} has not embedded {len(missing)} of the references in use"
        )


def _lock(session: Session) -> None:
    """One change at a time; waits for those who write embeddings (`still_active`)."""
    if not chain.is_postgres(session):
        _take_sqlite(session)
        return
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    session.execute(select(Model.id).where(STANDING_BY).order_by(Model.id).with_for_update())


def _take_sqlite(session: Session) -> None:
    """SQLite's only lock: an update, even of no row, makes this the one that writes."""
    session.execute(text("UPDATE models SET state = state WHERE 0"))


def _set(session: Session, id: str, state: str, by: str | None, share: float | None = None) -> None:
    changed = {"state": state, "state_since": utc_now(), "state_by": by, "shadow_share": share}
    session.execute(update(Model).where(Model.id == id).values(changed))


def _make_active(session: Session, id: str, before: str | None, by: str | None) -> None:
    _set(session, id, ACTIVE, by)
    changed = {"activated_at": utc_now(), "replaced_id": before}
    session.execute(update(Model).where(Model.id == id).values(changed))
    _enter(session, id, before, by)


def _enter(session: Session, id: str, before: str | None, by: str | None) -> None:
    detail = {"replaces": before, "by": by}
    chain.of(session).append(session, [Event(kind=ACTIVATION, subject=id, detail=detail)])
