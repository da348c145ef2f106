"""A peer: a plain Celery worker with the prefork pool and one model in each child."""

from __future__ import annotations

import json
import os
from functools import cache

import torch
from celery import Celery

from bench.peer_work import Verifier

app = Celery("peer", broker=os.environ.get("PEER_BROKER", "memory://"))
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=4, task_acks_late=True)


@cache
def _verifier() -> Verifier:
    torch.set_num_threads(1)  # one core a child
    return Verifier(json.loads(os.environ["PEER_CONFIG"]))


@app.task(name="peer.verify")
def verify(job: str, signer: str, uri: str) -> None:
    """Decide one document."""
    verifier = _verifier()
    vector = verifier.embed([verifier.canvas(uri)])[0]
    verifier.decide(job, signer, vector)
