"""What can go wrong at the edge: each with a code for programs and a sentence for people."""

from __future__ import annotations

from typing import ClassVar

from storage.errors import Transient


class WorkerError(Exception):
    """Something outside the documents is wrong: the settings, a message, the broker."""

    code: ClassVar[str] = "worker_error"


class SettingsError(WorkerError):
    """The SIGCTL_* variables cannot be used; `problems` holds one sentence for each of them."""

    code = "invalid_settings"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class InvalidMessage(WorkerError):
    """The message is not a verification request; the sentence says which field is wrong and how."""

    code = "invalid_message"


class BrokerUnavailable(WorkerError):
    """The broker cannot be reached. The job is recorded, and `sigctl requeue` will send it."""

    code = "broker_unavailable"

    def __init__(self, message: str, *, job_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class NoBroker(WorkerError):
    """No broker is configured, so there is no queue to send to, to serve or to wait for."""

    code = "no_broker"


class NotDecided(WorkerError):
    """The job has no decision yet; it is still queued or running."""

    code = "not_decided"


class PortTaken(WorkerError):
    """The port of the health checks cannot be listened on."""

    code = "port_taken"


class UnsafePool(WorkerError):
    """A CUDA context does not survive a fork, so prefork workers cannot use the GPU."""

    code = "unsafe_pool"


class DecoderUnavailable(Transient):
    """No process can be started to decode in; the machine is short of something for a while."""

    code = "decoder_unavailable"


class NoCorpora(WorkerError):
    """The worker has no base corpus to train with."""

    code = "no_corpora"


class NothingToReplay(WorkerError):
    """The job has a verdict, and a verdict stands."""

    code = "nothing_to_replay"
