"""Rows and vectors with sensible fields, of which a test names only those that it is about."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import jobs, models, references, signers
from storage.tables import Decision, Job, Model, Reference

DIMENSIONS = 512


def digest(text: str) -> str:
    """A sha256 in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


MODEL_ID = digest("the model")


def unit_vector(seed: int, dimensions: int = DIMENSIONS) -> NDArray[np.float32]:
    """A random direction of shape (dimensions,)."""
    vector = np.random.default_rng(seed).normal(size=dimensions).astype(np.float32)
    return vector / np.linalg.norm(vector)


def a_model(session: Session, id: str = MODEL_ID, **fields: Any) -> Model:
    """A registered model."""
    usual: dict[str, Any] = {
        "uri": "model.pt",
        "backbone": "test_mambaout",
        "size": 224,
        "threshold": 0.5,
        "preprocessing": "strokes/2 224x224",
        "scoring": {"rule": "nearest", "threshold": 0.5},
    }
    return models.register(session, id=id, **(usual | fields))


def a_reference(session: Session, signer_id: str = "ada", name: str = "first") -> Reference:
    """An enrolled image, its signer enrolled with it."""
    signers.ensure(session, signer_id)
    same = select(Reference).where(
        Reference.signer_id == signer_id, Reference.sha256 == digest(name)
    )
    if (standing := session.scalar(same)) is not None:
        return standing
    uri = f"file:///store/{name}.png"
    session.add(reference := Reference(signer_id=signer_id, uri=uri, sha256=digest(name)))
    session.flush()
    return reference


def a_specimen(name: str = "first", **fields: Any) -> references.Specimen:
    """An image in the store with its embedding, not yet enrolled."""
    usual: dict[str, Any] = {
        "uri": f"file:///store/{name}.png",
        "sha256": digest(name),
        "source": name,
        "vector": unit_vector(0),
    }
    return references.Specimen(**(usual | fields))


def an_embedded_reference(
    session: Session, signer_id: str = "ada", name: str = "first", seed: int = 0
) -> Reference:
    """An enrolled image together with its embedding by the usual model."""
    reference = a_reference(session, signer_id, name)
    model = a_model(session)
    references.put_embeddings(session, model.id, {reference.id: unit_vector(seed)})
    return reference


def a_job(session: Session, id: str = "job-1", signer_id: str = "ada", **fields: Any) -> Job:
    """A queued job."""
    usual: dict[str, Any] = {"document": "file:///inbox/1.png"}
    return jobs.submit(session, id=id, signer_id=signer_id, **(usual | fields))[0]


def a_decision(job_id: str = "job-1", **fields: Any) -> Decision:
    """An acceptance of a job, not yet recorded."""
    usual: dict[str, Any] = {
        "signer_id": "ada",
        "document": "file:///inbox/1.png",
        "document_sha256": digest("document"),
        "verdict": "accept",
        "score": 0.25,
        "distance": 0.25,
        "threshold": 0.5,
        "distances": [{"reference": 1, "distance": 0.25}],
        "nearest_reference": 1,
        "model_id": MODEL_ID,
        "preprocessing": "strokes/2 224x224",
        "rule": "nearest",
        "ink": {"stroke_width": 3.75, "ink_share": 0.0625, "long_side": 512},
        "total_ms": 40.0,
    }
    return Decision(job_id=job_id, **(usual | fields))


def a_review(job_id: str = "job-1", **fields: Any) -> Decision:
    """A decision that is left for a person, not yet recorded."""
    usual: dict[str, Any] = {
        "verdict": "review",
        "score": 0.5,
        "threshold": 0.5,
        "reject_threshold": 0.75,
        "operating_point": "1%",
        "terms": {"nearest": 0.75, "spread": -0.25, "cohort": 0.0},
    }
    return a_decision(job_id, **(usual | fields))


def an_error(job_id: str = "job-1", code: str = "blank_image", **fields: Any) -> Decision:
    """A job that failed for good, not yet recorded."""
    usual: dict[str, Any] = {
        "signer_id": "ada",
        "document": "file:///inbox/1.png",
        "verdict": "error",
        "error_code": code,
        "error_message": "the image holds no ink",
    }
    return Decision(job_id=job_id, **(usual | fields))
