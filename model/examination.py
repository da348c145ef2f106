"""A model examined on a corpus: the protocols, the gates against leaks, and the state of the files.

Two tracks are kept apart. `strokes` is leak-controlled: the network sees binary strokes, as the
service does. `seed_grey` is paper-comparable: it keeps the grey, as most papers do, and where
genuine and forged signatures were scanned in different sessions the grey alone tells them apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from . import leakage
from .cache import CachedImages
from .dataset import Signer
from .errors import DatasetError
from .evaluate import Measured, embed_rows, measure
from .findings import Copies, duplicates, findings
from .inference import Embedder
from .leakage import Gates
from .metrics import threshold
from .sampling import writers_of

Track = Literal["leak-controlled", "paper-comparable"]
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""

LEAKY = (
    "seed_grey keeps the grey of paper and ink. Where genuine and forged signatures were scanned "
    "in different sessions, as in CEDAR, the grey alone tells them apart: figures on such data "
    "say nothing about handwriting."
)

DEVELOPMENT = "development writers"
ALL = "all writers, also those the model knows"


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What one model came to on some writers of one corpus.

    `known` says what the model knows of these writers: "", DEVELOPMENT or ALL. `left_out`
    counts the writers who were left out because the model knows them. `inputs` is (AUC, EER) of
    the single-image probe on the preprocessed pixels, without the model; `displacement` the AUC
    of `leakage.common_displacement`. `remarks` are sentences about the writers and the files:
    unreadable ones, `duplicates`, too few signatures, writers who may be known all the same.
    """

    corpus: str
    model_id: str
    backbone: str
    input: str
    leaky: bool
    known: str
    writers: tuple[str, ...]
    left_out: int
    measured: tuple[Measured, ...]
    gates: Gates
    inputs: tuple[float, float]
    displacement: float
    unreadable: Mapping[Path, str]
    duplicates: tuple[Copies, ...]
    remarks: tuple[str, ...]

    @property
    def track(self) -> Track:
        """Which of the two tracks the figures belong to."""
        return "paper-comparable" if self.leaky else "leak-controlled"

    @property
    def marked_track(self) -> str:
        """The track, with a mark that nobody overlooks where it is leaky."""
        return f"{self.track}, LEAKY" if self.leaky else self.track

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row of figures for each protocol, as `evaluate.summary` gives them."""
        return [one.row for one in self.measured]

    @property
    def refused(self) -> bool:
        """Whether a gate failed, so that the model is not to be promoted."""
        return bool(self.gates.failures)

    def decisions(self) -> list[dict[str, Any]]:
        """The 1:1 pairs decided by the checkpoint's threshold and, as papers do, by their own.

        The second row's threshold is fitted on the very pairs it is tested on, which flatters it.
        """
        pairs = self.measured[0]
        rows = [{"threshold_of": "development writers", **pairs.decisions(pairs.threshold)}]
        if len(pairs.scores.skilled):
            best = threshold(pairs.scores.genuine, pairs.scores.skilled, "maxacc")
            rows.append({"threshold_of": "the tested pairs", **pairs.decisions(best)})
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "corpus": self.corpus,
            "track": self.track,
            "known": self.known,
            "model": self.model_id,
            "backbone": self.backbone,
            "input": self.input,
            "writers": len(self.writers),
            "writer_names": list(self.writers),
            "left_out": self.left_out,
            "rows": self.rows,
            "decisions": self.decisions(),
            "gates": self.gates.as_dict(),
            "refused": self.refused,
            "input_probe": {"auc": self.inputs[0], "eer": self.inputs[1]},
            "common_displacement": {"auc": self.displacement},
            "unreadable": {str(path): reason for path, reason in self.unreadable.items()},
            "duplicates": [
                {"kind": found.kind, "files": [str(path) for path in found.files]}
                for found in self.duplicates
            ],
            "remarks": list(self.remarks),
        }


def deciding(examinations: Sequence[Examination]) -> list[Examination]:
    """Those whose gates decide whether the model is refused.

    The leaky track is expected to fail, so it decides only where there is no other; development
    writers never do.
    """
    tested = [found for found in examinations if found.known != DEVELOPMENT]
    return [found for found in tested if not found.leaky] or tested


def refused(examinations: Sequence[Examination]) -> list[Examination]:
    """Those of the deciding ones in which a gate failed."""
    return [found for found in deciding(examinations) if found.refused]


def examine(
    embedder: Embedder,
    signers: Sequence[Signer],
    *,
    cache: Path,
    seed: int,
    corpus: str,
    known: str = "",
    left_out: int = 0,
    progress: Progress = lambda *_: None,
) -> Examination:
    """Run all protocols and gates on these signers; raises ModelError where that cannot be done."""
    images = CachedImages(
        signers,
        embedder.preprocessing,
        cache,
        progress=lambda done, total: progress("Reading images", done, total),
    )
    vectors = embed_rows(
        embedder.model,
        images,
        embedder.device,
        lambda done, total: progress("Embedding", done, total),
    )
    writers = writers_of(signers, images)
    if not writers:
        raise DatasetError(f"No writer of {corpus} has two genuine signatures that can be read.")
    progress("Measuring", 0, 3)
    measured = measure(
        vectors, writers, threshold=embedder.threshold, scoring=embedder.scoring, seed=seed
    )
    pairs = measured[0].row
    progress("Checking for leaks", 1, 3)
    gates = leakage.check(
        vectors,
        writers,
        skilled_eer=pairs["skilled_eer"],
        random_eer=pairs["random_eer"],
        seed=seed,
    )
    progress("Probing the input", 2, 3)
    copies = duplicates(images)
    return Examination(
        corpus=corpus,
        model_id=embedder.model_id,
        backbone=embedder.checkpoint.backbone,
        input=embedder.preprocessing.label,
        leaky=embedder.preprocessing.name == "seed_grey",
        known=known,
        writers=tuple(writer.name for writer in writers),
        left_out=left_out,
        measured=tuple(measured),
        gates=gates,
        inputs=leakage.probe_inputs(images, writers, seed),
        displacement=leakage.common_displacement(vectors, writers),
        unreadable=images.skipped,
        duplicates=copies,
        remarks=findings(images, copies=copies),
    )
