"""Preprocessed corpora on disk, so that no image is decoded twice for training."""

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dataset import Signer
from .errors import DatasetError, ModelError
from .files import write_atomically
from .preprocess import Preprocessing, preprocess, to_range

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


class CachedImages:
    """All images of some signers on one canvas: uint8 (N, H, W).

    `index[path]` is the row of a file; `skipped` lists the files that could not be read, with
    the reason. The cache file's name is a digest of the preprocessing and of every file's path,
    size and time, so a changed corpus or a new version never meets old rows.
    """

    def __init__(
        self,
        signers: Sequence[Signer],
        how: Preprocessing,
        folder: Path,
        *,
        progress: Progress | None = None,
    ) -> None:
        self.how = how
        self._paths = [path for signer in signers for path in (*signer.genuine, *signer.forged)]
        name = folder / f"{_digest(self._paths, how)}.npz"
        if not name.exists():
            _write(name, self._paths, how, progress)
        with np.load(name) as stored:  # plain arrays, no pickles
            self.pixels: NDArray[np.uint8] = stored["pixels"]
            reasons = [str(reason) for reason in stored["reasons"]]
        self.skipped = {
            path: reason for path, reason in zip(self._paths, reasons, strict=True) if reason
        }
        self.index = {path: row for row, path in enumerate(self._paths) if path not in self.skipped}

    def rows(self, paths: Sequence[Path]) -> NDArray[np.intp]:
        """The rows of those files that could be read, in their order."""
        return np.array([self.index[path] for path in paths if path in self.index], dtype=np.intp)

    def images(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rows (n,) -> network input (n, 1, H, W) in the range that `preprocess` gives."""
        return to_range(self.pixels[rows])


def _to_pixels(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The inverse of `to_range`, so that a cached image takes a quarter of the space."""
    return np.asarray(np.round((values[0] + 1.0) * 127.5), dtype=np.uint8)


def _digest(paths: Sequence[Path], how: Preprocessing) -> str:
    digest = hashlib.sha256(how.label.encode())
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def _write(
    name: Path, paths: Sequence[Path], how: Preprocessing, progress: Progress | None
) -> None:
    pixels = np.zeros((len(paths), how.height, how.width), np.uint8)
    reasons = [""] * len(paths)

    def one(row: int) -> None:
        try:
            pixels[row] = _to_pixels(preprocess(paths[row].read_bytes(), how))
        except ModelError as error:
            reasons[row] = str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow and OpenCV let go of the GIL
        for done, _ in enumerate(pool.map(one, range(len(paths))), start=1):
            if progress:
                progress(done, len(paths))
    if len(paths) and all(reasons):
        raise DatasetError(f"Not one of {len(paths)} images could be read: {reasons[0]}")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, pixels=pixels, reasons=np.array(reasons))
    write_atomically(name, buffer.getvalue())
