"""The exit codes of `sigctl`, and which of them, with which sentence, belongs to an error.

0    done; for `verify`, `submit --wait` and `compare`: the signature was accepted
1    an unexpected failure; for `evaluate`: the model failed a gate against leaks; for `audit
     verify`: the record does not hold
2    wrong usage, or an input that cannot be used
3    the signature was not accepted: rejected, or left for a person to review
4    no verdict: the job failed, and its error is on record
5    not set up: a setting, the checkpoint or the database schema needs attention
6    a service is not available: database, store or broker; trying again may help
7    a retrained model was registered, but is not better by the rule, and is not promoted
130  interrupted
"""

from __future__ import annotations

from enum import IntEnum

from worker.cli import show


class Exit(IntEnum):
    """What a command reports to the program that ran it."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    NOT_ACCEPTED = 3
    FAILED = 4
    SETUP = 5
    UNAVAILABLE = 6
    NOT_BETTER = 7
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.DONE: "done; verify, submit --wait, compare: accepted",
    Exit.UNEXPECTED: "unexpected failure; evaluate: model refused; audit verify: record broken",
    Exit.USAGE: "wrong usage, or input that cannot be used",
    Exit.NOT_ACCEPTED: "not accepted: rejected, or left for review",
    Exit.FAILED: "no verdict: the job failed, its error is on record",
    Exit.SETUP: "not set up: setting, checkpoint or database schema",
    Exit.UNAVAILABLE: "service not available: database, store or broker",
    Exit.NOT_BETTER: "retrain: the candidate is registered, but not better by the rule",
    Exit.INTERRUPTED: "interrupted",
}


class CommandError(Exception):
    """A command cannot go on, for a reason that a person can act on."""

    def __init__(self, sentence: str, code: Exit = Exit.USAGE) -> None:
        super().__init__(sentence)
        self.code = code


def for_verdict(verdict: str | None) -> Exit:
    """The exit code of a decision; None is a job without one."""
    by_verdict = {"accept": Exit.DONE, "reject": Exit.NOT_ACCEPTED, "review": Exit.NOT_ACCEPTED}
    return by_verdict.get(verdict or "", Exit.FAILED)


SETUP_CODES = frozenset(
    {
        "invalid_settings",
        "no_broker",
        "port_taken",
        "unsafe_pool",
        "checkpoint_error",
        "preprocessing_error",
        "backbone_error",
        "model_altered",
        "model_not_sealed",
        "device_unavailable",
        "invalid_database_url",
        "database_not_migrated",
        "store_refused",
    }
)
AWAY_CODES = frozenset({"broker_unavailable", "not_decided"})


def for_error(error: BaseException) -> Exit | None:
    """The exit code of an error that people are expected to meet, None for any other."""
    from model.errors import ModelError
    from storage.errors import StorageError, Transient
    from worker.errors import WorkerError

    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, Transient):
        return Exit.UNAVAILABLE
    if not isinstance(error, ModelError | StorageError | WorkerError):
        return None
    if error.code in SETUP_CODES:
        return Exit.SETUP
    return Exit.UNAVAILABLE if error.code in AWAY_CODES else Exit.USAGE


def sentence(error: BaseException) -> str:
    """What to say about an error: its own words as a sentence, or else those of its class."""
    inherited = " ".join((type(error).__doc__ or "").split("\n\n")[0].split())
    return show.as_sentence(str(error).strip() or inherited or type(error).__name__)
