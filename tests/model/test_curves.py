"""The curves show the rates of the metrics, in per cent, and refuse what cannot be drawn."""

import itertools
from statistics import NormalDist

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from model import curves, metrics
from model.curves import Line, Outcome
from model.errors import FileNotWritten
from model.metrics import EmptyClass, NonFiniteDistance
from model.plots import PlotError

RNG = np.random.default_rng(3)
GENUINE, SKILLED, RANDOM = (RNG.normal(m, 0.15, 200) for m in (0.3, 0.6, 0.9))
LINES = (
    Line(name="skilled forgeries", genuine=GENUINE, forged=SKILLED, threshold=0.45),
    Line(name="random forgeries", genuine=GENUINE, forged=RANDOM, threshold=0.45),
)
OUTCOME = Outcome(
    title="1:1",
    verdicts=("accepted", "rejected"),
    counts={"genuine": (180, 20), "skilled": (30, 170), "random": (0, 0)},
)
with_lines = pytest.mark.parametrize("draw", [curves.roc_plot, curves.pr_plot, curves.det_plot])
drawings = {
    "roc": lambda path: curves.roc_plot(LINES, path),
    "pr": lambda path: curves.pr_plot(LINES, path),
    "det": lambda path: curves.det_plot(LINES, path),
    "histogram": lambda path: curves.histogram_plot(GENUINE, SKILLED, RANDOM, 0.45, path),
    "confusion": lambda path: curves.confusion_plot([OUTCOME] * 3, path),
}
every_drawing = pytest.mark.parametrize("draw", drawings.values(), ids=drawings)


@pytest.fixture
def drawn(monkeypatch):
    """The axes of what is drawn, instead of a file."""
    kept = []
    monkeypatch.setattr("model.curves.save", lambda figure, path: kept.extend(figure.axes))
    return kept


def line(axes, label):
    """The points of the line whose legend begins with this."""
    (found,) = [one for one in axes.lines if str(one.get_label()).startswith(label)]
    return found.get_xdata(), found.get_ydata()


@every_drawing
def test_a_drawing_is_the_same_readable_png_each_time(draw, tmp_path):
    draw(tmp_path / "a" / "p.png")
    draw(tmp_path / "b" / "p.png")
    first, second = ((tmp_path / folder / "p.png").read_bytes() for folder in "ab")
    assert first == second
    image = cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR)
    assert min(image.shape[:2]) > 400
    assert image.std() > 1


@every_drawing
def test_a_path_that_cannot_be_written_is_said(draw, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotWritten):
        draw(tmp_path / "file" / "p.png")


def test_the_roc_runs_through_the_rates_of_every_threshold_in_per_cent(drawn, tmp_path):
    curves.roc_plot(LINES, tmp_path)
    x, y = line(drawn[0], "skilled forgeries, AUC 0.")
    curve = metrics.error_curve(GENUINE, SKILLED)
    np.testing.assert_allclose(x, 100 * curve.far)
    np.testing.assert_allclose(y, 100 - 100 * curve.frr)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 100, 100)


def test_the_precision_is_that_of_counting_at_every_threshold(drawn, tmp_path):
    curves.pr_plot(LINES, tmp_path)
    x, y = line(drawn[0], "skilled forgeries, AP 0.")
    thresholds = metrics.error_curve(GENUINE, SKILLED).thresholds[1:]
    true = np.array([(t > GENUINE).sum() for t in thresholds])
    false = np.array([(t > SKILLED).sum() for t in thresholds])
    np.testing.assert_allclose(x[1:], 100 * true / len(GENUINE))
    np.testing.assert_allclose(y[1:], 100 * true / (true + false))


def test_the_det_has_normal_deviates_on_both_axes_and_per_cent_beside_them(drawn, tmp_path):
    curves.det_plot(LINES, tmp_path)
    axes = drawn[0]
    x, y = line(axes, "skilled forgeries, EER ")
    curve = metrics.error_curve(GENUINE, SKILLED)
    middle = len(x) // 2
    assert x[middle] == pytest.approx(NormalDist().inv_cdf(curve.far[middle]))
    assert y[middle] == pytest.approx(NormalDist().inv_cdf(curve.frr[middle]))
    assert np.isfinite(x).all()
    for ticks, labels in (
        (axes.get_xticks(), axes.get_xticklabels()),
        (axes.get_yticks(), axes.get_yticklabels()),
    ):
        names = [float(label.get_text()) for label in labels]
        np.testing.assert_allclose([100 * NormalDist().cdf(tick) for tick in ticks], names)


def test_no_labels_of_an_axis_overlap(drawn, tmp_path):
    for draw in drawings.values():
        drawn.clear()
        draw(tmp_path)
        for axes in drawn:
            figure: Figure = axes.figure
            figure.draw_without_rendering()
            for labels, side in ((axes.get_xticklabels(), "x"), (axes.get_yticklabels(), "y")):
                boxes = [label.get_window_extent() for label in labels if label.get_text()]
                ends = sorted((getattr(box, f"{side}0"), getattr(box, f"{side}1")) for box in boxes)
                inside = [end for end in ends if end[0] >= 0]
                assert all(a[1] <= b[0] for a, b in itertools.pairwise(inside))


def test_a_confusion_matrix_says_share_and_count_and_where_there_was_none(drawn, tmp_path):
    curves.confusion_plot([OUTCOME], tmp_path)
    texts = [text.get_text() for text in drawn[0].texts]
    assert texts == ["90.0 %\n180", "10.0 %\n20", "15.0 %\n30", "85.0 %\n170", "none", "none"]


def test_a_histogram_leaves_out_kinds_that_are_empty(drawn, tmp_path):
    curves.histogram_plot(GENUINE, [], RANDOM, 0.4, tmp_path)
    legend = [text.get_text() for text in drawn[0].get_legend().get_texts()]
    assert sorted(legend) == ["genuine (200)", "random forgeries (200)", "threshold 0.400"]


@with_lines
def test_curves_refuse_an_empty_class_nan_and_too_many_lines(draw, tmp_path):
    with pytest.raises(EmptyClass):
        draw([Line(name="a", genuine=GENUINE, forged=[])], tmp_path / "p.png")
    with pytest.raises(NonFiniteDistance):
        draw([Line(name="a", genuine=[np.nan], forged=SKILLED)], tmp_path / "p.png")
    for lines in ([], LINES * 3):
        with pytest.raises(PlotError, match="one to 5 curves"):
            draw(lines, tmp_path / "p.png")
    assert list(tmp_path.iterdir()) == []


def test_histograms_and_matrices_of_nothing_are_refused(tmp_path):
    with pytest.raises(EmptyClass):
        curves.histogram_plot([], [], [], 0.5, tmp_path / "p.png")
    with pytest.raises(NonFiniteDistance):
        curves.histogram_plot([np.inf], [], [], 0.5, tmp_path / "p.png")
    with pytest.raises(PlotError, match="no decisions"):
        curves.confusion_plot([], tmp_path / "p.png")


@with_lines
@pytest.mark.parametrize("forged", [[0.9], [0.1], [0.3]])
def test_one_comparison_of_each_kind_can_be_drawn(draw, forged, tmp_path):
    draw([Line(name="a", genuine=[0.3], forged=forged, threshold=0.05)], tmp_path / "p.png")
    assert (tmp_path / "p.png").is_file()
