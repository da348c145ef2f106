"""A document can harm nobody but itself: whatever it does to its decoder, the others are served."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from bench.seeds import written
from model import synthetic
from model.errors import (
    BlankImage,
    DecoderCrashed,
    DecodingTooLarge,
    DecodingTooLong,
    ImageTooLarge,
    ModelError,
    PageNotFound,
    RegionOutside,
    UnreadableImage,
)
from model.preprocess import Preprocessing, preprocess
from model.questioned import look
from model.specimen import examine
from storage.tables import Job
from tests.model.test_preprocess import encoded, png
from worker.delivery import Again, deliver
from worker.enrolment import enroll
from worker.errors import DecoderUnavailable
from worker.runtime import Runtime, get_runtime
from worker.sandbox import Sandbox
from worker.settings import Settings

HOW = Preprocessing(height=64, width=96)

# The real decoder, except that a document that begins with ! is carried out in it.
TRAPPED = """
import ctypes, json, os, socket, sys, time
from worker import decoder
real, served, answer = decoder._decoded, 0, None
def decoded(data, question):
    global served, answer
    served, answer = served + 1, None
    if data.startswith(b"!"):
        exec(data[1:].decode(), globals())
    return answer or real(data, question)
decoder._decoded = decoded
decoder.main()
"""
PROGRAM = (sys.executable, "-P", "-c", TRAPPED)
CRASH = b"!ctypes.string_at(0)"
ENDLESS = b"!while True: pass"


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    rng = np.random.default_rng(3)
    return synthetic.genuine(synthetic.make_signer(rng), rng)


@pytest.fixture(scope="module")
def document(grey) -> bytes:
    return png(grey)


@pytest.fixture(scope="module")
def canvas(document) -> np.ndarray:
    return preprocess(document, HOW)


@pytest.fixture
def make() -> Iterator[Callable[..., Sandbox]]:
    made = []

    def one(**options) -> Sandbox:
        made.append(Sandbox(**{"children": 1, **options}))
        return made[-1]

    yield one
    for sandbox in made:
        sandbox.close()


@pytest.fixture
def trapped(make) -> Callable[..., Sandbox]:
    return lambda **options: make(program=PROGRAM, **options)


def decoders(parent: int | None = None) -> list[psutil.Process]:
    found = psutil.Process(parent).children()
    return [child for child in found if any("decoder" in word for word in child.cmdline())]


NO_INK = ("0, 0.1, 400", "4, 1.5, 400", "float('nan'), 0.1, 400", "4, 0.1, 3", "4, -0.1, 400")

# The same results


def test_every_kind_of_scan_gives_the_same_canvas_as_in_the_process_itself(make, grey):
    sandbox = make()
    for kind, data in written(grey).items():
        found = sandbox.look(data, HOW).canvas
        assert np.array_equal(found, preprocess(data, HOW)), kind


def test_page_region_and_the_canvas_of_the_model_are_observed(make, grey):
    sandbox, blank = make(), Image.new("L", grey.shape[::-1], 240)
    data = encoded(blank, "TIFF", save_all=True, append_images=[Image.fromarray(grey)])
    asked = {"page": 2, "region": (10, 10, 300, 200)}
    for how in (HOW, Preprocessing(), Preprocessing(name="seed_grey", height=32, width=32)):
        found = sandbox.look(data, how, **asked).canvas
        np.testing.assert_array_equal(found, preprocess(data, how, **asked))


def test_the_ink_of_a_document_measures_the_same_as_in_the_process_itself(make, document):
    sandbox = make()
    assert sandbox.look(document, HOW).ink == look(document, HOW).ink
    assert sandbox.look(document, Preprocessing(name="seed_grey")).ink is None


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        (UnreadableImage, {"data": b"no image"}),
        (UnreadableImage, {"data": b""}),
        (BlankImage, {"data": png(np.full((100, 100), 240, np.uint8))}),
        (ImageTooLarge, {"max_pixels": 100}),
        (PageNotFound, {"page": 2}),
        (RegionOutside, {"region": (0, 0, 9999, 9)}),
    ],
)
def test_a_refusal_is_the_same_as_in_the_process_itself(make, document, kind, changed):
    asked = {"data": document, "how": HOW} | changed
    with pytest.raises(kind) as here:
        preprocess(**asked)
    with pytest.raises(kind) as there:
        make().look(**asked)
    assert str(there.value) == str(here.value)


# Documents that harm


@pytest.mark.parametrize("hostile", [ENDLESS, b"!time.sleep(1000)"])
def test_a_decoder_that_does_not_return_is_killed_in_time(trapped, document, canvas, hostile):
    sandbox = trapped(seconds=1.0)
    sandbox.look(document, HOW)  # started
    began = time.monotonic()
    with pytest.raises(DecodingTooLong, match="longer than 1 s") as caught:
        sandbox.look(hostile, HOW)
    assert time.monotonic() - began < 2.5
    assert caught.value.code == "decoding_too_long"
    np.testing.assert_array_equal(sandbox.look(document, HOW).canvas, canvas)


@pytest.mark.parametrize(
    ("hostile", "end"),
    [(CRASH, "signal 11"), (b"!os.abort()", "signal 6"), (b"!os._exit(7)", "exit code 7")],
)
def test_a_decoder_that_dies_takes_only_its_document_along(trapped, document, canvas, hostile, end):
    sandbox = trapped()
    for _ in range(2):
        with pytest.raises(DecoderCrashed, match=end) as caught:
            sandbox.look(hostile, HOW)
        assert caught.value.code == "decoder_crashed"
        np.testing.assert_array_equal(sandbox.look(document, HOW).canvas, canvas)


def test_a_page_beyond_the_memory_fails_with_a_code_and_the_decoder_lives(make, document, canvas):
    page = np.full((9_000, 9_000), 240, np.uint8)
    page[2000:6000:7, 2000:8000] = 10
    sandbox = make(memory=2**29)
    with pytest.raises(DecodingTooLarge) as caught:
        sandbox.look(encoded(Image.fromarray(page), compress_level=1), HOW)
    assert caught.value.code == "decoding_too_large"
    np.testing.assert_array_equal(sandbox.look(document, HOW).canvas, canvas)


def test_an_error_that_nobody_foresaw_has_a_code_as_well(trapped):
    broken = b"!decoder.look = lambda *_, **__: {}[1]"
    with pytest.raises(DecoderCrashed, match="an unforeseen way"):
        trapped().look(broken, HOW)


def test_a_worn_out_or_killed_decoder_is_not_the_documents_fault(trapped, document, canvas):
    sandbox = trapped()
    sandbox.look(document, HOW)
    with pytest.raises(UnreadableImage):  # a fresh one lives to say so
        sandbox.look(b"!if served > 1: os.abort()", HOW)
    (child,) = decoders()
    child.kill()
    np.testing.assert_array_equal(sandbox.look(document, HOW).canvas, canvas)


def test_hostile_documents_among_others_change_no_result(trapped, document, canvas):
    sandbox = trapped(children=2, seconds=1.0)
    asked = [CRASH if n % 5 == 2 else ENDLESS if n == 10 else document for n in range(30)]

    def result(data: bytes) -> str | bool:
        try:
            return np.array_equal(sandbox.look(data, HOW).canvas, canvas)
        except ModelError as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(result, asked))
    codes = {document: True, CRASH: "decoder_crashed", ENDLESS: "decoding_too_long"}
    assert found == [codes[data] for data in asked]
    assert len(decoders()) <= 2


def test_an_answer_that_somebody_was_interrupted_in_waiting_for_goes_to_nobody_else(
    trapped, document, canvas
):
    """Celery's soft time limit and Ctrl-C raise wherever the thread is."""

    class Interrupted(BaseException):
        pass

    def interrupt(*_):
        raise Interrupted

    sandbox = trapped()
    sandbox.look(document, HOW)
    before = signal.signal(signal.SIGUSR1, interrupt)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    with pytest.raises(Interrupted):
        sandbox.look(b"!time.sleep(0.6); answer = 0, bytes(64 * 96 + 20)", HOW)
    signal.signal(signal.SIGUSR1, before)
    time.sleep(0.5)
    np.testing.assert_array_equal(sandbox.look(document, HOW).canvas, canvas)


# A decoder that somebody has taken over


@pytest.mark.parametrize(
    "answer",
    [
        "answer = 0, b'short'",
        "answer = 0, bytes(64 * 96 + 1)",
        *(f"answer = 0, bytes(64 * 96) + decoder.INK.pack({ink})" for ink in NO_INK),
        "answer = 99, b'no such status'",
        "answer = 1, b'x' * 100_000",
        "os.write(0, decoder.ANSWER.pack(0, 2**32 - 1))",
        "os.write(0, bytes(3)); os._exit(0)",
    ],
)
def test_an_answer_that_makes_no_sense_is_a_failure_of_the_document(trapped, answer):
    with pytest.raises(DecoderCrashed):
        trapped(seconds=5.0).look(b"!" + answer.encode(), HOW)


def test_a_sentence_is_made_printable(trapped):
    with pytest.raises(UnreadableImage) as caught:
        trapped().look(rb"!answer = 1, b'a\x00b\x1b[31m\xff\n'", HOW)
    assert str(caught.value) == "a?b?[31m\N{REPLACEMENT CHARACTER}?"


REACH = b"""!
def can(attempt):
    try:
        attempt()
    except OSError:
        return False
    return True
found = {
    "read a file": can(lambda: open("/etc/passwd")),
    "write a file": can(lambda: open("/tmp/sigctl-test", "w")),
    "open a connection": can(socket.socket),
    "settings": [name for name in os.environ if name.startswith(("SIGCTL", "AWS"))],
    "folder": os.getcwd(),
}
answer = 1, json.dumps(found).encode()
"""


def test_a_decoder_can_open_nothing_and_knows_no_setting(trapped, monkeypatch):
    monkeypatch.setenv("SIGCTL_S3_SECRET_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(UnreadableImage) as caught:
        trapped().look(REACH, HOW)
    assert json.loads(str(caught.value)) == {
        "read a file": False,
        "write a file": False,
        "open a connection": False,
        "settings": [],
        "folder": "/",
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_a_decoder_has_no_secret_in_its_environment_and_no_new_privileges(
    make, document, monkeypatch
):
    monkeypatch.setenv("SIGCTL_S3_SECRET_KEY", "planted-secret")
    make().look(document, HOW)
    (child,) = decoders()
    assert not [name for name in child.environ() if name.startswith(("SIGCTL", "AWS"))]
    assert "NoNewPrivs:\t1" in Path(f"/proc/{child.pid}/status").read_text()
    assert Path(f"/proc/{child.pid}/oom_score_adj").read_text() == "1000\n"
    assert child.rlimit(psutil.RLIMIT_AS)[1] == 2 * 2**30
    assert child.rlimit(psutil.RLIMIT_CORE)[1] == 0


# Beginning and end


def test_nothing_starts_before_the_first_document_and_only_as_many_as_are_busy(make, document):
    sandbox = make(children=4)
    assert decoders() == []
    for _ in range(5):
        sandbox.look(document, HOW)
    assert len(decoders()) == 1


def test_a_decoder_loads_no_torch():
    code = (
        "import sys, worker.decoder; sys.exit(any(m in sys.modules for m in ('torch', 'celery')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_closing_leaves_no_process_and_no_open_file_and_the_next_use_starts_again(make, document):
    sandbox = make(children=3)
    before = psutil.Process().num_fds()
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: sandbox.look(document, HOW), range(9)))
        sandbox.close()
        assert decoders() == []
        assert psutil.Process().num_fds() == before


@pytest.mark.parametrize(
    "program", [("/no/such/program",), (sys.executable, "-c", "raise SystemExit(3)")]
)
def test_a_decoder_that_does_not_start_is_not_the_documents_fault(make, document, program):
    sandbox = make(program=program)
    before = psutil.Process().num_fds()
    for _ in range(2):
        with pytest.raises(DecoderUnavailable):
            sandbox.look(document, HOW)
    assert psutil.Process().num_fds() == before


def test_an_interrupt_from_the_terminal_does_not_reach_the_decoder(make, document):
    make().look(document, HOW)
    (child,) = decoders()
    assert os.getsid(child.pid) != os.getsid(0)


WORKER = """
import sys, threading
from model.preprocess import Preprocessing
from worker.sandbox import Sandbox
sandbox = Sandbox(children=1, seconds=2.0, program=sys.argv[1:])
def decode():
    try:
        sandbox.look(sys.stdin.buffer.read(), Preprocessing())
    except Exception:
        pass
    print("done", flush=True)
threading.Thread(target=decode).start()
threading.Event().wait()
"""


@pytest.mark.parametrize("busy", [False, True])
def test_a_decoder_ends_when_its_worker_is_killed(busy):
    command = [sys.executable, "-P", "-c", WORKER, *PROGRAM]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with worker, worker.stdin, worker.stdout:
        worker.stdin.write(b"!time.sleep(0.1)\nwhile True: pass" if busy else b"nothing")
        worker.stdin.close()
        if not busy:
            worker.stdout.readline()
        child = awaited(lambda: next(iter(decoders(worker.pid)), None))
        if busy:
            awaited(lambda: child.rlimit(psutil.RLIMIT_CPU)[0] != psutil.RLIM_INFINITY)
        worker.kill()
    awaited(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def awaited(found: Callable[[], object], seconds: float = 20.0):
    """What it finds, as soon as it does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            if result := found():
                return result
        time.sleep(0.05)
    raise AssertionError("It did not come about.")


# In the service


@pytest.fixture
def runtime(tmp_path, sqlite_url, tiny_checkpoint) -> Runtime:
    return get_runtime(
        Settings(
            database_url=sqlite_url,
            store=str(tmp_path / "store"),
            roots=(tmp_path,),
            checkpoint=tiny_checkpoint,
            device="cpu",
            decoders=1,
            decode_memory=2**29,
        )
    )


def test_a_bomb_is_an_error_on_record_and_the_next_is_decided_whatever_its_name(
    tmp_path, runtime, document
):
    enroll(
        "ada",
        [("a.png", document)],
        sessions=runtime.sessions,
        images=runtime.images,
        embedder=runtime.embedder,
    )
    assert len(decoders()) == 1
    bomb = encoded(Image.new("L", (9_000, 9_000), 200), compress_level=1)
    verdicts = {}
    named = (("bomb", "a.png", bomb), ("genuine", "\N{RIGHT-TO-LEFT OVERRIDE}ü %2e;.exe", document))
    for name, file, data in named:
        (tmp_path / file).write_bytes(data)
        uri = (tmp_path / file).as_uri()
        message = {"job_id": name, "signer_id": "ada", "document": uri}
        verdicts[name] = deliver(message, runtime, retries=0)
    assert (verdicts["bomb"].verdict, verdicts["bomb"].error_code) == (
        "error",
        "decoding_too_large",
    )
    assert verdicts["genuine"].verdict == "accept"
    assert verdicts["bomb"].ink is None
    assert verdicts["genuine"].ink == look(document, HOW).ink.as_dict()
    runtime.close()
    assert decoders() == []


def test_while_no_decoder_can_be_started_the_job_stays_queued(tmp_path, runtime, document, make):
    runtime._sandbox = make(program=("/no/such/program",))
    (tmp_path / "a.png").write_bytes(document)
    uri = (tmp_path / "a.png").as_uri()
    again = deliver({"job_id": "1", "signer_id": "ada", "document": uri}, runtime, retries=0)
    assert isinstance(again, Again)
    assert isinstance(again.error, DecoderUnavailable)
    with runtime.sessions() as session:
        job = session.get(Job, "1")
        assert (job.status, job.deliveries) == ("queued", 0)


def test_with_no_decoders_the_worker_decodes_itself(
    tmp_path, sqlite_url, tiny_checkpoint, document
):
    settings = Settings(database_url=sqlite_url, checkpoint=tiny_checkpoint, decoders=0)
    runtime = get_runtime(settings.model_copy(update={"device": "cpu"}))
    assert runtime.sandbox is None
    runtime.embedder.prepare(document)
    assert decoders() == []


def test_a_specimen_comes_back_with_the_same_canvas_and_measures(make, document):
    found, expected = make().examine(document, HOW), examine(document, HOW)
    np.testing.assert_array_equal(found.canvas, expected.canvas)
    assert found.measures == expected.measures
    with pytest.raises(UnreadableImage):
        make().examine(b"no image", HOW)
