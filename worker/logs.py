"""Logs are events with fields: text for people or one JSON object a line, always on stderr.

Events are ordinary log records, so a program that only imports `worker.client` keeps its own
logging; the commands and the worker call `configure`.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import MutableMapping
from typing import Any

import numpy as np
import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter
from structlog.typing import Processor

from worker.settings import MASK, Settings

PASSWORD = re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]+@")


def withhold_payloads(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Images and vectors never reach a log, not even by mistake: only their size does."""
    for name, value in event.items():
        if isinstance(value, bytes | bytearray | memoryview):
            event[name] = f"<{len(value)} bytes>"
        elif isinstance(value, np.ndarray):
            event[name] = f"<array {value.shape}>"
    return event


def hide_passwords(text: str) -> str:
    """The text with the password of each URL in it masked, for what other libraries say.

    >>> hide_passwords("cannot reach redis://user:hush@host:6379/0")
    'cannot reach redis://user:********@host:6379/0'
    """
    return PASSWORD.sub(rf"\1:{MASK}@", text)


def _hidden(_logger: Any, _method: str, line: Any) -> str:
    return hide_passwords(line)


_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    withhold_payloads,
)


def get_logger(name: str) -> BoundLogger:
    """A logger of events: `log.info("decided", verdict="accept")`."""
    logger: BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=BoundLogger,
    )
    return logger


def configure(settings: Settings) -> None:
    """Send our events and everybody else's log lines through one formatter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(foreign_pre_chain=_SHARED, processors=_rendering(settings.log_format))
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    for chatty in ("botocore", "boto3", "urllib3"):  # at debug level they print credentials
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if settings.log_level != "debug":
        # Celery's two lines a task say less than ours and cost as much as a query.
        for repeating in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(repeating).setLevel(logging.WARNING)


def take_over() -> None:
    """For a process of ours alone: warnings and errors that nobody catches are log lines, too."""
    logging.captureWarnings(True)
    sys.excepthook, threading.excepthook = _log_uncaught, _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger(__name__).critical("uncaught", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is not None and not issubclass(found.exc_type, SystemExit):
        _log_uncaught(found.exc_type, found.exc_value, found.exc_traceback)


def _log_unraisable(found: sys.UnraisableHookArgs) -> None:
    _log_uncaught(found.exc_type, found.exc_value or found.exc_type(), found.exc_traceback)


def _rendering(form: str) -> list[Processor]:
    if form == "json":
        return [
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
            _hidden,
        ]
    # Plain tracebacks: the pretty ones print local variables, and those hold images.
    plain = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return [ProcessorFormatter.remove_processors_meta, plain, _hidden]
