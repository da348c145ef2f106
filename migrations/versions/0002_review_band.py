"""Decisions keep where rejection began, at which operating point, and the parts of the score."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

REVIEW = "ck_decisions_review_between_thresholds"


def upgrade() -> None:
    with op.batch_alter_table("decisions") as decisions:
        decisions.add_column(sa.Column("reject_threshold", sa.Double(), nullable=True))
        decisions.add_column(sa.Column("operating_point", sa.String(16), nullable=True))
        decisions.add_column(sa.Column("terms", sa.JSON(), nullable=True))
        decisions.create_check_constraint(
            op.f(REVIEW),
            "verdict <> 'review' OR (score >= threshold"
            " AND (reject_threshold IS NULL OR score < reject_threshold))",
        )


def downgrade() -> None:
    with op.batch_alter_table("decisions") as decisions:
        decisions.drop_constraint(op.f(REVIEW), type_="check")
        for name in ("terms", "operating_point", "reject_threshold"):
            decisions.drop_column(name)
