"""`sigctl train` and `sigctl evaluate`: a network from folders of signatures, and its error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import show
from worker.cli.options import Json

if TYPE_CHECKING:
    from model.corpora import Parts
    from model.dataset import Signer, Split
    from model.recipes import Recipe
    from model.train import Reporter

LEAKY = (
    "seed_grey keeps the grey of paper and ink. Where genuine and forged signatures were scanned "
    "in different sessions, as in CEDAR, the grey alone tells them apart: figures on such data "
    "say nothing about handwriting."
)
Cache = Annotated[
    Path, typer.Option(metavar="DIR", help="Where preprocessed corpora are kept between runs.")
]
DEFAULT_CACHE = Path(".cache/sigctl")


def train(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A corpus in the CEDAR layout, split by writer.")
    ],
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="A further corpus to learn from; may be repeated."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="seed (pairs) or writers (batches).")] = "seed",
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
    seed: Annotated[int | None, typer.Option(help="Of the split and of all randomness.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    cache: Cache = DEFAULT_CACHE,
) -> None:
    """Train a network; the defaults are the seed's settings on the leak-controlled input.

    Writers of the three parts are disjoint. The threshold is fitted on development writers and
    tested on the others. A run that was stopped goes on where its last whole epoch ended.
    """
    from model.corpora import choose_writers, load_parts
    from model.inference import choose_device
    from model.train import Trainer, finish

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
        seed=seed,
    )
    if mode == "seed_grey":
        show.note(LEAKY)
    split = choose_writers(
        folder, also=also or (), seed=chosen.seed, validation=validation, test=test
    )
    _show_split(split)
    parts = _load(split, chosen, cache, load_parts)
    with show.progress() as bar:
        trainer = Trainer(
            chosen,
            parts.train,
            parts.validation,
            folder=run or Path("runs") / output.stem,
            device=choose_device(device),
            reporter=_reporter(bar, chosen.epochs),
            focus=split.train[0].corpus,
        )
        trainer.fit()
    checkpoint = finish(trainer, parts.test, output, provenance=_writers(split))
    _show_rows(checkpoint.provenance["test"], "Test writers, never trained or tuned on")
    show.say(f"Threshold {checkpoint.threshold:.3f} ({chosen.policy}). Checkpoint: {output}")


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


def _writers(split: Split) -> dict[str, list[str]]:
    return {
        "train_writers": [signer.name for signer in split.train],
        "development_writers": [signer.name for signer in split.validation],
        "test_writers": [signer.name for signer in split.test],
    }


def _show_split(split: Split) -> None:
    from model.dataset import partition_summary

    rows = partition_summary(split)
    columns = [show.Column(title=name, right=name != "part") for name in rows[0]]
    show.table(columns, [list(row.values()) for row in rows])
    show.say("Leakage check: no writer and no file is in two parts.")


def _load(split: Split, recipe: Recipe, cache: Path, load_parts: Any) -> Parts:
    with show.progress() as bar:
        task = bar.add_task("Reading images", total=None)
        parts: Parts = load_parts(
            split,
            recipe.preprocessing,
            cache,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    for part in (parts.train, parts.validation, parts.test):
        for path, reason in part.images.skipped.items():
            show.note(f"Left out {path}: {reason}")
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


def _show_rows(rows: list[dict[str, Any]], title: str) -> None:
    columns = (
        show.Column(title="protocol"),
        *(
            show.Column(title=name, right=True)
            for name in ("EER skilled", "EER random", "threshold", "FRR", "FAR sk.", "FAR rnd.")
        ),
        show.Column(title="gen./sk./rnd.", right=True),
    )
    rates = ("skilled_eer", "random_eer", "threshold", "frr", "far_skilled", "far_random")
    show.table(
        columns,
        [
            [
                row["protocol"],
                *(f"{row[key]:.3f}" if key == "threshold" else _percent(row[key]) for key in rates),
                f"{row['genuine']}/{row['skilled']}/{row['random']}",
            ]
            for row in rows
        ],
        title=title,
    )


def _percent(rate: float) -> str:
    """A rate in per cent; a dash where there was nothing to count."""
    return f"{100 * rate:.1f} %" if rate == rate else "-"


def evaluate(
    data: Annotated[Path, typer.Option(metavar="DIR", help="A corpus in the CEDAR layout.")],
    checkpoint: Annotated[Path, typer.Option(metavar="FILE", help="The model to evaluate.")],
    all_writers: Annotated[
        bool, typer.Option("--all", help="Also writers that the model was trained or tuned on.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw distances and ROC of 1:1 as PNG.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws of references.")] = 123,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    cache: Cache = DEFAULT_CACHE,
    json: Json = False,
) -> None:
    """Measure a model on writers it has not seen: 1:1, and with 1, 3, 5 and 10 references.

    Skilled and random forgeries are kept apart, and the checkpoint's own thresholds are used
    unchanged. Writers that the checkpoint names as its training or development writers are left
    out unless --all is given.
    """
    import numpy as np

    from model import evaluate as evaluation
    from model.cache import CachedImages
    from model.dataset import scan_dataset
    from model.inference import load_embedder
    from model.plots import evaluation_plot
    from model.sampling import writers_of

    embedder = load_embedder(checkpoint, device)
    signers, left_out = _unseen(scan_dataset(data), embedder.checkpoint.provenance, all_writers)
    with show.progress(hidden=json) as bar:
        task = bar.add_task("Reading images", total=None)
        images = CachedImages(
            signers,
            embedder.preprocessing,
            cache,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        bar.update(task, description="Embedding")
        vectors = evaluation.embed_rows(
            embedder.model,
            images,
            embedder.device,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    writers = writers_of(signers, images)
    rows = evaluation.summary(
        vectors, writers, threshold=embedder.threshold, scoring=embedder.scoring, seed=seed
    )
    if plot:
        pairs = evaluation.one_to_one(vectors, writers, np.random.default_rng(seed))
        evaluation_plot(pairs.genuine, pairs.skilled, pairs.random, embedder.threshold, plot)
    if json:
        facts = {"model": embedder.model_id, "writers": len(writers), "left_out": left_out}
        show.as_json({**facts, "seed": seed, "rows": rows})
        return
    if embedder.preprocessing.name == "seed_grey":
        show.note(LEAKY)
    known = f"; {left_out} left out, the model knows them" if left_out else ""
    known = known or ("; the model may know some of them" if all_writers else "")
    title = f"{data.resolve().name}: {len(writers)} writers{known}; {embedder.preprocessing.label}"
    _show_rows(rows, title)


def _unseen(
    signers: tuple[Signer, ...], provenance: Any, all_writers: bool
) -> tuple[tuple[Signer, ...], int]:
    from model.errors import DatasetError

    if all_writers:
        return signers, 0
    seen = {*provenance.get("train_writers", ()), *provenance.get("development_writers", ())}
    unseen = tuple(signer for signer in signers if signer.name not in seen)
    if not unseen:
        raise DatasetError(
            "The model was trained or tuned on every writer of this folder; --all evaluates "
            "it on them all the same."
        )
    return unseen, len(signers) - len(unseen)
