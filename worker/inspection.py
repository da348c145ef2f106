"""Judging the specimens that are offered for one signer, before any of them is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from model import likeness
from model.arrays import Canvas, Vector, Vectors
from model.scoring import Scoring, distances_at_least, distances_to, places_of_one
from model.specimen import Measures, Remark, Weight, remarks
from worker.register import Neighbour, Register


@dataclass(frozen=True, kw_only=True, eq=False)
class Fellow:
    """A specimen of the same signer: its embedding (D,), and where its canvas is to be had.

    `canvas` returns None where the image cannot be had any more; it is asked only of specimens
    that are so close that they may be the same.
    """

    name: str
    sha256: str
    vector: Vector
    canvas: Callable[[], Canvas | None]


class Inspection:
    """Knows the signer's specimens, those accepted so far among them, and everybody else's.

    Without a register nothing is said about other signers.
    """

    def __init__(
        self,
        signer_id: str,
        fellows: Iterable[Fellow],
        scoring: Scoring,
        register: Register | None = None,
    ) -> None:
        self._signer_id = signer_id
        self._fellows = list(fellows)
        self._scoring = scoring
        self._register = register
        self._vectors: Vectors | None = None

    @property
    def vectors(self) -> Vectors:
        """Embeddings (N, D) of all specimens of the signer, those accepted so far among them.

        The same array until another is accepted, so that its rows are compared with each other
        once; (0, 0) without any.
        """
        if self._vectors is None:
            self._vectors = _stacked([fellow.vector for fellow in self._fellows])
        return self._vectors

    def accept(self, fellow: Fellow) -> None:
        """From now on the specimen is one of the signer's."""
        if fellow.sha256 not in {known.sha256 for known in self._fellows}:
            self._fellows.append(fellow)
            self._vectors = None

    def neighbours(self, offered: Sequence[Vector]) -> list[Neighbour | None]:
        """The nearest other signer of each of some embeddings, in one look at the register."""
        if self._register is None or not offered:
            return [None] * len(offered)
        return self._register.nearest(np.stack(offered), but=self._signer_id)

    def judge(
        self,
        specimen: Fellow,
        measures: Measures,
        neighbour: Neighbour | None,
        beside: Sequence[Vector],
    ) -> tuple[Remark, ...]:
        """All that is to be said of a specimen but whether it is far from its fellows.

        `beside` are the embeddings of those that are offered together with it. Of a file that was
        accepted already there is nothing to say.
        """
        if specimen.sha256 in {known.sha256 for known in self._fellows}:
            return ()
        found = [
            self._same_file(specimen.sha256),
            *remarks(measures),
            self._copy(specimen),
            self._near(specimen.vector, neighbour, beside),
        ]
        return tuple(remark for remark in found if remark is not None)

    def far(self, sha256: str) -> Remark | None:
        """Whether an accepted specimen is far from all the others of the signer."""
        vectors = self.vectors
        [number] = [n for n, known in enumerate(self._fellows) if known.sha256 == sha256]
        by_place = places_of_one(vectors, number)
        others = np.delete(vectors, number, axis=0)
        return likeness.far(vectors[number], others, self._scoring, by_place)

    def _same_file(self, sha256: str) -> Remark | None:
        owner = self._register and self._register.owner(sha256, but=self._signer_id)
        if not owner:
            return None
        return Remark(
            code="anothers_image",
            weight=Weight.REFUSAL,
            sentence=f"the same file is enrolled for {owner}",
        )

    def _copy(self, specimen: Fellow) -> Remark | None:
        """The remark about the closest of those that may be the same."""
        if not self._fellows:
            return None
        least = distances_at_least(specimen.vector, self.vectors).tolist()
        near = [place for place, far in enumerate(least) if likeness.close(far, self._scoring)]
        distances = distances_to(specimen.vector, self.vectors[near]).tolist()
        for distance, place in sorted(zip(distances, near, strict=True)):
            if not likeness.close(distance, self._scoring):
                return None
            mine, theirs = specimen.canvas(), self._fellows[place].canvas()
            if mine is not None and theirs is not None:
                shared = likeness.overlap(mine, theirs)
                if remark := likeness.copied(shared, self._fellows[place].name):
                    return remark
        return None

    def _near(
        self, vector: Vector, neighbour: Neighbour | None, beside: Sequence[Vector]
    ) -> Remark | None:
        if neighbour is None:
            return None

        def is_far() -> bool:
            own = _stacked([*self.vectors, *beside])
            return likeness.far(vector, own, self._scoring) is not None

        return likeness.near(
            vector, neighbour.references, neighbour.signer_id, self._scoring, is_far=is_far
        )


def _stacked(vectors: Sequence[Vector]) -> Vectors:
    return np.stack(vectors) if vectors else np.empty((0, 0), np.float32)
