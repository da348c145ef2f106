from __future__ import annotations

from pathlib import Path

import pytest

from model.scoring import OPERATING_POINTS
from worker.settings import Settings, SettingsError, load_settings, settings_table


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_with_nothing_set_everything_is_embedded_and_in_the_current_folder() -> None:
    settings = load_settings({})
    assert settings.database_url == "sqlite:///sigctl.db"
    assert settings.broker_url is None
    assert settings.store == (Path.cwd() / "store").as_uri()
    assert settings.roots == (Path.cwd(),)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("RETRY_DELAY", "abc", "must be a positive number of seconds, not 'abc'."),
        ("RETRY_DELAY", "0", "must be a positive number of seconds, not '0'."),
        ("S3_READ_TIMEOUT", "nan", "must be a positive number of seconds, not 'nan'."),
        ("JOB_TIMEOUT", "inf", "must be a positive number of seconds, not 'inf'."),
        ("MAX_BYTES", "-1", "must be a whole number of 1 or more, not '-1'."),
        ("MAX_PIXELS", "1e6", "must be a whole number of 1 or more, not '1e6'."),
        ("MAX_RETRIES", "-1", "must be a whole number of 0 or more, not '-1'."),
        ("POOL", "gevent", "must be one of threads, solo, prefork, not 'gevent'."),
        ("FAR", "2%", "must be one of balanced, 0.1%, 1%, 5%, not '2%'."),
        ("FAR", "0.01", "must be one of balanced, 0.1%, 1%, 5%, not '0.01'."),
        ("LOG_FORMAT", "xml", "must be one of text, json, not 'xml'."),
        ("S3_PATH_STYLE", "perhaps", "must be true or false, not 'perhaps'."),
        ("S3_ENDPOINT", "localhost:9000", "must be an http:// or https:// URL, not "),
        ("S3_ENDPOINT", "http://h:port", "must be an http:// or https:// URL, not "),
        ("S3_ENDPOINT", "http://u:p@h", "must hold no user and password; "),
        ("BROKER_URL", "amqp://h", "must be a Redis URL such as redis://localhost:6379/0."),
        ("BROKER_URL", "redis://", "must be a Redis URL such as redis://localhost:6379/0."),
        ("DATABASE_URL", "mysql://h/d", "must be a database URL such as sqlite:///sigctl.db"),
        ("ROOTS", "/no/such", "must name existing folders (/no/such is none), not '/no/such'."),
        ("STORE", "http://h/x", "must be s3://bucket/prefix, file:///folder or a folder, not "),
        ("STORE", "s3:///x", "must name a bucket"),
        ("DEVICE", "tpu", "must be auto, cpu, cuda or cuda:<number>, not 'tpu'."),
        ("DEVICE", "cpu:1", "must be auto, cpu, cuda or cuda:<number>, not 'cpu:1'."),
    ],
)
def test_a_bad_value_is_one_sentence_that_names_the_variable(
    name: str, value: str, sentence: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({f"SIGCTL_{name}": value})
    (problem,) = caught.value.problems
    assert problem.startswith(f"SIGCTL_{name} {sentence}")


def test_the_operating_points_are_those_of_the_model_and_one_in_a_hundred_without_a_word() -> None:
    assert load_settings({}).operating_point == "1%"
    for point in OPERATING_POINTS:
        assert load_settings({"SIGCTL_FAR": point}).operating_point == point
    assert load_settings({"SIGCTL_FAR": "Balanced"}).operating_point is None


def test_all_bad_variables_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"SIGCTL_POOL": "x", "SIGCTL_MAX_BYTES": "x", "SIGCTL_QUEU": "x"})
    text = str(caught.value)
    assert "SIGCTL_POOL" in text
    assert "SIGCTL_MAX_BYTES" in text
    assert "SIGCTL_QUEU is not a setting. Did you mean SIGCTL_QUEUE?" in text


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"VISIBILITY_TIMEOUT": "3"}, "SIGCTL_VISIBILITY_TIMEOUT must be 4 seconds or more"),
        ({"RETRY_DELAY": "90"}, "SIGCTL_RETRY_DELAY must not exceed SIGCTL_RETRY_DELAY_MAX."),
        ({"REQUEUE_AFTER": "59"}, "SIGCTL_REQUEUE_AFTER must not be shorter"),
        ({"S3_ACCESS_KEY": "k"}, "SIGCTL_S3_ACCESS_KEY and SIGCTL_S3_SECRET_KEY must be set"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(env: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load_settings({f"SIGCTL_{name}": value for name, value in env.items()})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SIGCTL_DATABASE_URL", "mysql://user:hush@host/x"),
        ("SIGCTL_BROKER_URL", "amqp://user:hush@host"),
    ],
)
def test_a_refused_url_does_not_leak_its_password(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({variable: value})
    assert "hush" not in str(caught.value)


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    settings = load_settings(
        {
            "SIGCTL_DATABASE_URL": "postgresql://user:hush@host/x?password=hush",
            "SIGCTL_BROKER_URL": "redis://:hush@host:6379/0",
            "SIGCTL_S3_ACCESS_KEY": "key",
            "SIGCTL_S3_SECRET_KEY": "hush",
        }
    )
    shown = {line.variable: line for line in settings.describe()}
    assert "hush" not in repr(settings) + str(settings) + repr(shown)
    assert shown["SIGCTL_BROKER_URL"].value == "redis://:********@host:6379/0"
    assert shown["SIGCTL_BROKER_URL"].given
    assert not shown["SIGCTL_QUEUE"].given
    assert settings.s3_secret_key is not None
    assert settings.s3_secret_key.get_secret_value() == "hush"


def test_a_url_without_a_password_is_shown_as_it_is() -> None:
    settings = load_settings({"SIGCTL_DATABASE_URL": "sqlite:////srv/a.db"})
    shown = {line.variable: line.value for line in settings.describe()}
    assert shown["SIGCTL_DATABASE_URL"] == "sqlite:////srv/a.db"
    assert shown["SIGCTL_STORE"] == settings.store


def test_the_environment_wins_over_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("SIGCTL_QUEUE=file\nSIGCTL_LOG_LEVEL=debug\nPOSTGRES_DB=x\n")
    monkeypatch.setenv("SIGCTL_QUEUE", "environment")
    monkeypatch.delenv("SIGCTL_LOG_LEVEL", raising=False)
    settings = load_settings()
    assert (settings.queue, settings.log_level) == ("environment", "debug")


def test_an_unknown_name_in_the_env_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SIGCTL_BROKER=redis://h\n")
    with pytest.raises(SettingsError, match="Did you mean SIGCTL_BROKER_URL"):
        load_settings()


def test_an_empty_value_means_the_default() -> None:
    assert load_settings({"SIGCTL_BROKER_URL": "", "SIGCTL_POOL": " "}) == Settings()


def test_variables_of_the_tests_are_not_settings() -> None:
    assert load_settings({"SIGCTL_TEST_REDIS_URL": "redis://h"}) == Settings()


def test_lists_are_separated_by_commas(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    settings = load_settings({"SIGCTL_BUCKETS": "one, two,", "SIGCTL_ROOTS": f"a,{tmp_path}"})
    assert settings.buckets == ("one", "two")
    assert settings.roots == (tmp_path / "a", tmp_path)


def test_a_store_named_as_a_folder_becomes_a_uri(tmp_path: Path) -> None:
    assert load_settings({"SIGCTL_STORE": "my store"}).store == (tmp_path / "my store").as_uri()


def test_the_manual_lists_every_setting_with_its_meaning() -> None:
    table = settings_table()
    assert [row.variable for row in table] == [
        f"SIGCTL_{name.upper()}" for name in Settings.model_fields
    ]
    assert all(row.meaning.endswith(".") for row in table)


def test_the_example_file_is_accepted_and_names_only_known_settings() -> None:
    lines = (Path(__file__).parents[2] / ".env.example").read_text().splitlines()
    pairs = [line.removeprefix("#").strip().split("=", 1) for line in lines if "=" in line]
    named = {name: value for name, value in pairs if name.startswith("SIGCTL_")}
    assert named
    known = {row.variable for row in settings_table()}
    assert set(named) <= known
