"""Indexes that lead to a page of the record however long it is, and vectors inside their rows.

While PostgreSQL makes an index, decisions can be read but not written: the three took half a minute
of two busy cores at 10^7 decisions. Where workers cannot wait that long, make them beforehand with
CREATE INDEX CONCURRENTLY, under the names below; this migration then finds them and goes on. (One
that failed stays behind as invalid, and must be dropped and made again first.)
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def create(*columns: str, where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        name(columns),
        "decisions",
        list(columns),
        if_not_exists=True,
        postgresql_where=condition,
        sqlite_where=condition,
    )


def drop(*columns: str) -> None:
    op.drop_index(name(columns), "decisions")


def name(columns: tuple[str, ...]) -> str:
    return op.f(f"ix_decisions_{'_'.join(columns)}")


def upgrade() -> None:
    create("signer_id", "decided_at", "verdict")
    create("decided_at", "distance")
    create("error_code", "decided_at", where="error_code IS NOT NULL")
    if op.get_bind().dialect.name == "postgresql":
        # For rows to come; those that stand are read as before.
        op.execute("ALTER TABLE embeddings SET (toast_tuple_target = 8160)")
    # Last, because from here to the end of the transaction decisions cannot be read either.
    drop("signer_id", "decided_at")
    drop("decided_at")


def downgrade() -> None:
    create("signer_id", "decided_at")
    create("decided_at")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE embeddings RESET (toast_tuple_target)")
    drop("error_code", "decided_at")
    drop("decided_at", "distance")
    drop("signer_id", "decided_at", "verdict")
