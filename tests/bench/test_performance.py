"""The bench's own arithmetic, its documents and its page; `make bench` runs the measurements."""

from __future__ import annotations

import io
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import embedder, measure, snippet, tables
from bench.documents import A4, CROP, corpus, crop, first, numbered, page
from bench.measure import Rates, interleaved, ratio
from model.preprocess import Preprocessing, preprocess


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    return corpus(None, tmp_path_factory.mktemp("corpus"), signers=2)


def test_rounds_are_interleaved_and_ratios_taken_round_by_round(monkeypatch):
    clock = count()
    monkeypatch.setattr(measure.time, "perf_counter", lambda: float(next(clock)))
    called = []

    def does(name, units):
        def run():
            called.append(name)
            return units

        return run

    rates = interleaved({"slow": does("slow", 1), "fast": does("fast", 3)}, rounds=2, seconds=1.5)
    assert called == ["slow", "fast"] + ["slow", "fast"] * 2
    assert rates["slow"].rounds == (0.5, 0.5)
    assert ratio(rates["fast"], rates["slow"]).median == 3.0
    assert Rates(rounds=(1.0, 9.0, 2.0)).spread == (1.0, 9.0)


def test_documents_hold_the_signature_on_noisy_paper(generated):
    picture = generated.signers[0].genuine[0].read_bytes()
    how = Preprocessing(height=64, width=128)
    for made, size in ((crop(picture), CROP), (page(picture), A4)):
        with Image.open(io.BytesIO(made)) as image:
            assert image.size == (size[1], size[0])
        expected = preprocess(picture, how).ravel()
        assert np.corrcoef(preprocess(made, how).ravel(), expected)[0, 1] > 0.8


def test_a_numbered_picture_is_the_same_picture_under_another_hash(generated):
    picture = crop(generated.signers[0].genuine[0].read_bytes())
    one, two = numbered(picture, 1), numbered(picture, 2)
    assert one != two
    how = Preprocessing(height=64, width=128)
    np.testing.assert_array_equal(preprocess(one, how), preprocess(two, how))


def test_every_signer_is_questioned_in_turn(generated):
    asked = generated.questioned
    assert [signer for signer, _ in asked[:4]] == [signer for signer, _ in asked[:2]] * 2
    assert len(asked) == 2 * (12 - 5 + 8)
    assert len(first(asked, 100)) == 100


def test_the_embedder_and_the_snippet_are_measured_on_a_tiny_network(tiny_checkpoint, generated):
    found = embedder.measure(tiny_checkpoint, rounds=1, seconds=0.01)
    rows = {(row["engine"], row["batch"]) for row in found["rows"]}
    assert {batch for _, batch in rows} == set(embedder.BATCHES)
    assert {engine for engine, _ in rows} >= {"PyTorch float32 on cpu", found["chosen"]}
    assert found["gflop_an_image"] > 0
    agreed = embedder.agreement(tiny_checkpoint, generated.signers, far=None)
    assert agreed["verdicts"] == 2 * (12 - 5 + 8 + 2)
    assert agreed["flips"] == 0
    genuine = generated.signers[0].genuine
    beside = snippet.measure(tiny_checkpoint, genuine, genuine, rounds=1)
    assert beside["references"] == 5
    assert beside["times"]["median"] > 1


def a_result() -> dict:
    rates = {"median": 2.0, "rounds": [1.0, 2.0, 3.0]}
    run = {
        "documents_per_second": 50.0,
        "cpu_ms": {"workers": 9.0, "redis": 0.1, "postgres": 0.2, "s3": 0.3},
        "busy_share": 0.9,
        "stage_ms": {"fetch_ms": 1.0},
    }
    rows = [
        {
            "engine": "E",
            "batch": batch,
            "images_per_second": {"median": 100.0, "rounds": [100.0]},
            "times_reference": rates,
            "share_of_ceiling": 0.25,
        }
        for batch in (1, 8)
    ]
    return {
        "when": "now",
        "machine": {"cores": 2, "processor": "p", "torch": "t"},
        "checkpoint": "c" * 64,
        "corpus": "generated",
        "quick": True,
        "embedder": {
            "canvas": "strokes",
            "gflop_an_image": 1.5,
            "rows": rows,
            "ceilings_gflops": {"bf16": rates},
            "chosen": "E",
            "cores": 2,
            "agreement": {
                "engine": "E",
                "verdicts": 10,
                "flips": 0,
                "close_calls": 1,
                "tolerance": 0.01,
                "smallest_cosine": 0.9999,
            },
        },
        "service": {
            "saturated": [run | {"workers": 1}, run | {"workers": 2, "documents_per_second": 80.0}],
            "pages": [run],
            "stages": {"fetch": 1.0},
            "peers": [
                {"peer": "LitServe, PyTorch", "documents_per_second": 40.0},
                {"peer": "LitServe, our engine", "documents_per_second": 160.0},
            ],
            "best_workers": 2,
            "latency": [
                {"share": share, "rate": 1.0, "p50": 10.0, "p95": 20.0, "p99": 320.0}
                for share in (0.25, 0.5, 0.9)
            ],
            "memory": {"megabytes": [1.0, 2.0, 3.0], "every": 1000, "documents": 2000},
        },
        "enrolment": {
            "signers": 3,
            "images": 5,
            "apart": {"median": 0.2, "rounds": [0.2]},
            "stores": {
                "folder": {
                    "seconds": 1.0,
                    "images_per_second": 15.0,
                    "overhead": {"median": 0.08, "rounds": [0.08]},
                    "own": {"median": 0.06, "rounds": [0.06]},
                    "re_embedding": {
                        "seconds": 2.0,
                        "images_per_second": 7.5,
                        "overhead": {"median": 0.05, "rounds": [0.05]},
                        "own": {"median": 0.04, "rounds": [0.04]},
                    },
                }
            },
        },
    }


def test_the_page_puts_the_parts_in_relation():
    text = tables.markdown(a_result())
    assert "| whole service / embedder alone | 0.80 |" in text
    assert "| whole service / best peer (LitServe, PyTorch) | 2.00 |" in text
    assert "| whole service / best peer with our engine (LitServe, our engine) | 0.50 |" in text
    assert "| p99 at half load / time of one batch of 8 (160 ms) | 2.0 |" in text
    assert "0 differ from the reference's" in text
    assert "| folder | enrolled | 1 | 15 | 8 % | 6 % |" in text
    assert "signer's images embedded by themselves: +20 %." in text
    assert "| folder | embedded anew | 2 | 8 | 5 % | 4 % |" in text


def test_a_part_that_was_not_measured_is_left_out():
    alone = {name: value for name, value in a_result().items() if name != "service"}
    text = tables.markdown(alone)
    assert "In relation" not in text
    assert "Embedder" in text


def test_the_picture_is_a_picture(tmp_path: Path):
    tables.draw(a_result(), tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as image:
        assert image.size[0] > 1000
