"""Hostile documents on a real queue: each is an error on record, its neighbours are decided."""

from __future__ import annotations

import time

import psutil
import pytest
from PIL import Image

from tests.hostile import saved
from tests.worker.test_service import PATIENCE, Service, Worker, document, service

__all__ = ["document", "service"]  # fixtures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]


LONG = [pytest.param(pool, marks=pytest.mark.long) for pool in ("solo", "prefork")]


@pytest.mark.parametrize("pool", ["threads", *LONG])
def test_a_bomb_among_documents_fails_alone_in_every_pool_and_no_decoder_is_left(
    service: Service, document: str, pool: str
) -> None:
    bomb = service.bucket.put("bomb.png", saved(Image.new("L", (9_000, 9_000), 200)))
    limited = {"SIGCTL_POOL": pool, "SIGCTL_DECODE_MEMORY": str(2**29)}
    worker = Worker(service.env | limited, service.folder)
    service.workers.append(worker)
    worker.await_text(" ready.")
    asked = [bomb if number in (0, 7) else document for number in range(12)]
    sent = [service.submit("ada", uri, job_id=f"{pool}-{n}") for n, uri in enumerate(asked)]
    found = [(service.wait(job).verdict, service.wait(job).error_code) for job in sent]
    failed, decided = ("error", "decoding_too_large"), ("accept", None)
    assert found == [failed if uri == bomb else decided for uri in asked]
    decoders = [
        child
        for child in psutil.Process(worker.process.pid).children(recursive=True)
        if "worker.decoder" in child.cmdline()
    ]
    assert decoders
    assert worker.end() == 0
    deadline = time.monotonic() + 10
    while any(child.is_running() for child in decoders):
        assert time.monotonic() < deadline
        time.sleep(0.1)
