"""The statements that make the rows of a record, for both kinds of database.

Numbers are drawn by multiplication in a prime field: no generator, and the same on either kind.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import md5

from model.distance import WITH_CELLS

END = datetime(2026, 11, 1, tzinfo=UTC)
REFERENCES = 5  # of each signer
POOL = 1000  # different vectors; no two of one signer are alike
PART = 100_000  # rows of one statement
PRIME = 4_294_967_291
MODELS = tuple(md5(f"model {n}".encode()).hexdigest() * 2 for n in range(3))
"""Digests of the models that decided the first 40 %, then up to 95 %, then the rest."""

CODES = ("blank_image", "unreadable_image", "unknown_signer", "image_not_found")
RARE = "store_refused"
"""An error code that has not been seen since the first hundredth of the record."""

UPSTREAM = """'{"branch": 7}'"""
TERMS = """'{"nearest": 0.41, "spread": -0.02}'"""
INK = """'{"stroke_width": 3.871, "ink_share": 0.07214, "long_side": 512}'"""

# Multipliers of PRIME's field; each makes another sequence of numbers.
WHO, KIND, SHARE, TIME = 2_654_435_761, 2_246_822_519, 3_266_489_917, 668_265_263


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much; `seconds` lie between two decisions, so a longer record reaches further back."""

    signers: int
    decisions: int
    seconds: float

    @property
    def references(self) -> int:
        """Of all signers together."""
        return REFERENCES * self.signers

    @property
    def begin(self) -> datetime:
        """The time of the first decision."""
        return END - timedelta(seconds=self.seconds * self.decisions)

    def signer(self, share: float) -> str:
        """The signer of a decision drawn at random; `share` is in 0 to 1, and 0 is the busiest."""
        return f"signer-{int(self.signers * share**2):07d}"

    def job(self, number: int) -> str:
        """The id of a job, numbered from 0 in the order of time."""
        return md5(f"job {number}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The statements for a record of that size, in the words of one kind of database."""

    size: Size
    postgres: bool

    def parts(self) -> Iterator[tuple[str, float, str]]:
        """Each statement, with what it makes and how much of that is then done, in 0 to 1."""
        size = self.size
        for name, rows, statement in (
            ("signers", size.signers, self._signers()),
            ("references", size.references, self._references()),
            ("embeddings", size.references, self._embeddings()),
            ("jobs", size.decisions, self._jobs()),
            ("decisions", size.decisions, self._decisions()),
        ):
            for first in range(0, rows, PART):
                end = min(first + PART, rows)
                yield name, end / rows, f"{statement} FROM {self._numbers(first, end - 1)}"

    def _signers(self) -> str:
        return f"""
INSERT INTO signers (id, enrolled_at) SELECT {self._signer("n")}, {self._moment("0")}"""

    def _references(self) -> str:
        return f"""
INSERT INTO signer_references (id, signer_id, uri, sha256, source, enrolled_at)
SELECT n + 1, {self._signer(f"n / {REFERENCES}")}, 's3://signatures/store/' || md5('r' || n),
  md5('r' || n) || md5('s' || n), 'specimen-' || n || '.png', {self._moment("0")}"""

    def _embeddings(self) -> str:
        return f"""
INSERT INTO embeddings (reference_id, model_id, vector, dimensions)
SELECT n + 1, '{MODELS[-1]}', (SELECT vector FROM pool WHERE k = n % {POOL}), {WITH_CELLS}"""

    def _jobs(self) -> str:
        return f"""
INSERT INTO jobs (id, signer_id, document, upstream, status, deliveries, created_at, updated_at)
SELECT md5('job ' || n), {self._signer(self._who())}, {self._document()},
  {self._json(UPSTREAM)}, 'done', 1, {self._moment("n")}, {self._moment("n")}"""

    def _decisions(self) -> str:
        first = f"{self._who()} * {REFERENCES} + 1"
        return f"""
INSERT INTO decisions (job_id, signer_id, document, document_sha256, decided_at, fetch_ms,
  preprocess_ms, embed_ms, total_ms, upstream, verdict, error_code, error_message, score,
  distance, threshold, reject_threshold, operating_point, distances, nearest_reference, model_id,
  preprocessing, rule, terms, ink)
SELECT md5('job ' || n), {self._signer(self._who())}, {self._document()},
  md5('d' || n) || md5('e' || n), {self._moment("n")}, 3.5, 8.5, 11.5,
  20.0 + {_drawn(TIME)} % 80, {self._json(UPSTREAM)}, {self._verdict()},
  {self._code()}, {_if_error("'nothing could be made of the document'")},
  {self._distance()}, {self._distance()}, {_unless_error("0.5")}, {_unless_error("0.7")},
  {_unless_error("'1%'")}, {self._json(_unless_error(self._entries(), "'[]'"))},
  {_unless_error(first)}, {_unless_error(self._model())}, {_unless_error("'strokes/2 64x128'")},
  {_unless_error("'nearest'")}, {self._json(_unless_error(TERMS))},
  {self._json(_unless_error(INK))}"""

    def _verdict(self) -> str:
        return f"""CASE WHEN {_kind()} < 900 THEN 'accept' WHEN {_kind()} < 940 THEN 'reject'
    WHEN {_kind()} < 980 THEN 'review' ELSE 'error' END"""

    def _distance(self) -> str:
        return f"""CASE WHEN {_kind()} < 900 THEN 0.05 + 0.44 * {_share()}
    WHEN {_kind()} < 940 THEN 0.7 + 0.6 * {_share()}
    WHEN {_kind()} < 980 THEN 0.5 + 0.2 * {_share()} END"""

    def _code(self) -> str:
        common = f"""CASE WHEN n < {self.size.decisions // 100} AND {_share()} < 0.1 THEN '{RARE}'
    WHEN {_share()} < 0.4 THEN '{CODES[0]}' WHEN {_share()} < 0.7 THEN '{CODES[1]}'
    WHEN {_share()} < 0.9 THEN '{CODES[2]}' ELSE '{CODES[3]}' END"""
        return _if_error(common)

    def _model(self) -> str:
        first, second = 2 * self.size.decisions // 5, 19 * self.size.decisions // 20
        return f"""CASE WHEN n < {first} THEN '{MODELS[0]}' WHEN n < {second} THEN '{MODELS[1]}'
    ELSE '{MODELS[2]}' END"""

    def _entries(self) -> str:
        """The distances to the signer's references."""
        entries = (
            f"""'{{"reference": ' || ({self._who()} * {REFERENCES} + {place})
    || ', "distance": 0.' || (1000 + {_drawn(SHARE)} % 4000 + {300 * place}) || '}}'"""
            for place in range(1, REFERENCES + 1)
        )
        comma = " || ', ' || "
        return f"'[' || {comma.join(entries)} || ']'"

    def _document(self) -> str:
        return "'s3://documents/2026/' || md5('d' || n) || '.png'"

    def _who(self) -> str:
        """The signer's number: the square of an even draw, so that some are far busier."""
        draw = f"({_drawn(WHO)} / 4096)"  # 20 bits, whose square times the signers fits 64
        return f"(({self.size.signers} * {draw} * {draw}) / {1 << 40})"

    def _signer(self, number: str) -> str:
        if self.postgres:
            return f"'signer-' || lpad(({number})::text, 7, '0')"
        return f"printf('signer-%07d', {number})"

    def _moment(self, number: str) -> str:
        seconds = f"{self.size.begin.timestamp()} + {self.size.seconds} * {number}"
        if self.postgres:
            return f"to_timestamp({seconds})"
        return f"strftime('%Y-%m-%d %H:%M:%f000', {seconds}, 'unixepoch')"

    def _json(self, text: str) -> str:
        return f"({text})::json" if self.postgres else text

    def _numbers(self, first: int, last: int) -> str:
        if self.postgres:
            return f"generate_series({first}::bigint, {last}) AS numbers (n)"
        return f"""(WITH RECURSIVE numbers (n) AS (VALUES ({first}) UNION ALL
  SELECT n + 1 FROM numbers WHERE n < {last}) SELECT n FROM numbers)"""


def _drawn(multiplier: int) -> str:
    return f"(((n + 1) * {multiplier}) % {PRIME})"


def _kind() -> str:
    return f"{_drawn(KIND)} % 1000"


def _share() -> str:
    """In 0 to 1."""
    return f"(CAST({_drawn(SHARE)} AS DOUBLE PRECISION) / {PRIME})"


def _unless_error(value: str, otherwise: str = "NULL") -> str:
    return f"CASE WHEN {_kind()} < 980 THEN {value} ELSE {otherwise} END"


def _if_error(value: str) -> str:
    return f"CASE WHEN {_kind()} >= 980 THEN {value} END"
