"""The record shows every change: any row that is altered, taken out, put in or moved."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from storage import chain, decisions, signoff, verification
from storage.chain import CHAINS, Event
from storage.database import make_engine, make_sessions
from storage.errors import InvalidSignOff
from storage.seal import PUBLIC, Key, Keys
from storage.tables import Decision, utc_now
from tests.builders import a_decision, a_job, a_review, an_error

KEY, OTHER = Key.of("k" * 32), Key.of("o" * 32)


@pytest.fixture
def keyed(database_url):
    engine = make_engine(database_url)
    yield make_sessions(engine, KEY)
    engine.dispose()


def on_chain(sessions, number):
    sessions.kw["info"][chain.INFO]._preferred = number


def filled(sessions, jobs=("a", "b", "c", "d"), strand=None):
    for number, job in enumerate(jobs):
        if strand is not None:
            on_chain(sessions, strand)
        with sessions.begin() as session:
            a_job(session, job)
            made = [a_decision, a_review, an_error][number % 3](job)
            decisions.record(session, [made])
    return sessions


def checked(sessions, keys=Keys(current=KEY), **period):  # noqa: B008
    with sessions.begin() as session:
        return verification.verify(session, keys, **period)


def entry(sessions, job):
    with sessions.begin() as session:
        return chain.entry_of(session, job)


def tamper(sessions, *statements, **values):
    """As somebody who owns the database, whom no trigger stops."""
    with sessions.begin() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for name in session.scalars(
                text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            ).all():
                session.execute(text(f"DROP TRIGGER {name}"))
        for statement in statements:
            session.execute(text(statement), values)


def test_what_is_recorded_holds_and_each_decision_has_its_entry(keyed):
    filled(keyed)
    report = checked(keyed)
    assert (report.faults, report.unchained) == ([], [])
    assert (report.decisions, report.kinds["adopted"]) == (4, 0)
    assert set(report.keys) == {KEY.id}
    found = entry(keyed, "b")
    assert (found.kind, found.key_id, len(found.mac)) == ("decision", KEY.id, 32)


def test_a_decision_that_does_not_stand_has_no_entry(keyed):
    filled(keyed, ["a"])
    with keyed.begin() as session:
        decisions.record(session, [an_error("a")])
    with keyed() as session:
        a_job(session, "b")
        decisions.record(session, [a_decision("b")])
        session.rollback()
    assert checked(keyed).decisions == 1


def test_jobs_with_all_kinds_of_text_and_numbers_hold(keyed):
    odd = {"blur": 1e-300, "zero": -0.0, "big": 10**18, "words": 'é "字" \\ 😀', "none": None}
    with keyed.begin() as session:
        a_job(session, "a")
        row = a_decision("a", upstream=odd, score=-1e-17, total_ms=1e21, document="nul\0 \ud800")
        decisions.record(session, [row])
    assert checked(keyed).faults == []


TAMPERINGS = {
    "a verdict": ("UPDATE decisions SET verdict = 'reject' WHERE job_id = 'a'", "changed"),
    "the last digit of a score": (
        "UPDATE decisions SET score = 0.25000000000000006 WHERE job_id = 'a'",
        "changed",
    ),
    "a blank in the distances": (
        'UPDATE decisions SET distances = \'[{"reference":  1, "distance": 0.25}]\''
        " WHERE job_id = 'a'",
        "changed",
    ),
    "a value that was not there": (
        "UPDATE decisions SET fetch_ms = 1 WHERE job_id = 'a'",
        "changed",
    ),
    "a value that is there no more": (
        "UPDATE decisions SET total_ms = NULL WHERE job_id = 'a'",
        "changed",
    ),
    "the kind of an entry": (
        "UPDATE chain_entries SET kind = 'adopted' WHERE subject = 'a'",
        "changed",
    ),
    "a decision": ("DELETE FROM decisions WHERE job_id = 'a'", "attests a decision that is"),
    "an entry": ("DELETE FROM chain_entries WHERE subject = 'a'", "is missing"),
    "the key of an entry": (
        "UPDATE chain_entries SET key_id = 'public' WHERE subject = 'a'",
        "changed",
    ),
    "an unknown key": (
        "UPDATE chain_entries SET key_id = 'other' WHERE subject = 'a'",
        "names a key that is not among",
    ),
}


@pytest.mark.parametrize(("statement", "words"), TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_the_first_broken_row_is_named(keyed, statement, words):
    filled(keyed, strand=3)
    on_chain(keyed, 3)
    tamper(keyed, statement)
    first, *_ = checked(keyed).faults
    assert str(first).startswith("entry 1 of chain 3")
    assert words in str(first)


def test_the_sentence_tells_the_job_and_the_time(keyed):
    filled(keyed, strand=3)
    tamper(keyed, "UPDATE decisions SET rule = 'other' WHERE job_id = 'c'")
    (fault,) = checked(keyed).faults
    at = entry(keyed, "c").recorded_at.strftime("%Y-%m-%d %H:%M:%S.%f")
    assert str(fault) == (
        f"entry 3 of chain 3 (decision of c, {at} UTC) was changed after it was sealed"
    )


def test_the_last_entry_cannot_be_changed_or_forged_either(keyed):
    filled(keyed, strand=3)
    forged = (
        "INSERT INTO chain_entries SELECT 3, 5, kind, 'e', detail, key_id, recorded_at, mac"
        " FROM chain_entries WHERE position = 4"
    )
    tamper(keyed, forged)
    found = [str(fault) for fault in checked(keyed).faults]
    assert any("attests a decision that is missing" in fault for fault in found)
    tamper(keyed, "DELETE FROM chain_entries WHERE position = 5")
    assert checked(keyed).faults == []
    tamper(keyed, "UPDATE decisions SET document = 'x' WHERE job_id = 'd'")
    (fault,) = checked(keyed).faults
    assert "was changed, or added by somebody without the key" in str(fault)


def test_two_rows_that_changed_places_show(keyed):
    filled(keyed, strand=3)
    swap = "UPDATE chain_entries SET position = {} WHERE position = {}"
    tamper(keyed, swap.format(99, 2), swap.format(2, 3), swap.format(3, 99))
    first, *_ = checked(keyed).faults
    assert (first.position, first.what) == (2, verification.MOVED)


def test_an_entry_that_was_moved_to_a_chain_of_its_own_shows(keyed):
    filled(keyed, strand=3)
    tamper(keyed, "UPDATE chain_entries SET chain = 99, position = 1 WHERE subject = 'd'")
    assert [fault.chain for fault in checked(keyed).faults] == [99]


def put_in(sessions, job, *others, like="a", **values):
    """A decision that nobody made, like one that somebody did."""
    with sessions.begin() as session:
        a_job(session, job)
    columns = ", ".join(c.name for c in Decision.__table__.columns if c.name != "job_id")
    copied = (
        f"INSERT INTO decisions (job_id, {columns}) SELECT :job, {columns} FROM decisions"
        " WHERE job_id = :like"
    )
    tamper(sessions, copied, *others, job=job, like=like, **values)


def test_a_decision_that_was_put_in_by_hand_has_no_entry_and_is_listed(keyed):
    filled(keyed)
    put_in(keyed, "e")
    report = checked(keyed)
    assert (report.faults, report.unchained, report.unchained_count) == ([], ["e"], 1)


@pytest.mark.parametrize("position", [0, -3])
def test_an_entry_before_the_first_place_hides_nothing(keyed, position):
    filled(keyed, strand=3)
    entries = (
        "INSERT INTO chain_entries SELECT chain, :place, kind, :job, detail, key_id, recorded_at,"
        " mac FROM chain_entries WHERE subject = 'd'"
    )
    put_in(keyed, "e", entries, place=position)
    for period in ({}, {"since": utc_now() - timedelta(hours=1)}):
        (fault,) = checked(keyed, **period).faults
        assert (fault.subject, fault.what) == ("e", verification.NO_PLACE)


def test_a_new_decision_cannot_hide_behind_an_entry_of_before(keyed):
    filled(keyed, "ab", strand=3)
    middle = utc_now()
    filled(keyed, "cd", strand=3)
    put_in(keyed, "e", "UPDATE chain_entries SET subject = :job WHERE subject = 'a'", like="d")
    assert checked(keyed, since=middle).unchained == ["e"]
    assert checked(keyed).faults[0].subject == "e"


def test_what_had_no_entry_is_adopted_once_and_counts_as_adopted_forever(keyed):
    filled(keyed)
    tamper(keyed, "DELETE FROM chain_entries")
    assert sorted(checked(keyed).unchained) == ["a", "b", "c", "d"]
    with keyed.begin() as session:
        assert chain.adopt(session, limit=3) == ["a", "b", "c"]
    with keyed.begin() as session:
        assert chain.adopt(session, after="c") == ["d"]
        assert chain.adopt(session) == []
    report = checked(keyed)
    assert (report.faults, report.unchained) == ([], [])
    assert (report.decisions, report.kinds["adopted"]) == (4, 4)


def test_the_cut_off_end_of_one_chain_shows_by_the_anchor_of_another(keyed):
    filled(keyed, strand=3)
    on_chain(keyed, 5)
    with keyed.begin() as session:
        keyed.kw["info"][chain.INFO].anchor(session)
    for gone in ("chain = 3 AND position > 2", "chain = 3"):
        tamper(
            keyed,
            f"DELETE FROM decisions WHERE job_id IN (SELECT subject FROM chain_entries"
            f" WHERE {gone})",
            f"DELETE FROM chain_entries WHERE {gone}",
        )
        (fault,) = checked(keyed).faults
        assert fault.what == verification.CUT_OFF
        assert fault.seen == "anchor 1 of chain 5"


def test_an_anchor_comes_by_itself_and_ties_the_chains_together(keyed, monkeypatch):
    monkeypatch.setattr(chain, "ANCHOR_ENTRIES", 3)
    filled(keyed, "ab", strand=1)
    filled(keyed, "cdefg", strand=2)
    report = checked(keyed)
    assert (report.kinds["anchor"], report.faults) == (2, [])
    tamper(
        keyed,
        "DELETE FROM decisions WHERE job_id = 'b'",
        "DELETE FROM chain_entries WHERE subject = 'b'",
    )
    (fault,) = checked(keyed).faults
    assert (fault.chain, fault.position, fault.what) == (1, 2, verification.CUT_OFF)


def test_a_record_sealed_anew_without_the_key_shows(keyed, database_url):
    filled(keyed)
    tamper(keyed, "UPDATE decisions SET rule = 'forged'", "DELETE FROM chain_entries")
    forger = make_sessions(keyed.kw["bind"], PUBLIC)
    with forger.begin() as session:
        chain.adopt(session)
    assert checked(forger, Keys()).faults == []
    for until in (None, utc_now()):
        (fault,) = checked(keyed, until=until).faults
        assert fault.what == verification.OLDER_KEY


def test_after_a_new_key_old_seals_need_the_old_key_and_the_new_one_vouches_for_them(keyed):
    filled(keyed)
    renewed, keys = make_sessions(keyed.kw["bind"], OTHER), Keys(current=OTHER, old=(KEY,))
    assert {fault.what for fault in checked(keyed, keys).faults} == {verification.OLDER_KEY}
    with renewed.begin() as session:
        chain.of(session).anchor(session)
    assert checked(keyed, keys).faults == []
    assert checked(keyed, Keys(current=OTHER)).faults[0].what == verification.UNKNOWN_KEY


def test_only_the_period_asked_for_is_looked_at(keyed):
    filled(keyed, "ab", strand=3)
    middle = utc_now()
    filled(keyed, "cd", strand=3)
    tamper(keyed, "UPDATE decisions SET rule = 'other' WHERE job_id = 'a'")
    assert checked(keyed, since=middle).faults == []
    assert checked(keyed, since=middle).decisions == 2
    assert len(checked(keyed, until=middle).faults) == 1
    assert checked(keyed, until=middle).decisions == 2
    assert [head.position for head in checked(keyed, until=middle).heads] == [2]
    tamper(keyed, "UPDATE decisions SET rule = 'other' WHERE job_id = 'c'")
    assert [fault.subject for fault in checked(keyed, since=middle).faults] == ["c"]
    assert checked(keyed, since=utc_now() + timedelta(days=1)).entries == 0


def test_what_was_signed_off_must_still_stand(keyed):
    filled(keyed, strand=3)
    document = signoff.signed_off(checked(keyed), KEY, None, None)
    places = signoff.places(document, Keys(current=KEY))
    filled(keyed, "ef", strand=3)
    assert checked(keyed, signed_off=places).faults == []
    tamper(keyed, "DELETE FROM chain_entries", "DELETE FROM decisions", "DELETE FROM jobs")
    (fault,) = checked(keyed, signed_off=places).faults
    assert fault.what == verification.CUT_OFF
    filled(keyed, "abcd", strand=3)
    assert checked(keyed).faults == []
    (fault,) = checked(keyed, signed_off=places).faults
    assert (fault.position, fault.what) == (4, verification.REPLACED)


def test_a_sign_off_cannot_be_changed_or_made_without_the_key(keyed):
    filled(keyed)
    document = signoff.signed_off(checked(keyed), KEY, None, None)
    keys = Keys(current=KEY)
    for wrong in (
        document | {"decisions": 5},
        document | {"heads": []},
        {name: value for name, value in document.items() if name != "mac"},
        document | {"key_id": OTHER.id},
        document | {"format": "other"},
        [],
    ):
        with pytest.raises(InvalidSignOff):
            signoff.places(wrong, keys)


def test_many_who_record_at_once_leave_one_unbroken_record(keyed):
    def work(number: int) -> None:
        own = make_sessions(keyed.kw["bind"], KEY) if number % 2 else keyed
        try:
            for turn in range(5):
                with own.begin() as session:
                    a_job(session, f"{number}-{turn}")
                with own.begin() as session:
                    decisions.record(session, [an_error(f"{number}-{turn}")])
        except Exception as error:
            failures.append(error)

    failures: list[Exception] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = checked(keyed)
    assert (failures, report.faults, report.decisions) == ([], [], 40)


def test_a_transaction_takes_a_chain_that_nobody_holds(postgres_url):
    sessions = [make_sessions(make_engine(postgres_url), KEY) for _ in range(CHAINS)]
    opened = []
    for made in sessions:
        on_chain(made, 7)
        session = made()
        chain.of(session).append(session, [Event(kind="erasure", subject="x", detail={})])
        opened.append(session)
    for session in opened:
        session.commit()
    report = checked(sessions[0])
    assert (len(report.heads), report.faults) == (CHAINS, [])
    for made in sessions:
        made.kw["bind"].dispose()


@pytest.mark.parametrize("table", ["decisions", "chain_entries"])
@pytest.mark.parametrize("act", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_database_itself_refuses_to_change_the_record(keyed, table, act):
    filled(keyed, ["a"])
    if act.startswith("TRUNCATE") and keyed.kw["bind"].dialect.name == "sqlite":
        pytest.skip("SQLite has no TRUNCATE")
    column = {"decisions": "rule", "chain_entries": "detail"}[table]
    with keyed() as session, pytest.raises(Exception, match="the record is append-only"):
        session.execute(text(act.format(table, column, column)))
    assert checked(keyed).decisions == 1


def test_sqlite_replaces_no_row_of_the_record(sqlite_url):
    sessions = filled(make_sessions(sqlite_url, KEY), ["a"])
    with sessions.begin() as session:
        for table in ("decisions", "chain_entries"):
            session.execute(text(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}"))
        session.execute(text("INSERT OR IGNORE INTO decisions SELECT * FROM decisions"))
    assert checked(sessions).faults == []
    sessions.kw["bind"].dispose()


@pytest.fixture(scope="module")
def recorded_file(tmp_path_factory, sqlite_template):
    """A database with thirteen decisions on three chains, free of triggers, and its rows."""
    path = tmp_path_factory.mktemp("record") / "record.db"
    path.write_bytes(sqlite_template.read_bytes())
    sessions = make_sessions(f"sqlite:///{path}", KEY)
    for strand in range(3):
        filled(sessions, [f"{strand}-{n}" for n in range(4)], strand=strand)
        with sessions.begin() as session:
            sessions.kw["info"][chain.INFO].anchor(session)
    # An anchor that nothing follows is the one row that nobody misses.
    filled(sessions, ["last"], strand=2)
    tamper(sessions, "SELECT 1")
    with sessions.kw["bind"].connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
    sessions.kw["bind"].dispose()
    with closing(sqlite3.connect(path)) as file:
        file.row_factory = sqlite3.Row
        rows = {name: [dict(row) for row in file.execute(f"SELECT * FROM {name}")] for name in KEYS}
    return path, rows


KEYS = {"decisions": ["job_id"], "chain_entries": ["chain", "position"]}


def mutated(draw: Any, value: Any) -> Any:
    """Another value than this one, near to it: a byte, a digit, nothing instead of something."""
    if value is None:
        return draw(st.sampled_from([0, "", "x", 0.5]))
    if draw(st.integers(0, 9)) == 0:
        return None
    if isinstance(value, int | float):
        return value + draw(st.sampled_from([1, -1, 1e-9]))
    data = value if isinstance(value, bytes) else value.encode()
    if not data:
        return "x"
    place = draw(st.integers(0, len(data) - 1))
    byte = (data[place] + draw(st.integers(1, 255))) % 256
    changed = data[:place] + bytes([byte]) + data[place + 1 :]
    return changed if isinstance(value, bytes) else changed.decode(errors="surrogateescape")


def mutate(draw: Any, rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The rows with one of them changed, taken out, put in once more, or two exchanged."""
    place = draw(st.integers(0, len(rows) - 1))
    act = draw(st.sampled_from(["change", "change", "change", "remove", "insert", "swap"]))
    row, others = rows[place], rows[:place] + rows[place + 1 :]
    if act == "remove":
        return others
    if act == "insert":
        key = KEYS[name][-1]
        return [*rows, row | {key: "new" if key == "job_id" else 77}]
    if act == "swap":
        other = others.pop(draw(st.integers(0, len(others) - 1)))
        kept = [{key: one[key] for key in KEYS[name]} for one in (row, other)]
        return [*others, row | kept[1], other | kept[0]]
    column = draw(st.sampled_from(sorted(row)))
    return [*others, row | {column: mutated(draw, row[column])}]


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_single_change_of_the_record_shows(recorded_file, data):
    file, rows = recorded_file
    name = data.draw(st.sampled_from(sorted(rows)))
    changed = mutate(data.draw, rows[name], name)
    path = file.with_name("mutated.db")
    path.write_bytes(file.read_bytes())
    write(path, name, changed)
    sessions = make_sessions(f"sqlite:///{path}", KEY)
    report = checked(sessions)
    sessions.kw["bind"].dispose()
    assert report.faults or report.unchained


def write(path, name, rows):
    """The rows in place of the table's, whatever constraint they break."""
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"DROP TABLE {name}")
        file.execute(f"CREATE TABLE {name} ({', '.join(rows[0])})")
        for row in rows:
            # Text that is not UTF-8 goes in as bytes, which SQLite is told to take for text.
            marks = ", ".join(
                "CAST(? AS TEXT)" if isinstance(v, str) else "?" for v in row.values()
            )
            values = [
                v.encode(errors="surrogateescape") if isinstance(v, str) else v
                for v in row.values()
            ]
            file.execute(f"INSERT INTO {name} VALUES ({marks})", values)
