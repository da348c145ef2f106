"""Which way the databases go: along an index, whatever is asked."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text

from bench.plans import plan
from bench.questions import questions
from bench.record import fill
from bench.rows import MODELS, Size
from storage import decisions, references
from storage.database import make_engine, make_sessions
from storage.decisions import DecisionFilter
from storage.tables import VERDICTS

SIZE = Size(signers=300, decisions=6_000, seconds=600.0)  # forty days

SIGNER, TIME = "ix_decisions_signer_id_decided_at_verdict", "ix_decisions_decided_at_distance"
VERDICT, MODEL = "ix_decisions_verdict_decided_at", "ix_decisions_model_id_decided_at"
CODE = "ix_decisions_error_code_decided_at"
INDEX = {
    "page: newest": TIME,
    "page: a signer": SIGNER,
    "page: a verdict": VERDICT,
    "page: a model": MODEL,
    "page: a model by 12 characters": MODEL,
    "page: a day": TIME,
    "page: a day and a verdict": VERDICT,
    "page: an error code": CODE,
    "page: an error code long gone": CODE,
    "page: a signer and a verdict": SIGNER,
    "page: the busiest signer's errors": SIGNER,
    "page: a model and a verdict": MODEL,
    "page: distances in a range of 0.01": TIME,
    "page: a signer's larger distances": SIGNER,
    "page: distances that nothing has": TIME,
    "sums: a signer": SIGNER,
    "sums: a day": TIME,
}


@pytest.fixture
def filled(empty_database_url):
    """A record of six thousand decisions; PostgreSQL has counted it, SQLite never does."""
    fill(empty_database_url, SIZE, lambda *_: None)
    engine = make_engine(empty_database_url)
    yield make_sessions(engine)
    engine.dispose()


def test_every_question_follows_its_index(filled):
    asked = {question.name: question for question in questions()}
    with filled.begin() as session:
        for name, index in INDEX.items():
            for seed in range(5):
                found = plan(session, asked[name].draw(SIZE, np.random.default_rng(seed)))
                assert index in found, (name, found)
                assert "Seq Scan" not in found, (name, found)
                # Of a record this small PostgreSQL may read two indexes whole and keep what is in
                # both. Following another one instead is what must not be.
                others = {SIGNER, TIME, VERDICT, MODEL, CODE} - {index}
                if "BitmapAnd" not in found:
                    assert not [other for other in others if other in found], (name, found)
    rest = {"references of a signer", "decision of a job", "sums: everything"}
    assert asked.keys() == INDEX.keys() | rest


def test_references_and_decisions_are_found_by_their_keys(filled):
    with filled.begin() as session:
        found = plan(session, lambda s: references.embeddings(s, "signer-0000007", MODELS[-1]))
        for key in (
            ("uq_signer_references_signer_id_sha256", "pk_embeddings"),
            ("sqlite_autoindex_signer_references_1", "sqlite_autoindex_embeddings_1"),
        )[session.get_bind().dialect.name == "sqlite"]:
            assert key in found
        found = plan(session, lambda s: decisions.get(s, SIZE.job(7)))
        assert "pk_decisions" in found or "sqlite_autoindex_decisions_1 (job_id=?)" in found


def test_the_pages_are_those_of_a_plain_question(filled):
    """Against the words that anybody would write, with any index that the database likes."""
    fields = [
        {"signer_id": SIZE.signer(0.0)},
        {"verdict": "review"},
        {"model_id": MODELS[0]},
        {"error_code": "store_refused"},
        {"model_id": MODELS[0], "verdict": "reject"},
        {"signer_id": SIZE.signer(0.0), "verdict": "error"},
    ]
    with filled.begin() as session:
        for wanted in fields:
            condition = " AND ".join(f"{name} = :{name}" for name in wanted)
            for first, way in ((True, "DESC"), (False, "ASC")):
                plain = text(
                    f"SELECT job_id FROM decisions WHERE {condition}"
                    f" ORDER BY decided_at {way}, job_id {way} LIMIT 50"
                )
                found = decisions.search(
                    session, DecisionFilter(limit=50, newest_first=first, **wanted)
                )
                expected = list(session.scalars(plain, wanted))
                assert [decision.job_id for decision in found] == expected


def test_a_verdict_of_a_signer_is_summed_up_along_the_signer(filled):
    with filled.begin() as session:
        for verdict in VERDICTS:
            wanted = DecisionFilter(signer_id=SIZE.signer(0.5), verdict=verdict)
            assert SIGNER in plan(session, lambda s, wanted=wanted: decisions.stats(s, wanted))
