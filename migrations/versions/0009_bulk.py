"""Jobs keep whether they let others go first, for when they are sent again.

What stands was asked before anybody kept it, and is sent again as it was: as something that
somebody waits for. On PostgreSQL a column with a constant default is added without a rewrite.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "jobs", sa.Column("bulk", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    op.drop_column("jobs", "bulk")
