"""The peers that the bench measures judge as we do, and nobody waits for them for ever."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import psycopg
import pytest
from sqlalchemy.engine import make_url

from bench import peers
from bench.peer_work import TABLE, Verifier
from bench.peers import Peer
from model import synthetic
from model.scoring import judge
from storage import models
from tests.bench.asking import SHIPPED
from worker.enrolment import enroll
from worker.runtime import Runtime
from worker.settings import load_settings
from worker.transactions import register_model, transaction


def test_a_peer_judges_by_all_that_references_hold(postgres_url, s3):
    settings = load_settings(
        {
            "SIGCTL_DATABASE_URL": postgres_url,
            "SIGCTL_STORE": s3.uri("store"),
            "SIGCTL_S3_ENDPOINT": str(s3.config.endpoint),
            "SIGCTL_S3_ACCESS_KEY": str(s3.config.access_key),
            "SIGCTL_S3_SECRET_KEY": str(s3.config.secret_key),
            "SIGCTL_CHECKPOINT": str(SHIPPED.resolve()),
            "SIGCTL_DEVICE": "cpu",
        }
    )
    rng = np.random.default_rng(1)
    hand = synthetic.make_signer(rng)
    pages = [cv2.imencode(".png", synthetic.genuine(hand, rng))[1].tobytes() for _ in range(3)]
    runtime = Runtime(settings)
    embedder = runtime.embedder
    with transaction(runtime.sessions) as session:
        register_model(session, embedder)
        models.adopt(session, embedder.model_id, "bench")
    known = [("first", pages[0]), ("second", pages[1])]
    enroll("ada", known, sessions=runtime.sessions, images=runtime.images, embedder=embedder)

    peer = Peer(name="a peer", kind="celery", engine=False)
    config = peers._config(SimpleNamespace(bucket=s3, settings=settings), peer)
    verifier = Verifier(config)
    vector = verifier.embed([verifier.canvas(s3.put("document.png", pages[2]))])[0]
    verifier.decide("job", "ada", vector)
    verifier._database.close()

    references = embedder.embed([embedder.prepare(page) for page in pages[:2]], exact=True)
    runtime.close()
    expected = judge(vector, references, embedder.scoring, far="1%")
    with psycopg.connect(config["database"]) as database:
        score, distances = database.execute(
            "SELECT score, distances FROM peer_decisions WHERE job = 'job'"
        ).fetchone()
    assert score == pytest.approx(expected.score, abs=1e-6)
    assert sorted(distances) == pytest.approx(sorted(expected.distances), abs=1e-6)


def test_a_peer_that_stands_still_is_given_up(postgres_url, monkeypatch):
    monkeypatch.setattr(peers, "STANDSTILL_SECONDS", 0.5)
    url = make_url(postgres_url).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as database:
        database.execute(TABLE)
        database.execute("INSERT INTO peer_decisions VALUES ('run-0', 'ada', 'accept', 0.1, '[]')")
        with pytest.raises(SystemExit, match="decided 1 of 2"):
            peers._await(database, "run", 2)
