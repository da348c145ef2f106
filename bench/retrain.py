"""Retraining on real hands: whether ten signers who enrol make the model better for the others.

A network is trained on 20 writers of CEDAR. Ten more arrive in a service that uses it: genuine
signatures of theirs are enrolled, documents are decided, and people label what was decided. Then
`retrain` makes a candidate, which is measured on the last 15 writers, whom nobody has seen, and is
promoted or not by the rule. The same once more in a service that is spoilt: whose signature is
whose, and what is genuine, was shuffled.

    python -m bench.retrain --data DIR [--places | --cells] [--output DIR] [--epochs N]

The network is the smallest of the family, so that all takes half an hour on one core, and with
cells an hour. What is done is kept in the output folder, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from migrations.upgrade import upgrade
from model.checkpoint import load_checkpoint
from model.corpora import load_parts
from model.dataset import Signer, Split, scan_dataset
from model.files import write_atomically
from model.inference import choose_device
from model.promotion import finish
from model.recipes import CELLS, FINE, PLACES, WRITERS, Recipe
from model.train import Reporter, Trainer
from storage import labels, models
from worker import client
from worker.cli import show
from worker.enrolment import enroll
from worker.learning import compared
from worker.retrain import retrain
from worker.retrain_run import Asked, RunFolder, Watch
from worker.runtime import Runtime, close_runtimes
from worker.settings import Settings
from worker.transactions import register_model, transaction

KNOWN, ARRIVING, LAST = 20, 10, 15
TUNING = 4
"""Of the known writers, those who tune."""

REFERENCES = 10
CANNOT = 2

Labelled = tuple[str, Path, str]
"""A signer, a document, and what people say of it."""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What a service meets: references by signer, and documents with their labels."""

    references: Mapping[str, Sequence[Path]]
    documents: Sequence[Labelled]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, enrol, label, retrain, twice; returns 0 if one was promoted and the other refused."""
    options = _options(arguments)
    if options.data is None or not options.data.is_dir():
        show.say("--data must name a folder with CEDAR in its own layout.", stderr=True)
        return CANNOT
    known, arriving, last = _parted(scan_dataset(options.data), options.seed)
    base = _linked(options.output / "cedar", (*known, *last))
    model = options.output / "first.pt"
    if not model.exists():
        _first_model(model, base, {signer.name for signer in last}, options)
    arrival = _arrival(arriving)
    results = {
        name: _retrained(name, base, model, given, options)
        for name, given in (("true", arrival), ("shuffled", _shuffled(arrival, options.seed)))
    }
    text = json.dumps(show.jsonable(results), indent=2)
    write_atomically(options.output / "results.json", text.encode())
    for name, result in results.items():
        _tell(name, result)
    promoted = {name: result["promoted"] for name, result in results.items()}
    return 0 if promoted == {"true": True, "shuffled": False} else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Retraining on real hands.")
    parser.add_argument("--data", type=Path, help="CEDAR, in its own layout")
    parser.add_argument("--output", type=Path, default=Path("bench-output/retrain"))
    parser.add_argument("--backbone", default="test_mambaout")
    parser.add_argument("--first-epochs", type=int, default=20, help="of the first model's stages")
    parser.add_argument("--epochs", type=int, default=8, help="of a retraining")
    parser.add_argument("--steps", type=int, default=60, help="in an epoch")
    parser.add_argument("--max-flips", type=float, default=0.05)
    parser.add_argument("--from-scratch", action="store_true", help="retrain from random weights")
    learnt = parser.add_mutually_exclusive_group()
    learnt.add_argument("--places", action="store_true", help="a second stage with descriptors")
    learnt.add_argument("--cells", action="store_true", help="with descriptors, then with cells")
    parser.add_argument("--seed", type=int, default=7, help="of who arrives, and of the shuffling")
    parser.add_argument("--device", default="auto")
    return parser.parse_args(arguments)


def _parted(
    signers: Sequence[Signer], seed: int
) -> tuple[list[Signer], list[Signer], list[Signer]]:
    """The writers whom the first model knows, those who arrive, and those who only test."""
    order = [signers[n] for n in np.random.default_rng(seed).permutation(len(signers))]
    known, arriving = order[:KNOWN], order[KNOWN : KNOWN + ARRIVING]
    return known, arriving, order[KNOWN + ARRIVING :][:LAST]


def _linked(folder: Path, signers: Sequence[Signer]) -> Path:
    """A corpus of these writers alone, by links to the files that are there."""
    for kind, name in (("genuine", "full_org"), ("forged", "full_forg")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for path in (path for signer in signers for path in getattr(signer, kind)):
            link = folder / name / path.name
            if not link.exists():
                link.symlink_to(path.resolve())
    return folder


def _first_model(path: Path, base: Path, last: set[str], options: argparse.Namespace) -> None:
    """Two stages from random weights, as the shipped network was made, with fewer steps."""
    known = [signer for signer in scan_dataset(base) if signer.name not in last]
    split = Split(
        train=tuple(known[TUNING:]),
        validation=tuple(known[:TUNING]),
        test=tuple(signer for signer in scan_dataset(base) if signer.name in last),
    )
    names = {
        "train_writers": [signer.name for signer in split.train],
        "development_writers": [signer.name for signer in split.validation],
        "test_writers": [signer.name for signer in split.test],
    }
    start, stages = None, _recipes(options)
    for recipe in stages:
        parts = load_parts(split, recipe.preprocessing, options.output / "cache")
        trainer = Trainer(
            recipe,
            parts.train,
            parts.validation,
            folder=options.output / f"first-{recipe.name}",
            device=choose_device(options.device),
            reporter=Reporter(say=_say, step=lambda *_: None),
            start=start,
        )
        trainer.fit()
        made = path if recipe is stages[-1] else options.output / "stage.pt"
        start = finish(trainer, parts.test, made, provenance=names, allow_leaky=True)


def _recipes(options: argparse.Namespace) -> list[Recipe]:
    few: dict[str, Any] = {
        "backbone": options.backbone,
        "steps": options.steps,
        "epochs": options.first_epochs,
        "warmup_steps": options.steps // 2,
        "generated": 0,
        "ema": 0.99,
    }
    if options.cells:
        fine = replace(
            FINE,
            **few,
            writers_per_batch=PLACES.writers_per_batch,
            learning_rate=PLACES.learning_rate,
            descriptor_steps=options.steps,
        )
        return [fine, replace(CELLS, **few | {"epochs": options.epochs})]
    stages = [replace(WRITERS, **few, descriptor_epochs=1), replace(PLACES, **few)]
    return stages[: 2 if options.places else 1]


def _arrival(arriving: Sequence[Signer]) -> Arrival:
    """Every writer's first signatures as references, all others and the forgeries as documents."""
    references, documents = {}, []
    for signer in arriving:
        name = signer.name.replace("/", "-")
        references[name] = signer.genuine[:REFERENCES]
        documents += [(name, path, "genuine") for path in signer.genuine[REFERENCES:]]
        documents += [(name, path, "forged") for path in signer.forged]
    return Arrival(references=references, documents=documents)


def _shuffled(arrival: Arrival, seed: int) -> Arrival:
    """The same images, but whose they are and what they are called is drawn at random."""
    rng = np.random.default_rng(seed)
    pool = [path for paths in arrival.references.values() for path in paths]
    drawn = [pool[n] for n in rng.permutation(len(pool))]
    references = {
        name: drawn[number * REFERENCES : (number + 1) * REFERENCES]
        for number, name in enumerate(arrival.references)
    }
    order = rng.permutation(len(arrival.documents))
    documents = [
        (name, path, arrival.documents[other][2])
        for (name, path, _), other in zip(arrival.documents, order, strict=True)
    ]
    return Arrival(references=references, documents=documents)


def _retrained(
    name: str, base: Path, model: Path, arrival: Arrival, options: argparse.Namespace
) -> dict[str, Any]:
    """What becomes of the candidate of one service."""
    folder = options.output / name
    runtime = Runtime(_settings(folder, base, model, options))
    _serve(folder, runtime, arrival)
    began = time.monotonic()
    found = retrain(
        RunFolder(folder / "run"),
        Asked(
            corpora=(str(base.resolve()),),
            promote=True,
            replay=len(arrival.documents),
            max_flips=options.max_flips,
            epochs=options.epochs,
            from_scratch=options.from_scratch,
            by="bench",
        ),
        runtime=runtime,
        cache=options.output / "cache",
        watch=Watch(say=_say, progress=lambda *_: None),
        device=options.device,
    )
    seconds = time.monotonic() - began
    runtime.close()
    last = compared(
        parent=load_checkpoint(model),
        candidate=load_checkpoint(folder / "run" / "candidate.pt"),
        corpora=[scan_dataset(base)],
        enrolled=[],
        seed=options.seed,
        cache=options.output / "cache",
        device=options.device,
    )
    return {**found.as_dict(), "last_writers": last.as_dict(), "seconds": seconds}


def _settings(folder: Path, base: Path, model: Path, options: argparse.Namespace) -> Settings:
    folder.mkdir(parents=True, exist_ok=True)
    return Settings(
        database_url=f"sqlite:///{folder / 'sigctl.db'}",
        store=(folder / "store").resolve().as_uri(),
        roots=(options.data.resolve(),),
        checkpoint=model.resolve(),
        corpora=(base,),
        device=options.device,
    )


def _serve(folder: Path, runtime: Runtime, arrival: Arrival) -> None:
    """Enrol the signers, decide their documents and label them, once."""
    mark = folder / "served"
    if mark.exists():
        return
    upgrade(runtime.settings.database_url)
    with transaction(runtime.sessions) as session:
        register_model(session, runtime.embedder)
        models.adopt(session, runtime.embedder.model_id, "bench")
    for name, paths in track(arrival.references.items(), "Enrolling", transient=True):
        enroll(
            name,
            [(path.name, path.read_bytes()) for path in paths],
            sessions=runtime.sessions,
            images=runtime.images,
            embedder=runtime.embedder,
            force=True,  # of a spoilt service nothing is like anything
        )
    for number, (name, path, finding) in enumerate(track(arrival.documents, "Deciding")):
        job = client.submit(
            name, path.resolve().as_uri(), job_id=f"{name}-{number}", settings=runtime.settings
        )
        with transaction(runtime.sessions) as session:
            if not labels.of_job(session, job):
                labels.put(session, job, finding, by="bench")
    close_runtimes()
    mark.touch()


def _say(sentence: str) -> None:
    show.note(f"{time.strftime('%H:%M:%S')} {sentence}")


def _tell(name: str, result: Mapping[str, Any]) -> None:
    show.table(
        [show.Column(title=t, right=n > 1) for n, t in enumerate(TITLES)],
        [
            (
                one["protocol"],
                one["kind"],
                f"{one['active']:.1%}",
                f"{one['candidate']:.1%}",
                f"{100 * one['low']:+.1f} to {100 * one['high']:+.1f}",
            )
            for one in result["last_writers"]["differences"]
        ],
        title=f"{name} labels, the last {LAST} writers: "
        f"{'promoted' if result['promoted'] else 'refused'}, {result['seconds']:.0f} s",
    )
    for condition in result["ruling"]["conditions"]:
        show.say(f"{'met' if condition['met'] else 'NOT MET'}: {condition['sentence']}")


TITLES = ("protocol", "forgeries", "before", "after", "difference, points")


if __name__ == "__main__":
    sys.exit(main())
