"""A list of many signers with their images, as CSV or JSON lines: what it says, row by row.

    signer,image                       {"signer": "ACC-1", "image": "scans/1a.png"}
    ACC-1,scans/1a.png                 {"signer": "ACC-2", "images": ["scans/2a.png", "s3://b/2b.png"]}

A row that cannot be used is told with its line and stops nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import InvalidSignerId
from storage.signers import check_id
from worker.errors import WorkerError

LONGEST = 2**28
"""Bytes of a manifest: a million rows have about a third of this."""

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
COLUMNS = ("signer", "image")


class InvalidManifest(WorkerError):
    """The manifest cannot be read."""

    code = "invalid_manifest"


@dataclass(frozen=True, kw_only=True)
class Row:
    """An image, or a folder or prefix of them, of one signer, as the line says."""

    line: int
    signer: str
    image: str


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A line that cannot be used, and why."""

    line: int
    reason: str


def read(path: Path) -> tuple[list[Row], list[Wrong]]:
    """The rows of a manifest, and the lines that are none.

    Lines count from 1, the header of a CSV among them. Raises InvalidManifest for a file that
    cannot be read, is not UTF-8 or lacks the header.
    """
    text = _text(path)
    as_json = path.suffix.lower() in JSON_SUFFIXES
    rows: list[Row] = []
    wrong: list[Wrong] = []
    for item in _json_lines(text) if as_json else _csv_lines(text, path):
        if isinstance(item, Wrong):
            wrong.append(item)
        else:
            rows.append(item)
    return rows, wrong


def place(row: Row, manifest: Path) -> str:
    """Where the row's image lies: a relative path counts from the manifest's own folder."""
    if "://" in row.image:
        return row.image
    return str(manifest.parent / Path(row.image).expanduser())


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
    except FileNotFoundError as error:
        raise InvalidManifest(f"There is no manifest {path}.") from error
    except OSError as error:
        raise InvalidManifest(f"The manifest {path} cannot be read: {error.strerror}.") from error
    if len(data) > LONGEST:
        raise InvalidManifest(f"The manifest {path} is larger than {LONGEST} bytes.")
    try:
        return data.decode("utf-8-sig")  # spreadsheets put a mark at the beginning
    except UnicodeDecodeError as error:
        raise InvalidManifest(f"The manifest {path} is not UTF-8 text.") from error


def _csv_lines(text: str, path: Path) -> Iterator[Row | Wrong]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(lines, [])]
    except csv.Error as error:
        raise InvalidManifest(f"The manifest {path} is no CSV ({error}).") from error
    if not set(COLUMNS) <= set(header):
        raise InvalidManifest(
            f"The first line of {path} must name the columns `signer` and `image`;"
            " a manifest in JSON lines is called .jsonl."
        )
    end = lines.line_num
    while True:
        line = end + 1  # a quoted cell may hold line ends, so a row begins where the last ended
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield Wrong(line=line, reason=f"it is no row of a CSV ({error})")
            end = lines.line_num
            continue
        end = lines.line_num
        if not cells:
            continue
        if len(cells) != len(header):
            yield Wrong(line=line, reason=f"it has {len(cells)} cells, the header {len(header)}")
            continue
        named = dict(zip(header, cells, strict=True))
        yield _row(line, named["signer"].strip(), named["image"].strip())


def _json_lines(text: str) -> Iterator[Row | Wrong]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            yield Wrong(line=line, reason="it is not JSON")
            continue
        if not isinstance(found, dict) or "signer" not in found:
            yield Wrong(line=line, reason="it is no object with a `signer`")
            continue
        yield from _objects(line, found)


def _objects(line: int, found: dict[str, Any]) -> Iterator[Row | Wrong]:
    images = found.get("images", [found["image"]] if "image" in found else [])
    if not isinstance(images, list) or not images:
        yield Wrong(line=line, reason="it has neither an `image` nor a list of `images`")
        return
    for image in images:
        yield _row(line, found["signer"], image)


def _row(line: int, signer: object, image: object) -> Row | Wrong:
    if not isinstance(signer, str) or not isinstance(image, str):
        return Wrong(line=line, reason="signer and image must be text")
    try:
        check_id(signer)
    except InvalidSignerId as error:
        return Wrong(line=line, reason=str(error))
    if not image or not image.isprintable():
        return Wrong(line=line, reason="it names no image")
    return Row(line=line, signer=signer, image=image)
