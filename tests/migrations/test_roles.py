"""The role that workers have can decide jobs and cannot touch what was decided."""

from __future__ import annotations

import secrets

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from migrations.upgrade import ROLE, app_role_is_there, current, downgrade, head, upgrade
from storage import chain, decisions, jobs, models, references, signers, verification
from storage.chain import Event
from storage.database import insert_new, make_engine, make_sessions
from storage.seal import Keys
from storage.tables import ShadowDecision
from tests.builders import (
    MODEL_ID,
    a_decision,
    a_job,
    a_model,
    an_embedded_reference,
    an_error,
    digest,
    unit_vector,
)


@pytest.fixture
def login(postgres_url):
    """The URL of the same database for a login role that is a member of the application's role."""
    name, password = f"worker_{secrets.token_hex(4)}", secrets.token_hex(8)
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE {ROLE}"))
    url = make_url(postgres_url).set(username=name, password=password)
    yield url.render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP ROLE {name}"))
    admin.dispose()


@pytest.fixture
def sessions(login):
    engine = make_engine(login)
    yield make_sessions(engine)
    engine.dispose()


@pytest.fixture
def decided(sessions):
    """A job begun, decided and finished, and a signer enrolled, as that role."""
    with sessions.begin() as session:
        an_embedded_reference(session)
        a_job(session)
        jobs.start(
            session, [{"id": "job-1", "signer_id": "ada", "document": "file:///inbox/1.png"}]
        )
        decisions.record(session, [a_decision()])
        jobs.finish(session, ["job-1"], "done")
    return sessions


def test_a_member_of_the_role_can_enrol_decide_and_verify(decided, login):
    with decided.begin() as session:
        assert jobs.get(session, "job-1").status == "done"
        report = verification.verify(session, Keys())
    assert (report.faults, report.unchained, report.decisions) == ([], [], 1)
    assert current(login) == head()


def test_a_member_of_the_role_can_erase_a_signer(decided):
    with decided.begin() as session:
        signers.mark_erased(session, "ada")
        assert references.erase(session, "ada") == (1, 1)
        chain.of(session).append(session, [Event(kind="erasure", subject="ada", detail={})])


def test_a_member_of_the_role_can_change_the_active_model_and_nothing_that_a_model_is(decided):
    with decided.begin() as session:
        a_model(session, new := digest("new"))
        models.adopt(session, MODEL_ID)
        models.still_active(session, MODEL_ID)
        (reference,) = references.of_signer(session, "ada")
        references.put_embeddings(session, new, {reference.id: unit_vector(2)})
        models.shadow(session, new, 0.1)
        insert_new(
            session,
            ShadowDecision,
            {"job_id": "job-1", "model_id": new, "verdict": "accept"},
            "job_id",
            "model_id",
        )
        models.moved(session, new, "s3://store/new.pt")
        models.activate(session, new)
        assert models.prune(session, MODEL_ID) == 1
    for statement in ("UPDATE models SET threshold = 2", "DELETE FROM models"):
        with decided() as session, pytest.raises(DBAPIError) as caught:
            session.execute(text(statement))
        assert caught.value.orig.sqlstate == "42501"


@pytest.mark.parametrize("table", ["decisions", "chain_entries"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET {} = {}",
        "DELETE FROM {}",
        "TRUNCATE {}",
        "ALTER TABLE {} DISABLE TRIGGER ALL",
        "ALTER TABLE {} DROP COLUMN {}",
        "DROP TABLE {} CASCADE",
        "DROP TRIGGER {}_append_only ON {}",
        "CREATE RULE own AS ON INSERT TO {} DO INSTEAD NOTHING",
        "SET session_replication_role = replica",
    ],
)
def test_a_member_of_the_role_cannot_touch_the_record(decided, table, statement):
    column = {"decisions": "rule", "chain_entries": "detail"}[table]
    places = [table, table] if "TRIGGER {}" in statement else [table, column, column]
    with decided() as session, pytest.raises(DBAPIError) as caught:
        session.execute(text(statement.format(*places)))
    assert caught.value.orig.sqlstate == "42501"  # insufficient privilege
    with decided.begin() as session:
        assert verification.verify(session, Keys()).faults == []


@pytest.mark.parametrize("statement", ["UPDATE decisions SET rule = rule", "TRUNCATE decisions"])
def test_the_owner_is_refused_as_well(decided, postgres_url, statement):
    engine = make_engine(postgres_url)
    with engine.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
        connection.execute(text(statement))
    engine.dispose()


def test_a_downgrade_takes_triggers_and_rights_away_again(postgres_url, login, databases):
    downgrade(postgres_url, "0004")
    engine = make_engine(login)
    with engine.connect() as connection, pytest.raises(DBAPIError, match="permission denied"):
        connection.execute(text("SELECT * FROM decisions"))
    engine.dispose()
    owner = make_engine(postgres_url)
    with owner.begin() as connection:
        connection.execute(text("DELETE FROM decisions"))
        left = text("SELECT count(*) FROM pg_proc WHERE proname LIKE 'sigctl%'")
        assert connection.scalar(left) == 0
    owner.dispose()
    upgrade(postgres_url)


def test_an_owner_who_may_make_no_roles_gets_the_schema_all_the_same(own_postgres):
    admin = create_engine(own_postgres.url(), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE ROLE plain LOGIN PASSWORD 'plain'"))
        connection.execute(text("CREATE DATABASE own OWNER plain"))
    admin.dispose()
    url = make_url(own_postgres.url("own")).set(username="plain", password="plain")
    plain = url.render_as_string(hide_password=False)
    upgrade(plain)
    assert current(plain) == head()
    assert not app_role_is_there(plain)
    sessions = make_sessions(plain)
    with sessions.begin() as session:
        a_job(session)
        decisions.record(session, [an_error()])
    with sessions() as session, pytest.raises(DBAPIError, match="append-only"):
        session.execute(text("DELETE FROM decisions"))
    sessions.kw["bind"].dispose()
    downgrade(plain, "0004")
