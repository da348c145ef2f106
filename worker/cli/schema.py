"""Whether the database has the schema that this release expects, and how it gets it."""

from __future__ import annotations

from dataclasses import dataclass

from worker.cli.exits import CommandError, Exit


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The database's revision, None for an empty one, and the newest that this release knows."""

    current: str | None
    newest: str
    known: bool  # False for a revision of some other release

    @property
    def up_to_date(self) -> bool:
        """Whether nothing needs to be done."""
        return self.current == self.newest


def inspect(url: str) -> Schema:
    """Ask the database for its revision. Raises InvalidDatabaseUrl, DatabaseUnavailable."""
    from migrations import upgrade

    current = upgrade.current(url)
    known = current is None or current in upgrade.revisions()
    return Schema(current=current, newest=upgrade.head(), known=known)


def upgrade(url: str) -> None:
    """Bring the database to the newest schema. Raises DatabaseUnavailable."""
    from migrations import upgrade

    upgrade.upgrade(url)


def app_role_is_there(url: str) -> bool:
    """Whether the database's server has the role that workers are to be members of."""
    from migrations import upgrade

    return upgrade.app_role_is_there(url)


def require(url: str) -> None:
    """Raise CommandError unless the schema is the one that this release expects."""
    found = inspect(url)
    check_known(found)
    if not found.up_to_date:
        empty = found.current is None
        state = "is empty" if empty else f"has the older revision {found.current}"
        raise CommandError(
            f"The database {state}; `sigctl db upgrade` brings it to revision {found.newest}.",
            Exit.SETUP,
        )


def check_known(found: Schema) -> None:
    """Raise CommandError when some newer release has upgraded the database."""
    if not found.known:
        raise CommandError(
            f"The database has revision {found.current}, which this release of sigctl does not "
            "know: a newer release has upgraded it. Install that one.",
            Exit.SETUP,
        )
