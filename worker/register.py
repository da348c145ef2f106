"""Everybody's references as the model in use sees them, in memory: is this somebody else's hand?

Read from the database once, and by what is new from then on, so that enrolling thousands of
signers costs no search of the database for each specimen.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from model.arrays import Vectors
from model.distance import WITH_CELLS, has_cells, vectors_of
from storage import vectors
from storage.tables import Embedding, Reference, Signer

MOST, MOST_WITH_CELLS = 50_000, 20_000
"""References kept, the newest: 100 MB of vectors, or 40 and 380 of cells for a model with these."""
EVERY = 10.0
"""Seconds between looks at what other processes have enrolled."""
CHUNK = 2_000
BLOCK = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbour:
    """Another signer, with the references (N, D) that are known of them."""

    signer_id: str
    references: Vectors


class Register:
    """The newest live references of all signers by one model. Safe to share between threads."""

    def __init__(self, model_id: str, *, most: int = MOST, every: float = EVERY) -> None:
        self._model_id, self._most = model_id, most
        self._every, self._caught_up = every, -math.inf
        self._lock = threading.Lock()
        self._last = 0  # the highest reference read
        self._learnt: set[int] = set()
        self._count = 0
        self._vectors: Vectors = np.empty((0, 0), np.float32)  # without cells
        self._packed: list[bytes] = []
        self._signers: list[str] = []
        self._rows: dict[str, list[int]] = {}
        self._owners: dict[str, str] = {}

    def catch_up(self, session: Session) -> None:
        """Read what others have enrolled, every so often; what was retired since stays known."""
        with self._lock:
            if time.monotonic() - self._caught_up < self._every:
                return
            if not self._last:
                self._last = self._start(session)
            rows = session.execute(
                select(
                    Reference.id,
                    Reference.signer_id,
                    Reference.sha256,
                    Embedding.vector,
                    Embedding.dimensions,
                )
                .join(Embedding, Embedding.reference_id == Reference.id)
                .join(Signer, Signer.id == Reference.signer_id)
                .where(Reference.id > self._last, Embedding.model_id == self._model_id)
                .where(Reference.retired_at.is_(None), Signer.retired_at.is_(None))
                .order_by(Reference.id)
                .execution_options(yield_per=CHUNK)
            )
            for row in rows:
                vector = vectors.unpack(row.vector, row.dimensions)
                self._add(row.id, row.signer_id, row.sha256, vector)
                self._last = row.id
            self._caught_up = time.monotonic()

    def _start(self, session: Session) -> int:
        """The reference before the oldest that is wanted."""
        of_model = Embedding.model_id == self._model_id
        dimensions = session.scalar(select(Embedding.dimensions).where(of_model).limit(1))
        most = min(self._most, MOST_WITH_CELLS) if dimensions == WITH_CELLS else self._most
        newest = select(Reference.id).order_by(Reference.id.desc()).offset(most).limit(1)
        return session.scalar(newest) or 0

    def learn(self, reference_id: int, signer_id: str, sha256: str, vector: Vectors) -> None:
        """Take in what this process has just enrolled: others may have written later numbers."""
        with self._lock:
            self._add(reference_id, signer_id, sha256, vector)

    def _add(self, reference_id: int, signer_id: str, sha256: str, vector: Vectors) -> None:
        if reference_id in self._learnt:
            return
        self._learnt.add(reference_id)
        own = vectors_of(vector)
        if self._count == len(self._vectors):
            grown = np.empty((max(2 * self._count, 1024), len(own)), np.float32)
            grown[: self._count] = self._vectors[: self._count].reshape(self._count, len(own))
            self._vectors = grown
        self._vectors[self._count] = own
        if has_cells(vector):
            self._packed.append(vectors.pack(vector))
        self._rows.setdefault(signer_id, []).append(self._count)
        self._signers.append(signer_id)
        self._owners.setdefault(sha256, signer_id)
        self._count += 1

    def owner(self, sha256: str, *, but: str) -> str | None:
        """Another signer than `but` who is enrolled with the very same file."""
        found = self._owners.get(sha256)
        return None if found == but else found

    def nearest(self, specimens: Vectors, *, but: str) -> list[Neighbour | None]:
        """For each specimen (M, D), the signer other than `but` with the nearest reference."""
        with self._lock:
            if len(self._rows) == (but in self._rows):  # nobody else
                return [None] * len(specimens)
            # Of unit vectors; who is near by these is looked at with the cells, too.
            likeness = _products(vectors_of(specimens), self._vectors[: self._count])
            likeness[:, self._rows.get(but, [])] = -np.inf
            best: Collection[int] = likeness.argmax(axis=1).tolist()
            return [self._neighbour(self._signers[row]) for row in best]

    def _neighbour(self, signer_id: str) -> Neighbour:
        rows = self._rows[signer_id]
        if not self._packed:
            return Neighbour(signer_id=signer_id, references=self._vectors[rows])
        whole = [vectors.unpack(self._packed[row], WITH_CELLS) for row in rows]
        return Neighbour(signer_id=signer_id, references=np.stack(whole))


def _products(specimens: Vectors, known: Vectors) -> Vectors:
    """Inner products (M, K), block by block.

    On larger ones NumPy's library sets several threads, which wait in spin loops for the cores
    that embed: a fifth of the time of an enrolment.
    """
    blocks = range(0, len(known), BLOCK)
    return np.concatenate([specimens @ known[start : start + BLOCK].T for start in blocks], axis=1)
