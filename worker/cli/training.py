"""`sigctl train`: a network from folders of signatures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.rates import percent
from worker.cli import show
from worker.cli.evaluate import show_rows
from worker.cli.options import DEFAULT_CACHE, Cache

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.corpora import Parts
    from model.dataset import Split
    from model.recipes import Recipe
    from model.train import Reporter


def train(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A corpus in the CEDAR layout, split by writer.")
    ],
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="A further corpus to learn from; may be repeated."),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="seed (pairs), writers (batches), places, which goes on from a run of writers, "
            "fine, in one run for a GPU, or cells, which goes on from that."
        ),
    ] = "seed",
    mode: Annotated[
        str, typer.Option("--input", help="strokes, or the seed's leaky seed_grey.")
    ] = "strokes",
    output: Annotated[Path, typer.Option(metavar="FILE", help="The checkpoint to write.")] = Path(
        "checkpoints/trained.pt"
    ),
    run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Log and state; a run found there is resumed."),
    ] = None,
    validation: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of DIR's writers for development.")
    ] = 0.2,
    test: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of DIR's writers that only test.")
    ] = 0.1,
    backbone: Annotated[str | None, typer.Option(help="A timm model.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in an epoch, at most.")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Pairs in a step (seed).")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=1e-8)] = None,
    freeze_epochs: Annotated[
        int | None, typer.Option(min=0, help="Epochs in which only the head learns.")
    ] = None,
    threshold: Annotated[
        str | None, typer.Option(help="How the threshold is fitted: youden, maxacc or eer.")
    ] = None,
    pretrained: Annotated[
        bool | None, typer.Option(help="Start from ImageNet weights, if they can be had.")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A checkpoint whose weights a new run begins with."),
    ] = None,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Keep what --start has learnt; fit only descriptors, rule and thresholds anew.",
        ),
    ] = False,
    generated: Annotated[
        int | None, typer.Option(min=0, help="Made-up signers to learn from as well.")
    ] = None,
    allow_leaky: Annotated[
        bool, typer.Option("--allow-leaky", help="Write the checkpoint though a gate failed.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Of the split and of all randomness.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    cache: Cache = DEFAULT_CACHE,
) -> None:
    """Train a network; the defaults are the seed's settings on the leak-controlled input.

    Writers of the three parts are disjoint. The threshold is fitted on development writers and
    tested on the others. A run that was stopped goes on where its last whole epoch ended. A model
    that fails a gate against leaks is not written, unless --allow-leaky is given.
    """
    from model.checkpoint import load_checkpoint
    from model.corpora import check_unseen, choose_writers, load_parts, with_generated
    from model.examination import LEAKY
    from model.inference import choose_device
    from model.promotion import finish
    from model.train import Trainer

    chosen = _recipe(
        recipe,
        mode,
        backbone=backbone,
        epochs=epochs,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        freeze_epochs=freeze_epochs,
        policy=threshold,
        pretrained=pretrained,
        generated=generated,
        seed=seed,
    )
    if refit and start is None:
        raise typer.BadParameter("--refit keeps what a checkpoint has learnt; name it by --start.")
    if chosen.head == "cells" and start is None:
        raise typer.BadParameter("--recipe cells goes on from a checkpoint; name it by --start.")
    if mode == "seed_grey":
        show.note(LEAKY)
    split = choose_writers(
        folder, also=also or (), seed=chosen.seed, validation=validation, test=test
    )
    begun = load_checkpoint(start) if start else None
    if begun:
        check_unseen(split, begun.provenance.get("train_writers", ()))
    if chosen.generated:
        with show.progress() as bar:
            task = bar.add_task("Making up signers", total=None)
            split = with_generated(
                split,
                cache,
                chosen.generated,
                lambda n, of: bar.update(task, completed=n, total=of),
            )
    _show_split(split)
    parts = _load(split, chosen, cache, load_parts)
    place = run or Path("runs") / output.stem
    with show.progress() as bar:
        trainer = Trainer(
            chosen,
            parts.train,
            parts.validation,
            folder=place,
            device=choose_device(device),
            reporter=_reporter(bar, chosen.epochs),
            start=begun,
        )
        try:
            trainer.keep() if refit else trainer.fit()
        except KeyboardInterrupt:
            show.note(
                f"Stopped; the same command goes on after epoch {trainer.epoch}, from {place}."
            )
            raise
    checkpoint = finish(
        trainer,
        parts.test,
        output,
        provenance=_origin(split) | _begun_with(begun, refit),
        allow_leaky=allow_leaky,
    )
    _show_gates(checkpoint.provenance["gates"])
    if "seed_table" in checkpoint.provenance:
        _show_seed_table(checkpoint.provenance["seed_table"])
    show_rows(checkpoint.provenance["test"], "Test writers, never trained or tuned on")
    show.say(f"Threshold {checkpoint.threshold:.3f} ({chosen.policy}). Checkpoint: {output}")


def _show_gates(gates: dict[str, Any]) -> None:
    for sentence in (*gates["failures"], *gates["warnings"]):
        show.note(sentence)
    if gates["passed"]:
        show.say("The gates against leaks are passed.")
    elif gates["failures"]:
        show.note("A gate failed; the checkpoint is written all the same, and says so.")


def _show_seed_table(rows: list[dict[str, Any]]) -> None:
    rates = ("acc", "f1", "roc_auc", "pr_auc", "far", "frr", "eer", "far_random")
    names = ("part", "writers", "pairs", "threshold", *rates)
    show.table(
        [show.Column(title=name.replace("_", " "), right=name != "part") for name in names],
        [
            [
                *(str(row[name]) for name in ("part", "writers", "pairs")),
                f"{row['threshold']:.3f}",
                *(percent(row[name]) for name in rates),
            ]
            for row in rows
        ],
        title="The seed's protocol: 1:1 pairs, the threshold fitted on the validation writers",
    )


def _recipe(name: str, mode: str, **changes: Any) -> Recipe:
    from typing import get_args

    from model.metrics import Policy
    from model.preprocess import VERSIONS
    from model.recipes import RECIPES, with_mode

    if name not in RECIPES:
        raise typer.BadParameter(f"There is no recipe '{name}'; choose from {', '.join(RECIPES)}.")
    if mode not in VERSIONS:
        raise typer.BadParameter(f"--input must be one of {', '.join(VERSIONS)}.")
    policies = [policy for policy in get_args(Policy) if policy != "far"]
    if changes["policy"] not in (None, *policies):
        raise typer.BadParameter(f"--threshold must be one of {', '.join(policies)}.")
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(with_mode(RECIPES[name], mode), **given)


def _origin(split: Split) -> dict[str, Any]:
    """What the checkpoint's provenance says beside the run itself."""
    return {
        "corpora": sorted({signer.corpus for signer in (*split.train, *split.validation)}),
        "git": _revision(),
        "train_writers": [signer.name for signer in split.train],
        "development_writers": [signer.name for signer in split.validation],
        "test_writers": [signer.name for signer in split.test],
    }


def _begun_with(start: Checkpoint | None, refit: bool) -> dict[str, Any]:
    """Which checkpoint a run began with, and its log where the run has taught it nothing."""
    if start is None:
        return {"start": None}
    learnt = {"refit": True, "log": start.provenance.get("log", [])} if refit else {}
    return {"start": start.sha256} | learnt


def _revision() -> str | None:
    """The commit of the checkout this runs from, with a + if it was changed since."""
    import subprocess

    def git(*words: str) -> str:
        done = subprocess.run(  # noqa: S603 - the words are ours
            ["git", *words],  # noqa: S607 - whichever git the person uses
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _show_split(split: Split) -> None:
    from model.dataset import partition_summary

    rows = partition_summary(split)
    columns = [show.Column(title=name, right=name != "part") for name in rows[0]]
    show.table(columns, [list(row.values()) for row in rows])
    show.say("Leakage check: no writer and no file is in two parts.")


def _load(split: Split, recipe: Recipe, cache: Path, load_parts: Any) -> Parts:
    from model.findings import findings

    with show.progress() as bar:
        task = bar.add_task("Reading images", total=None)
        parts: Parts = load_parts(
            split,
            recipe.preprocessing,
            cache,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    for sentence in findings(parts.train.images, parts.validation.images, parts.test.images):
        show.note(sentence)
    return parts


def _reporter(bar: Any, epochs: int) -> Reporter:
    from model.train import Reporter

    task = bar.add_task("Training", total=None)

    def step(epoch: int, number: int, steps: int, loss: float) -> None:
        bar.update(
            task,
            description=f"Epoch {epoch}/{epochs}, loss {loss:.4f}",
            completed=(epoch - 1) * steps + number,
            total=epochs * steps,
        )

    return Reporter(say=show.note, step=step)
