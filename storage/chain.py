"""The chain of the record: every decision and every event is sealed onto the one before.

It has `CHAINS` strands, each a chain of its own, so that workers that record at the same time need
not wait for each other: a transaction takes whichever is free and holds it until it ends. Now and
then an entry, the anchor, names the heads of all the others, which ties the strands together.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, insert, select, text
from sqlalchemy.orm import Session

from storage.seal import (
    COLUMNS,
    FIRST,
    PUBLIC,
    Key,
    Keys,
    seal,
    stored_decision,
    stored_time,
    whole,
)
from storage.tables import ADOPTED, ANCHOR, ATTESTS, DECISION, ChainEntry, Decision, utc_now

CHAINS = 16
ANCHOR_ENTRIES = 256
ANCHOR_SECONDS = 60.0
"""An anchor comes with every so many entries of a chain, or so long after a process made one."""

ATTESTING = (DECISION, ADOPTED)
INFO = "chain"
TAKE = "SELECT free, head, seal FROM sigctl_chain_head(%s, %s)"
HEADS = text(
    "WITH RECURSIVE chains (chain) AS (SELECT 0 UNION ALL SELECT chain + 1 FROM chains"
    " WHERE chain + 1 < :chains)"
    " SELECT e.chain, e.position, e.mac FROM chains c JOIN chain_entries e ON e.chain = c.chain"
    " AND e.position = (SELECT max(position) FROM chain_entries WHERE chain = c.chain)"
)
# A third of the time that one statement for each row takes.
INSERT = """INSERT INTO chain_entries
SELECT chain, position, kind, subject, detail, key_id, recorded_at, decode(mac, 'hex')
FROM json_to_recordset(%s) AS entries (chain integer, position bigint, kind text, subject text,
  detail text, key_id text, recorded_at timestamptz, mac text)"""
BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Event:
    """What an entry tells: of a decision its stored `row`, of anything else the `detail`."""

    kind: str
    subject: str | None = None
    detail: Mapping[str, Any] | None = None
    row: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Head:
    """The last entry of a chain."""

    chain: int
    position: int
    mac: bytes


class Chain:
    """Appends to the chain with one key; shared by the threads of a process."""

    def __init__(self, key: Key = PUBLIC) -> None:
        self.key = key
        self._preferred = secrets.randbelow(CHAINS)
        self._anchored = time.monotonic()

    def append(self, session: Session, events: Sequence[Event]) -> None:
        """Seals the events in their order; they stand when the transaction does."""
        if not events:
            return
        start = self._take(session)
        entries = list(self._sealed(start, events))
        if self._due(start.position, len(entries)):
            anchor = Event(kind=ANCHOR, detail=_named(heads(session, without=start.chain)))
            last = entries[-1]
            tip = Head(chain=start.chain, position=last["position"], mac=last["mac"])
            entries += self._sealed(tip, [anchor])
        _insert(session, entries)

    def anchor(self, session: Session) -> None:
        """Seals the heads of all chains as they stand."""
        start = self._take(session)
        anchor = Event(kind=ANCHOR, detail=_named(heads(session)))
        _insert(session, list(self._sealed(start, [anchor])))

    def _take(self, session: Session) -> Head:
        """The head of a free chain, which stays ours until the transaction ends."""
        head = (_take_postgres if is_postgres(session) else _take_sqlite)(session, self._preferred)
        self._preferred = head.chain  # nobody was on it, so it will be free next time
        return head

    def _sealed(self, head: Head, events: Iterable[Event]) -> Iterator[dict[str, Any]]:
        now, key, previous = utc_now(), self.key, head.mac
        stamp = stored_time(now)
        for position, event in enumerate(events, head.position + 1):
            detail = None if event.detail is None else json.dumps(event.detail)
            entry = (head.chain, position, event.kind, event.subject, detail, key.id, stamp)
            previous = seal(key, previous, entry, event.row)
            yield {
                "chain": head.chain,
                "position": position,
                "kind": event.kind,
                "subject": event.subject,
                "detail": detail,
                "key_id": key.id,
                "recorded_at": now,
                "mac": previous,
            }

    def _due(self, position: int, added: int) -> bool:
        now = time.monotonic()
        crossed = position // ANCHOR_ENTRIES != (position + added) // ANCHOR_ENTRIES
        if crossed or now - self._anchored > ANCHOR_SECONDS:
            self._anchored = now
            return True
        return False


def of(session: Session) -> Chain:
    """The chain that this session's records are sealed onto."""
    chain: Chain = session.info[INFO]
    return chain


def attesting(rows: Iterable[Mapping[str, Any]], kind: str = DECISION) -> list[Event]:
    """Events that attest decisions, each given by what the database holds of it."""
    return [Event(kind=kind, subject=row["job_id"], row=row) for row in rows]


def adopt(session: Session, after: str = "", limit: int = BATCH) -> list[str]:
    """Enters decisions that have no entry, by the order of their jobs, from `after` on.

    Returns the jobs; none is the end. Meant for decisions from before the chain, or of workers of
    a release that did not know it.
    """
    rows = session.execute(
        select(*stored_decision(session.get_bind().dialect.name))
        .where(Decision.job_id > after, ~has_entry())
        .order_by(Decision.job_id)
        .limit(limit)
    ).all()
    events = attesting((whole(COLUMNS, row) for row in rows), ADOPTED)
    of(session).append(session, events)
    return [str(event.subject) for event in events]


def has_entry() -> Any:
    """The condition that a decision is attested."""
    return exists().where(ChainEntry.subject == Decision.job_id, ATTESTS)


def entry_of(session: Session, job_id: str) -> ChainEntry | None:
    """The entry that attests the decision of that job."""
    query = select(ChainEntry).where(ChainEntry.subject == job_id, ATTESTS)
    return session.scalars(query).one_or_none()


def holds(session: Session, entry: ChainEntry, keys: Keys) -> bool:
    """Whether this entry was sealed where it stands, with one of the keys that are not public."""
    key = keys.by_id().get(entry.key_id)
    if key is None or key == PUBLIC:
        return False
    before = session.get(ChainEntry, (entry.chain, entry.position - 1))
    previous = FIRST if before is None else before.mac
    values = (entry.chain, entry.position, entry.kind, entry.subject, entry.detail, entry.key_id)
    sealed = seal(key, previous, (*values, stored_time(entry.recorded_at)), None)
    return hmac.compare_digest(sealed, entry.mac)


def heads(session: Session, *, without: int | None = None) -> list[Head]:
    """The last entry of each chain, perhaps without one of the chains."""
    found = session.connection().execute(HEADS, {"chains": CHAINS})
    heads = [Head(chain=chain, position=position, mac=mac) for chain, position, mac in found]
    return [head for head in heads if head.chain != without]


def _named(found: Iterable[Head]) -> dict[str, Any]:
    return {"heads": [[head.chain, head.position, head.mac.hex()] for head in found]}


def _insert(session: Session, entries: list[dict[str, Any]]) -> None:
    if not is_postgres(session):
        session.connection().execute(insert(ChainEntry), entries)
        return
    texts = ({"mac": e["mac"].hex(), "recorded_at": e["recorded_at"].isoformat()} for e in entries)
    rows = [entry | text for entry, text in zip(entries, texts, strict=True)]
    session.connection().exec_driver_sql(INSERT, (json.dumps(rows),))


def is_postgres(session: Session) -> bool:
    """Whether this is a session on PostgreSQL, which has locks of rows; SQLite has one of all."""
    return session.get_bind().dialect.name == "postgresql"


def _take_postgres(session: Session, preferred: int) -> Head:
    """By an advisory lock, which ends with the transaction however that ends."""
    row = session.connection().exec_driver_sql(TAKE, (preferred, CHAINS)).one()
    return Head(chain=row.free, position=row.head or 0, mac=row.seal or FIRST)


def _take_sqlite(session: Session, preferred: int) -> Head:
    """By SQLite's only lock: an update, even of no row, makes this the one that writes."""
    session.execute(text("UPDATE chain_entries SET chain = chain WHERE 0"))
    query = select(ChainEntry.position, ChainEntry.mac).where(ChainEntry.chain == preferred)
    row = session.execute(query.order_by(ChainEntry.position.desc()).limit(1)).first()
    return Head(chain=preferred, position=row[0] if row else 0, mac=row[1] if row else FIRST)
