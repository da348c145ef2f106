"""The labels of a job are found along an index of their own, however long the record is.

Making it reads `chain_entries` once; nothing that stands is written. Labels themselves need no
change of the tables: their kind is a word like the others.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NAME = "ix_chain_entries_subject_recorded_at"


def upgrade() -> None:
    labels = sa.text("kind = 'label'")
    op.create_index(
        op.f(NAME),
        "chain_entries",
        ["subject", "recorded_at"],
        postgresql_where=labels,
        sqlite_where=labels,
    )


def downgrade() -> None:
    op.drop_index(op.f(NAME), "chain_entries")
