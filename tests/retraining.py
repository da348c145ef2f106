"""A small service that has learnt something of its signers: a trained network, references, labels.

It lies in one folder, with SQLite and a folder as the store. Several tests work on copies of its
database; what is in the store has the name of its content, so that they can share it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from migrations.upgrade import upgrade
from model.augment import Augmentation
from model.corpora import choose_writers, load_parts
from model.dataset import scan_dataset
from model.disguise import Disguise
from model.preprocess import Preprocessing
from model.promotion import finish
from model.recipes import PLACES
from model.synthetic import write_dataset
from model.train import Reporter, Trainer
from storage import labels, models
from worker import client
from worker.enrolment import enroll
from worker.retrain_run import Watch
from worker.runtime import Runtime, close_runtimes
from worker.settings import Settings
from worker.transactions import register_model, transaction

RECIPE = replace(
    PLACES,
    backbone="test_mambaout",
    preprocessing=Preprocessing(height=32, width=64),
    augmentation=Augmentation(rotation=3.0),
    disguise=Disguise(),
    epochs=4,
    steps=6,
    warmup_steps=2,
    drop_path=0.0,
)
SIGNERS = ("ada", "bo", "cy", "dora", "eve", "finn")
QUIET = Watch(say=lambda _: None, progress=lambda *_: None)


@dataclass(frozen=True, kw_only=True)
class Laboratory:
    """Where everything lies: the base corpus, the model in use, the database as it was filled."""

    folder: Path

    @property
    def corpus(self) -> Path:
        return self.folder / "home"

    @property
    def people(self) -> Path:
        """The corpus of those who were enrolled."""
        return self.folder / "people"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def settings(self, database: Path, **more: object) -> Settings:
        return Settings(
            database_url=f"sqlite:///{database}",
            store=(self.folder / "store").as_uri(),
            roots=(self.folder,),
            checkpoint=self.folder / "model.pt",
            corpora=(self.corpus,),
            device="cpu",
            decoders=0,
            **more,
        )

    def copy(self, folder: Path, **more: object) -> Runtime:
        """The service once more, with a database of its own."""
        database = folder / "sigctl.db"
        database.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.folder / "sigctl.db", database)
        return Runtime(self.settings(database, **more))


def laboratory(folder: Path) -> Laboratory:
    """Train, enrol six people, decide documents of theirs, and label what was decided."""
    made = Laboratory(folder=folder)
    write_dataset(made.corpus, signers=16, genuine=6, forgeries=4, seed=3)
    write_dataset(made.people, signers=len(SIGNERS), genuine=8, forgeries=4, seed=90)
    _train(made)
    upgrade(f"sqlite:///{folder / 'sigctl.db'}")
    runtime = Runtime(made.settings(folder / "sigctl.db"))
    with transaction(runtime.sessions) as session:
        register_model(session, runtime.embedder)
        models.adopt(session, runtime.embedder.model_id, "setup")
    for name, signer in zip(SIGNERS, scan_dataset(made.people), strict=True):
        enroll(
            name,
            [(path.name, path.read_bytes()) for path in signer.genuine[:4]],
            sessions=runtime.sessions,
            images=runtime.images,
            embedder=runtime.embedder,
            force=True,
        )
        asked = dict.fromkeys(signer.genuine[4:7], "genuine")
        asked |= dict.fromkeys(signer.forged, "forged")
        for path, finding in asked.items():
            job = f"{name}-{path.stem}"
            client.submit(name, path.as_uri(), job_id=job, settings=runtime.settings)
            with transaction(runtime.sessions) as session:
                labels.put(session, job, finding, by="May")
    runtime.close()
    close_runtimes()  # the last one to leave writes SQLite's log into its file
    return made


def _train(made: Laboratory) -> None:
    split = choose_writers(made.corpus, seed=1, validation=0.2, test=0.3)
    parts = load_parts(split, RECIPE.preprocessing, made.cache)
    trainer = Trainer(
        RECIPE,
        parts.train,
        parts.validation,
        folder=made.folder / "first-run",
        device=torch.device("cpu"),
        reporter=Reporter(say=lambda _: None, step=lambda *_: None),
    )
    trainer.fit()
    names = {
        "train_writers": [signer.name for signer in split.train],
        "development_writers": [signer.name for signer in split.validation],
        "test_writers": [signer.name for signer in split.test],
    }
    finish(trainer, parts.test, made.folder / "model.pt", provenance=names, allow_leaky=True)
