"""A child process that decodes documents, one after another, within limits that it cannot lift.

    python -m worker.decoder MEMORY SECONDS

Files from strangers meet the image libraries here, where there is nothing to be had: no setting,
no secret, no second open file. `worker.sandbox` starts it and speaks to it over the socket that is
its standard input:

    question   lengths of the description and of the document; the description in JSON; the document
    answer     a status, the length of what follows; the grey canvas (H, W) and behind it what was
               measured, of a specimen or of a document's ink; or a sentence
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from model.errors import (
    BlankImage,
    DecodingTooLarge,
    ImageTooLarge,
    ModelError,
    PageNotFound,
    PreprocessingError,
    RegionOutside,
    UnreadableImage,
)
from model.ink import Ink
from model.preprocess import Preprocessing, to_pixels
from model.questioned import look
from model.specimen import examine

QUESTION = struct.Struct("<IQ")
ANSWER = struct.Struct("<BI")
MEASURES = struct.Struct("<6d")
INK = struct.Struct("<2dI")
DONE, FAILED = 0, 255
REFUSALS: tuple[type[ModelError], ...] = (
    UnreadableImage,
    BlankImage,
    ImageTooLarge,
    DecodingTooLarge,
    PageNotFound,
    RegionOutside,
    PreprocessingError,
)
"""A refusal's status is its place here, counted from 1."""

SENTENCE = 2_000
"""Most bytes of a refusal's sentence."""

_NO_NEW_PRIVILEGES = 38


def main() -> None:
    """Get ready, give up what is not needed, answer until the worker hangs up."""
    memory, seconds = int(sys.argv[1]), float(sys.argv[2])
    with socket.socket(fileno=0) as worker, suppress(EOFError, ConnectionError):
        cv2.setNumThreads(1)
        _warm_up()
        _fall_silent()
        _confine(memory)
        _answer(worker, DONE, b"")
        while True:
            description, document = QUESTION.unpack(receive(worker, QUESTION.size))
            question = json.loads(receive(worker, description))
            data = bytes(receive(worker, document))
            _limit_processor_time(seconds)
            _answer(worker, *_decoded(data, question))


def receive(peer: socket.socket, size: int, deadline: float | None = None) -> bytearray:
    """Exactly so many bytes; raises EOFError when the peer is gone, TimeoutError at the deadline.

    The deadline is a moment of `time.monotonic`.
    """
    data = bytearray(size)
    view = memoryview(data)
    while view:
        if deadline is not None:
            peer.settimeout(max(deadline - time.monotonic(), 1e-6))
        count = peer.recv_into(view)
        if count == 0:
            raise EOFError
        view = view[count:]
    return data


def _decoded(data: bytes, question: dict[str, Any]) -> tuple[int, bytes]:
    try:
        how = Preprocessing(**question.pop("how"))
        if question.pop("measured", False):
            found = examine(data, how, **question)
            measures = MEASURES.pack(*found.measures.as_tuple())
            return DONE, to_pixels(found.canvas).tobytes() + measures
        seen = look(data, how, **question)
        return DONE, to_pixels(seen.canvas).tobytes() + _packed(seen.ink)
    except REFUSALS as error:
        return 1 + REFUSALS.index(type(error)), str(error).encode(errors="replace")[:SENTENCE]
    except Exception as error:
        return FAILED, type(error).__name__.encode()


def _packed(ink: Ink | None) -> bytes:
    return b"" if ink is None else INK.pack(ink.stroke_width, ink.ink_share, ink.long_side)


def _answer(worker: socket.socket, status: int, body: bytes) -> None:
    worker.sendall(ANSWER.pack(status, len(body)) + body)


def _warm_up() -> None:
    """Decode once of each kind: what libraries load on first use cannot be opened later."""
    page = np.full((64, 96), 255, np.uint8)
    page[20:40, 30:60] = page[4:6] = page[:, 90:92] = page[10, 10] = 0  # ink, two lines, a speck
    for kind in ("PNG", "JPEG", "BMP", "TIFF"):
        compression = "tiff_lzw" if kind == "TIFF" else None
        buffer = io.BytesIO()
        Image.fromarray(page).save(buffer, kind, compression=compression)
        look(buffer.getvalue(), Preprocessing())


def _fall_silent() -> None:
    """Image libraries write what they think of a file to the standard error: not into our log."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def _confine(memory: int) -> None:
    """Limits that hold until the process ends; where the system has one lower, that one stays.

    Where the machine's memory runs out all the same, Linux is to end this process, not the worker.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 3),  # the socket and the two outputs: nothing more can be opened
    ):
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))
    with suppress(AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def _limit_processor_time(seconds: float) -> None:
    """The worker kills whoever takes too long; this holds when the worker is gone."""
    soft = int(time.process_time() + seconds) + 2
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    main()
