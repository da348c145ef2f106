from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import exc, select, text

from storage import signers
from storage.database import (
    database_errors,
    insert_new,
    make_engine,
    make_sessions,
)
from storage.errors import DatabaseNotMigrated, DatabaseUnavailable, InvalidDatabaseUrl
from storage.tables import Job, Signer, to_json
from tests.builders import a_job
from tests.services import free_port


def test_nothing_is_kept_unless_the_edge_commits(sessions):
    with sessions() as session:
        signers.ensure(session, "ada")
    with sessions.begin() as session:
        assert session.scalars(select(Signer)).all() == []


def test_an_error_rolls_everything_back(sessions):
    def fail() -> None:
        with sessions.begin() as session:
            signers.ensure(session, "ada")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with sessions.begin() as session:
        assert session.scalars(select(Signer)).all() == []


def test_objects_stay_readable_after_the_transaction(sessions):
    with sessions.begin() as session:
        signers.ensure(session, "ada")
        signer = signers.get(session, "ada")
    assert signer.id == "ada"


def test_insert_new_says_whether_it_was_new(sessions):
    with sessions.begin() as session:
        assert insert_new(session, Signer, {"id": "ada"}, "id")
        assert not insert_new(session, Signer, {"id": "ada"}, "id")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_spelling_of_postgresql_means_psycopg_3(scheme):
    engine = make_engine(f"{scheme}://u:p@localhost/db")
    assert engine.dialect.driver == "psycopg"
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "cannot be read"),
        ("sigctl.db", "cannot be read"),
        ("postgresql://u:secret@host:port/db", "cannot be read"),
        ("mysql://u:secret@host/db", "not on 'mysql'"),
        ("nonsense://u:secret@host/db", "not on 'nonsense'"),
        ("sqlite:////no/such/folder/x.db", "/no/such/folder, does not exist"),
    ],
)
def test_a_wrong_url_is_one_sentence_without_the_password(url, sentence):
    with pytest.raises(InvalidDatabaseUrl, match=sentence) as caught:
        make_engine(url)
    assert "secret" not in str(caught.value)


def test_an_unreachable_server_is_transient_and_its_password_is_not_shown():
    engine = make_engine(f"postgresql://u:secret@127.0.0.1:{free_port()}/db")
    with pytest.raises(DatabaseUnavailable) as caught, database_errors(), engine.connect():
        pass
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_connection_that_the_server_ends_is_transient_and_the_next_one_works(postgres_url):
    engine = make_engine(postgres_url)
    sessions = make_sessions(engine)

    def is_cut_off() -> None:
        with database_errors(), sessions.begin() as session:
            own = session.scalar(text("select pg_backend_pid()"))
            with engine.connect() as other:
                other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": own})
            session.execute(text("select 1"))

    with pytest.raises(DatabaseUnavailable):
        is_cut_off()
    with database_errors(), sessions.begin() as session:
        assert session.scalar(text("select 1")) == 1
    engine.dispose()


def test_a_pool_survives_a_restart_of_the_server(own_postgres):
    engine = make_engine(own_postgres.url())
    with engine.connect() as connection:
        connection.execute(text("select 1"))
    own_postgres.stop()
    with pytest.raises(DatabaseUnavailable), database_errors(), engine.connect():
        pass
    own_postgres.start()
    with database_errors(), engine.connect() as connection:
        assert connection.scalar(text("select 1")) == 1
    engine.dispose()


def test_a_full_pool_is_transient():
    with pytest.raises(DatabaseUnavailable, match="came free"), database_errors():
        raise exc.TimeoutError


def test_a_database_without_tables_says_what_to_do(empty_database_url):
    engine = make_engine(empty_database_url)
    sessions = make_sessions(engine)
    with (
        pytest.raises(DatabaseNotMigrated, match="sigctl db upgrade"),
        database_errors(),
        sessions.begin() as session,
    ):
        signers.search(session)
    engine.dispose()


def test_a_file_that_is_no_database_is_one_sentence(tmp_path):
    (tmp_path / "x.db").write_bytes(b"this is not a database, whatever its name says" * 100)
    engine = make_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(DatabaseUnavailable, match="not a database"), database_errors():
        engine.connect()
    engine.dispose()


def test_a_mistake_of_ours_is_not_dressed_up_as_an_outage(sessions):
    with sessions() as session, pytest.raises(exc.IntegrityError), database_errors():
        session.execute(text("insert into jobs (id) values ('job-1')"))


def test_sqlite_keeps_foreign_keys_and_a_write_ahead_log(sqlite_url):
    engine = make_engine(sqlite_url)
    with engine.connect() as connection:
        assert connection.scalar(text("pragma foreign_keys")) == 1
        assert connection.scalar(text("pragma journal_mode")) == "wal"
    engine.dispose()


def test_a_locked_sqlite_database_is_transient(sqlite_url):
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    holder = sqlite3.connect(path)
    holder.execute("begin immediate")
    engine = make_engine(sqlite_url)
    with make_sessions(engine)() as session:
        session.execute(text("pragma busy_timeout = 50"))
        with pytest.raises(DatabaseUnavailable, match="locked"), database_errors():
            signers.ensure(session, "ada")
    holder.close()
    engine.dispose()


def test_a_reader_does_not_hold_a_writer_up(sessions):
    with sessions.begin() as session:
        signers.ensure(session, "ada")
    with sessions.begin() as reader:
        assert reader.scalar(select(Signer.id)) == "ada"
        with sessions.begin() as writer:
            signers.ensure(writer, "bob")


def test_a_transaction_that_reads_first_can_still_write_after_another_one_wrote(sessions):
    with sessions.begin() as session:
        signers.ensure(session, "ada")
        with sessions.begin() as other:
            # Not in the same row order as a snapshot would allow: read, other writes, write.
            assert other.scalars(select(Signer.id)).all() == []
    with sessions.begin() as first:
        assert first.scalars(select(Signer.id)).all() == ["ada"]
        with sessions.begin() as other:
            signers.ensure(other, "bob")
        signers.ensure(first, "cyd")
    with sessions.begin() as session:
        assert set(session.scalars(select(Signer.id))) == {"ada", "bob", "cyd"}


def test_many_threads_write_to_one_database(sessions):
    def enrol(name: str) -> None:
        try:
            with database_errors(), sessions.begin() as session:
                signers.ensure(session, name)
        except Exception as error:
            failures.append(error)

    failures: list[Exception] = []
    threads = [threading.Thread(target=enrol, args=(f"s{i}",)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with sessions.begin() as session:
        assert len(signers.search(session)) == 12


def test_json_that_a_database_would_refuse_is_stored_all_the_same(sessions):
    odd = {"nan": float("nan"), "inf": [float("inf"), 1.5], "nul": "a\0b", "half": "\ud800", "é": 1}
    with sessions.begin() as session:
        a_job(session, upstream=odd)
    with sessions.begin() as session:
        back = session.get_one(Job, "job-1").upstream
    assert back == odd | {"nan": None, "inf": [None, 1.5]}


def test_json_is_left_alone_when_it_is_finite():
    assert to_json({"a": [1, 2.5, None, "x"]}) == '{"a": [1, 2.5, null, "x"]}'
