"""Brings a database to the schema of this code, from Python and without an ini file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from storage.database import database_errors, make_engine

T = TypeVar("T")

ROLE = "sigctl_app"
"""The role of PostgreSQL that workers are to be members of; migration 0005 says what it may do."""

# Alembic keeps what it is working on in a global of the process. Other processes wait in env.py.
ONE_AT_A_TIME = threading.Lock()


def upgrade(url: str, revision: str = "head") -> None:
    """Runs the migrations up to a revision; harmless when there is nothing to do.

    Raises InvalidDatabaseUrl, DatabaseUnavailable.
    """
    _with_connection(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Undoes the migrations down to a revision, `base` for all of them, data included."""
    _with_connection(url, lambda config: command.downgrade(config, revision))


def current(url: str) -> str | None:
    """The revision that the database is at, None when it has no tables of ours."""
    return _on(
        url, lambda connection: MigrationContext.configure(connection).get_current_revision()
    )


def app_role_is_there(url: str) -> bool:
    """Whether the server has `ROLE`; SQLite has no roles and lacks none."""

    def look(connection: Connection) -> bool:
        if connection.dialect.name != "postgresql":
            return True
        known = text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :name)")
        return bool(connection.scalar(known, {"name": ROLE}))

    return _on(url, look)


def head() -> str:
    """The newest revision that this code knows."""
    return revisions()[0]


@cache
def revisions() -> tuple[str, ...]:
    """All revisions that this code knows, the newest first; read once, for that takes 8 ms."""
    scripts = ScriptDirectory.from_config(_config())
    return tuple(script.revision for script in scripts.walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _with_connection(url: str, work: Callable[[Config], None]) -> None:
    def run(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        with ONE_AT_A_TIME:
            work(config)

    _on(url, run)


def _on(url: str, work: Callable[[Connection], T]) -> T:
    engine = make_engine(url)
    try:
        with database_errors(), engine.connect() as connection:
            return work(connection)
    finally:
        engine.dispose()
