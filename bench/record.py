"""A made-up record in bulk: signers with references, and years of jobs and decisions.

The database makes the rows itself, and the indexes after them.
"""

from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert, text

from bench.rows import MODELS, POOL, Rows, Size
from migrations.upgrade import upgrade
from model.distance import CELLS, VECTOR
from storage import vectors
from storage.database import make_engine
from storage.tables import Base, Model

Report = Callable[[str, float], None]
"""Hears what is being filled and how much of it is done, in 0 to 1."""


def fill(url: str, size: Size, report: Report) -> None:
    """Migrates an empty database and fills it."""
    upgrade(url)
    engine = make_engine(url)
    postgres = engine.name == "postgresql"
    indexes = [index for table in Base.metadata.sorted_tables for index in table.indexes]
    with engine.begin() as connection:
        for index in indexes:
            index.drop(connection)
        (_prepare_postgres if postgres else _prepare_sqlite)(connection)
        _insert(connection, Rows(size=size, postgres=postgres), report)
        if postgres:
            _restore_keys(connection)
        for number, index in enumerate(indexes):
            report("indexes", number / len(indexes))
            index.create(connection)
    if postgres:
        # What autovacuum does on a server that has the time.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()
    report("indexes", 1.0)


def disk(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _prepare_postgres(connection: Connection) -> None:
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    # The foreign keys hold by construction; checked row by row they double the time. Nor do the
    # triggers act that keep the record from being truncated.
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    # Rows of a table that was truncated in the same transaction need no write-ahead log.
    connection.execute(text(f"TRUNCATE {names}"))
    for table in ("jobs", "decisions"):
        connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT pk_{table} CASCADE"))


def _restore_keys(connection: Connection) -> None:
    for table, column in (("jobs", "id"), ("decisions", "job_id")):
        key = f"ADD CONSTRAINT pk_{table} PRIMARY KEY ({column})"
        connection.execute(text(f"ALTER TABLE {table} {key}"))
    key = "fk_decisions_job_id_jobs FOREIGN KEY (job_id) REFERENCES jobs (id) NOT VALID"
    connection.execute(text(f"ALTER TABLE decisions ADD CONSTRAINT {key}"))


def _prepare_sqlite(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    driver.create_function("md5", 1, lambda words: md5(words.encode()).hexdigest())
    driver.execute("PRAGMA cache_size = -500000")  # 500 MB


def _insert(connection: Connection, rows: Rows, report: Report) -> None:
    connection.execute(insert(Model), list(_models(rows.size)))
    kind = "BYTEA" if rows.postgres else "BLOB"
    connection.execute(text(f"CREATE TEMPORARY TABLE pool (k INTEGER PRIMARY KEY, vector {kind})"))
    connection.execute(text("INSERT INTO pool VALUES (:k, :vector)"), list(_vectors()))
    for name, done, statement in rows.parts():
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        report(name, done)


def _models(size: Size) -> Iterator[dict[str, Any]]:
    for digest in MODELS:
        yield {
            "id": digest,
            "uri": "file:///models/model.pt",
            "backbone": "mambaout_tiny",
            "size": 224,
            "threshold": 0.5,
            "preprocessing": "strokes/2 64x128",
            "scoring": {"rule": "nearest"},
            "registered_at": size.begin,
        }


def _vectors() -> Iterator[dict[str, Any]]:
    """As of a model with cells, of which half are blank."""
    rng = np.random.default_rng(0)
    blank = np.arange(CELLS) % 256 >= 128
    for k in range(POOL):
        vector = rng.normal(size=VECTOR)
        cells = rng.integers(-127, 128, CELLS)
        cells[blank] = 0
        whole = np.concatenate([vector / np.linalg.norm(vector), cells * vectors.STEP])
        yield {"k": k, "vector": vectors.pack(whole)}
