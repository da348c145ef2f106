"""Preprocessed corpora on disk, so that no image is decoded twice for training.

One file a signer, in a folder for each preprocessing: whatever the split, a signer is preprocessed
once, a changed corpus costs its changed signers only, and an interrupted build goes on where it
was. Loading holds the images asked for in memory, and one signer's more.
"""

import hashlib
import io
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from .arrays import Canvas, Images, Rows
from .dataset import Signer
from .errors import DatasetError, ModelError
from .files import write_atomically
from .preprocess import Grey, Preprocessing, preprocess, shrunk, to_pixels, to_range

CANVAS = ".npy"
"""The suffix of a file that holds what the network sees, where the image itself must not lie."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


class CachedImages:
    """All images of some signers on one canvas: uint8 (N, H, W), signer by signer.

    `index[path]` is the row of a file; `skipped` lists the files that are no usable image, with
    the reason. `progress` counts the images that the cache did not hold. Raises DatasetError for
    a file that cannot be opened and when no image is usable, FileNotWritten when the disk is full.
    """

    def __init__(
        self,
        signers: Sequence[Signer],
        how: Preprocessing,
        folder: Path,
        *,
        progress: Progress | None = None,
    ) -> None:
        self.how, self.signers = how, tuple(signers)
        places = [None if _prepared(signer) else _place(signer, how, folder) for signer in signers]
        _complete(self.signers, places, how, progress)
        count = sum(len(signer.files) for signer in signers)
        self.pixels: NDArray[np.uint8] = np.empty((count, how.height, how.width), np.uint8)
        self.index: dict[Path, int] = {}
        self.skipped: dict[Path, str] = {}
        row = 0
        for signer, place in zip(signers, places, strict=True):
            pixels, reasons = _load(place) if place else _canvases(signer.files, how)
            self.pixels[row : row + len(pixels)] = pixels
            for path, reason in zip(signer.files, reasons, strict=True):
                if reason:
                    self.skipped[path] = reason
                else:
                    self.index[path] = row
                row += 1
        if self.skipped and not self.index:
            path, reason = next(iter(self.skipped.items()))
            raise DatasetError(f"Not one of {count} images is usable; the first, {path}: {reason}")

    def rows(self, paths: Sequence[Path]) -> Rows:
        """The rows of those files that could be read, in their order."""
        return np.array([self.index[path] for path in paths if path in self.index], dtype=np.intp)

    def images(self, rows: Rows) -> Images:
        """Rows (n,) -> network input (n, 1, H, W) in the range that `preprocess` gives."""
        return to_range(self.pixels[rows])


def _place(signer: Signer, how: Preprocessing, folder: Path) -> Path:
    """Named by every file's path, size and time, so that a changed signer meets no old pixels."""
    digest = hashlib.sha256()
    for path in signer.files:
        try:
            stat = path.stat()
        except OSError as error:
            raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error
        digest.update(f"{path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    # The spare channels are the network's own business: the pixels are the same.
    label = replace(how, coordinates=False, detail=False).label
    return folder / label.replace("/", "-").replace(" ", "-") / f"{digest.hexdigest()[:24]}.npz"


def _complete(
    signers: Sequence[Signer],
    places: Sequence[Path | None],
    how: Preprocessing,
    progress: Progress | None,
) -> None:
    """Preprocess the signers that the cache does not hold."""
    missing = [
        (signer.files, place)
        for signer, place in zip(signers, places, strict=True)
        if place is not None and not place.exists()
    ]
    total, done = sum(len(files) for files, _ in missing), 0

    def one(signer: tuple[Sequence[Path], Path]) -> int:
        files, place = signer
        _write(place, files, how)
        return len(files)

    pool = ThreadPoolExecutor(os.cpu_count())  # Pillow and OpenCV let go of the GIL
    try:
        for count in pool.map(one, missing):
            done += count
            if progress:
                progress(done, total)
    finally:  # Ctrl-C and a full disk wait for the signers at work, not for the whole corpus
        pool.shutdown(cancel_futures=True)


def _prepared(signer: Signer) -> bool:
    """Whether the signer's files are canvases already, which need no cache."""
    return bool(signer.files) and all(path.suffix == CANVAS for path in signer.files)


def write_canvas(path: Path, canvas: Canvas) -> None:
    """Keep what the network sees of one image (1, H, W), to be read in the image's place."""
    buffer = io.BytesIO()
    np.save(buffer, to_pixels(canvas))
    write_atomically(path, buffer.getvalue())


def _canvases(files: Sequence[Path], how: Preprocessing) -> tuple[NDArray[np.uint8], list[str]]:
    pixels = np.zeros((len(files), how.height, how.width), np.uint8)
    for row, path in enumerate(files):
        try:
            pixels[row] = _brought_to(np.load(path), how)
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(f"{path} is no canvas of {how.label}.") from error
    return pixels, [""] * len(files)


def _brought_to(canvas: Grey, how: Preprocessing) -> Grey:
    """A canvas that was kept finer than it is wanted, averaged down; any other as it is."""
    alike = canvas.shape[0] * how.width == canvas.shape[1] * how.height
    return shrunk(canvas, how.height, how.width) if alike else canvas


def _write(place: Path, files: Sequence[Path], how: Preprocessing) -> None:
    pixels = np.zeros((len(files), how.height, how.width), np.uint8)
    reasons = [""] * len(files)
    for row, path in enumerate(files):
        try:
            pixels[row] = to_pixels(preprocess(path.read_bytes(), how))
        except OSError as error:  # of the machine, not of the image: tomorrow it may be readable
            raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error
        except ModelError as error:
            reasons[row] = str(error)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, pixels=pixels, reasons=np.array(reasons))
    write_atomically(place, buffer.getvalue())


def _load(place: Path) -> tuple[NDArray[np.uint8], list[str]]:
    try:
        with place.open("rb") as file, np.load(file) as stored:  # plain arrays, no pickles
            return stored["pixels"], [str(reason) for reason in stored["reasons"]]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise DatasetError(f"{place} in the cache is damaged; remove it to mend it.") from error
