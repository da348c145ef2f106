"""The rows: who is enrolled, with which images and vectors, what was asked and what was decided.

Decisions and the entries of the chain are written once; the database itself refuses to change or
delete them. A decision names everything it rests on by value, so that it stands without its
neighbours. Signers and references are retired, and deleted only where somebody's images must go.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ID_LENGTH = 128
DIGEST_LENGTH = 64

QUEUED, RUNNING, DONE, FAILED = STATUSES = ("queued", "running", "done", "failed")
CANCELLED = "cancelled"
RUN_STATES = (*STATUSES, CANCELLED)
ACCEPT, REJECT, REVIEW, ERROR = VERDICTS = ("accept", "reject", "review", "error")
DECISION, ADOPTED, ANCHOR = ("decision", "adopted", "anchor")
ERASURE, FORCED, LABEL, ACTIVATION = ("erasure", "forced", "label", "activation")
"""Kinds of the chain's entries; forced are references that were enrolled against the checks, an
activation says which model decides from then on."""
CANDIDATE, INCOMING, SHADOW, ACTIVE, RETIRED = MODEL_STATES = (
    "candidate",
    "incoming",
    "shadow",
    "active",
    "retired",
)
"""Incoming is the candidate whose embeddings are being made; of it, of the shadow and of the active
one there is at most one each."""
STANDING_BY = text(f"state IN ('{INCOMING}', '{SHADOW}', '{ACTIVE}')")

# Named constraints, because a migration can only drop what it can name.
NAMING = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


def utc_now() -> datetime:
    """This moment, timezone-aware."""
    return datetime.now(UTC)


class UtcTime(TypeDecorator[datetime]):
    """A moment: goes in aware, comes back aware and in UTC, on SQLite as on PostgreSQL."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuses a time without a zone, which would be read as another moment elsewhere."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Says that the time is UTC, which SQLite cannot keep."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Words(TypeDecorator[str]):
    """Text that others wrote: what no database can hold becomes U+FFFD instead of an error.

    PostgreSQL refuses NUL and both databases refuse lone surrogates, and JSON can carry either
    into a document's name. A job must not be lost for that.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        """The text as `storable` makes it."""
        return None if value is None else storable(value)


def storable(text: str) -> str:
    """The text as the database will hold it.

    >>> storable("a\\0b")
    'a\ufffdb'
    """
    # By way of UTF-16 so that a surrogate pair in two halves becomes its one character.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\ufffd")


# `json.dumps` makes a new encoder for each value, unless all its options are the usual ones.
_encoded = json.JSONEncoder(allow_nan=False).encode


def to_json(value: Any) -> str:
    """JSON that both databases accept: a number that is not finite becomes null.

    >>> to_json({"blur": float("nan"), "pages": [1]})
    '{"blur": null, "pages": [1]}'
    """
    try:
        return _encoded(value)
    except ValueError:
        return _encoded(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


class Base(DeclarativeBase):
    """The declarative base; its metadata is what the migrations must arrive at."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads it as a plain class attribute)
        datetime: UtcTime(),
        str: Words(),
        list[Any]: JSON(none_as_null=True),
        dict[str, Any]: JSON(none_as_null=True),
    }


def _one_of(column: str, values: tuple[str, ...], name: str) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(v) for v in values)})", name=name)


class Signer(Base):
    """A person whose signature can be verified.

    `revision` counts the changes of the signer's references and embeddings, so that whoever has
    read them knows by one number whether they still hold. Of an erased signer the row stays, so
    that the name is not taken by somebody else unnoticed.
    """

    __tablename__ = "signers"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    enrolled_at: Mapped[datetime] = mapped_column(default=utc_now)
    retired_at: Mapped[datetime | None]
    # The server's default is for workers of the release before, which do not know the column.
    revision: Mapped[int] = mapped_column(default=0, server_default="0")
    erased_at: Mapped[datetime | None]


class Reference(Base):
    """One enrolled image of a signer's signature, known by its content."""

    __tablename__ = "signer_references"  # `references` is a reserved word of SQL
    # The unique index starts with the signer, so it also serves "the references of a signer".
    __table_args__ = (
        UniqueConstraint("signer_id", "sha256"),
        CheckConstraint(f"length(sha256) = {DIGEST_LENGTH}", name="sha256_length"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    signer_id: Mapped[str] = mapped_column(ForeignKey(Signer.id))
    uri: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    source: Mapped[str | None]
    enrolled_at: Mapped[datetime] = mapped_column(default=utc_now)
    retired_at: Mapped[datetime | None]


class Model(Base):
    """A checkpoint, known by the sha256 of its file, and what it is used for.

    `metrics` are what it was measured to do, with the protocol; `parent_id` is the model that its
    training began with. `state_since` and `state_by` tell of the last change of `state`;
    `activated_at` and `replaced_id` of the last time that it became the active one, and in place of
    which. `shadow_share` of the jobs are shown to a model in the shadow as well.
    """

    __tablename__ = "models"
    __table_args__ = (
        CheckConstraint(f"length(id) = {DIGEST_LENGTH}", name="id_length"),
        _one_of("state", MODEL_STATES, "state"),
        Index(None, "state", unique=True, postgresql_where=STANDING_BY, sqlite_where=STANDING_BY),
    )

    id: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    uri: Mapped[str]
    backbone: Mapped[str]
    size: Mapped[int]
    threshold: Mapped[float]
    preprocessing: Mapped[str]
    scoring: Mapped[dict[str, Any]]
    registered_at: Mapped[datetime] = mapped_column(default=utc_now)
    registered_by: Mapped[str | None]
    metrics: Mapped[dict[str, Any] | None]
    recipe: Mapped[dict[str, Any] | None]
    parent_id: Mapped[str | None] = mapped_column(String(DIGEST_LENGTH))
    state_since: Mapped[datetime | None]
    state_by: Mapped[str | None]
    activated_at: Mapped[datetime | None]
    replaced_id: Mapped[str | None] = mapped_column(String(DIGEST_LENGTH))
    shadow_share: Mapped[float | None]
    # The server's default is for workers of the release before, which do not know the column.
    state: Mapped[str] = mapped_column(String(16), default=CANDIDATE, server_default=CANDIDATE)


class Embedding(Base):
    """One reference as one model sees it."""

    __tablename__ = "embeddings"
    __table_args__ = (
        CheckConstraint("dimensions > 0", name="dimensions_positive"),
        # A vector of 512 numbers just exceeds the 2 KB above which PostgreSQL moves a value out
        # of its row; kept in it, a signer's references are read in half the pages.
        {"postgresql_with": {"toast_tuple_target": 8160}},
    )

    reference_id: Mapped[int] = mapped_column(ForeignKey(Reference.id), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey(Model.id), primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    dimensions: Mapped[int]


class Job(Base):
    """One question: is the signature on this document the claimed signer's?

    The signer is no foreign key: a question about somebody unknown is still a question.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        _one_of("status", STATUSES, "status"),
        CheckConstraint("deliveries >= 0", name="deliveries_not_negative"),
        Index(None, "status", "updated_at"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    signer_id: Mapped[str] = mapped_column(String(ID_LENGTH))
    document: Mapped[str]
    page: Mapped[int | None]
    region: Mapped[list[Any] | None]
    upstream: Mapped[dict[str, Any]] = mapped_column(default=dict)
    status: Mapped[str] = mapped_column(String(16), default=QUEUED)
    deliveries: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)


class Decision(Base):
    """The answer to one job and everything it rests on; distances, lower is closer.

    `threshold` is where acceptance ended and `reject_threshold` where rejection began; the latter
    and the operating point are absent where one threshold decided alone. `terms` sum to the score.
    `ink` is what the document's ink measured (`model.ink.Ink`), failures after that included.

    The checks are the last guard of the rule that nothing which failed is an acceptance.
    """

    __tablename__ = "decisions"
    __table_args__ = (
        _one_of("verdict", VERDICTS, "verdict"),
        CheckConstraint("(verdict = 'error') = (error_code IS NOT NULL)", name="error_has_code"),
        CheckConstraint(
            "verdict = 'error' OR (score IS NOT NULL AND threshold IS NOT NULL"
            " AND model_id IS NOT NULL)",
            name="verdict_has_grounds",
        ),
        CheckConstraint("verdict <> 'accept' OR score < threshold", name="accept_below_threshold"),
        CheckConstraint(
            # Its absence is for databases that were downgraded and have lost it.
            "verdict <> 'review' OR (score >= threshold"
            " AND (reject_threshold IS NULL OR score < reject_threshold))",
            name="review_between_thresholds",
        ),
        # The last column is only looked at, so that a row that is not wanted is not fetched.
        Index(None, "signer_id", "decided_at", "verdict"),
        Index(None, "decided_at", "distance"),
        Index(None, "verdict", "decided_at"),
        Index(None, "model_id", "decided_at"),
        Index(
            None,
            "error_code",
            "decided_at",
            postgresql_where=text("error_code IS NOT NULL"),
            sqlite_where=text("error_code IS NOT NULL"),
        ),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey(Job.id), primary_key=True)
    signer_id: Mapped[str] = mapped_column(String(ID_LENGTH))
    document: Mapped[str]
    document_sha256: Mapped[str | None] = mapped_column(String(DIGEST_LENGTH))
    verdict: Mapped[str] = mapped_column(String(16))
    score: Mapped[float | None]
    distance: Mapped[float | None]
    threshold: Mapped[float | None]
    distances: Mapped[list[Any]] = mapped_column(default=list)
    nearest_reference: Mapped[int | None]
    model_id: Mapped[str | None] = mapped_column(String(DIGEST_LENGTH))
    preprocessing: Mapped[str | None]
    rule: Mapped[str | None]
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None]
    fetch_ms: Mapped[float | None]
    preprocess_ms: Mapped[float | None]
    embed_ms: Mapped[float | None]
    total_ms: Mapped[float | None]
    upstream: Mapped[dict[str, Any]] = mapped_column(default=dict)
    decided_at: Mapped[datetime] = mapped_column(default=utc_now)
    # The columns of later migrations come last, where a database that grew has them. They must be
    # nullable: a seal leaves out what is null, so seals from before a column stay valid.
    reject_threshold: Mapped[float | None]
    operating_point: Mapped[str | None] = mapped_column(String(16))
    terms: Mapped[dict[str, Any] | None]
    ink: Mapped[dict[str, Any] | None]


class ShadowDecision(Base):
    """What the model in the shadow would have said of a job that the active one has decided.

    It is no decision: it stands in no chain, decides nothing, and goes when its model is pruned.
    """

    __tablename__ = "shadow_decisions"

    job_id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey(Model.id), primary_key=True, index=True)
    verdict: Mapped[str] = mapped_column(String(16))
    score: Mapped[float | None]
    distance: Mapped[float | None]
    threshold: Mapped[float | None]
    reject_threshold: Mapped[float | None]
    error_code: Mapped[str | None] = mapped_column(String(64))
    decided_at: Mapped[datetime] = mapped_column(default=utc_now)


class TrainingRun(Base):
    """A retraining: what was asked for, how far it is, and the candidate that came of it.

    `progress` holds the stage and its steps; `cancelled_at` is when somebody asked for the end.
    """

    __tablename__ = "training_runs"
    __table_args__ = (_one_of("state", RUN_STATES, "state"), Index(None, "created_at"))

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    state: Mapped[str] = mapped_column(String(16), default=QUEUED)
    options: Mapped[dict[str, Any]]
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    requested_by: Mapped[str | None]
    candidate_id: Mapped[str | None] = mapped_column(String(DIGEST_LENGTH))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None]
    cancelled_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)


# As literals: a bound value would keep SQLite from using the index.
ATTESTS = text(f"kind IN ('{DECISION}', '{ADOPTED}')")
IS_LABEL = text(f"kind = '{LABEL}'")
IS_ACTIVATION = text(f"kind = '{ACTIVATION}'")


class ChainEntry(Base):
    """One event of the record, sealed onto the entry before it in its chain.

    An entry of the kind `decision` or `adopted` attests the decision of the job `subject`; the
    others say in `detail`, as JSON text, what happened. `mac` is `storage.seal.seal` of it all.
    """

    __tablename__ = "chain_entries"
    __table_args__ = (
        CheckConstraint("length(mac) = 32", name="mac_length"),
        # One entry attests a decision, and is found by its job.
        Index(
            None,
            "subject",
            unique=True,
            postgresql_where=ATTESTS,
            sqlite_where=ATTESTS,
        ),
        # The labels of a job, however many decisions there are; labels are few.
        Index(
            None,
            "subject",
            "recorded_at",
            postgresql_where=IS_LABEL,
            sqlite_where=IS_LABEL,
        ),
        Index(None, "recorded_at", postgresql_where=IS_ACTIVATION, sqlite_where=IS_ACTIVATION),
    )

    chain: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    detail: Mapped[str | None]
    key_id: Mapped[str] = mapped_column(String(16))
    recorded_at: Mapped[datetime]
    mac: Mapped[bytes] = mapped_column(LargeBinary)
