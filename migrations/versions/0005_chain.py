"""The chain of the record, and a record that the database itself refuses to change or delete.

Takes no longer with 10^7 decisions than with none: nothing that stands is read or written. What
was decided before has no entry until `sigctl audit adopt`.

A later migration that rebuilds `decisions` on SQLite (batch mode) must make its triggers again,
and one that makes a table must grant the application's role what it needs there.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

APPEND_ONLY = ("decisions", "chain_entries")
ROLE = "sigctl_app"
GRANTS = {
    "decisions": "SELECT, INSERT",
    "chain_entries": "SELECT, INSERT",
    "models": "SELECT, INSERT",
    "jobs": "SELECT, INSERT, UPDATE",
    "signers": "SELECT, INSERT, UPDATE",
    "signer_references": "SELECT, INSERT, UPDATE, DELETE",
    "embeddings": "SELECT, INSERT, DELETE",
    "alembic_version": "SELECT",
}
SEQUENCE = "signer_references_id_seq"

REFUSE = """
CREATE FUNCTION sigctl_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the record is append-only: % of % is refused', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege';
END $$"""

# One round trip instead of two. In a function each statement sees what was committed before it, so
# the head is read as of after the lock, which lasts until the transaction ends.
HEAD = """
CREATE FUNCTION sigctl_chain_head(
  preferred integer, chains integer, OUT free integer, OUT head bigint, OUT seal bytea
) LANGUAGE plpgsql AS $$
BEGIN
  FOR step IN 0 .. chains - 1 LOOP
    free := (preferred + step) % chains;
    EXIT WHEN pg_try_advisory_xact_lock(7364002, free);
    free := NULL;
  END LOOP;
  IF free IS NULL THEN
    free := preferred;
    PERFORM pg_advisory_xact_lock(7364002, free);
  END IF;
  SELECT position, mac INTO head, seal FROM chain_entries
    WHERE chain = free ORDER BY position DESC LIMIT 1;
END $$"""

MAKE_ROLE = f"""
DO $$ BEGIN
  CREATE ROLE {ROLE} NOLOGIN;
EXCEPTION
  WHEN duplicate_object OR unique_violation THEN NULL;
  WHEN insufficient_privilege THEN
    RAISE NOTICE 'The role {ROLE} is not made, for this login may not create roles.';
END $$"""


def upgrade() -> None:
    op.create_table(
        "chain_entries",
        sa.Column("chain", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(128), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("chain", "position", name=op.f("pk_chain_entries")),
        sa.CheckConstraint("length(mac) = 32", name=op.f("ck_chain_entries_mac_length")),
    )
    attesting = sa.text("kind IN ('decision', 'adopted')")
    op.create_index(
        op.f("ix_chain_entries_subject"),
        "chain_entries",
        ["subject"],
        unique=True,
        postgresql_where=attesting,
        sqlite_where=attesting,
    )
    op.add_column("signers", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    (_guard_postgres if _postgres() else _guard_sqlite)()


def downgrade() -> None:
    """Drops the chain, and with it what shows whether the record has been changed."""
    if _postgres():
        _unguard_postgres()
    else:
        for table in APPEND_ONLY:
            for act in ("update", "delete", "replace"):
                op.execute(f"DROP TRIGGER {table}_no_{act}")
    op.drop_table("chain_entries")
    with op.batch_alter_table("signers") as signers:
        signers.drop_column("erased_at")


def _postgres() -> bool:
    return bool(op.get_bind().dialect.name == "postgresql")


def _guard_postgres() -> None:
    for statement in (REFUSE, HEAD, MAKE_ROLE):
        op.execute(statement)
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION sigctl_refuse()"
        )
    if _has_role():
        for table, rights in GRANTS.items():
            op.execute(f"GRANT {rights} ON {table} TO {ROLE}")
        op.execute(f"GRANT USAGE ON SEQUENCE {SEQUENCE} TO {ROLE}")


def _unguard_postgres() -> None:
    for table in APPEND_ONLY:
        op.execute(f"DROP TRIGGER {table}_append_only ON {table}")
    op.execute("DROP FUNCTION sigctl_refuse()")
    op.execute("DROP FUNCTION sigctl_chain_head(integer, integer)")
    if _has_role():  # which stays: it belongs to the server, not to this database
        op.execute(f"REVOKE ALL ON {', '.join(GRANTS)} FROM {ROLE}")
        op.execute(f"REVOKE ALL ON SEQUENCE {SEQUENCE} FROM {ROLE}")


def _has_role() -> bool:
    known = sa.text("SELECT count(*) FROM pg_roles WHERE rolname = :name")
    return bool(op.get_bind().scalar(known, {"name": ROLE}))


def _guard_sqlite() -> None:
    keys = {
        "decisions": "job_id = NEW.job_id",
        "chain_entries": "chain = NEW.chain AND position = NEW.position",
    }
    for table, same in keys.items():
        for act in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{act} BEFORE {act} ON {table} BEGIN"
                f" SELECT RAISE(ABORT, 'the record is append-only: {act} of {table} is refused');"
                " END"
            )
        # INSERT OR REPLACE deletes without asking the trigger above; the first row stands.
        stands = f"EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608 - words of ours
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {stands}"
            " BEGIN SELECT RAISE(IGNORE); END"
        )
