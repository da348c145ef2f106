"""The report is one page that needs nothing else, and says what was measured, leaky and refused."""

import base64
import csv
import json
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from model import evaluate, page
from model.chapters import verdict
from model.checkpoint import Checkpoint
from model.errors import FileNotWritten
from model.examination import DEVELOPMENT, Examination, deciding, refused
from model.findings import Copies
from model.leakage import Gates
from model.preprocess import Preprocessing
from model.rates import percent
from model.report import write_report
from model.scoring import Scoring
from tests.model.writers import people

RULE = Scoring(
    thresholds={1: 0.8, 3: 0.6}, accept={"1%": {1: 0.3}, "5%": {1: 0.4}}, reject={1: 0.9}
)
GOOD = Gates(
    probe_auc=0.6, probe_eer=0.4, session_auc=0.5, skilled_eer=0.1, random_eer=0.01
)  # fmt: skip
LEAKING = replace(GOOD, probe_auc=0.97)
UNKNOWN = replace(GOOD, probe_auc=np.nan, session_auc=np.nan)
LOG = [{"epoch": e, "loss": 1 / e, "skilled_eer": 0.3 / e, "random_eer": 0.1 / e} for e in (1, 2)]


def measured(writers=6, forged=5):
    rng = np.random.default_rng(0)
    vectors = []
    for _ in range(writers):
        centre = rng.normal(size=6)
        vectors += list(centre + rng.normal(0, 0.3, (4, 6)))
        vectors += list(centre + rng.normal(0, 0.7, (forged, 6)))
    unit = np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = people(writers, genuine=4, forged=forged, corpus="c")
    return tuple(
        evaluate.measure(unit.astype(np.float32), found, threshold=0.7, scoring=RULE, seed=1)
    )


SIX = measured()


def examination(**changes):
    values = {
        "corpus": "cedar",
        "model_id": "ab" * 32,
        "backbone": "mambaout_tiny",
        "input": "strokes/2 224x224",
        "leaky": False,
        "known": "",
        "writers": tuple(f"c/{n}" for n in range(6)),
        "left_out": 3,
        "measured": SIX,
        "gates": GOOD,
        "inputs": (0.66, 0.39),
        "displacement": 0.82,
        "unreadable": {},
        "duplicates": (),
        "remarks": (),
    }
    return Examination(**(values | changes))


GREY = {"corpus": "cedar_grey", "leaky": True, "gates": LEAKING, "input": "seed_grey/1 224x224"}


def checkpoint(**provenance):
    return Checkpoint(
        weights={},
        backbone="mambaout_tiny",
        size=224,
        threshold=0.7,
        preprocessing=Preprocessing(),
        scoring=RULE,
        provenance=provenance,
        sha256="ab" * 32,
    )


class Page(HTMLParser):
    """What is on the page: tags with attributes, tables as text, all text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.text, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append({})
        if tag == "tr":
            self.row = []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "tr" and "table" in self.open:
            self.tables[-1][self.row[0] if self.row else ""] = self.row[1:]

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.row.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def report(folder, *examinations, **provenance):
    where = write_report(folder, examinations, [checkpoint(**provenance)], facts={"seed": 1})
    return Page(where.read_text())


@pytest.fixture(scope="module", autouse=True)
def _coarse_pictures():
    """Drawing is most of the time that these tests take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.curves._DPI", 20)
        yield


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A report with both tracks, and its folder."""
    folder = tmp_path_factory.mktemp("report") / "OUT"
    return report(folder, examination(), examination(**GREY), log=LOG), folder


def test_the_page_is_whole_has_no_script_and_loads_nothing(both):
    shown, folder = both
    assert not shown.open  # every tag is closed, in order
    names = Counter(tag for tag, _ in shown.tags)
    assert not {"script", "link", "iframe", "object"} & set(names)
    for _, attributes in shown.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for link in (attributes.get("src"), attributes.get("href")):
            assert link is None or link.startswith(("data:image/png;base64,", "#"))
    assert "url(" not in (folder / "index.html").read_text()
    ids = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    links = [a["href"][1:] for tag, a in shown.tags if tag == "a"]
    assert links == ids
    assert len(set(ids)) == len(ids)


def test_every_picture_is_a_file_too_and_is_described_in_words(both):
    shown, folder = both
    pictures = [a for tag, a in shown.tags if tag == "img"]
    inside = {base64.b64decode(a["src"].partition(",")[2]) for a in pictures}
    assert inside == {path.read_bytes() for path in folder.glob("*.png")}
    assert len(pictures) == 2 * 7 + 1
    for attributes in pictures:
        assert len(attributes["alt"]) > 30


def test_tables_have_captions_and_headings_for_rows_and_columns(both):
    shown, _ = both
    names = Counter(tag for tag, _ in shown.tags)
    assert names["table"] == names["caption"] == names["thead"] == names["tbody"] > 6
    scopes = Counter(a.get("scope") for tag, a in shown.tags if tag == "th")
    assert set(scopes) == {"row", "col", "colgroup"}


def test_both_tracks_stand_side_by_side_and_the_leaky_one_says_so(both):
    shown, _ = both
    table = shown.tables[0]
    assert table["1:1"] == 2 * [percent(SIX[0].row[f"{k}_eer"]) for k in ("skilled", "random")]
    assert "cedar: leak-controlled, 6 writers" in shown.words
    assert "cedar_grey: paper-comparable, LEAKY, 6 writers" in shown.words
    assert "the grey alone tells them apart" in shown.words


def test_the_leaky_track_may_fail_its_gates_without_a_refusal(both):
    shown, folder = both
    assert "All gates against leaks are passed." in shown.words
    assert json.loads((folder / "metrics.json").read_text())["refused"] is False
    assert refused([examination(), examination(**GREY)]) == []
    alone = examination(**GREY)
    assert refused([alone]) == [alone]


def test_development_writers_decide_nothing():
    tuned = examination(gates=LEAKING, known=DEVELOPMENT)
    assert deciding([tuned, examination()]) == [examination()]
    assert refused([tuned, examination()]) == []


def test_a_failed_gate_is_refused_in_capitals(tmp_path):
    shown = report(tmp_path, examination(gates=LEAKING))
    assert "REFUSED: a gate against leaks failed on cedar." in shown.words
    assert shown.tables[3]["probe"][0] == "failed"
    assert "without a reference tells forged from genuine with AUC 0.970" in shown.words
    assert "share tells forged from genuine with AUC 0.820" in shown.tables[3]["displacement"][1]
    assert json.loads((tmp_path / "metrics.json").read_text())["refused"] is True


def test_what_could_not_be_measured_is_not_called_a_pass(tmp_path):
    found = examination(gates=UNKNOWN, inputs=(np.nan, np.nan), displacement=np.nan)
    shown = report(tmp_path, found)
    assert "Not every gate against leaks could be measured" in shown.words
    assert shown.tables[3]["displacement"] == ["for information", "Not measurable."]
    assert verdict(found) == "not measurable"
    assert verdict(examination()) == "passed"
    assert verdict(examination(gates=replace(GOOD, probe_auc=0.8))) == "passed, with a warning"


def test_a_threshold_fitted_on_the_tested_pairs_is_called_optimistic(both):
    shown, _ = both
    (table,) = [t for t in shown.tables[:6] if "threshold fitted on" in t]
    own, fitted = [name for name in table if name != "threshold fitted on"]
    assert own == "development writers (the checkpoint's)"
    assert "the tested pairs themselves: optimistic" in fitted
    assert table[own][0] == "0.700"
    accuracy = [float(table[name][1].removesuffix(" %")) for name in (own, fitted)]
    assert accuracy[0] <= accuracy[1]


def test_operating_points_are_shown_for_each_kind(both):
    shown, _ = both
    (table,) = [t for t in shown.tables[:6] if "operating point" in t]
    shares = SIX[1].row["operating_points"]["1%"]
    expected = [percent(share) for kind in evaluate.KINDS for share in shares[kind].values()]
    assert table["1 reference, FAR 1%"] == expected


def test_the_csv_has_a_line_for_each_track_and_protocol(both):
    _, folder = both
    lines = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert [(line["track"], line["protocol"]) for line in lines] == [
        (track, one.protocol) for track in ("leak-controlled", "paper-comparable") for one in SIX
    ]
    assert float(lines[0]["skilled_eer"]) == SIX[0].row["skilled_eer"]


def test_the_json_is_strict_and_has_null_for_what_was_not_there(tmp_path):
    bare = examination(measured=measured(forged=0), gates=UNKNOWN)
    report(tmp_path, bare)
    text = (tmp_path / "metrics.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    row = found["examinations"][0]["rows"][0]
    assert row["skilled_eer"] is None
    assert row["random_eer"] >= 0
    assert found["seed"] == 1
    lines = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert lines[0]["skilled_eer"] == ""


def test_unusable_and_repeated_files_are_listed(tmp_path):
    copies = Copies(files=(Path("a.png"), Path("b.png")), kind="genuine")
    found = examination(
        unreadable={Path("bad.png"): "The bytes are not an image."},
        duplicates=(copies,),
        remarks=("Left out bad.png.", "Pixel duplicates."),
    )
    words = report(tmp_path, found).words
    assert "Files that were left out: 1 bad.png: The bytes are not an image." in words
    assert "Pixel duplicates: 1 a.png, b.png (genuine)" in words
    assert "Every file was usable" not in words
    for remarks in ((), ("The model knows nobody.",)):
        assert "Every file was usable" in report(tmp_path, examination(remarks=remarks)).words


def test_names_cannot_become_markup(tmp_path):
    name = '<script>alert("1")</script>&'
    shown = report(tmp_path, examination(corpus=name, remarks=(name,)), note=name)
    assert "script" not in {tag for tag, _ in shown.tags}
    assert name in shown.words
    assert page.figure(b"x", alt='"', caption="<b>").count('"') == 4


def test_training_curves_are_shown_where_the_checkpoint_carries_its_log(both, tmp_path):
    assert "in each epoch of training" in both[0].words
    assert "carries no training log" in report(tmp_path, examination()).words


def test_long_lists_of_writers_are_counted_by_corpus(tmp_path):
    writers = [f"cedar/{n}" for n in range(30)] + [f"chisig/{n}" for n in range(9)]
    shown = report(tmp_path, examination(), train_writers=writers, test_writers=["cedar/99"])
    assert "30 of cedar, 9 of chisig" in shown.words
    assert "cedar/99" in shown.words
    assert json.loads((tmp_path / "metrics.json").read_text())["models"]["ab" * 32][
        "train_writers"
    ] == writers  # fmt: skip


def test_a_report_is_the_same_bytes_each_time(tmp_path):
    report(tmp_path / "a", examination())
    report(tmp_path / "b", examination())
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_folder_that_cannot_be_written_is_said_and_no_half_page_left(tmp_path, monkeypatch):
    report(tmp_path, examination())
    before = (tmp_path / "index.html").read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.files.Path.replace", full)
    with pytest.raises(FileNotWritten, match="No space left"):
        report(tmp_path, examination(gates=LEAKING))
    assert (tmp_path / "index.html").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))
