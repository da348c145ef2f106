"""One way to a database: engines and sessions for SQLite and PostgreSQL that behave alike.

Nobody in `storage` commits. The edge writes `with database_errors(), sessions.begin() as session:`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from sqlalchemy import URL, Engine, Row, Table, create_engine, event, exc, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, sessionmaker

from storage import chain
from storage.errors import DatabaseNotMigrated, DatabaseUnavailable, InvalidDatabaseUrl
from storage.seal import PUBLIC, Key
from storage.tables import Base, to_json

Sessions = sessionmaker[Session]

BUSY_SECONDS = 30
CONNECT_SECONDS = 10
# A server that has gone without a word (power, a cut line) is noticed after so many seconds, where
# the kernel would wait for a quarter of an hour.
SILENCE_SECONDS = 30


def make_engine(url: str | URL) -> Engine:
    """An engine for `sqlite:///file.db` or `postgresql+psycopg://user:password@host/database`.

    Opens no connection yet. Raises InvalidDatabaseUrl.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(
            parsed, json_serializer=to_json, connect_args={"timeout": BUSY_SECONDS}
        )
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    return create_engine(
        parsed,
        json_serializer=to_json,
        pool_pre_ping=True,  # a database that was restarted costs a reconnect, not a job
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "sigctl",
            "keepalives_idle": SILENCE_SECONDS // 3,
            "keepalives_interval": SILENCE_SECONDS // 3,
            "keepalives_count": 2,
            "tcp_user_timeout": SILENCE_SECONDS * 1000,
        },
    )


def make_sessions(database: str | URL | Engine, key: Key = PUBLIC) -> Sessions:
    """A factory of sessions whose objects stay readable after the transaction has ended.

    What they record is sealed with the key.
    """
    engine = database if isinstance(database, Engine) else make_engine(database)
    return sessionmaker(engine, expire_on_commit=False, info={chain.INFO: chain.Chain(key)})


@contextmanager
def database_errors() -> Iterator[None]:
    """Translates what a driver raises when the database is away, busy or not migrated.

    Raises DatabaseUnavailable or DatabaseNotMigrated. Anything else a driver raises is a bug of
    ours and passes as it is.
    """
    try:
        yield
    except exc.TimeoutError as error:
        raise DatabaseUnavailable("no database connection came free in time") from error
    except exc.DBAPIError as error:
        cause = error.orig or error
        if _lacks_schema(cause):
            raise DatabaseNotMigrated(
                f"the database is not up to date ({_first_line(cause)}); run `sigctl db upgrade`"
            ) from error
        if _is_outage(error):
            raise DatabaseUnavailable(
                f"the database cannot be used now: {_first_line(cause)}"
            ) from error
        raise


def insert_new(session: Session, table: type[Base], values: dict[str, Any], *key: str) -> bool:
    """Inserts a row unless one with the same key columns stands; says whether it did.

    Under concurrency the loser waits for the winner's transaction and then sees its row.
    """
    return bool(insert_missing(session, table, [values], *key))


def insert_missing(
    session: Session,
    table: type[Base],
    rows: Sequence[Mapping[str, Any]],
    *key: str,
    returning: Sequence[str] = (),
) -> Sequence[Row[Any]]:
    """Inserts those of the rows whose key columns do not stand, and returns these.

    Of each the columns named in `returning`, or its key. As `insert_new` under concurrency.
    """
    # Rows as parameters, so that the statement is compiled once for any number of them, and by the
    # bare table: the mapped class costs a tenth of a signer's enrolment apart from the embedding.
    # What was inserted is not told by rowcount, which is unknown (-1) on PostgreSQL.
    bare = cast(Table, table.__table__)
    columns = [bare.columns[name] for name in returning or key]
    insert = upsert(session, bare).on_conflict_do_nothing(index_elements=key)
    return session.execute(insert.returning(*columns), list(rows)).all()


def upsert(session: Session, table: type[Base] | Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say what to do about rows that stand, in the database's own dialect."""
    postgres = session.get_bind().dialect.name == "postgresql"
    return postgresql.insert(table) if postgres else sqlite.insert(table)


def _parse(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (exc.ArgumentError, ValueError) as error:
        # The text itself may hold a password, so it is not repeated.
        raise InvalidDatabaseUrl(
            "the database URL cannot be read; it looks like sqlite:///sigctl.db"
            " or postgresql+psycopg://user:password@host/database"
        ) from error
    if backend in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise InvalidDatabaseUrl(f"sigctl runs on SQLite and PostgreSQL, not on {backend!r}")
    _check_folder(parsed)
    return parsed.set(drivername="sqlite")


def _check_folder(url: URL) -> None:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        return
    folder = Path(url.database).parent
    if not folder.is_dir():
        raise InvalidDatabaseUrl(f"the folder of the database, {folder}, does not exist")


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    # The switch to WAL does not wait for a lock; whoever holds it is making the same switch.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")


def _lacks_schema(cause: BaseException) -> bool:
    if getattr(cause, "sqlstate", None) in ("42P01", "42703"):  # undefined table, column
        return True
    return isinstance(cause, sqlite3.OperationalError) and any(
        phrase in str(cause) for phrase in ("no such table", "no such column", "has no column")
    )


def _is_outage(error: exc.DBAPIError) -> bool:
    if error.connection_invalidated or isinstance(
        error, (exc.OperationalError, exc.InterfaceError)
    ):
        return True
    # "file is not a database" and "disk image is malformed" come as the bare base class.
    return type(error) is exc.DatabaseError


def _first_line(cause: BaseException) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(".")
