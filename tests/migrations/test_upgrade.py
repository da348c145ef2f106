from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from migrations.upgrade import current, downgrade, head, upgrade
from storage import decisions, verification
from storage.database import database_errors, make_engine, make_sessions
from storage.decisions import DecisionFilter
from storage.errors import DatabaseUnavailable, InvalidDatabaseUrl
from storage.seal import Keys
from storage.tables import Base
from tests.builders import a_decision, a_job, a_review, an_embedded_reference
from tests.services import free_port

OURS = {table.name for table in Base.metadata.tables.values()}


def tables(url: str) -> set[str]:
    return set(on(url, lambda connection: inspect(connection).get_table_names()))


def on(url, work):
    engine = make_engine(url)
    with engine.connect() as connection:
        result = work(connection)
    engine.dispose()
    return result


def test_an_empty_database_has_no_revision(empty_database_url):
    assert current(empty_database_url) is None


def test_upgrading_builds_every_table(empty_database_url):
    upgrade(empty_database_url)
    assert tables(empty_database_url) == OURS | {"alembic_version"}
    assert current(empty_database_url) == head()


def test_the_migrations_arrive_at_exactly_the_tables_of_the_code(database_url):
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return list(compare_metadata(context, Base.metadata))

    assert on(database_url, differences) == []


def test_checks_keys_and_nullability_are_those_of_the_code(database_url, tmp_path):
    """What alembic does not compare, against a database that `create_all` made."""

    def shape(connection: Connection) -> dict[str, object]:
        found = inspect(connection)
        return {
            name: (
                sorted((c["name"], c["sqltext"]) for c in found.get_check_constraints(name)),
                found.get_pk_constraint(name)["name"],
                sorted((f["name"], f["referred_table"]) for f in found.get_foreign_keys(name)),
                sorted(u["name"] for u in found.get_unique_constraints(name)),
                sorted(i["name"] for i in found.get_indexes(name)),
                [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)],
            )
            for name in sorted(OURS)
        }

    migrated = on(database_url, shape)

    def made_anew(connection: Connection) -> dict[str, object]:
        Base.metadata.drop_all(connection)
        Base.metadata.create_all(connection)
        return shape(connection)

    assert migrated == on(database_url, made_anew)


def test_upgrading_twice_changes_nothing(empty_database_url):
    upgrade(empty_database_url)
    upgrade(empty_database_url)
    assert current(empty_database_url) == head()


def test_downgrading_to_base_leaves_nothing_of_ours_and_can_be_repeated(empty_database_url):
    upgrade(empty_database_url)
    downgrade(empty_database_url, "base")
    assert tables(empty_database_url) == {"alembic_version"}
    assert current(empty_database_url) is None
    upgrade(empty_database_url)
    assert current(empty_database_url) == head()


def test_rows_survive_another_upgrade(empty_database_url):
    upgrade(empty_database_url)
    engine = make_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(
            text("insert into signers (id, enrolled_at) values ('ada', '2026-11-23 12:00:00')")
        )
    upgrade(empty_database_url)
    with engine.begin() as connection:
        assert connection.scalar(text("select id from signers")) == "ada"
    engine.dispose()


def test_decisions_of_the_first_release_survive_the_review_band_and_its_undoing(
    empty_database_url,
):
    upgrade(empty_database_url, "0001")
    engine = make_engine(empty_database_url)
    job = "insert into jobs values ('j', 'ada', 'file:///a', null, null, '{}', 'done', 1, :t, :t)"
    decision = (
        "insert into decisions (job_id, signer_id, document, verdict, score, threshold, model_id,"
        " distances, upstream, decided_at)"
        " values ('j', 'ada', 'file:///a', 'accept', 0.25, 0.5, 'm', '[]', '{}', :t)"
    )
    with engine.begin() as connection:
        for statement in (job, decision):
            connection.execute(text(statement), {"t": "2026-11-23 12:00:00"})
    columns = "verdict, score, threshold, model_id"
    for revision in ("0002", "0001", "0002"):
        act = downgrade if revision < str(current(empty_database_url)) else upgrade
        act(empty_database_url, revision)
        with engine.begin() as connection:
            found = connection.execute(text(f"select {columns} from decisions")).one()
            assert tuple(found) == ("accept", 0.25, 0.5, "m")
        with pytest.raises(IntegrityError, match="accept_below_threshold"), engine.begin() as wrong:
            wrong.execute(text("update decisions set score = 0.6"))
    with engine.begin() as connection:
        added = "reject_threshold, operating_point, terms"
        assert (
            tuple(connection.execute(text(f"select {added} from decisions")).one()) == (None,) * 3
        )
    engine.dispose()


def test_a_review_survives_the_way_to_the_first_release_and_back(empty_database_url):
    upgrade(empty_database_url)
    engine = make_engine(empty_database_url)
    with make_sessions(engine).begin() as session:
        a_job(session)
        decisions.record(session, [a_review()])
    downgrade(empty_database_url, "0001")
    upgrade(empty_database_url)
    with make_sessions(engine).begin() as session:
        found = decisions.get(session, "job-1")
        assert (found.verdict, found.reject_threshold) == ("review", None)
    engine.dispose()


def columns(url: str) -> set[str]:
    return on(
        url, lambda connection: {c["name"] for c in inspect(connection).get_columns("decisions")}
    )


def held(sessions):
    """The decisions, whose seals all hold."""
    with sessions.begin() as session:
        report = verification.verify(session, Keys())
        assert (report.faults, report.unchained) == ([], [])
        return {each.job_id: each for each in decisions.search(session, DecisionFilter())}


def recorded(sessions, decision):
    with sessions.begin() as session:
        a_job(session, decision.job_id)
        decisions.record(session, [decision])


def test_ink_comes_and_goes_and_what_was_decided_without_it_is_as_it_was(empty_database_url):
    upgrade(empty_database_url)
    engine = make_engine(empty_database_url)
    sessions = make_sessions(engine)
    recorded(sessions, a_review("before", ink=None))
    recorded(sessions, a_decision("without", ink=None))
    before = on(empty_database_url, guards)
    downgrade(empty_database_url, "0007")
    assert "ink" not in columns(empty_database_url)
    assert on(empty_database_url, guards) == before
    upgrade(empty_database_url)
    assert on(empty_database_url, guards) == before
    assert {each.ink for each in held(sessions).values()} == {None}
    engine.dispose()


def test_a_downgrade_leaves_the_ink_that_seals_rest_on(empty_database_url):
    upgrade(empty_database_url)
    engine = make_engine(empty_database_url)
    sessions = make_sessions(engine)
    recorded(sessions, a_decision("with"))
    recorded(sessions, a_decision("without", ink=None))
    for _ in range(2):
        downgrade(empty_database_url, "0007")
        assert current(empty_database_url) == "0007"
        upgrade(empty_database_url)
        found = held(sessions)
        assert found["with"].ink == a_decision().ink
        assert found["without"].ink is None
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as wrong:
        wrong.execute(text("update decisions set ink = null"))
    engine.dispose()


def test_the_indexes_of_the_record_come_and_go_and_its_rows_stay(empty_database_url):
    def indexes() -> set[str]:
        return on(
            empty_database_url,
            lambda connection: {i["name"] for i in inspect(connection).get_indexes("decisions")},
        )

    upgrade(empty_database_url)
    engine = make_engine(empty_database_url)
    with make_sessions(engine).begin() as session:
        a_job(session)
        decisions.record(session, [a_review()])
    downgrade(empty_database_url, "0002")
    before = indexes()
    for _ in range(2):
        upgrade(empty_database_url, "0003")
        assert indexes() - before == {
            "ix_decisions_signer_id_decided_at_verdict",
            "ix_decisions_decided_at_distance",
            "ix_decisions_error_code_decided_at",
        }
        downgrade(empty_database_url, "0002")
        assert indexes() == before
    upgrade(empty_database_url)
    with make_sessions(engine).begin() as session:
        assert decisions.get(session, "job-1").verdict == "review"
    engine.dispose()


def test_indexes_that_were_made_while_the_workers_ran_are_taken_as_they_are(empty_postgres_url):
    upgrade(empty_postgres_url, "0002")
    made = "ix_decisions_decided_at_distance"
    oid = text("select oid from pg_class where relname = :name")
    engine = make_engine(empty_postgres_url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            text(f"create index concurrently {made} on decisions (decided_at, distance)")
        )
        before = connection.scalar(oid, {"name": made})
        upgrade(empty_postgres_url)
        assert connection.scalar(oid, {"name": made}) == before
    engine.dispose()


def test_a_vector_lies_in_its_row(postgres_url):
    engine = make_engine(postgres_url)
    with make_sessions(engine).begin() as session:
        an_embedded_reference(session)
        apart = text(
            "select pg_relation_size(reltoastrelid) from pg_class where relname = 'embeddings'"
        )
        assert session.scalar(apart) == 0
    engine.dispose()


def test_several_workers_may_upgrade_at_once(empty_database_url):
    def run() -> None:
        barrier.wait()
        try:
            upgrade(empty_database_url)
        except Exception as error:
            failures.append(error)

    failures: list[Exception] = []
    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert current(empty_database_url) == head()


def test_several_processes_may_upgrade_at_once(empty_database_url):
    program = f"from migrations.upgrade import upgrade; upgrade({empty_database_url!r})"
    command = [sys.executable, "-W", "error", "-c", program]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[1] for process in running] == [b""] * 3
    assert [process.returncode for process in running] == [0] * 3
    assert current(empty_database_url) == head()


def test_an_upgrade_that_fails_leaves_nothing_half_done(empty_database_url):
    engine = make_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("create table jobs (id integer)"))
    with pytest.raises(Exception, match="jobs"):
        upgrade(empty_database_url)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["jobs"]
    engine.dispose()


def test_a_database_that_is_away_is_one_sentence():
    url = f"postgresql+psycopg://u:secret@127.0.0.1:{free_port()}/db"
    for act in (upgrade, current):
        with pytest.raises(DatabaseUnavailable) as caught:
            act(url)
        assert "secret" not in str(caught.value)


def test_a_wrong_url_is_one_sentence():
    with pytest.raises(InvalidDatabaseUrl):
        upgrade("mysql://host/db")


def test_alembic_leaves_the_logging_of_the_program_alone(empty_sqlite_url, caplog):
    before = list(logging.getLogger().handlers)
    with database_errors():
        upgrade(empty_sqlite_url)
    assert logging.getLogger().handlers == before


def test_a_migration_does_not_wait_long_for_a_table_that_somebody_holds(postgres_url):
    downgrade(postgres_url, "0004")
    engine = make_engine(postgres_url)
    with engine.begin() as holder:
        holder.execute(text("LOCK TABLE decisions IN ROW EXCLUSIVE MODE"))
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            upgrade(postgres_url)
    assert current(postgres_url) == "0004"
    upgrade(postgres_url)
    engine.dispose()


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004"])
def test_no_migration_since_leaves_triggers_or_functions_behind(empty_database_url, revision):
    upgrade(empty_database_url, revision)
    before = on(empty_database_url, guards)
    upgrade(empty_database_url)
    assert on(empty_database_url, guards) != before
    downgrade(empty_database_url, revision)
    assert on(empty_database_url, guards) == before


def guards(connection: Connection) -> list[str]:
    query = {
        "postgresql": "select tgname from pg_trigger where not tgisinternal union all"
        " select proname from pg_proc where proname like 'sigctl%'",
        "sqlite": "select name from sqlite_master where type = 'trigger'",
    }
    return list(connection.scalars(text(query[connection.dialect.name])))
