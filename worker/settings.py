"""The only reader of the environment: SIGCTL_* variables and `.env` become one frozen value.

`Settings(...)` itself reads nothing, so a test or a caller can build one by hand;
`load_settings()` reads, checks and names every variable that is wrong.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from worker.errors import SettingsError

__all__ = [
    "SettingDoc",
    "SettingValue",
    "Settings",
    "SettingsError",
    "load_settings",
    "mask_url",
    "settings_table",
    "variable_name",
]

PREFIX = "SIGCTL_"
TEST_PREFIX = "SIGCTL_TEST_"  # servers for the test suite; never settings of the service
ENV_FILE = ".env"

MASK = "********"
BALANCED = "balanced"
KINDS_OF_WORK = ("verify", "enrol", "train")
CHAIN_KEY_LENGTH = 32


def _checked(check: Callable[[Any], Any]) -> BeforeValidator:
    """`check` returns the value or raises ValueError("must be ...")."""
    return BeforeValidator(check)


def _number(kind: type[int | float], least: float, what: str) -> BeforeValidator:
    def check(value: Any) -> int | float:
        try:
            number = kind(value)
        except (TypeError, ValueError):
            raise ValueError(f"must be {what}") from None
        if not least <= number < float("inf"):
            raise ValueError(f"must be {what}")
        return number

    return _checked(check)


def _choice(*allowed: str) -> BeforeValidator:
    def check(value: Any) -> str:
        text = str(value).lower()
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return _checked(check)


def _boolean(value: Any) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    text = str(value).lower()
    if text not in words:
        raise ValueError("must be true or false")
    return words[text]


def _database_url(value: Any) -> str:
    scheme, _, rest = str(value).partition("://")
    if scheme.partition("+")[0] not in ("sqlite", "postgresql") or not rest.strip():
        raise ValueError(
            "must be a database URL such as sqlite:///sigctl.db"
            " or postgresql+psycopg://user:password@host/name"
        )
    return str(value)


def _broker_url(value: Any) -> str:
    parts = _split(value)
    if parts is None or parts.scheme not in ("redis", "rediss", "redis+socket"):
        raise ValueError("must be a Redis URL such as redis://localhost:6379/0")
    if parts.scheme != "redis+socket" and not parts.hostname:
        raise ValueError("must be a Redis URL such as redis://localhost:6379/0")
    return str(value)


def _endpoint(value: Any) -> str:
    parts = _split(value)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    if "@" in parts.netloc:
        raise ValueError("must hold no user and password; the keys are settings of their own")
    return str(value).rstrip("/")


def _split(value: Any) -> Any:
    """The parts of a URL, or None when it is not one (a port that is no number, say)."""
    try:
        parts = urlsplit(str(value))
        _ = parts.port
    except ValueError:
        return None
    return parts


def _store(value: Any) -> str:
    """`s3://bucket/prefix` and `file:///folder` stay; a plain folder becomes a file URI."""
    text = str(value)
    if text.startswith("s3://"):
        if not urlsplit(text).netloc or "@" in urlsplit(text).netloc:
            raise ValueError("must name a bucket, as in s3://signatures/enrolled")
        return text
    if text.startswith("file://"):
        if not text.removeprefix("file://").startswith("/"):
            raise ValueError("must be an absolute file URI, as in file:///srv/sigctl/store")
        return text
    if "://" in text:
        raise ValueError("must be s3://bucket/prefix, file:///folder or a folder")
    return Path(text).expanduser().resolve().as_uri()


def _words(value: Any) -> tuple[str, ...]:
    """A comma-separated list; already split values pass."""
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part for part in (str(part).strip() for part in parts) if part)


def _folders(value: Any) -> tuple[Path, ...]:
    folders = tuple(Path(word).expanduser().resolve() for word in _words(value))
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise ValueError(f"must name existing folders ({', '.join(missing)} is none)")
    return folders


def _cores() -> int:
    """All that this process may use, where the system tells."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def _embedding_cores() -> int:
    """All but one."""
    return max(_cores() - 1, 1)


def _chain_key(value: Any) -> Any:
    words = _secret(value)
    if len(words) < CHAIN_KEY_LENGTH or any(c == "," or c.isspace() for c in words):
        raise ValueError(
            f"must have at least {CHAIN_KEY_LENGTH} characters, no blanks and no commas,"
            " such as `openssl rand -hex 32` makes"
        )
    return value


def _chain_keys(value: Any) -> Any:
    for words in _words(_secret(value)):
        _chain_key(words)
    return value


def _secret(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _kinds_of_work(value: Any) -> tuple[str, ...]:
    kinds = tuple(word.lower() for word in _words(value))
    if not kinds or not set(kinds) <= set(KINDS_OF_WORK):
        raise ValueError(f"must be some of {', '.join(KINDS_OF_WORK)}")
    return kinds


def _port(value: Any) -> int:
    text = str(value)
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise ValueError("must be a port between 1 and 65535")
    return int(text)


def _buckets(value: Any) -> tuple[str, ...]:
    """Names of buckets, each perhaps with a prefix of whole key segments."""
    entries = tuple(word.removesuffix("/") for word in _words(value))
    for entry in entries:
        if "://" in entry or not all(part not in ("", ".", "..") for part in entry.split("/")):
            raise ValueError("must name buckets, or bucket/prefix, such as scans or scans/2026")
    return entries


def _file(value: Any) -> Path:
    path = Path(str(value)).expanduser()
    if not path.is_file():
        raise ValueError("must name a file")
    return path


KEY_LENGTH = 32


def _key(value: Any) -> SecretStr:
    key = value if isinstance(value, SecretStr) else SecretStr(str(value))
    if len(key.get_secret_value()) < KEY_LENGTH:
        raise ValueError(f"must have at least {KEY_LENGTH} characters")
    return key


def _keys(value: Any) -> tuple[SecretStr, ...]:
    if isinstance(value, str):
        return tuple(map(_key, _words(value)))
    return tuple(map(_key, value))


def _sha256(value: Any) -> str:
    text = str(value).lower()
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError("must be a sha256 in hexadecimal, as `sha256sum` prints it")
    return text


def _device(value: Any) -> str:
    text = str(value).lower()
    kind, _, index = text.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise ValueError("must be auto, cpu, cuda or cuda:<number>")
    return text


Seconds = Annotated[float, _number(float, 1e-3, "a positive number of seconds")]
Count = Annotated[int, _number(int, 1, "a whole number of 1 or more")]
CountOrNone = Annotated[int, _number(int, 0, "a whole number of 0 or more")]
Boolean = Annotated[bool, _checked(_boolean)]


class Settings(BaseModel):
    """Everything that can be configured. Times are seconds, sizes bytes or pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: Annotated[str, _checked(_database_url)] = Field(
        "sqlite:///sigctl.db",
        repr=False,
        description="Where signers, jobs and decisions are kept: SQLite or PostgreSQL.",
    )
    chain_key: Annotated[SecretStr | None, _checked(_chain_key)] = Field(
        None,
        description="Secret that the record is sealed with, of at least 32 characters. Without it"
        " the seals show accidents, but no forger.",
    )
    chain_old_keys: Annotated[SecretStr | None, _checked(_chain_keys)] = Field(
        None,
        description="Keys that the record was sealed with before, separated by commas; the record"
        " is checked with them.",
    )
    broker_url: Annotated[str | None, _checked(_broker_url)] = Field(
        None,
        repr=False,
        description="Redis that carries the queue. Without it, jobs run in the calling process.",
    )
    message_key: Annotated[SecretStr | None, _checked(_key)] = Field(
        None,
        description="Key, of 32 characters or more, that messages are signed with. With it, a"
        " worker drops every message that is not.",
    )
    message_old_keys: Annotated[tuple[SecretStr, ...], _checked(_keys)] = Field(
        (),
        description="Earlier keys, separated by commas, whose messages a worker still takes.",
    )
    queue: str = Field("sigctl.verify", description="Name of the queue of documents to verify.")
    work: Annotated[tuple[str, ...], _checked(_kinds_of_work)] = Field(
        KINDS_OF_WORK,
        description="Which queues a worker takes from, separated by commas: verify, enrol, train.",
    )
    store: Annotated[str, _checked(_store)] = Field(
        default_factory=lambda: _store("store"),
        description="Where enrolled images are kept: s3://bucket/prefix or a folder."
        " The default is the folder `store` here.",
    )
    roots: Annotated[tuple[Path, ...], _checked(_folders)] = Field(
        default_factory=lambda: (Path.cwd(),),
        description="Folders that file:// documents may come from, separated by commas."
        " The default is the current folder.",
    )
    buckets: Annotated[tuple[str, ...], _checked(_buckets)] = Field(
        (),
        description="Buckets that s3:// documents may come from, separated by commas. bucket/prefix"
        " allows only keys below the prefix.",
    )
    corpora: Annotated[tuple[Path, ...], _checked(_folders)] = Field(
        (),
        description="Folders of signatures in the CEDAR layout that a retraining learns from beside"
        " what is enrolled, separated by commas.",
    )
    runs: Path = Field(
        Path("runs"),
        description="Folder in which each retraining has its own; shared by the workers that train,"
        " so that another can go on with a run.",
    )
    s3_endpoint: Annotated[str | None, _checked(_endpoint)] = Field(
        None, description="URL of the S3 server. Without it, Amazon's."
    )
    s3_ca: Annotated[Path | None, _checked(_file)] = Field(
        None,
        description="Certificates that the S3 server's must be signed by, in a PEM file."
        " The default is the public authorities.",
    )
    s3_access_key: str | None = Field(
        None, description="Access key. Without it, boto3 looks in its usual places."
    )
    s3_secret_key: SecretStr | None = Field(
        None, description="Secret key that belongs to the access key."
    )
    s3_region: str = Field("us-east-1", description="Region that requests are signed for.")
    s3_path_style: Boolean = Field(
        True, description="Ask for /bucket/key instead of bucket.host/key."
    )
    s3_connect_timeout: Seconds = Field(5.0, description="Seconds to wait for a connection.")
    s3_read_timeout: Seconds = Field(30.0, description="Seconds to wait for the next bytes.")
    s3_retries: CountOrNone = Field(3, description="Repeated requests within one fetch.")
    checkpoint: Path = Field(
        Path("checkpoints/siamese_vision_mamba_tiny.pt"),
        description="The model: weights, threshold and preprocessing in one file. It decides until"
        " `sigctl models activate` names another.",
    )
    checkpoint_sha256: Annotated[str | None, _checked(_sha256)] = Field(
        None,
        description="sha256 of the only model that may decide here. Any other is refused, even if"
        " it is the active one.",
    )
    device: Annotated[str, _checked(_device)] = Field(
        "auto", description="auto, cpu, cuda or cuda:<number>."
    )
    precision: Annotated[str, _choice("auto", "float32")] = Field(
        "auto",
        description="auto: the fastest arithmetic of the device, with close calls decided in"
        " float32; float32: everything in it.",
    )
    far: Annotated[str, _choice(BALANCED, "0.1%", "1%", "5%")] = Field(
        "1%",
        description="Operating point: share of skilled forgeries that may be accepted, 0.1%, 1% or"
        " 5%, doubtful documents being left for review; or balanced: one threshold, no review."
        " A checkpoint without operating points is always balanced.",
    )
    max_bytes: Count = Field(32 * 2**20, description="Largest document that is fetched, in bytes.")
    max_pixels: Count = Field(100_000_000, description="Largest page that is decoded, in pixels.")
    decoders: CountOrNone = Field(
        default_factory=_cores,
        description="Most child processes in which a worker decodes documents, within the two"
        " limits below; the default is one for each core. With 0 it decodes in its own process,"
        " without limits: not for documents of strangers.",
    )
    decode_timeout: Seconds = Field(
        20.0, description="Seconds that decoding one document may take."
    )
    decode_memory: Annotated[
        int, _number(int, 2**29, "a whole number of bytes, at least 536870912")
    ] = Field(
        2 * 2**30,
        description="Memory that a decoding process may take, in bytes. A page of 100 million"
        " pixels takes 1.5 GB.",
    )
    max_deliveries: Count = Field(
        3,
        description="Deliveries of one job that may end without a trace (a killed worker)"
        " before it is set aside.",
    )
    max_retries: CountOrNone = Field(
        5, description="Further tries when the image store is away or an error is unexpected."
    )
    retry_delay: Seconds = Field(
        2.0, description="Longest wait before the first retry; doubles with each one."
    )
    retry_delay_max: Seconds = Field(60.0, description="Longest wait before any retry.")
    job_timeout: Seconds = Field(
        300.0, description="Seconds that one job may take; enforced by the prefork pool only."
    )
    visibility_timeout: Annotated[float, _number(float, 4, "4 seconds or more")] = Field(
        60.0,
        description="Seconds without a sign of life after which a worker's jobs go to another one."
        " The same for every process that uses this Redis database.",
    )
    requeue_after: Seconds = Field(
        1800.0, description="Seconds after which a job without a decision is sent again."
    )
    cores: Count = Field(
        default_factory=_embedding_cores,
        description="Processor cores that embed at the same time in one worker. The default leaves"
        " one for fetching and decoding.",
    )
    concurrency: Count = Field(
        default_factory=lambda: min(16 * _embedding_cores(), 32),
        description="Jobs at a time in one worker: they fetch and decode while others are embedded."
        " The default is 16 on two cores, 32 on more.",
    )
    batch_size: Annotated[int | None, _number(int, 1, "a whole number of 1 or more")] = Field(
        None, description="Most documents embedded at once. The default is what the device likes."
    )
    pool: Annotated[str, _choice("threads", "solo", "prefork")] = Field(
        "threads", description="Celery's pool: threads, solo or prefork (never with a GPU)."
    )
    log_level: Annotated[str, _choice("debug", "info", "warning", "error")] = Field(
        "info", description="debug, info, warning or error."
    )
    log_format: Annotated[str, _choice("text", "json")] = Field(
        "text", description="text for people, json for machines."
    )
    health_port: Annotated[int | None, _checked(_port)] = Field(
        None,
        description="Port on which a worker answers /live, /ready and /metrics. Without it, none.",
    )
    health_host: str = Field(
        "127.0.0.1",
        description="Address that the health port is opened on: 0.0.0.0 where probes and Prometheus"
        " come from elsewhere. It asks for no password.",
    )

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.retry_delay > self.retry_delay_max:
            raise ValueError("SIGCTL_RETRY_DELAY must not exceed SIGCTL_RETRY_DELAY_MAX.")
        if self.requeue_after < self.visibility_timeout:
            raise ValueError(
                "SIGCTL_REQUEUE_AFTER must not be shorter than SIGCTL_VISIBILITY_TIMEOUT:"
                " until then a worker may still hold the job."
            )
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            raise ValueError("SIGCTL_S3_ACCESS_KEY and SIGCTL_S3_SECRET_KEY must be set together.")
        if self.message_old_keys and self.message_key is None:
            raise ValueError("SIGCTL_MESSAGE_OLD_KEYS needs a SIGCTL_MESSAGE_KEY that is in use.")
        return self

    @property
    def operating_point(self) -> str | None:
        """The point that decisions are made at; None is the balanced threshold."""
        return None if self.far == BALANCED else self.far

    @property
    def message_keys(self) -> tuple[SecretStr, ...]:
        """Every key whose signature is good, the one in use first; none where none is asked for."""
        return () if self.message_key is None else (self.message_key, *self.message_old_keys)

    def describe(self) -> list[SettingValue]:
        """Every setting with its value as it may be shown: secrets and URL passwords masked."""
        return [
            SettingValue(
                variable=variable_name(name),
                value=_shown(getattr(self, name)),
                given=name in self.model_fields_set,
            )
            for name in type(self).model_fields
        ]


@dataclass(frozen=True, kw_only=True)
class SettingValue:
    """One setting as it stands. `given` is false where the default applies."""

    variable: str
    value: str
    given: bool


@dataclass(frozen=True, kw_only=True)
class SettingDoc:
    """One setting as the manual lists it."""

    variable: str
    meaning: str
    default: str


def load_settings(env: Mapping[str, str] | None = None) -> Settings:
    """The settings from `env`, or from the process environment with `.env` below it.

    Raises SettingsError with one sentence for each variable that is wrong or unknown.
    """
    given = _given(env)
    problems = [_unknown(name) for name in given if name not in Settings.model_fields]
    known = {name: value for name, value in given.items() if name in Settings.model_fields}
    try:
        settings = Settings.model_validate(known)
    except ValidationError as error:
        problems += [_sentence(item) for item in error.errors()]
    if problems:
        raise SettingsError(tuple(problems))
    return settings


def settings_table() -> list[SettingDoc]:
    """Every variable with its meaning and default, in the order of the manual."""
    return [
        SettingDoc(
            variable=variable_name(name),
            meaning=field.description or "",
            default=_default(field),
        )
        for name, field in Settings.model_fields.items()
    ]


def variable_name(field: str) -> str:
    """`max_bytes` -> `SIGCTL_MAX_BYTES`."""
    return PREFIX + field.upper()


def mask_url(url: str) -> str:
    """The URL with its password hidden, wherever one can stand: before the host or in the query."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    query = "&".join(_masked_pair(pair) for pair in parts.query.split("&"))
    netloc = f"{name}{colon and ':' + MASK}{at}{host}"
    # urlunsplit writes sqlite:///x as sqlite:/x, because sqlite is no scheme that it knows.
    if not netloc:
        return f"{parts.scheme}://{parts.path}" + (query and f"?{query}")
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def _masked_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return name + equals + MASK if "pass" in name.lower() else pair


def _given(env: Mapping[str, str] | None) -> dict[str, str]:
    """Field name -> text, for each SIGCTL_* variable that is set to something."""
    found: dict[str, str | None] = {}
    if env is None:
        found |= dotenv_values(ENV_FILE)
        env = os.environ
    found |= env
    return {
        name.upper().removeprefix(PREFIX).lower(): value.strip()
        for name, value in found.items()
        if name.upper().startswith(PREFIX) and not name.upper().startswith(TEST_PREFIX)
        # Compose passes "VARIABLE=" for what is not set: empty means the default.
        if value is not None and value.strip()
    }


def _unknown(field: str) -> str:
    near = difflib.get_close_matches(field, list(Settings.model_fields), n=1)
    hint = f" Did you mean {variable_name(near[0])}?" if near else ""
    return f"{variable_name(field)} is not a setting.{hint}"


def _sentence(error: Any) -> str:
    """One pydantic error as a sentence that names the variable."""
    reason = str(error.get("ctx", {}).get("error", error["msg"]))
    if not error["loc"]:
        return reason
    field = str(error["loc"][0])
    given = str(error["input"])
    # May hold a password: not repeated.
    secret = field.endswith(("_key", "_keys", "_url")) or "@" in given
    value = "" if secret else f", not {given!r}"
    return f"{variable_name(field)} {reason}{value}."


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, tuple):
        return ",".join(map(_shown, value))
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return mask_url(text) if "://" in text else text


def _default(field: FieldInfo) -> str:
    """A default that depends on the machine is told in the meaning, not here."""
    return "" if field.default_factory is not None else _shown(field.default)
