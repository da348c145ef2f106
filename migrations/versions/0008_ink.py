"""Decisions keep what the ink of their document measured.

Nothing that stands is read or written, on either database: the column is added at the end and null
in every row, so the triggers of SQLite stay and no seal changes. The application's role may insert
into the whole table and needs no further right.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if not _is_there():
        op.add_column("decisions", sa.Column("ink", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Takes the column away where nothing stands in it.

    Where something does, it stays for the next upgrade: seals rest on it, and a record is not
    deleted from. The release before does not mind a column that may be null.
    """
    measured = sa.text("SELECT 1 FROM decisions WHERE ink IS NOT NULL LIMIT 1")
    if op.get_bind().scalar(measured) is None:
        op.drop_column("decisions", "ink")


def _is_there() -> bool:
    return any(each["name"] == "ink" for each in sa.inspect(op.get_bind()).get_columns("decisions"))
