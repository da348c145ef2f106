"""What a person types for a document, made into the URI that travels on the queue.

A plain path becomes a `file://` URI; `s3://` and `file://` URIs pass unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from worker.cli.exits import CommandError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


def is_uri(place: str) -> bool:
    """Whether a place names its scheme, as `s3://bucket/key` does."""
    return bool(_SCHEME.match(place))


def as_uri(place: str) -> str:
    """The URI of a place; a relative path counts from the current folder.

    Raises CommandError when the place is empty.
    """
    if not place.strip():
        raise CommandError("A document needs a path or a URI; an empty one was given.")
    return place if is_uri(place) else Path(place).expanduser().resolve().as_uri()


def expand(places: Sequence[str]) -> list[str]:
    """The images that places stand for: files and URIs as given, folders as the images in them.

    Folders are searched to any depth and sorted by name. Raises CommandError for a path that
    does not exist and for a folder without an image, naming it.
    """
    return list(dict.fromkeys(found for place in places for found in _expand(place)))


def _expand(place: str) -> Iterator[str]:
    path = Path(place).expanduser()
    if is_uri(place):
        yield place
    elif path.is_dir():
        images = sorted(p for p in path.rglob("*") if _is_image(p))
        if not images:
            kinds = ", ".join(sorted(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES))
            raise CommandError(f"The folder {place} holds no image ({kinds}).")
        yield from map(str, images)
    elif place.strip() and path.exists():
        yield place
    else:
        raise CommandError(f"There is no file or folder {place!r}.")


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and has_image_suffix(path.name) and path.is_file()


def has_image_suffix(name: str) -> bool:
    """Whether a file or an object is called like an image."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def region(text: str | None) -> tuple[int, int, int, int] | None:
    """A region of a page from `x,y,width,height`, in pixels of the upright page.

    Raises CommandError when the text is not four whole numbers of which the last two are above 0.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(re.fullmatch(r"\d{1,9}", part) for part in parts):
        raise CommandError(
            f"The region {text!r} is not x,y,width,height: four whole numbers of pixels, "
            "such as 120,800,600,200."
        )
    x, y, width, height = map(int, parts)
    if not (width and height):
        raise CommandError(f"The region {text!r} is empty: width and height must be above 0.")
    return x, y, width, height
