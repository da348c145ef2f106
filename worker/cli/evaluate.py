"""`sigctl evaluate`: how a model does on writers it has not seen, and whether to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.rates import percent, rate
from worker.cli import show
from worker.cli.exits import CommandError
from worker.cli.options import DEFAULT_CACHE, Cache, Json

if TYPE_CHECKING:
    from rich.progress import Progress

    from model.dataset import Signer
    from model.examination import Examination
    from model.inference import Embedder

REFUSED = 1
"""The exit code for a model that fails a gate."""


def evaluate(
    data: Annotated[
        list[Path],
        typer.Option(metavar="DIR", help="A corpus in the CEDAR layout; may be repeated."),
    ],
    checkpoint: Annotated[Path, typer.Option(metavar="FILE", help="The model to evaluate.")],
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a report: HTML page, pictures, JSON and CSV."),
    ] = None,
    grey_checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A model of the paper-comparable track, which is leaky."),
    ] = None,
    grey_data: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="A corpus for that model; may be repeated."),
    ] = None,
    all_writers: Annotated[
        bool, typer.Option("--all", help="Also writers that the model was trained or tuned on.")
    ] = False,
    known_as: Annotated[
        str | None,
        typer.Option(metavar="CORPUS", help="The name under which the model may know the writers."),
    ] = None,
    allow_leaky: Annotated[
        bool, typer.Option(help="Exit with 0 also when a gate against leaks fails.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 123,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    cache: Cache = DEFAULT_CACHE,
    json: Json = False,
) -> None:
    """Measure a model on writers it has not seen: 1:1, and with 1, 3, 5 and 10 references.

    Skilled and random forgeries are kept apart, and the checkpoint's own thresholds are used
    unchanged. Writers whom the checkpoint names as its training writers are left out; its
    development writers are measured by themselves. Scans of the same writers in a folder of
    another name need --known-as, or the model is tested on writers it knows. A model that fails
    a gate against leaks is refused: exit code 1, unless --allow-leaky is given.
    """
    from model import report as reports
    from model.examination import refused
    from model.inference import load_embedder

    if bool(grey_checkpoint) != bool(grey_data):
        raise CommandError("--grey-checkpoint and --grey-data belong together.")
    tracks = [(load_embedder(checkpoint, device), data)]
    if grey_checkpoint and grey_data:
        tracks.append((_grey(load_embedder(grey_checkpoint, device)), grey_data))
    found: list[Examination] = []
    with show.progress(hidden=json) as bar:
        for embedder, folders in tracks:
            chosen = _Choice(embedder, all_writers=all_writers, known_as=known_as)
            for folder in folders:
                found += chosen.examine(folder, bar, cache=cache, seed=seed)
    checkpoints = [embedder.checkpoint for embedder, _ in tracks]
    facts = {"made": show.when(datetime.now(UTC)), "seed": seed, "allow_leaky": allow_leaky}
    page = reports.write_report(report, found, checkpoints, facts=facts) if report else None
    failed = refused(found)
    if json:
        show.as_json(reports.as_dict(found, checkpoints, facts))
    else:
        _show(found)
        _conclude(failed, page)
    if failed and not allow_leaky:
        raise typer.Exit(REFUSED)


class _Choice:
    """Which writers of a folder a model is measured on, by what it says it knows."""

    def __init__(self, embedder: Embedder, *, all_writers: bool, known_as: str | None) -> None:
        told = embedder.checkpoint.provenance
        self.embedder, self.all_writers, self.known_as = embedder, all_writers, known_as
        self.trained = frozenset(told.get("train_writers", ()))
        self.tuned = frozenset(told.get("development_writers", ()))

    def examine(self, folder: Path, bar: Progress, *, cache: Path, seed: int) -> list[Examination]:
        from model.dataset import scan_dataset
        from model.examination import examine

        task = bar.add_task(str(folder), total=None)

        def progress(doing: str, done: int, total: int) -> None:
            bar.update(task, description=f"{doing}, {corpus}", completed=done, total=total)

        signers = scan_dataset(folder)
        corpus = signers[0].corpus
        parts = self._parts(signers, folder)
        left_out = 0 if self.all_writers else len(signers) - len(parts[""])
        examined = [
            examine(
                self.embedder,
                members,
                cache=cache,
                seed=seed,
                corpus=corpus,
                known=known,
                left_out=0 if known else left_out,
                progress=progress,
            )
            for known, members in parts.items()
        ]
        doubt = self._doubt(corpus)
        return [replace(one, remarks=(*doubt, *one.remarks)) for one in examined]

    def _parts(self, signers: Sequence[Signer], folder: Path) -> dict[str, tuple[Signer, ...]]:
        """The writers to measure, by what the model knows of them; "" for nothing."""
        from model.examination import ALL, DEVELOPMENT

        if self.all_writers:
            return {ALL: tuple(signers)}
        unseen = tuple(one for one in signers if self._name(one) not in self.trained | self.tuned)
        if not unseen:
            raise CommandError(
                f"The model was trained or tuned on every writer of {folder}; --all evaluates it "
                "on them all the same."
            )
        tuned = tuple(one for one in signers if self._name(one) in self.tuned)
        return {"": unseen} | ({DEVELOPMENT: tuned} if len(tuned) > 1 else {})

    def _doubt(self, corpus: str) -> tuple[str, ...]:
        """What to say of a folder in which the model knows nobody by name."""
        from model.dataset import corpus_of

        names = sorted({corpus_of(name) for name in self.trained | self.tuned})
        if self.all_writers or self.known_as or not names or corpus in names:
            return ()
        return (
            f"The model knows nobody of {corpus} by name, so nobody is left out. If these are "
            f"other scans of writers of {', '.join(names)}, --known-as CORPUS leaves out those it "
            "knows.",
        )

    def _name(self, signer: Signer) -> str:
        return f"{self.known_as or signer.corpus}/{signer.name.rsplit('/', 1)[1]}"


def _grey(embedder: Embedder) -> Embedder:
    if embedder.preprocessing.name != "seed_grey":
        raise CommandError(
            f"{embedder.source} is no model of the paper-comparable track: its input is "
            f"{embedder.preprocessing.label}, which keeps no grey."
        )
    return embedder


def _show(examinations: Sequence[Examination]) -> None:
    from model.examination import LEAKY

    if any(found.leaky for found in examinations):
        show.note(LEAKY)
    for found in examinations:
        _show_one(found)
    if len(examinations) > 1:
        _show_side_by_side(examinations)


def _show_one(found: Examination) -> None:
    from model.chapters import verdict
    from model.examination import DEVELOPMENT

    for remark in found.remarks:
        show.note(remark)
    known = f" ({found.known})" if found.known else ""
    if found.known == DEVELOPMENT:
        known = f" ({DEVELOPMENT}, whom the thresholds were fitted on)"
    left_out = f"; {found.left_out} left out, the model knows them" if found.left_out else ""
    writers = f"{len(found.writers)} writers{known}{left_out}"
    show_rows(found.rows, f"{found.corpus}: {writers}; {found.marked_track}; {found.input}")
    _show_operating_points(found.rows)
    _show_gates(found, f"Gates against leaks: {verdict(found)}")


def show_rows(rows: Sequence[dict[str, Any]], title: str) -> None:
    """Print the figures of each protocol, rates in per cent."""
    from model.chapters import interval, number

    names = ("EER skilled", "95 %", "EER random", "threshold", "FRR", "FAR skilled", "FAR random")
    show.table(
        [
            show.Column(title="rates in %", whole=True),
            *(show.Column(title=name, right=True) for name in names),
        ],
        [
            [
                row["protocol"],
                rate(row["skilled_eer"]),
                interval(row, "skilled"),
                rate(row["random_eer"]),
                number(row["threshold"]),
                *(rate(row[key]) for key in ("frr", "far_skilled", "far_random")),
            ]
            for row in rows
        ],
        title=title,
    )


def _show_operating_points(rows: Sequence[dict[str, Any]]) -> None:
    from model.evaluate import KINDS

    points = [(row["protocol"], *item) for row in rows for item in row["operating_points"].items()]
    if not points:
        return
    show.table(
        [
            show.Column(title="rates in %", whole=True),
            show.Column(title="FAR", right=True),
            *(show.Column(title=kind, right=True) for kind in KINDS),
        ],
        [
            [
                protocol,
                point,
                *(" / ".join(rate(share) for share in shares[kind].values()) for kind in KINDS),
            ]
            for protocol, point, shares in points
        ],
        title="Operating points: accepted / for review / rejected",
    )


def _show_gates(found: Examination, title: str) -> None:
    from model.chapters import findings_of

    columns = ("gate", "verdict", "figures and limits")
    show.table([show.Column(title=name) for name in columns], findings_of(found), title=title)


def _show_side_by_side(examinations: Sequence[Examination]) -> None:
    from model.examination import DEVELOPMENT

    protocols = dict.fromkeys(row["protocol"] for found in examinations for row in found.rows)
    show.table(
        [
            show.Column(title="corpus"),
            show.Column(title="track"),
            *(show.Column(title=name, right=True) for name in protocols),
        ],
        [
            [
                found.corpus + (" (development)" if found.known == DEVELOPMENT else ""),
                found.marked_track,
                *(
                    next((percent(r["skilled_eer"]) for r in found.rows if r["protocol"] == p), "-")
                    for p in protocols
                ),
            ]
            for found in examinations
        ],
        title="Skilled EER, both tracks side by side",
    )


def _conclude(failed: Sequence[Examination], page: Path | None) -> None:
    if page:
        show.say(f"Report: {page}")
    if failed:
        where = ", ".join(found.corpus for found in failed)
        show.say(f"REFUSED: a gate against leaks failed on {where}.", style="red")
