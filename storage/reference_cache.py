"""Signers' references as one process has read them, kept until somebody changes them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.orm import Session

from storage import references, signers
from storage.errors import StorageError
from storage.references import ReferenceSet

SIGNERS = 4096
"""With five references of 512 numbers each, 40 MB."""
MEMORY = 128 << 20
"""Bytes of vectors kept at most: with cells behind them, five references take a third of a MB."""


@dataclass(frozen=True, kw_only=True)
class _Kept:
    revision: int
    references: ReferenceSet


class ReferenceCache:
    """The references of the signers asked for last. Safe to share between threads.

    Of `capacity` of them, or of as many as `memory` bytes hold.

    Each question reads the signer's revision from the database, so an answer is never older than
    the transaction that asks; only the vectors are spared.
    """

    def __init__(self, capacity: int = SIGNERS, memory: int = MEMORY) -> None:
        self._capacity, self._memory, self._size = capacity, memory, 0
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def embeddings(
        self, session: Session, signer_ids: Collection[str], model_id: str
    ) -> dict[str, ReferenceSet | StorageError]:
        """Each signer's live references as this model sees them, or why there are none.

        The reasons are those that `references.embeddings` raises.
        """
        current = signers.revisions(session, signer_ids)
        return {
            signer_id: self._current(session, signer_id, model_id, current.get(signer_id))
            for signer_id in signer_ids
        }

    def _current(
        self, session: Session, signer_id: str, model_id: str, revision: int | None
    ) -> ReferenceSet | StorageError:
        with self._lock:
            kept = self._kept.get((signer_id, model_id))
            if kept is not None and kept.revision == revision:
                self._kept.move_to_end((signer_id, model_id))
                return kept.references
        try:
            read = references.embeddings(session, signer_id, model_id)
        except StorageError as error:
            with self._lock:  # of an erased signer nothing is kept
                self._drop((signer_id, model_id))
            return error
        if revision is not None:
            # Read after the revision: what is kept may be newer than it says, never older.
            self._keep(signer_id, model_id, _Kept(revision=revision, references=read))
        return read

    def _keep(self, signer_id: str, model_id: str, kept: _Kept) -> None:
        with self._lock:
            self._drop((signer_id, model_id))
            self._kept[signer_id, model_id] = kept
            self._size += kept.references.vectors.nbytes
            while len(self._kept) > self._capacity or self._size > self._memory:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[str, str]) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._size -= dropped.references.vectors.nbytes
