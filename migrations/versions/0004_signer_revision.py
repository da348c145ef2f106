"""Signers count the changes of their references, so that what was read of them can be kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A constant default: PostgreSQL notes it and rewrites no row.
    op.add_column(
        "signers", sa.Column("revision", sa.Integer(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    with op.batch_alter_table("signers") as signers:
        signers.drop_column("revision")
