"""What alembic runs: each upgrade in one transaction, and one upgrade at a time."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, text

from storage.database import make_engine
from storage.tables import Base, UtcTime, Words

# Any number, the same in every process: the key of PostgreSQL's advisory lock.
LOCK = 7_364_001
LOCK_SECONDS = 2


def lock(connection: Connection) -> None:
    """Makes a second upgrade of the same database wait, and SQLite's schema changes atomic."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        # Who waits for a table holds up everybody who comes after; rather give up and be repeated.
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def plain_types(kind: str, item: object, _autogen: Any) -> str | Literal[False]:
    """Writes our column types as SQLAlchemy's own: a migration must not follow later code."""
    if kind == "type" and isinstance(item, UtcTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, Words):
        return "sa.Text()"
    return False


def run(connection: Connection) -> None:
    """Runs the migrations that alembic was asked for on this connection."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        # SQLite too, or alembic commits after each migration and the lock is gone before the last.
        transactional_ddl=True,
        render_item=plain_types,
        compare_type=True,
    )
    with context.begin_transaction():
        lock(connection)
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    engine = make_engine(context.get_x_argument(as_dictionary=True)["url"])
    with engine.connect() as own:
        run(own)
    engine.dispose()
