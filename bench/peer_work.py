"""What a plain service does with a document: no job rows, no retries, no record beyond one row.

Only what a peer needs anyway is shared with it: our preprocessing, the same weights, the rule. The
network runs as PyTorch does in its fastest arithmetic here, or with `engine` as our worker runs it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import boto3
import numpy as np
import psycopg
import torch
from botocore.config import Config

from model.engine import Engine, TorchEngine
from model.inference import load_embedder
from model.precision import has_fast_bf16
from model.scoring import judge
from storage.vectors import unpack

TABLE = """
CREATE TABLE IF NOT EXISTS peer_decisions (
    job text PRIMARY KEY, signer text, verdict text, score float, distances json,
    decided_at timestamptz DEFAULT clock_timestamp()
)
"""
REFERENCES = """
SELECT vector FROM signer_references JOIN embeddings ON reference_id = id
WHERE signer_id = %s AND retired_at IS NULL
"""


class Verifier:
    """Made once in each process of a peer, from what the bench hands over as `config`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._embedder = load_embedder(config["checkpoint"], "cpu", exact=not config["engine"])
        device = torch.device("cpu")
        self._engine: Engine = (
            self._embedder.engine
            if config["engine"]
            else TorchEngine(self._embedder.model, device, why="", mixed=has_fast_bf16(device))
        )
        self._s3 = boto3.client(
            "s3",
            endpoint_url=config["endpoint"],
            aws_access_key_id=config["access_key"],
            aws_secret_access_key=config["secret_key"],
            region_name="us-east-1",
            config=Config(response_checksum_validation="when_required"),
        )
        self._database = psycopg.connect(config["database"], autocommit=True)
        self._database.execute(TABLE)

    def canvas(self, uri: str) -> np.ndarray:
        """Fetch, decode, prepare: (1, H, W)."""
        bucket, key = uri.removeprefix("s3://").split("/", 1)
        return self._embedder.prepare(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def embed(self, canvases: Sequence[np.ndarray]) -> np.ndarray:
        """(N, D)."""
        return self._engine(np.stack(list(canvases)))

    def decide(self, job: str, signer: str, vector: np.ndarray) -> str:
        """Compare with the references in the database and write one row."""
        rows = self._database.execute(REFERENCES, (signer,)).fetchall()
        known = np.stack([unpack(row[0], len(vector)) for row in rows])
        found = judge(vector, known, self._embedder.scoring, far="1%")
        self._database.execute(
            "INSERT INTO peer_decisions VALUES (%s, %s, %s, %s, %s)",
            (job, signer, str(found.verdict), found.score, json.dumps(found.distances)),
        )
        return str(found.verdict)
