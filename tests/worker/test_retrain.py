"""Retraining on a small service: what it learns from, what it leaves behind, and what stops it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoint import load_checkpoint, parse_checkpoint, save_checkpoint
from model.comparison import MEAN
from model.errors import DatasetError, TrainingError
from model.lineage import enrolled_name, is_kept
from storage import decisions, labels, models, references, signers
from storage.errors import RunHeld, StoreUnavailable
from storage.labels import FINDINGS
from storage.tables import Model
from tests.retraining import QUIET, SIGNERS, Laboratory
from worker import activation
from worker.retrain import Retrained, retrain
from worker.retrain_run import Asked, Cancelled, RunFolder, Watch
from worker.runtime import Runtime
from worker.transactions import transaction

ROOT = Path(__file__).parents[2]
TIMES = {"registered_at", "state_since"}


@pytest.fixture
def runtime(lab: Laboratory, tmp_path: Path) -> Iterator[Runtime]:
    made = lab.copy(tmp_path)
    yield made
    made.close()


def asked(lab: Laboratory, **more: Any) -> Asked:
    return Asked(corpora=(str(lab.corpus),), **({"epochs": 1, "by": "May"} | more))


def run(
    lab: Laboratory,
    runtime: Runtime,
    folder: Path,
    watch: Watch = QUIET,
    **more: Any,
) -> Retrained:
    return retrain(
        RunFolder(folder),
        asked(lab, **more),
        runtime=runtime,
        cache=lab.cache,
        watch=watch,
    )


def registered(runtime: Runtime) -> dict[str, dict[str, Any]]:
    """The registry, but for its times."""
    columns = [column.key for column in Model.__table__.columns if column.key not in TIMES]
    with transaction(runtime.sessions) as session:
        return {
            model.id: {name: getattr(model, name) for name in columns}
            for model in models.all(session)
        }


@pytest.fixture(scope="module")
def done(
    lab: Laboratory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Retrained, Runtime]]:
    """One run that nothing came between."""
    folder = tmp_path_factory.mktemp("done")
    made = lab.copy(folder)
    yield run(lab, made, folder / "run"), made
    made.close()


def test_a_candidate_is_registered_with_its_file_recipe_parent_and_figures(
    done: tuple[Retrained, Runtime], lab: Laboratory
) -> None:
    found, runtime = done
    with transaction(runtime.sessions) as session:
        model = models.get(session, found.candidate)
        parent = models.active(session)
    assert (model.state, model.parent_id, model.registered_by) == ("candidate", parent.id, "May")
    assert model.recipe is not None
    assert model.recipe["name"] == "places, refined"
    data = runtime.images.fetch(model.uri)
    checkpoint = parse_checkpoint(data, model.uri, sha256=model.id)
    assert checkpoint.head == "views"
    assert checkpoint.provenance["start"] == parent.id
    assert model.metrics is not None
    protocols = {row["protocol"] for row in model.metrics["comparison"]["differences"]}
    assert protocols == {"1:1", "1 reference", "3 references", "5 references", MEAN}
    assert model.metrics["ruling"]["promotes"] == found.ruling.promotes
    assert model.metrics["replay"]["seen"] == 42
    page = found.report.read_text()
    assert "All conditions must be met" in page
    assert "data:image/png;base64," in page


def test_signers_teach_under_numbers_and_one_in_five_never_does(
    done: tuple[Retrained, Runtime],
) -> None:
    found, runtime = done
    with transaction(runtime.sessions) as session:
        data = runtime.images.fetch(models.get(session, found.candidate).uri)
    told = parse_checkpoint(data, "candidate").provenance
    enrolled = {name for name in told["train_writers"] if name.startswith("enrolled/")}
    names = {enrolled_name(signer) for signer in SIGNERS}
    assert enrolled == {name for name in names if not is_kept(name)}
    assert {name for name in names if is_kept(name)} <= set(told["test_writers"])
    assert not any(signer.encode() in data for signer in SIGNERS if len(signer) > 3)
    assert set(told["taught_writers"]).isdisjoint(told["test_writers"])


def test_nothing_of_a_signature_is_left_in_the_folder_of_a_run_that_has_ended(
    done: tuple[Retrained, Runtime],
) -> None:
    found, _ = done
    left = {path.name for path in found.report.parent.rglob("*") if path.is_file()}
    assert left <= {
        "asked.json",
        "snapshot.json",
        "candidate.pt",
        "comparison.json",
        "replay.json",
        "result.json",
        "flips.png",
        "training.png",
        "index.html",
        "log.csv",
        "lock",
    }


def test_a_run_that_is_stopped_between_any_two_steps_ends_with_the_same_registry(
    lab: Laboratory, runtime: Runtime, tmp_path: Path, done: tuple[Retrained, Runtime]
) -> None:
    class Stopped(Exception):
        pass

    steps, moments = [0], random.Random(5)

    def stop() -> None:
        steps[0] -= 1
        if steps[0] == 0:
            raise Stopped

    watch = Watch(say=lambda _: None, progress=lambda *_: None, go_on=stop)
    for _ in range(12):
        steps[0] = moments.randrange(1, 60)
        try:
            run(lab, runtime, tmp_path / "run", watch)
        except Stopped:
            continue
    found = run(lab, runtime, tmp_path / "run")
    assert found.candidate == done[0].candidate
    assert registered(runtime) == registered(done[1])


def test_a_finished_run_done_again_changes_nothing(
    lab: Laboratory, done: tuple[Retrained, Runtime]
) -> None:
    found, runtime = done
    before = registered(runtime)
    again = run(lab, runtime, found.report.parent)
    assert again == found
    assert registered(runtime) == before


class Sigctl:
    """`sigctl retrain` as a process of its own, on a copy of the laboratory."""

    def __init__(self, lab: Laboratory, folder: Path) -> None:
        self.folder, self.runtime = folder, lab.copy(folder)
        settings = {
            "DATABASE_URL": f"sqlite:///{folder / 'sigctl.db'}",
            "STORE": (folder / "store").as_uri(),  # what was enrolled is read from the other
            "ROOTS": lab.folder,
            "CHECKPOINT": lab.folder / "model.pt",
            "DEVICE": "cpu",
            "DECODERS": 1,
        }
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SIGCTL_")}
        clean |= {f"SIGCTL_{key}": str(value) for key, value in settings.items()}
        self.env = clean | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.options = ["retrain", "--corpus", str(lab.corpus), "--run", str(folder / "run")]
        self.options += ["--cache", str(folder / "cache"), "--epochs", "20", "--by", "May"]

    def __call__(self, steps: int = 0, seconds: float = 0.0) -> int:
        """The exit code; with `steps`, it is killed after so many, and then some seconds."""
        program = [sys.executable, "-P", "-m", "tests.killed_sigctl", str(steps), str(seconds)]
        done = subprocess.run(
            [*program, *self.options],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (0, 7, -signal.SIGKILL), done.stderr
        return done.returncode

    def state(self) -> dict[str, dict[str, Any]]:
        """The registry; each run kept its file in a store of its own."""
        rows = registered(self.runtime)
        self.runtime.close()
        return {id: row | {"uri": Path(row["uri"]).name} for id, row in rows.items()}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_retraining_killed_ten_times_ends_with_the_same_registry_as_one_left_alone(
    lab: Laboratory, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    moments, kills, runs = random.Random(seed), 0, 0
    alone = Sigctl(lab, tmp_path / "alone")
    assert alone() == 7
    expected = alone.state()
    while kills < 10:  # one run may end before the tenth, and another takes the rest
        killed = Sigctl(lab, tmp_path / f"killed-{runs}")
        while killed(moments.randrange(1, 90), moments.uniform(0, 0.3)) == -signal.SIGKILL:
            kills += 1
            if kills == 10:
                assert killed() == 7
                break
        assert killed.state() == expected, f"seed {seed}, after {kills} kills"
        runs += 1


def altered(runtime: Runtime, job: str) -> None:
    """Put another file in the place of a job's document."""
    with transaction(runtime.sessions) as session:
        decision = decisions.get(session, job)
        assert decision is not None
        Path(decision.document.removeprefix("file://")).write_bytes(b"another")


def snapshot(folder: Path) -> Any:
    return json.loads((folder / "snapshot.json").read_text())


def stopped_after(doing: str) -> Watch:
    """Ends a run at the first step that is not `doing`."""

    def progress(now: str, *_: int) -> None:
        if now != doing:
            raise Cancelled("enough")

    return Watch(say=lambda _: None, progress=progress)


def gathered(lab: Laboratory, runtime: Runtime, folder: Path) -> Any:
    """What a run learns from; it is stopped before it learns."""
    with pytest.raises(Cancelled):
        run(lab, runtime, folder, stopped_after("Fetching signatures"))
    return snapshot(folder)


def test_erased_and_retired_signers_and_retired_references_do_not_teach(
    lab: Laboratory, runtime: Runtime, tmp_path: Path
) -> None:
    whole = gathered(lab, runtime, tmp_path / "whole")
    assert {one["name"] for one in whole["enrolled"]} == {enrolled_name(n) for n in SIGNERS}
    assert whole["labelled"] == 7 * len(SIGNERS)
    with transaction(runtime.sessions) as session:
        signers.retire(session, "bo")
        references.retire(session, references.of_signer(session, "cy")[0].id)
        signers.mark_erased(session, "ada")
        references.erase(session, "ada")  # the images are the laboratory's, and stay
    less = gathered(lab, runtime, tmp_path / "less")
    names = {one["name"]: one for one in less["enrolled"]}
    assert names.keys() == {enrolled_name(n) for n in SIGNERS if n not in ("ada", "bo")}
    assert len(names[enrolled_name("cy")]["genuine"]) == 4 + 3 - 1
    assert less["labelled"] == 7 * (len(SIGNERS) - 2)


def test_what_cannot_be_had_is_left_out_and_named(
    runtime: Runtime, tmp_path: Path, lab: Laboratory
) -> None:
    with transaction(runtime.sessions) as session:
        lost = references.of_signer(session, "cy")[0]
        session.execute(
            Model.__table__.metadata.tables["signer_references"]
            .update()
            .where(Model.__table__.metadata.tables["signer_references"].c.id == lost.id)
            .values(uri=(lab.folder / "gone.png").as_uri())
        )
        (job,) = [d.job_id for d, _ in labels.labelled(session)][:1]
        decision = decisions.get(session, job)
        assert decision is not None
    path = Path(decision.document.removeprefix("file://"))
    kept = path.read_bytes()
    try:
        altered(runtime, job)
        left_out = dict(gathered(lab, runtime, tmp_path / "run")["left_out"])
    finally:
        path.write_bytes(kept)
    assert left_out.keys() == {f"reference {lost.id}", f"job {job}"}
    assert left_out[f"job {job}"].endswith("is no longer the image that it was")


def test_a_document_that_people_call_both_genuine_and_forged_does_not_teach(
    lab: Laboratory, runtime: Runtime, tmp_path: Path
) -> None:
    from worker import client

    with transaction(runtime.sessions) as session:
        decision, label = next(labels.labelled(session))
    other = FINDINGS[1 - FINDINGS.index(label.finding)]
    client.submit(decision.signer_id, decision.document, job_id="again", settings=runtime.settings)
    with transaction(runtime.sessions) as session:
        labels.put(session, "again", other)
    left_out = dict(gathered(lab, runtime, tmp_path / "run")["left_out"])
    assert left_out.keys() == {"job again", f"job {decision.job_id}"}


def test_a_corpus_that_changed_since_the_run_began_is_not_learnt_from(
    lab: Laboratory, runtime: Runtime, tmp_path: Path
) -> None:
    gathered(lab, runtime, tmp_path / "run")
    added = lab.corpus / "full_org" / "original_1_99.png"
    added.write_bytes((lab.corpus / "full_org" / "original_1_1.png").read_bytes())
    try:
        with pytest.raises(DatasetError, match="is not what it was when this run began"):
            run(lab, runtime, tmp_path / "run")
    finally:
        added.unlink()


def test_a_run_goes_on_with_its_own_options_only(
    lab: Laboratory, runtime: Runtime, tmp_path: Path
) -> None:
    gathered(lab, runtime, tmp_path / "run")
    with pytest.raises(TrainingError, match="with other options"):
        run(lab, runtime, tmp_path / "run", seed=5)


def test_two_processes_are_never_at_one_run(
    lab: Laboratory, runtime: Runtime, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.held(), pytest.raises(RunHeld, match="Another process is at the run"):
        run(lab, runtime, tmp_path / "run")


def spoil(lab: Laboratory, runtime: Runtime, folder: Path) -> str:
    """Make a model active that has but two numbers for each signature: anything is better."""
    whole = load_checkpoint(lab.folder / "model.pt")
    two = whole.weights["reduced.weight"].clone()
    two[2:] = 0
    path = folder / "spoilt.pt"
    weights = {**whole.weights, "reduced.weight": two}
    id = save_checkpoint(path, replace(whole, weights=weights), half=True)
    with transaction(runtime.sessions) as session:
        models.register(
            session,
            id=id,
            uri=str(path),
            backbone=whole.backbone,
            size=whole.size,
            threshold=whole.threshold,
            preprocessing=whole.preprocessing.label,
            scoring=whole.scoring.as_dict(),
        )
        models.activate(session, id, "setup", now=True)
    return id


def test_a_candidate_that_is_better_is_promoted_when_that_was_asked_for(
    lab: Laboratory, runtime: Runtime, tmp_path: Path
) -> None:
    spoilt = spoil(lab, runtime, tmp_path)
    found = run(lab, runtime, tmp_path / "run", promote=True, max_flips=1.0)
    assert (found.promoted, found.reasons, found.parent) == (True, (), spoilt)
    with transaction(runtime.sessions) as session:
        assert models.active(session).id == found.candidate
        assert models.active(session).state_by == "May"
    activation.rollback(runtime, by="somebody")
    assert run(lab, runtime, tmp_path / "run", promote=True, max_flips=1.0).promoted
    with transaction(runtime.sessions) as session:  # a run that has ended does nothing again
        assert models.active(session).id == spoilt


def test_a_candidate_is_not_promoted_past_a_model_that_became_active_meanwhile(
    lab: Laboratory, runtime: Runtime, tmp_path: Path
) -> None:
    spoil(lab, runtime, tmp_path)
    original = load_checkpoint(lab.folder / "model.pt").sha256

    def meanwhile(doing: str, *_: int) -> None:
        if doing == "Registering":
            activation.activate(runtime, original, by="somebody")

    watch = Watch(say=lambda _: None, progress=meanwhile)
    found = run(lab, runtime, tmp_path / "run", watch, promote=True, max_flips=1.0)
    assert not found.promoted
    assert "has become active meanwhile" in found.reasons[0]
    with transaction(runtime.sessions) as session:
        assert models.active(session).id == original


def test_shuffled_labels_are_refused_with_the_reason(
    lab: Laboratory, runtime: Runtime, tmp_path: Path
) -> None:
    with transaction(runtime.sessions) as session:
        known = [(decision.job_id, label.finding) for decision, label in labels.labelled(session)]
        for job, finding in known:
            labels.put(session, job, FINDINGS[1 - FINDINGS.index(finding)], by="a vandal")
    found = run(lab, runtime, tmp_path / "run", promote=True, epochs=6)
    assert not found.promoted
    assert any("not shown to be better" in r or "is worse" in r for r in found.reasons)
    with transaction(runtime.sessions) as session:
        assert models.active(session).id == found.parent


def test_without_epochs_the_network_stays_and_the_rest_is_fitted_anew(
    lab: Laboratory, runtime: Runtime, tmp_path: Path
) -> None:
    found = run(lab, runtime, tmp_path / "run", epochs=0, replay=0)
    before, after = (
        load_checkpoint(path)
        for path in (lab.folder / "model.pt", tmp_path / "run" / "candidate.pt")
    )
    learnt = [name for name in before.weights if name.startswith("backbone.")]
    assert all(torch.equal(before.weights[name], after.weights[name]) for name in learnt)
    assert after.provenance["log"] == []
    assert after.scoring.thresholds != before.scoring.thresholds
    assert (found.parent, after.provenance["parent"]) == (before.sha256, before.sha256)


@pytest.mark.long
@pytest.mark.slow
def test_from_scratch_begins_with_random_weights_and_runs_both_stages(
    lab: Laboratory, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model import recipes

    few = replace(recipes.WRITERS, generated=0)
    monkeypatch.setattr(recipes, "WRITERS", few)
    found = run(lab, runtime, tmp_path / "run", from_scratch=True, replay=0)
    told = load_checkpoint(tmp_path / "run" / "candidate.pt").provenance
    first = load_checkpoint(tmp_path / "run" / "first.pt")
    assert told["start"] == first.sha256
    assert first.provenance["start"] is None
    assert told["parent"] == found.parent
    assert found.flips is None


def test_a_store_that_is_away_is_worth_another_try_and_loses_nothing(
    lab: Laboratory, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> bytes:
        raise StoreUnavailable("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(runtime.images, "fetch", away)
        with pytest.raises(StoreUnavailable):
            run(lab, runtime, tmp_path / "run")
    assert not (tmp_path / "run" / "snapshot.json").exists()
    assert len(gathered(lab, runtime, tmp_path / "run")["enrolled"]) == len(SIGNERS)
