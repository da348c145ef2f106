"""What a person types for a document becomes the URI that they meant."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from worker.cli import places
from worker.cli.exits import CommandError


@pytest.mark.parametrize("uri", ["s3://scans/a b.png", "file:///srv/a%20b.png", "http://x/y"])
def test_a_uri_passes_unchanged(uri: str) -> None:
    assert places.as_uri(uri) == uri


def test_a_relative_path_becomes_an_absolute_file_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert places.as_uri("a.png") == (tmp_path / "a.png").as_uri()


@pytest.mark.parametrize("name", ["with blank.png", "50%.png", "what?.png", "nö#1.png", "a:b.png"])
def test_every_file_name_survives_the_way_into_a_uri_and_back(tmp_path: Path, name: str) -> None:
    uri = places.as_uri(str(tmp_path / name))
    assert Path(unquote(urlsplit(uri).path)) == tmp_path / name


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(CommandError, match="an empty one was given"):
        places.as_uri("  ")


def test_a_folder_stands_for_its_images_at_any_depth_in_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.tif", "sub/c.jpeg", "notes.txt", ".hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    expected = [str(tmp_path / name) for name in ("a.tif", "b.PNG", "sub/c.jpeg")]
    assert places.expand([str(tmp_path)]) == expected


def test_a_file_is_taken_whatever_its_name_and_only_once(tmp_path: Path) -> None:
    scan = tmp_path / "scan.dat"
    scan.touch()
    assert places.expand([str(scan), "s3://scans/a.png", str(scan)]) == [
        str(scan),
        "s3://scans/a.png",
    ]


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"no file or folder '.*nowhere'"):
        places.expand([str(tmp_path / "nowhere")])


def test_a_folder_without_an_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="holds no image"):
        places.expand([str(tmp_path)])


def test_a_region_is_four_numbers() -> None:
    assert places.region("120, 800,600,200") == (120, 800, 600, 200)
    assert places.region(None) is None


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "-1,0,5,5", "1.5,0,5,5"])
def test_another_region_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(CommandError, match=r"is not x,y,width,height.*such as"):
        places.region(text)


@pytest.mark.parametrize("text", ["0,0,0,5", "0,0,5,0"])
def test_an_empty_region_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="is empty"):
        places.region(text)
