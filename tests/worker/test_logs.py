from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import structlog

from worker.logs import configure, get_logger
from worker.settings import Settings


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_events_and_other_log_lines_come_out_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json"))
    with structlog.contextvars.bound_contextvars(job_id="j1", signer_id="ada"):
        get_logger("worker.x").info("decided", verdict="accept")
        logging.getLogger("celery").warning("lost %s", "broker")
    event, other = map(json.loads, lines(capsys))
    assert event["event"] == "decided"
    assert (event["verdict"], event["job_id"], event["level"]) == ("accept", "j1", "info")
    assert (other["event"], other["signer_id"]) == ("lost broker", "ada")


def test_a_traceback_stays_within_its_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json"))
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        get_logger("worker.x").warning("failed", exc_info=True)
    (line,) = lines(capsys)
    assert "ZeroDivisionError" in json.loads(line)["exception"]


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="text"))
    get_logger("worker.x").info("decided", verdict="accept")
    (line,) = lines(capsys)
    assert "decided" in line
    assert "verdict=accept" in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_images_vectors_and_local_variables_stay_out(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(Settings(log_format=form))
    image = b"\x89PNG secret pixels"
    get_logger("worker.x").info("seen", image=image, vector=np.full(512, 0.125))
    try:
        raise RuntimeError("a bug")
    except RuntimeError:
        get_logger("worker.x").warning("failed", exc_info=True)
    text = "\n".join(lines(capsys))
    assert "18 bytes" in text
    assert "secret pixels" not in text
    assert "0.125" not in text


def test_what_is_below_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_level="warning"))
    get_logger("worker.x").info("quiet")
    assert lines(capsys) == []


def test_credentials_of_the_object_store_are_not_logged_at_debug_level() -> None:
    configure(Settings(log_level="debug"))
    assert not logging.getLogger("botocore.auth").isEnabledFor(logging.DEBUG)


def test_warnings_and_errors_that_nobody_catches_are_lines_of_json_too() -> None:
    code = """
import threading, warnings
from worker import logs
from worker.settings import Settings
logs.configure(Settings(log_format="json"))
logs.take_over()
warnings.warn("do not run as root")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
class Late:
    def __del__(self):
        raise ValueError("too late")
Late()
raise RuntimeError("a bug")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    warned, in_thread, in_del, at_last = map(json.loads, done.stderr.splitlines())
    assert done.returncode == 1
    assert "do not run as root" in warned["event"]
    assert "ZeroDivisionError" in in_thread["exception"]
    assert "ValueError: too late" in in_del["exception"]
    assert "RuntimeError: a bug" in at_last["exception"]
    assert (in_thread["level"], at_last["level"]) == ("critical", "critical")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "url", ["redis://:hush@h/0", "postgresql://user:hu%21sh:@h", "x://u:hush@"]
)
def test_no_url_in_any_line_shows_its_password(
    form: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(Settings(log_format=form))
    logging.getLogger("some.library").error("cannot reach %s", url)
    get_logger("worker.x").warning("failed", reason=url)
    try:
        raise ConnectionError(f"connecting to {url}")
    except ConnectionError:
        get_logger("worker.x").warning("failed", exc_info=True)
    text = "\n".join(lines(capsys))
    assert text.count("********@") == 3
    assert "sh@" not in text
    assert "sh:@" not in text
