"""The model is changed while two workers are at work, and nobody notices but in the record."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import synthetic
from model.checkpoint import load_checkpoint, save_checkpoint
from model.errors import CheckpointError
from storage import decisions, jobs, models, references, shadows
from storage.errors import ActivationUnderWay, ModelIncomplete
from storage.models import Lineup
from tests.worker.test_service import PATIENCE, Service, Worker
from worker import activation, client, embedding_queue, registry
from worker.activation import Change
from worker.transactions import transaction

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]

SIGNERS = ("ada", "bo")
SEEN_WITHIN = 5.0


@pytest.fixture(scope="module")
def service(
    tiny_checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
    pictures: dict[str, bytes],
) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("service"), tiny_checkpoint)
    for signer in SIGNERS:
        made.enroll(signer, *(pictures[f"{signer}{n}"] for n in range(2)))
    made.workers += [Worker(made.env, made.folder, "--name", f"w{n}") for n in range(2)]
    for worker in made.workers:
        worker.await_text(" ready.")
    yield made
    made.close()


@pytest.fixture
def old(service: Service) -> Iterator[str]:
    """The model of the settings, which decides when a test begins, and again when it has ended."""
    own = service.runtime.models._of_settings()
    yield own
    if lineup(service).active != own:
        activation.rollback(service.runtime)
    assert lineup(service) == Lineup(active=own)


@pytest.fixture(scope="module")
def new(service: Service, newer_checkpoint: Path) -> str:
    """The other model, registered."""
    return registry.register(
        service.runtime, newer_checkpoint.read_bytes(), "newer.pt", by="mia"
    ).id


def lineup(service: Service) -> Lineup:
    with transaction(service.runtime.sessions) as session:
        return models.lineup(session)


class Load:
    """Jobs that come all the time until it is stopped."""

    def __init__(self, service: Service, document: str) -> None:
        self._service, self._document = service, document
        self.jobs: list[str] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._submit)
        self._thread.start()

    def _submit(self) -> None:
        while not self._stopped.wait(0.04):
            self.jobs.append(self._service.submit("ada", self._document))

    def stop(self) -> list[client.Outcome]:
        self._stopped.set()
        self._thread.join()
        return [self._service.wait(job) for job in self.jobs]


def test_a_change_under_load_fails_no_job_and_is_seen_by_all_workers_within_seconds(
    service: Service, pictures: dict[str, bytes], old: str, new: str
) -> None:
    document = service.bucket.put("same.png", pictures["ada1"])
    load = Load(service, document)
    time.sleep(1.0)
    change = activation.activate(service.runtime, new, by="mia")
    after = len(load.jobs)
    time.sleep(2.0)
    outcomes = load.stop()

    assert change == Change(model_id=new, before=old, embedded=4, workers=2, seconds=change.seconds)
    assert change.seconds < SEEN_WITHIN
    assert {outcome.verdict for outcome in outcomes} == {"accept"}
    wholly = {(o.model_id, o.threshold, o.preprocessing) for o in outcomes}
    assert wholly == {(old, 0.05, "strokes/2 64x96"), (new, 0.06, "strokes/2 48x64")}
    assert {outcome.model_id for outcome in outcomes[after + 1 :]} == {new}
    assert dimensions(service, old) == 512 < dimensions(service, new)
    assert max(waits_at_the_change(service, load.jobs, new)) < SEEN_WITHIN


def waits_at_the_change(service: Service, ids: list[str], model_id: str) -> list[float]:
    """Seconds that the jobs around the moment of the change took, from submission to decision."""
    with transaction(service.runtime.sessions) as session:
        moment = models.get(session, model_id).activated_at
        assert moment is not None
        found = decisions.of_jobs(session, ids)
        spans = [(jobs.get(session, job).created_at, found[job].decided_at) for job in ids]
    around = [(begun, ended) for begun, ended in spans if abs((begun - moment).total_seconds()) < 1]
    assert around
    return [(ended - begun).total_seconds() for begun, ended in around]


def dimensions(service: Service, model_id: str) -> int:
    with transaction(service.runtime.sessions) as session:
        return references.embeddings(session, "ada", model_id).vectors.shape[1]


def test_going_back_is_immediate_and_embeds_what_was_enrolled_since(
    service: Service, pictures: dict[str, bytes], old: str, new: str
) -> None:
    activation.activate(service.runtime, new)
    back = activation.rollback(service.runtime)
    assert (back.model_id, back.before, back.embedded, back.late) == (old, new, 0, ())
    assert back.seconds < SEEN_WITHIN

    activation.rollback(service.runtime)
    service.runtime.models.use(service.runtime.models.lineup())
    service.enroll("cy", pictures["bo0"])
    job = service.submit("cy", service.bucket.put("cy.png", pictures["bo0"]))
    assert service.wait(job).model_id == new
    assert activation.rollback(service.runtime, now=True).embedded == 1
    again = service.wait(service.submit("cy", service.bucket.uri("cy.png")))
    assert (again.verdict, again.model_id) == ("accept", old)


def test_an_activation_that_was_interrupted_goes_on_and_another_has_to_wait(
    service: Service, old: str, new: str, tiny_checkpoint: Path
) -> None:
    with transaction(service.runtime.sessions) as session:
        while models.prune(session, new):
            pass
        models.announce(session, new, "mia")
    with pytest.raises(ActivationUnderWay, match="by mia"):
        activation.activate(service.runtime, third(service, tiny_checkpoint))
    change = activation.activate(service.runtime, new)
    assert change.embedded == count(service)


def only_dans() -> bytes:
    rng = np.random.default_rng(9)
    buffer = io.BytesIO()
    Image.fromarray(synthetic.genuine(synthetic.make_signer(rng), rng)).save(buffer, "PNG")
    return buffer.getvalue()


def third(service: Service, checkpoint: Path) -> str:
    path = service.folder / "third.pt"
    save_checkpoint(path, replace(load_checkpoint(checkpoint), threshold=0.07))
    return registry.register(service.runtime, path.read_bytes(), "third.pt").id


def count(service: Service) -> int:
    with transaction(service.runtime.sessions) as session:
        return models.count_live(session)


def test_the_workers_embed_and_what_they_do_not_is_embedded_here(
    service: Service, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_queue, "CHUNK", 1)
    with transaction(service.runtime.sessions) as session:
        while models.prune(session, new):
            pass
    here: list[int] = []
    monkeypatch.setattr(activation, "embed_references", lambda numbers, **_: here.extend(numbers))
    assert activation.activate(service.runtime, new).embedded == count(service)
    assert here == []
    assert any("embedded" in worker.text for worker in service.workers)


def test_a_reference_that_the_new_model_cannot_embed_stops_the_change_and_is_named(
    service: Service, old: str, new: str
) -> None:
    service.enroll("dan", only_dans())
    with transaction(service.runtime.sessions) as session:
        (lost,) = references.of_signer(session, "dan")
        while models.prune(session, new):
            pass
    own = service.runtime.images.fetch(lost.uri)
    service.runtime.images.delete(lost.uri)
    try:
        with pytest.raises(ModelIncomplete, match=f"reference {lost.id}: there is no"):
            activation.activate(service.runtime, new)
        assert lineup(service) == Lineup(active=old, incoming=new)
        change = activation.activate(service.runtime, new, give_up_lost=True)
        assert list(change.lost) == [lost.id]
    finally:
        service.runtime.images.put(own)


def test_a_registered_file_that_is_gone_or_altered_changes_nothing(
    service: Service, old: str, tiny_checkpoint: Path
) -> None:
    lost = third(service, tiny_checkpoint)
    with transaction(service.runtime.sessions) as session:
        uri = models.get(session, lost).uri
    service.runtime.images.delete(uri)
    with pytest.raises(CheckpointError, match="cannot be had"):
        activation.activate(service.runtime, lost)
    assert lineup(service) == Lineup(active=old)


def test_a_model_in_the_shadow_sees_its_share_and_decides_nothing(
    service: Service, pictures: dict[str, bytes], old: str, new: str
) -> None:
    document = service.bucket.put("same.png", pictures["ada1"])
    activation.shadow(service.runtime, new, 1.0)
    time.sleep(3.0)  # the workers look once a second
    jobs = [service.submit("ada", document) for _ in range(5)]
    assert {service.wait(job).model_id for job in jobs} == {old}
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with transaction(service.runtime.sessions) as session:
            if sum(shadows.counts(session, new).values()) >= len(jobs):
                break
        time.sleep(0.1)
    with transaction(service.runtime.sessions) as session:
        assert shadows.counts(session, new) == {("accept", "accept"): 5}
        models.withdraw(session, new)
