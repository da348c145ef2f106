"""The pictures: readable PNGs with what they should show, whole or not there at all."""

import csv
import io
import threading

import cv2
import numpy as np
import pytest

from model import plots
from model.errors import FileNotWritten
from model.plots import PlotError, SheetRow

RNG = np.random.default_rng(3)
SIGNATURE = np.full((120, 300), 240, np.uint8)
cv2.polylines(SIGNATURE, [RNG.integers(5, 115, (9, 2)) * (2, 1)], False, 20, 3)


def row(verdict="accept", **changes):
    values = {"title": "a", "questioned": SIGNATURE, "nearest": SIGNATURE, "caption": "0.31"}
    return SheetRow(**(values | changes), verdict=verdict)


def log(n=6):
    fields = [{"epoch": e, "loss": 1 / e, "skilled_eer": 0.3 / e} for e in range(1, n)]
    return [row | {"random_eer": row["skilled_eer"] / 3, "seconds": 9.5} for row in fields]


def picture(path):
    """The written PNG in colour; fails if anything else lies beside it."""
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.read_bytes().startswith(b"\x89PNG")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.std() > 1
    return image


def area(image, colour):
    """How many pixels have this colour, given as #rrggbb, but for rounding."""
    blue_green_red = [int(colour[i : i + 2], 16) for i in (5, 3, 1)]
    return int((abs(image.astype(int) - blue_green_red) <= 1).all(axis=2).sum())


drawings = {
    "sheet": lambda path: plots.comparison_sheet([row(), row("reject")], path),
    "training": lambda path: plots.training_plot(log(), path),
}
every_drawing = pytest.mark.parametrize("draw", drawings.values(), ids=drawings)


@every_drawing
def test_a_drawing_is_one_readable_png_in_a_folder_made_for_it(draw, tmp_path):
    draw(tmp_path / "new" / "picture.png")
    assert min(picture(tmp_path / "new" / "picture.png").shape[:2]) > 200


@every_drawing
def test_a_drawing_is_the_same_bytes_each_time(draw, tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@every_drawing
def test_a_write_that_fails_keeps_the_old_picture_and_leaves_no_temporary_file(
    draw, tmp_path, monkeypatch
):
    def full(source, target):
        raise OSError(28, "No space left on device")

    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    monkeypatch.setattr("model.files.Path.replace", full)
    with pytest.raises(FileNotWritten, match=r"picture.png cannot be written: No space left"):
        draw(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@every_drawing
def test_a_path_below_a_file_is_refused_in_a_sentence(draw, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotWritten, match="cannot be written"):
        draw(tmp_path / "file" / "picture.png")


@every_drawing
def test_threads_may_draw_at_the_same_time(draw, tmp_path):
    paths = [tmp_path / str(n) / "p.png" for n in range(4)]
    threads = [threading.Thread(target=draw, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({path.read_bytes() for path in paths}) == 1


@pytest.mark.parametrize("verdict", ["accept", "reject", "review", "error"])
def test_each_verdict_has_its_own_colour(verdict, tmp_path):
    plots.comparison_sheet([row(verdict)], tmp_path / "p.png")
    image = picture(tmp_path / "p.png")
    shown = {name: area(image, colour) for name, colour in plots._VERDICTS.items()}
    assert shown.pop(verdict) > 300
    assert not any(shown.values())


def test_the_pictures_are_shown(tmp_path):
    dark = np.full((50, 100), 33, np.uint8)
    plots.comparison_sheet([row(questioned=dark, nearest=dark)], tmp_path / "p.png")
    expected = 2 * 1.75 * 0.875 * plots._DPI**2  # two, 1.75 inches wide, half as high
    assert area(picture(tmp_path / "p.png"), "#212121") == pytest.approx(expected, rel=0.02)


def test_network_input_is_drawn_dark_on_light(tmp_path):
    strokes = np.where(SIGNATURE < 128, -1, 1).astype(np.float32)
    grey = np.where(SIGNATURE < 128, 0, 255).astype(np.uint8)
    plots.comparison_sheet([row(questioned=strokes[None], nearest=strokes)], tmp_path / "a.png")
    plots.comparison_sheet([row(questioned=grey, nearest=grey)], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_failure_shows_its_reason_in_place_of_the_picture(tmp_path):
    captions = ["", "unreadable_image: the bytes are not an image that can be decoded"]
    inside = []
    for n, caption in enumerate(captions):
        failed = row("error", questioned=None, nearest=None, caption=caption)
        plots.comparison_sheet([failed], tmp_path / str(n) / "p.png")
        image = picture(tmp_path / str(n) / "p.png")
        inside.append((image[85:, 20 : image.shape[1] // 3] < 150).sum())
    assert inside[0] == 0
    assert inside[1] > 500


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (8, 1), (9, 2), (30, 2)])
def test_many_documents_stand_in_two_columns(rows, columns, tmp_path):
    plots.comparison_sheet([row()] * rows, tmp_path / "p.png")
    image = picture(tmp_path / "p.png")
    width, height = (round(inches * plots._DPI) for inches in plots._CARD)
    assert image.shape[1] == pytest.approx(columns * width, abs=2)
    assert image.shape[0] > -(-rows // columns) * height


@pytest.mark.parametrize(
    "text", ["$x_1$ and $", "李小龙", "a" * 500, "two\nlines", "", "\\frac", "%s {0}"]
)
def test_any_text_can_be_shown(text, tmp_path):
    rows = [row(title=text, caption=text), row("error", title=text, caption=text, nearest=None)]
    plots.comparison_sheet(rows, tmp_path / "p.png")
    picture(tmp_path / "p.png")


def test_a_large_page_keeps_its_thin_strokes(tmp_path):
    page = np.full((2480, 4472), 255, np.uint8)
    page[1200:1212] = 0  # 12 pixels high, where one pixel of the sheet covers 23
    plots.comparison_sheet([row(questioned=page)], tmp_path / "p.png")
    image = picture(tmp_path / "p.png")[85:180, 40:180, 0].astype(int)
    assert (image.min(axis=0) < 200).all()  # of each column of pixels


@pytest.mark.parametrize("shape", [(3, 4, 5), (4,), (0, 3)])
def test_an_array_that_is_no_picture_is_refused(shape, tmp_path):
    with pytest.raises(PlotError, match="shape"):
        plots.comparison_sheet([row(questioned=np.zeros(shape))], tmp_path / "p.png")


def test_a_sheet_and_a_training_log_without_rows_are_refused(tmp_path):
    with pytest.raises(PlotError, match="no documents"):
        plots.comparison_sheet([], tmp_path / "p.png")
    with pytest.raises(PlotError, match="no rows"):
        plots.training_plot([], tmp_path / "p.png")


def test_the_text_of_a_csv_log_draws_the_same_as_its_numbers(tmp_path):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(log()[0]))
    writer.writeheader()
    writer.writerows(log())
    text.seek(0)
    plots.training_plot(log(), tmp_path / "a.png")
    plots.training_plot(list(csv.DictReader(text)), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("empty", ["", None, "nan"])
def test_epochs_without_validation_are_left_out(empty, tmp_path):
    rows = [{**entry, "skilled_eer": empty, "random_eer": empty} for entry in log()]
    plots.training_plot(rows, tmp_path / "p.png")
    image = picture(tmp_path / "p.png")
    assert area(image, plots.GENUINE)  # the loss
    plots.training_plot([*rows, log(9)[-1]], tmp_path / "p.png")
    assert area(picture(tmp_path / "p.png"), plots.SKILLED)


def test_a_log_without_the_rates_still_shows_the_loss(tmp_path):
    plots.training_plot([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4}], tmp_path / "p.png")
    assert area(picture(tmp_path / "p.png"), plots.GENUINE)


def test_a_log_with_a_word_for_a_number_is_refused_by_column(tmp_path):
    with pytest.raises(PlotError, match="column loss is not all numbers"):
        plots.training_plot([{"epoch": 1, "loss": "high"}], tmp_path / "p.png")
