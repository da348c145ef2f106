"""What each model is used for, what a model in the shadow would have said, and training runs.

Writes nothing that stands but the few rows of `models`, which all begin as candidates: the first
enrolment or worker after the upgrade makes the model of its settings the active one. Reads
`chain_entries` once, for the index by which activations are found.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ROLE = "sigctl_app"
STATES = ("candidate", "incoming", "shadow", "active", "retired")
RUN_STATES = ("queued", "running", "done", "failed", "cancelled")
ADDED: dict[str, sa.types.TypeEngine[Any]] = {
    "registered_by": sa.Text(),
    "metrics": sa.JSON(),
    "recipe": sa.JSON(),
    "parent_id": sa.String(64),
    "state_since": sa.DateTime(timezone=True),
    "state_by": sa.Text(),
    "activated_at": sa.DateTime(timezone=True),
    "replaced_id": sa.String(64),
    "shadow_share": sa.Double(),
}
STATE = ("state", "state_since", "state_by", "activated_at", "replaced_id", "shadow_share")
CHANGED = ("uri", *STATE)
GRANTS = {
    f"UPDATE ({', '.join(CHANGED)})": "models",
    "SELECT, INSERT, DELETE": "shadow_decisions",
    "SELECT, INSERT, UPDATE": "training_runs",
}


def upgrade() -> None:
    for name, kind in ADDED.items():
        op.add_column("models", sa.Column(name, kind, nullable=True))
    # In words, since this is the one form in which SQLite adds a column with a check to a table.
    op.execute(
        "ALTER TABLE models ADD COLUMN state VARCHAR(16) NOT NULL DEFAULT 'candidate'"
        f" CONSTRAINT ck_models_state CHECK (state IN {STATES})"
    )
    standing_by = sa.text("state IN ('incoming', 'shadow', 'active')")
    op.create_index(
        op.f("ix_models_state"),
        "models",
        ["state"],
        unique=True,
        postgresql_where=standing_by,
        sqlite_where=standing_by,
    )
    activations = sa.text("kind = 'activation'")
    op.create_index(
        op.f("ix_chain_entries_recorded_at"),
        "chain_entries",
        ["recorded_at"],
        postgresql_where=activations,
        sqlite_where=activations,
    )
    op.create_table(
        "shadow_decisions",
        sa.Column("job_id", sa.String(128), nullable=False),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("distance", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column("reject_threshold", sa.Double(), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "model_id", name=op.f("pk_shadow_decisions")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_shadow_decisions_model_id_models")
        ),
    )
    op.create_index(op.f("ix_shadow_decisions_model_id"), "shadow_decisions", ["model_id"])
    op.create_table(
        "training_runs",
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("candidate_id", sa.String(64), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_runs")),
        sa.CheckConstraint(f"state IN {RUN_STATES}", name=op.f("ck_training_runs_state")),
    )
    op.create_index(op.f("ix_training_runs_created_at"), "training_runs", ["created_at"])
    if _has_role():
        for rights, table in GRANTS.items():
            op.execute(f"GRANT {rights} ON {table} TO {ROLE}")


def downgrade() -> None:
    """Forgets which model is active: workers then decide with the one of their settings."""
    if _has_role():
        op.execute(f"REVOKE UPDATE ({', '.join(CHANGED)}) ON models FROM {ROLE}")
    op.drop_index(op.f("ix_chain_entries_recorded_at"), "chain_entries")
    op.drop_table("training_runs")
    op.drop_table("shadow_decisions")
    op.drop_index(op.f("ix_models_state"), "models")
    for name in ("state", *ADDED):  # SQLite drops a column's own check with it
        op.drop_column("models", name)


def _has_role() -> bool:
    if op.get_bind().dialect.name != "postgresql":
        return False
    known = sa.text("SELECT count(*) FROM pg_roles WHERE rolname = :name")
    return bool(op.get_bind().scalar(known, {"name": ROLE}))
