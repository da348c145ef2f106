from __future__ import annotations

from pathlib import Path

import pytest

from worker.manifest import InvalidManifest, Row, place, read


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str, name: str = "list.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write


def test_rows_of_a_csv_are_read_with_their_lines(written) -> None:
    path = written("signer,image\nada,a.png\n\nbo,s3://scans/b.png\n")
    rows, wrong = read(path)
    assert rows == [
        Row(line=2, signer="ada", image="a.png"),
        Row(line=4, signer="bo", image="s3://scans/b.png"),
    ]
    assert wrong == []


def test_columns_may_stand_in_any_order_beside_others(written) -> None:
    path = written("\ufeffImage, Branch ,SIGNER\r\na.png,Kiel,ada\r\n")
    assert read(path)[0] == [Row(line=2, signer="ada", image="a.png")]


def test_wrong_rows_of_a_csv_are_told_with_their_lines_and_the_good_ones_read(written) -> None:
    path = written('signer,image\n,a.png\nada\n../x,b.png\nada,\n"a\nb",c.png\nada,d.png\n')
    rows, wrong = read(path)
    assert rows == [Row(line=8, signer="ada", image="d.png")]
    assert [item.line for item in wrong] == [2, 3, 4, 5, 6]
    assert [item.reason for item in wrong][:2] == [
        "a signer id must not be empty",
        "it has 1 cells, the header 2",
    ]
    assert "names no image" in wrong[3].reason


def test_an_open_quote_is_a_wrong_row(written) -> None:
    rows, wrong = read(written('signer,image\nada,a.png\nbo,"b.png'))
    assert len(rows) == 1
    assert wrong[0].line == 3


def test_json_lines_name_one_image_or_several(written) -> None:
    text = '{"signer": "ada", "image": "a.png"}\n{"signer": "bo", "images": ["b.png", "c.png"]}\n'
    rows, wrong = read(written(text, "list.jsonl"))
    assert [(row.line, row.signer, row.image) for row in rows] == [
        (1, "ada", "a.png"),
        (2, "bo", "b.png"),
        (2, "bo", "c.png"),
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "no object with a `signer`"),
        ('{"image": "a.png"}', "no object with a `signer`"),
        ('{"signer": "ada"}', "neither an `image` nor"),
        ('{"signer": "ada", "images": []}', "neither an `image` nor"),
        ('{"signer": 7, "image": "a.png"}', "must be text"),
        ('{"signer": "a/b", "image": "a.png"}', "looks like a path"),
    ],
)
def test_wrong_json_lines_are_told_with_their_lines(written, line: str, reason: str) -> None:
    good = '{"signer": "ada", "image": "a.png"}'
    rows, wrong = read(written(f"{good}\n{line}\n{good}\n", "list.jsonl"))
    assert [row.line for row in rows] == [1, 3]
    assert [item.line for item in wrong] == [2]
    assert reason in wrong[0].reason


def test_a_relative_path_counts_from_the_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "list.csv"
    assert place(Row(line=1, signer="a", image="x/a.png"), manifest) == str(tmp_path / "x/a.png")
    assert place(Row(line=1, signer="a", image="/x/a.png"), manifest) == "/x/a.png"
    assert place(Row(line=1, signer="a", image="s3://b/a.png"), manifest) == "s3://b/a.png"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "must name the columns"),
        (b"ada,a.png\n", "must name the columns"),
        (b"signer,image\n\xff\xfe\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidManifest, match=reason):
        read(path)


def test_a_manifest_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match="There is no manifest"):
        read(tmp_path / "list.csv")
    with pytest.raises(InvalidManifest, match="cannot be read"):
        read(tmp_path)
