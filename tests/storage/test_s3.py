from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from storage import s3 as module
from storage.errors import (
    ImageForbidden,
    ImageNotFound,
    ImageTooBig,
    InvalidUri,
    StorageError,
    StoreRefused,
    StoreUnavailable,
    Transient,
)
from storage.images import Images
from storage.s3 import S3, S3Config
from tests.services import free_port


def config(**changes) -> S3Config:
    usual = {
        "endpoint": f"http://127.0.0.1:{free_port()}",
        "access_key": "access",
        "secret_key": "very-secret",
        "connect_timeout": 1,
        "read_timeout": 1,
        "retries": 0,
    }
    return S3Config(**(usual | changes))


def images(s3_config: S3Config, bucket: str) -> Images:
    return Images(
        roots=(), buckets=(bucket,), store=f"s3://{bucket}/x", s3=s3_config, max_bytes=1_000_000
    )


@contextmanager
def answering(
    status: int, code: str = "", body: bytes | None = None, length: int | None = None
) -> Iterator[str]:
    """An S3 server that gives every request the same answer; yields its endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = f"<Error><Code>{code}</Code></Error>".encode() if body is None else body
            self.send_response(status)
            self.send_header("Content-Length", str(len(data) if length is None else length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
            self.close_connection = True

        do_PUT = do_HEAD = do_GET

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# Against the real server


def test_a_missing_bucket_is_permanent_and_says_so(s3):
    store = images(s3.config, "no-such-bucket")
    with pytest.raises(ImageNotFound, match="no bucket"):
        store.fetch("s3://no-such-bucket/a.png")
    with pytest.raises(ImageNotFound):
        store.check()


@pytest.mark.parametrize("wrong", [{"secret_key": "wrong"}, {"access_key": "wrong"}], ids=repr)
def test_wrong_credentials_are_permanent_and_not_shown(s3, wrong):
    uri = s3.put("a.png", b"ink")
    store = images(dataclasses.replace(s3.config, **wrong), s3.bucket)
    for act in (lambda: store.fetch(uri), lambda: store.put(b"ink"), store.check):
        with pytest.raises(ImageForbidden, match="refuses access") as caught:
            act()
        assert isinstance(caught.value, StoreRefused)
        assert not isinstance(caught.value, Transient)
        assert str(s3.config.secret_key) not in str(caught.value)


def test_a_store_that_is_away_is_transient_and_works_again_when_it_is_back(own_s3):
    store = images(own_s3.config, own_s3.bucket)
    uri = store.put(b"ink")
    own_s3.stop()
    for act in (lambda: store.fetch(uri), lambda: store.put(b"more"), store.check):
        with pytest.raises(StoreUnavailable) as caught:
            act()
        assert isinstance(caught.value, Transient)
    own_s3.start()
    assert store.fetch(uri) == b"ink"


def test_the_client_is_made_once_by_however_many_threads(s3, monkeypatch):
    made = []
    make = module._make_client
    monkeypatch.setattr(module, "_make_client", lambda c: made.append(c) or make(c))
    store = S3(s3.config)
    threads = [threading.Thread(target=store.client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


# Against a server that misbehaves


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "NoSuchKey", ImageNotFound),
        (404, "NoSuchBucket", ImageNotFound),
        (404, "", ImageNotFound),
        (403, "AccessDenied", StoreRefused),
        (403, "SignatureDoesNotMatch", StoreRefused),
        (401, "Unauthorized", StoreRefused),
        (400, "InvalidRequest", StoreRefused),
        (400, "RequestTimeout", StoreUnavailable),
        (429, "TooManyRequests", StoreUnavailable),
        (500, "InternalError", StoreUnavailable),
        (502, "", StoreUnavailable),
        (503, "SlowDown", StoreUnavailable),
        (503, "ServiceUnavailable", StoreUnavailable),
    ],
)
def test_every_answer_of_a_store_is_gone_refused_or_away(status, code, expected):
    with answering(status, code) as endpoint:
        store = images(config(endpoint=endpoint), "bucket")
        for act in (lambda: store.fetch("s3://bucket/a.png"), lambda: store.put(b"ink")):
            with pytest.raises(StorageError, match="s3://bucket/") as caught:
                act()
            assert type(caught.value) is expected
            assert "very-secret" not in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_busy_store_is_asked_as_often_as_configured(monkeypatch, retries):
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    sent = []
    with answering(503, "SlowDown") as endpoint:
        store = S3(config(endpoint=endpoint, retries=retries))
        store.client().meta.events.register("before-send.s3", lambda **_: sent.append(1))
        with pytest.raises(StoreUnavailable):
            store.read("bucket", "a.png", 10)
    assert len(sent) == 1 + retries


def test_bytes_are_sent_without_asking_first_whether_they_are_wanted():
    sent = []
    with answering(200, body=b"") as endpoint:  # never says `100 Continue`
        store = S3(config(endpoint=endpoint))
        note = sent.append
        store.client().meta.events.register("before-send.s3", lambda request, **_: note(request))
        store.write("bucket", "a.png", b"ink")
    [request] = sent
    assert "expect" not in {name.lower() for name in request.headers}
    assert request.headers["User-Agent"].startswith(b"sigctl ")


@contextmanager
def pointing_elsewhere(status: int, region: str, target: str) -> Iterator[tuple[str, list[str]]]:
    """A server that answers each request with a redirect; yields its endpoint and what was asked.

    It says so in all the ways that S3 has: status, Location, region header, endpoint in the body.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.headers['Host']} {self.path.partition('?')[0]}")
            body = (
                "<Error><Code>PermanentRedirect</Code><Bucket>other</Bucket>"
                f"<Endpoint>{target}</Endpoint><Region>{region}</Region></Error>"
            ).encode()
            self.send_response(status)
            self.send_header("Location", f"http://{target}/other/secret.png")
            self.send_header("x-amz-bucket-region", region)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400])
@pytest.mark.parametrize("region", ["eu-west-1", "evil.example/x", "arn:aws:s3:::other"])
def test_a_redirect_is_followed_to_no_other_host_region_or_bucket(status, region):
    with (
        answering(200, body=b"somebody else's") as elsewhere,
        pointing_elsewhere(status, region, elsewhere.removeprefix("http://")) as (endpoint, asked),
    ):
        store = images(config(endpoint=endpoint), "bucket")
        for act in (lambda: store.fetch("s3://bucket/a.png"), store.check):
            with pytest.raises(StoreRefused):
                act()
    host = endpoint.removeprefix("http://")
    assert asked == [f"{host} /bucket/a.png", f"{host} /bucket"]


def test_a_redirect_is_one_sentence_about_what_to_check():
    with pointing_elsewhere(307, "eu-west-1", "evil.example") as (endpoint, _):
        store = images(config(endpoint=endpoint), "bucket")
        with pytest.raises(StoreRefused, match=r"points elsewhere .* check its endpoint and reg"):
            store.fetch("s3://bucket/a.png")


def test_amazons_own_redirect_to_another_region_is_not_followed_either():
    sent = []

    def answer(request, **_):
        from botocore.awsrequest import AWSResponse

        sent.append(request.url)
        headers = {"x-amz-bucket-region": "eu-west-1"}
        return AWSResponse(request.url, 301, headers, SimpleNamespace(stream=lambda: [b""]))

    store = S3(config(endpoint=None))
    store.client().meta.events.register("before-send.s3", answer)
    with pytest.raises(StoreRefused):
        store.read("bucket", "a.png", 10)
    assert sent == ["https://s3.amazonaws.com/bucket/a.png"]


def test_an_answer_that_breaks_off_is_transient():
    with answering(200, body=b"half", length=100) as endpoint:
        store = images(config(endpoint=endpoint), "bucket")
        with pytest.raises(StoreUnavailable):
            store.fetch("s3://bucket/a.png")


def test_a_store_that_says_nothing_is_given_up_in_time(unused_listener):
    store = images(config(endpoint=unused_listener, read_timeout=0.2), "bucket")
    with pytest.raises(StoreUnavailable, match="ReadTimeoutError"):
        store.fetch("s3://bucket/a.png")


@pytest.fixture
def unused_listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_refused_connection_is_transient_and_the_endpoint_is_not_shown():
    store = images(config(endpoint=f"http://user:very-secret@127.0.0.1:{free_port()}"), "bucket")
    with pytest.raises(StorageError) as caught:
        store.fetch("s3://bucket/a.png")
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["nonsense", "http://", "127.0.0.1:9000"])
def test_an_endpoint_that_is_no_address_is_one_sentence(endpoint):
    store = images(config(endpoint=endpoint), "bucket")
    with pytest.raises(InvalidUri, match="not an http"):
        store.fetch("s3://bucket/a.png")


def test_no_credentials_at_all_is_one_sentence(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    store = images(config(access_key=None, secret_key=None), "bucket")
    with pytest.raises(StoreRefused, match="no credentials"):
        store.fetch("s3://bucket/a.png")


@pytest.mark.parametrize("wrong", [{"access_key": None}, {"secret_key": None}], ids=repr)
def test_half_the_credentials_are_one_sentence(wrong):
    store = images(config(**wrong), "bucket")
    with pytest.raises(StoreRefused, match="only one of"):
        store.fetch("s3://bucket/a.png")


def test_a_profile_that_does_not_exist_is_one_sentence(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    store = images(config(access_key=None, secret_key=None), "bucket")
    with pytest.raises(StorageError, match="s3://bucket"):
        store.fetch("s3://bucket/a.png")


def test_the_settings_do_not_show_their_secrets():
    text = repr(config(endpoint="http://user:very-secret@host:9000"))
    assert "very-secret" not in text
    assert "host:9000" in text


def test_too_large_an_object_is_not_read_to_its_end():
    with (
        answering(200, body=b"x", length=10**12) as endpoint,
        pytest.raises(ImageTooBig, match="more than 1000000 bytes"),
    ):
        images(config(endpoint=endpoint), "bucket").fetch("s3://bucket/a.png")


@pytest.mark.parametrize(
    ("date", "kind"),
    [
        (timedelta(), StoreRefused),
        (timedelta(hours=1), StoreUnavailable),
        (-timedelta(hours=1), StoreUnavailable),
        (None, StoreRefused),
    ],
)
def test_a_refusal_may_be_the_fault_of_the_clock(date: timedelta | None, kind: type) -> None:
    headers = {} if date is None else {"date": format_datetime(datetime.now(UTC) + date)}
    answer = {"Error": {"Code": "403"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    answer["ResponseMetadata"]["HTTPHeaders"] = headers
    error = module._translate(ClientError(answer, "GetObject"), "s3://b/k")
    assert type(error) is kind
    if kind is StoreUnavailable:
        assert "the clock of this machine is " in str(error)
