"""Whether the record is as it was written: every seal is made again and compared.

What shows: an entry or a decision that was changed, taken out, put in or moved; a chain that was
cut off behind what an anchor of another chain, or a sign-off, has seen of it.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, or_, select
from sqlalchemy.orm import Session

from storage.chain import ATTESTING, Head, has_entry
from storage.seal import COLUMNS, FIRST, Keys, seal, stored, stored_decision, stored_time, whole
from storage.tables import ADOPTED, ANCHOR, ATTESTS, DECISION, ChainEntry, Decision

BATCH = 2000
SHOWN = 20

CHANGED = "was changed after it was sealed"
ADDED = "was changed, or added by somebody without the key"
MOVED = "is not the one that was sealed here: it was moved, replaced or put in"
NO_PLACE = "is at a place that no entry has: it was moved or put in"
MISSING = "is missing"
UNKNOWN_KEY = "names a key that is not among SIGCTL_CHAIN_KEY and SIGCTL_CHAIN_OLD_KEYS"
NO_DECISION = "attests a decision that is missing"
CUT_OFF = "is missing: the chain was cut off"
REPLACED = "is not the one that was seen here before: the chain was replaced"
OLDER_KEY = "and all behind it are not sealed under the key in use"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """The first sign, at one place, that the record is not as it was written.

    `subject` is the job or signer and `at` the time, as far as the entry still tells.
    """

    chain: int
    position: int
    what: str
    kind: str | None = None
    subject: str | None = None
    at: str | None = None
    seen: str | None = None

    def __str__(self) -> str:
        about = f" ({self.kind} of {self.subject}, {self.at} UTC)" if self.subject else ""
        seen = f"; {self.seen} shows it" if self.seen else ""
        return f"entry {self.position} of chain {self.chain}{about} {self.what}{seen}"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A seal that somebody has seen at a place; `current` where the key in use vouches for it."""

    mac: bytes
    by: str
    current: bool = True


Places = Mapping[tuple[int, int], Seen]


@dataclass(kw_only=True)
class Report:
    """What a verification came to. The faults come in the order of time, as far as it is known.

    `unchained` are jobs whose decision has no entry, the first of so many.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    unchained: list[str] = field(default_factory=list)
    unchained_count: int = 0
    heads: list[Head] = field(default_factory=list)

    @property
    def entries(self) -> int:
        """All that were looked at."""
        return self.kinds.total()

    @property
    def decisions(self) -> int:
        """Decisions whose entry was looked at, adopted ones included."""
        return self.kinds[DECISION] + self.kinds[ADOPTED]


def verify(
    session: Session,
    keys: Keys,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    signed_off: Places | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Check every chain from `since` to its end, and count and note heads up to `until`.

    What comes after `until` is checked as well: it vouches for what is before. `signed_off` are
    seals that somebody has kept elsewhere; they must still be there. `progress` hears how many more
    entries are done.
    """
    report = Report()
    with _as_stored(session):
        seen = _anchored(session, keys, since) | dict(signed_off or {})
        there = set(session.scalars(select(ChainEntry.chain).distinct()))
        starts = {}
        for chain in sorted(there | {chain for chain, _ in seen}, key=str):
            starts[chain] = _start(session, chain, since)
            _check_chain(session, report, starts[chain], keys, seen, until, progress)
        _find_unchained(session, report, since, starts.values())
    report.faults.sort(key=_by_time(report.faults))
    return report


def _by_time(faults: Sequence[Fault]) -> Callable[[Fault], tuple[bool, str]]:
    """The chain that was broken first comes first; the faults of one stay together, in order."""
    first = {fault.chain: fault.at for fault in reversed(faults)}
    return lambda fault: (first[fault.chain] is None, str(first[fault.chain]))


def size(session: Session) -> int:
    """How many entries there are to check."""
    return session.scalar(select(func.count()).select_from(ChainEntry)) or 0


def heads_in(detail: Any) -> list[tuple[int, int, bytes]]:
    """Chain, position and seal of each head that the detail of an anchor names, if it is one."""
    try:
        return [(chain, place, bytes.fromhex(mac)) for chain, place, mac in detail["heads"]]
    except (KeyError, TypeError, ValueError):
        return []


class _Check:
    """Walks along one chain, from the entry behind `start` on."""

    def __init__(self, start: Head, keys: Keys, seen: Places) -> None:
        self.chain, self.previous, self.last = start.chain, start.mac, start.position
        self._keys, self._current = keys.by_id(), keys.current.id
        self._seen = {place: seal for (other, place), seal in seen.items() if other == self.chain}
        self._vouched = start.position
        self._doubtful: Fault | None = None

    def entry(self, row: Sequence[Any]) -> Iterator[Fault]:
        """What is wrong with the next entry, or turns out to be with the one before."""
        position, kind, subject, _, key_id, at, mac, *_ = row
        fault = Fault(
            chain=self.chain, position=position, what="", kind=kind, subject=subject, at=at
        )
        if not isinstance(position, int) or position < 1:
            yield replace(fault, what=NO_PLACE)
            return
        follows, what = position == self.last + 1, self._wrong(row)
        if self._doubtful is not None:
            # The seal of this entry holds, and with it the seal before: what was sealed is not.
            yield replace(self._doubtful, what=MOVED if what or not follows else CHANGED)
            self._doubtful = None
        if not follows:
            yield replace(fault, position=self.last + 1, what=MISSING, kind=None, subject=None)
        elif what == ADDED:
            self._doubtful = replace(fault, what=ADDED)
        elif what:
            yield replace(fault, what=what)
        seen = self._seen.get(position)
        if seen is not None and seen.mac != mac and not what:
            yield replace(fault, what=REPLACED, seen=seen.by)
        if key_id == self._current or (seen is not None and seen.current and seen.mac == mac):
            self._vouched = position
        self.last = position
        self.previous = mac if isinstance(mac, bytes) else FIRST

    def end(self) -> Iterator[Fault]:
        """What is wrong with the end of the chain."""
        if self._doubtful is not None:
            yield self._doubtful
        lost = [place for place in self._seen if place > self.last]
        if lost:
            seen = self._seen[min(lost)].by
            yield Fault(chain=self.chain, position=self.last + 1, what=CUT_OFF, seen=seen)
        if self.last > self._vouched:
            yield Fault(chain=self.chain, position=self._vouched + 1, what=OLDER_KEY)

    def _wrong(self, row: Sequence[Any]) -> str:
        position, kind, subject, detail, key_id, at, mac, *decision = row
        key = self._keys.get(key_id)
        attested = whole(COLUMNS, decision) if kind in ATTESTING else None
        if attested == {}:
            return NO_DECISION
        if key is None:
            return UNKNOWN_KEY
        entry = (self.chain, position, kind, subject, detail, key_id, at)
        return "" if seal(key, self.previous, entry, attested) == mac else ADDED


def _check_chain(
    session: Session,
    report: Report,
    start: Head,
    keys: Keys,
    seen: Places,
    until: datetime | None,
    progress: Callable[[int], None],
) -> None:
    check = _Check(start, keys, seen)
    kinds, used, faults = report.kinds, report.keys, report.faults
    end = "~" if until is None else stored_time(until)  # which is behind all digits
    head = check.last, check.previous
    for rows in _entries(session, start):
        for row in rows:
            faults += check.entry(row)
            if str(row[5]) < end:
                kinds[row[1]] += 1
                used[row[4]] += 1
                head = check.last, check.previous
        progress(len(rows))
    faults += check.end()
    if head[0]:
        report.heads.append(Head(chain=start.chain, position=head[0], mac=head[1]))


def _anchored(session: Session, keys: Keys, since: datetime | None) -> dict[tuple[int, int], Seen]:
    """What the anchors have seen. They are believed here; their own seals are checked, too."""
    columns = (ChainEntry.chain, ChainEntry.position, ChainEntry.detail, ChainEntry.key_id)
    query = select(*columns).where(ChainEntry.kind == ANCHOR)
    if since is not None:
        query = query.where(ChainEntry.recorded_at >= since)
    seen: dict[tuple[int, int], Seen] = {}
    for chain, position, detail, key_id in session.execute(query):
        by, current = f"anchor {position} of chain {chain}", key_id == keys.current.id
        for other, head, mac in heads_in(_parsed(detail)):
            if current or (other, head) not in seen:
                seen[other, head] = Seen(mac=mac, by=by, current=current)
    return seen


def _parsed(detail: Any) -> Any:
    try:
        return json.loads(detail)
    except (TypeError, ValueError):  # changed, as its seal will show
        return None


def _start(session: Session, chain: int, since: datetime | None) -> Head:
    """The last entry of the chain before the period, or where a chain begins."""
    beginning = Head(chain=chain, position=0, mac=FIRST)
    if since is None:
        return beginning
    here = ChainEntry.chain == chain
    first = session.scalar(
        select(func.min(ChainEntry.position)).where(here, ChainEntry.recorded_at >= since)
    )
    before = select(ChainEntry.position, ChainEntry.mac).where(here)
    if first is not None:
        before = before.where(ChainEntry.position < first)
    row = session.execute(before.order_by(ChainEntry.position.desc()).limit(1)).first()
    return Head(chain=chain, position=row.position, mac=row.mac) if row else beginning


def _behind(start: Head) -> ColumnElement[bool]:
    """The entries to check: of a whole chain all, even one at a place that no entry can have."""
    here = ChainEntry.chain == start.chain
    if not start.position:
        return here
    # A database without its constraints may hold an entry that is at no place.
    placed = ChainEntry.position > start.position, ChainEntry.position.is_(None)
    return and_(here, or_(*placed))


def _entries(session: Session, start: Head) -> Iterator[Sequence[Sequence[Any]]]:
    """The entries behind the start in their order, each with the decision that it attests."""
    entry = ("position", "kind", "subject", "detail", "key_id", "recorded_at", "mac")
    attested = and_(ATTESTS, Decision.job_id == ChainEntry.subject)
    dialect = session.get_bind().dialect.name
    query = (
        select(*(stored(dialect, getattr(ChainEntry, name)) for name in entry))
        .add_columns(*stored_decision(dialect))
        .outerjoin(Decision, attested)
        .where(_behind(start))
        .order_by(ChainEntry.position)
    )
    rows = session.connection().execute(query, execution_options={"yield_per": BATCH})
    with closing(rows):
        yield from rows.partitions()


def _find_unchained(
    session: Session, report: Report, since: datetime | None, starts: Iterable[Head]
) -> None:
    """Decisions of the period that no entry attests, or only one that was not checked."""
    lacking = [~has_entry()]
    if since is not None:
        checked = or_(false(), *(_behind(start) for start in starts))
        lacking = [~has_entry().where(checked), Decision.decided_at >= since]
    query = select(Decision.job_id).where(*lacking).order_by(Decision.decided_at).limit(SHOWN)
    report.unchained = list(session.scalars(query))
    report.unchained_count = len(report.unchained)
    if report.unchained_count == SHOWN:
        count = select(func.count()).select_from(Decision).where(*lacking)
        report.unchained_count = session.scalar(count) or 0


@contextmanager
def _as_stored(session: Session) -> Iterator[None]:
    """Lets SQLite return text that somebody has made invalid, instead of an error."""
    driver: Any = session.connection().connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        yield
        return
    driver.text_factory = lambda data: data.decode(errors="surrogateescape")
    try:
        yield
    finally:
        driver.text_factory = str
