"""Objects in an S3 store; what boto3 raises is told apart into gone, refused and away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from storage.errors import (
    ImageNotFound,
    ImageTooBig,
    InvalidUri,
    StorageError,
    StoreRefused,
    StoreUnavailable,
)

CHUNK = 1 << 18
CONNECTIONS = 32  # the worker fetches on many threads over one client

MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchVersion", "NotFound", "404"}
AWAY = {"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "ServiceUnavailable"}
# A signature is refused because of its time. Another worker, or a later try, may well succeed.
AWAY |= {"RequestTimeTooSkewed"}
SKEW_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class S3Config:
    """How to reach the object store. Times in seconds.

    Without an endpoint it is AWS; without keys boto3 looks where it always does (instance role,
    profile); without `ca`, a PEM file, the public authorities vouch for the server. `retries`
    counts the attempts after the first.
    """

    endpoint: str | None = None
    ca: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    region: str = "us-east-1"
    path_style: bool = True
    connect_timeout: float = 5
    read_timeout: float = 30
    retries: int = 3

    def __repr__(self) -> str:
        return f"S3Config(endpoint={_bare(self.endpoint)!r}, region={self.region!r})"


class S3:
    """One lazily made client, shared by all threads of the process."""

    def __init__(self, config: S3Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._client: Any = None

    def read(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """The object's bytes; stops reading, and raises ImageTooBig, beyond `max_bytes`."""
        uri = f"s3://{bucket}/{key}"
        with _s3_errors(uri):
            answer = self.client().get_object(Bucket=bucket, Key=key)
            with closing(answer["Body"]) as body:
                if answer.get("ContentLength", 0) > max_bytes:
                    raise ImageTooBig(f"{uri} holds more than {max_bytes} bytes")
                return _read(body, uri, max_bytes)

    def write(self, bucket: str, key: str, data: bytes) -> None:
        """Stores the bytes under the key, replacing what is there."""
        with _s3_errors(f"s3://{bucket}/{key}"):
            self.client().put_object(Bucket=bucket, Key=key, Body=data)

    def list(self, bucket: str, prefix: str, most: int) -> list[str]:
        """The keys that begin with the prefix, at most so many, in the store's order."""
        with _s3_errors(f"s3://{bucket}/{prefix}"):
            pages = self.client().get_paginator("list_objects_v2")
            found = pages.paginate(
                Bucket=bucket, Prefix=prefix, PaginationConfig={"MaxItems": most}
            )
            return [item["Key"] for page in found for item in page.get("Contents", ())]

    def delete(self, bucket: str, key: str) -> None:
        """Removes the object; harmless when it is gone already. A versioned bucket keeps it."""
        with _s3_errors(f"s3://{bucket}/{key}"):
            self.client().delete_object(Bucket=bucket, Key=key)

    def check(self, bucket: str) -> None:
        """Asks for the bucket; raises the errors that reading from it would."""
        with _s3_errors(f"s3://{bucket}"):
            self.client().head_bucket(Bucket=bucket)

    def client(self) -> Any:
        """The boto3 client, made on first use."""
        with self._lock:  # making a client is slow and not thread-safe, using one is neither
            if self._client is None:
                self._client = _make_client(self._config)
            return self._client


def _make_client(config: S3Config) -> Any:
    if bool(config.access_key) != bool(config.secret_key):
        raise StoreRefused("only one of the access key and the secret key of the store is set")
    try:
        client = boto3.session.Session(
            aws_access_key_id=config.access_key,
            aws_secret_access_key=config.secret_key,
            region_name=config.region,
        ).client(
            "s3",
            endpoint_url=config.endpoint,
            verify=config.ca,
            config=Config(
                signature_version="s3v4",
                # What a store's log tells of us. botocore's own is made anew for each request.
                user_agent="sigctl",
                connect_timeout=config.connect_timeout,
                read_timeout=config.read_timeout,
                retries={"mode": "standard", "total_max_attempts": 1 + config.retries},
                max_pool_connections=CONNECTIONS,
                s3={"addressing_style": "path" if config.path_style else "auto"},
                # Stores other than AWS do not all know the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
    except ValueError as error:
        raise InvalidUri(
            f"the S3 endpoint {_bare(config.endpoint)!r} is not an http(s) URL"
        ) from error
    client.meta.events.register("before-call.s3", _stay)
    client.meta.events.register("before-call.s3", _send_at_once)
    return client


def _stay(context: dict[str, Any], **_: Any) -> None:
    """Follow no answer to another region's host: botocore does so once, and believes this is it."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def _send_at_once(params: dict[str, Any], **_: Any) -> None:
    """Send the bytes with the question, and do not first ask whether they are wanted.

    botocore does (`Expect: 100-continue`), which pays for large files alone: it costs a turn of the
    wire, and a whole second with a store that does not know the header.
    """
    params["headers"].pop("Expect", None)


def _read(body: Any, uri: str, max_bytes: int) -> bytes:
    data = bytearray()
    # To the empty chunk: only there does botocore notice that the connection broke off early.
    while chunk := body.read(CHUNK):
        data += chunk
        if len(data) > max_bytes:
            raise ImageTooBig(f"{uri} holds more than {max_bytes} bytes")
    return bytes(data)


@contextmanager
def _s3_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise _translate(error, uri) from error
    except ParamValidationError as error:
        raise InvalidUri(f"{uri} does not name a valid bucket and key") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StoreRefused(f"there are no credentials to reach {uri} with") from error
    except BotoCoreError as error:
        # The class alone: the text repeats the endpoint, which may hold a password.
        raise StoreUnavailable(
            f"the object store did not answer for {uri} ({type(error).__name__})"
        ) from error


def _translate(error: ClientError, uri: str) -> StorageError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return ImageNotFound(f"there is no bucket for {uri}")
    if code in MISSING or status == 404:
        return ImageNotFound(f"there is no object {uri}")
    off = _seconds_off(error)
    if status == 403 and off > SKEW_SECONDS:
        return StoreUnavailable(
            f"the object store refuses access to {uri} ({code}), and the clock of this machine is"
            f" {off:.0f} s off"
        )
    if code in AWAY or status >= 500 or status in (408, 429):
        return StoreUnavailable(f"the object store is out of order for {uri} ({code or status})")
    if 300 <= status < 400:
        return StoreRefused(
            f"the object store points elsewhere for {uri} ({status}), which is not followed;"
            " check its endpoint and region"
        )
    return StoreRefused(
        f"the object store refuses access to {uri} ({code or status});"
        " check the access key and its rights"
    )


def _seconds_off(error: ClientError) -> float:
    """How far the answer's time is from ours; a signature of another time is refused."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        theirs = parsedate_to_datetime(headers["date"])
        return abs((datetime.now(UTC) - theirs).total_seconds())
    except (LookupError, ValueError, TypeError):
        return 0.0


def _bare(endpoint: str | None) -> str | None:
    """The endpoint without the user and password that its address may hold."""
    if endpoint is None or "@" not in endpoint:
        return endpoint
    scheme, separator, rest = endpoint.partition("://")
    return f"{scheme}{separator}***@{rest.rpartition('@')[2]}"
