"""Opens what a command works with: settings, the database with its schema, the worker's parts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from worker.cli import schema, show

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.runtime import Runtime
    from worker.settings import Settings


def settings(*, logs: str | None = "error") -> Settings:
    """The settings of the environment; `logs` is the log level on stderr, None the configured one.

    A command answers on stdout and says what is wrong itself, so by default logs are left out.
    Raises SettingsError.
    """
    from worker.logs import configure
    from worker.settings import load_settings

    found = load_settings()
    configure(found if logs is None else found.model_copy(update={"log_level": logs}))
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of its plugins at every look
    return found


def runtime(found: Settings | None = None) -> Runtime:
    """The worker's parts on a database that is ready.

    The default database, a file in the current folder, is made and upgraded here; any other is an
    operator's to upgrade. Raises SettingsError, StorageError, CommandError.
    """
    from worker.runtime import get_runtime

    found = found or settings()
    if is_default(found):
        _prepare(found.database_url)
    else:
        schema.require(found.database_url)
    return get_runtime(found)


@contextmanager
def transaction() -> Iterator[Session]:
    """One transaction on the configured database; errors of the database are translated."""
    from worker import transactions

    with transactions.transaction(runtime().sessions) as session:
        yield session


def _prepare(url: str) -> None:
    state = schema.inspect(url)
    schema.check_known(state)
    if not state.up_to_date:
        schema.upgrade(url)
        done = "Made" if state.current is None else "Upgraded"
        show.note(f"{done} the database {file_of(url)} (SIGCTL_DATABASE_URL names another).")


def is_default(found: Settings) -> bool:
    """Whether no database is configured, so that the embedded one is used."""
    default = type(found).model_fields["database_url"].default
    return bool(found.database_url == default)


def file_of(url: str) -> Path:
    """The file of an SQLite URL."""
    return Path(url.removeprefix("sqlite:///")).absolute()


def close() -> None:
    """Let connections go, if any were opened."""
    if "worker.runtime" in sys.modules:
        from worker.runtime import close_runtimes

        close_runtimes()
