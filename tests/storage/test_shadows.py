from __future__ import annotations

from storage import decisions, shadows
from storage.database import insert_new
from storage.tables import ShadowDecision
from tests.builders import MODEL_ID, a_decision, a_job, a_model, an_error, digest

SHADOW = digest("shadow")


def said(session, job_id, verdict, score=0.7):
    row = {"job_id": job_id, "model_id": SHADOW, "verdict": verdict, "score": score}
    insert_new(session, ShadowDecision, row, "job_id", "model_id")


def test_verdicts_are_counted_side_by_side_and_the_different_ones_listed(sessions):
    with sessions.begin() as session:
        a_model(session, SHADOW)
        for job_id, verdict in {"a": "accept", "b": "reject", "c": "error"}.items():
            a_job(session, job_id)
            decisions.record(session, [a_decision(job_id)])
            said(session, job_id, verdict)
        a_job(session, "unseen")
        decisions.record(session, [an_error("unseen")])
    with sessions.begin() as session:
        assert shadows.counts(session, SHADOW) == {
            ("accept", "accept"): 1,
            ("accept", "reject"): 1,
            ("accept", "error"): 1,
        }
        assert shadows.counts(session, MODEL_ID) == {}
        different = shadows.flips(session, SHADOW, limit=5)
        assert [(flip.job_id, flip.shadow_verdict) for flip in different] == [
            ("c", "error"),
            ("b", "reject"),
        ]
        assert (different[1].verdict, different[1].score) == ("accept", 0.25)
        assert different[1].shadow_score == 0.7
        assert len(shadows.flips(session, SHADOW, limit=1)) == 1
        assert shadows.of_jobs(session, SHADOW, ["a", "unseen"]) == {"a": "accept"}
