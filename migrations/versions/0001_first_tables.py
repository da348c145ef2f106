"""The first tables: signers, their references and embeddings, models, jobs and decisions."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def moment(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "signers",
        sa.Column("id", sa.String(128), nullable=False),
        moment("enrolled_at"),
        moment("retired_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signers")),
    )
    op.create_table(
        "signer_references",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("signer_id", sa.String(128), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        moment("enrolled_at"),
        moment("retired_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signer_references")),
        sa.ForeignKeyConstraint(
            ["signer_id"], ["signers.id"], name=op.f("fk_signer_references_signer_id_signers")
        ),
        sa.UniqueConstraint(
            "signer_id", "sha256", name=op.f("uq_signer_references_signer_id_sha256")
        ),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_signer_references_sha256_length")),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("backbone", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("preprocessing", sa.Text(), nullable=False),
        sa.Column("scoring", sa.JSON(), nullable=False),
        moment("registered_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.CheckConstraint("length(id) = 64", name=op.f("ck_models_id_length")),
    )
    op.create_table(
        "embeddings",
        sa.Column("reference_id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("reference_id", "model_id", name=op.f("pk_embeddings")),
        sa.ForeignKeyConstraint(
            ["reference_id"],
            ["signer_references.id"],
            name=op.f("fk_embeddings_reference_id_signer_references"),
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_embeddings_model_id_models")
        ),
        sa.CheckConstraint("dimensions > 0", name=op.f("ck_embeddings_dimensions_positive")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("signer_id", sa.String(128), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=True),
        sa.Column("region", sa.JSON(), nullable=True),
        sa.Column("upstream", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        moment("created_at"),
        moment("updated_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'done', 'failed')", name=op.f("ck_jobs_status")
        ),
        sa.CheckConstraint("deliveries >= 0", name=op.f("ck_jobs_deliveries_not_negative")),
    )
    op.create_index(op.f("ix_jobs_status_updated_at"), "jobs", ["status", "updated_at"])
    op.create_table(
        "decisions",
        sa.Column("job_id", sa.String(128), nullable=False),
        sa.Column("signer_id", sa.String(128), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("document_sha256", sa.String(64), nullable=True),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("distance", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column("distances", sa.JSON(), nullable=False),
        sa.Column("nearest_reference", sa.Integer(), nullable=True),
        sa.Column("model_id", sa.String(64), nullable=True),
        sa.Column("preprocessing", sa.Text(), nullable=True),
        sa.Column("rule", sa.Text(), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("fetch_ms", sa.Double(), nullable=True),
        sa.Column("preprocess_ms", sa.Double(), nullable=True),
        sa.Column("embed_ms", sa.Double(), nullable=True),
        sa.Column("total_ms", sa.Double(), nullable=True),
        sa.Column("upstream", sa.JSON(), nullable=False),
        moment("decided_at"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_decisions")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_decisions_job_id_jobs")),
        sa.CheckConstraint(
            "verdict IN ('accept', 'reject', 'review', 'error')", name=op.f("ck_decisions_verdict")
        ),
        sa.CheckConstraint(
            "(verdict = 'error') = (error_code IS NOT NULL)",
            name=op.f("ck_decisions_error_has_code"),
        ),
        sa.CheckConstraint(
            "verdict = 'error' OR (score IS NOT NULL AND threshold IS NOT NULL"
            " AND model_id IS NOT NULL)",
            name=op.f("ck_decisions_verdict_has_grounds"),
        ),
        sa.CheckConstraint(
            "verdict <> 'accept' OR score < threshold",
            name=op.f("ck_decisions_accept_below_threshold"),
        ),
    )
    for columns in (
        ["signer_id", "decided_at"],
        ["verdict", "decided_at"],
        ["model_id", "decided_at"],
        ["decided_at"],
    ):
        op.create_index(op.f(f"ix_decisions_{'_'.join(columns)}"), "decisions", columns)


def downgrade() -> None:
    for table in ("decisions", "jobs", "embeddings", "models", "signer_references", "signers"):
        op.drop_table(table)
