"""A peer: LitServe with its batching on and a worker for each core."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import litserve
import numpy as np
import torch

from bench.peer_work import Verifier


class Api(litserve.LitAPI):
    """A document in, a verdict out; the batch goes through the network at once."""

    def setup(self, _device: str) -> None:
        """In each worker process."""
        torch.set_num_threads(1)
        self.verifier = Verifier(json.loads(os.environ["PEER_CONFIG"]))

    def decode_request(self, request: dict[str, str]) -> dict[str, Any]:
        """Fetch and prepare."""
        return {**request, "canvas": self.verifier.canvas(request["uri"])}

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As a list: only the canvases are stacked, by the engine."""
        return list(inputs)

    def predict(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Embed a batch."""
        vectors = self.verifier.embed([one["canvas"] for one in batch])
        return [{**one, "vector": vector} for one, vector in zip(batch, vectors, strict=True)]

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One result for each request."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, str]:
        """Judge and record."""
        vector: np.ndarray = output["vector"]
        return {"verdict": self.verifier.decide(output["job"], output["signer"], vector)}


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(max_batch_size=8, batch_timeout=0.005),
        accelerator="cpu",
        workers_per_device=os.cpu_count() or 1,
        timeout=300,
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
