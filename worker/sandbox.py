"""Documents are decoded in child processes, so that a hostile one harms nobody but itself.

A decoder that crashes, eats memory or does not return takes its process with it: the document
fails with a code, the worker and the other jobs go on. What a child answers is checked like any
other input, for whoever has taken over a decoder writes the answers.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np

from model.arrays import Canvas
from model.errors import DecoderCrashed, DecodingTooLarge, DecodingTooLong, ModelError
from model.ink import Ink
from model.preprocess import MAX_PIXELS, Preprocessing, Region, to_range
from model.questioned import Questioned
from model.specimen import Measures, Specimen
from worker.decoder import (
    ANSWER,
    DONE,
    FAILED,
    INK,
    MEASURES,
    QUESTION,
    REFUSALS,
    SENTENCE,
    receive,
)
from worker.errors import DecoderUnavailable

MEMORY = 2 * 2**30
"""Bytes. A page of 100 million pixels takes 1.0 GiB, in CMYK 1.4 GiB, libraries included."""

SECONDS = 20.0
"""A page of 100 million pixels takes 2 to 6."""

START = 60.0  # seconds; a quiet machine takes 0.3
LIFE = 10_000  # documents, so that no leak of a library adds up
NONSENSE = "The decoder's answer makes no sense."
DECODER = (sys.executable, "-P", "-m", "worker.decoder")
KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL")
"""What a child knows of the worker's environment, in which there may be secrets."""


class Sandbox:
    """At most so many children, started when they are needed. Safe to share between threads.

    Each may take `memory` bytes in all, and `seconds` for one document. `program` is what a child
    runs, with these two as its arguments.
    """

    def __init__(
        self,
        *,
        children: int,
        seconds: float = SECONDS,
        memory: int = MEMORY,
        program: Sequence[str] = DECODER,
    ) -> None:
        self._children, self._seconds = children, seconds
        self._command = [*program, str(memory), str(seconds)]
        # Last in, first out: another child is started only while all that run are busy.
        self._places: LifoQueue[_Child | None] = LifoQueue()
        for _ in range(children):
            self._places.put(None)

    def look(
        self,
        data: bytes,
        how: Preprocessing,
        *,
        page: int | None = None,
        region: Region | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Questioned:
        """The same as `model.questioned.look`, which is what a child runs.

        Raises what that raises; DecodingTooLong and DecoderCrashed, which are the document's fault
        as well; and DecoderUnavailable, which is not.
        """
        asked = {"how": how.as_dict(), "page": page, "region": region, "max_pixels": max_pixels}
        size = how.height * how.width
        answer = self._ask(asked, data, size + (INK.size if how.finds_ink else 0))
        ink = _ink(answer[size:]) if how.finds_ink else None
        return Questioned(canvas=_canvas(answer[:size], how), ink=ink)

    def examine(self, data: bytes, how: Preprocessing, *, max_pixels: int = MAX_PIXELS) -> Specimen:
        """The same as `model.specimen.examine`; raises what that does, and what `look` adds."""
        asked = {"how": how.as_dict(), "max_pixels": max_pixels, "measured": True}
        size = how.height * how.width
        answer = self._ask(asked, data, size + MEASURES.size)
        measures = Measures.from_tuple(MEASURES.unpack(answer[size:]))
        return Specimen(canvas=_canvas(answer[:size], how), measures=measures)

    def _ask(self, asked: Mapping[str, Any], data: bytes, size: int) -> bytes:
        question = json.dumps(asked).encode()
        child = self._places.get()
        try:
            child = self._usable(child)
            try:
                return child.ask(question, data, size)
            except (DecoderCrashed, DecodingTooLarge):
                # Only a fresh child's word is final: this one may be worn out, or was killed.
                if child.fresh:
                    raise
                child.kill()
                child = self._usable(child)
                return child.ask(question, data, size)
        finally:
            self._places.put(child)

    def _usable(self, child: _Child | None) -> _Child:
        if child is not None:
            if child.usable:
                return child
            child.kill()
        return _Child(self._command, self._seconds)

    def close(self) -> None:
        """Wait for the documents at work and end the children; the next use starts new ones."""
        for child in [self._places.get() for _ in range(self._children)]:
            if child is not None:
                child.kill()
            self._places.put(None)


def _canvas(pixels: bytes, how: Preprocessing) -> Canvas:
    return to_range(np.frombuffer(pixels, np.uint8).reshape(how.height, how.width))


def _ink(packed: bytes) -> Ink:
    """What the record will hold for good, and therefore must make sense."""
    width, share, side = INK.unpack(packed)
    found = Ink(stroke_width=width, ink_share=share, long_side=side)
    if not found.plausible:
        raise DecoderCrashed(NONSENSE)
    return found


class _Child:
    """A process of `worker.decoder`, ready for documents. Raises DecoderUnavailable."""

    def __init__(self, command: Sequence[str], seconds: float) -> None:
        self._seconds = seconds
        self._asked, self._owes = 0, True  # it begins by saying that it is ready
        try:
            self._process, self._socket = _started(command)
        except OSError as error:
            raise DecoderUnavailable(f"No decoder can be started ({error}).") from error
        try:
            self._answer(0, time.monotonic() + START)
        except ModelError as error:
            raise DecoderUnavailable(f"A decoder does not get ready. {error}") from error
        except BaseException:
            self.kill()
            raise

    @property
    def usable(self) -> bool:
        """Whether it lives, is not worn out, and owes no answer to somebody who was interrupted."""
        return self._process.poll() is None and self._asked < LIFE and not self._owes

    @property
    def fresh(self) -> bool:
        """Whether nothing but the last document can be blamed for its state."""
        return self._asked == 1

    def ask(self, question: bytes, data: bytes, size: int) -> bytes:
        """The grey canvas and what was measured, `size` bytes; raises what `look` raises."""
        self._asked, self._owes = self._asked + 1, True
        deadline = time.monotonic() + self._seconds
        self._socket.settimeout(self._seconds)
        try:
            self._socket.sendall(QUESTION.pack(len(question), len(data)) + question)
            self._socket.sendall(data)
        except OSError as error:
            raise self._failed(error) from error
        return self._answer(size, deadline)

    def _answer(self, size: int, deadline: float) -> bytes:
        status, length = ANSWER.unpack(self._receive(ANSWER.size, deadline))
        refused = status == FAILED or 1 <= status <= len(REFUSALS)
        if not (length == size if status == DONE else refused and length <= SENTENCE):
            self.kill()
            raise DecoderCrashed(NONSENSE)
        body = self._receive(length, deadline)
        self._owes = False
        if status == DONE:
            return body
        words = body.decode(errors="replace")
        sentence = "".join(letter if letter.isprintable() else "?" for letter in words)
        if status == FAILED:
            raise DecoderCrashed(f"Decoding fails in an unforeseen way ({sentence}).")
        raise REFUSALS[status - 1](sentence)

    def _receive(self, size: int, deadline: float) -> bytes:
        try:
            return bytes(receive(self._socket, size, deadline))
        except (OSError, EOFError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ModelError:
        """What it means that the child did not take or give what it should; it is ended."""
        self.kill()
        code = self._process.returncode
        if isinstance(error, TimeoutError) or code == -signal.SIGXCPU:
            return DecodingTooLong(f"Decoding takes longer than {self._seconds:g} s.")
        end = f"signal {-code}" if code < 0 else f"exit code {code}"
        return DecoderCrashed(f"Decoding ends the process that does it ({end}).")

    def kill(self) -> None:
        """End it, however it fares; it has nothing to finish."""
        self._process.kill()
        self._process.wait()
        self._socket.close()


def _started(command: Sequence[str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process and our end of the socket that is its standard input; raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module, nothing of a document in it
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd="/",
                env=environment(os.environ),
                start_new_session=True,  # Ctrl-C is for the worker, which finishes first
            )
        except OSError:
            ours.close()
            raise
    return process, ours


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What a child is told: where this package and the libraries are, and to use one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    places = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
    kept = {name: ours[name] for name in KEPT if name in ours}
    return kept | threads | {"PYTHONPATH": os.pathsep.join(places)}
