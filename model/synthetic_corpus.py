"""A large corpus of made-up signers on disk, for pre-training: drawn by several processes at once.

Drawing is Python, so threads would not help; a processor draws and writes 125 images a second.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cv2

from .errors import DatasetError
from .files import write_atomically
from .synthetic import files_of, images_of, write_image

MARK = "synthetic.txt"
"""A file of this name, in the folder of a corpus, says which seed its signers were drawn from."""


def synthetic_corpus(
    folder: Path,
    *,
    signers: int,
    seed: int,
    genuine: int = 24,
    forgeries: int = 24,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write what `write_dataset` would, on `processes` processors (all of them by default).

    A corpus that is there in part is completed: a run that was stopped loses the signers it was
    drawing, and asking for more signers later draws those only. `progress(done, total)` counts
    images. The program must be one that may be imported, as `multiprocessing` asks.

    Raises DatasetError for a folder that holds anything else, and FileNotWritten.
    """
    if min(signers, genuine, forgeries) < 0:
        raise DatasetError("A synthetic corpus cannot have a negative number of anything.")
    _claim(folder, seed)
    missing = [
        number
        for number in range(1, signers + 1)
        if not all((folder / name).exists() for name in files_of(number, genuine, forgeries))
    ]
    each = genuine + forgeries
    done, total = (signers - len(missing)) * each, signers * each
    if not missing:
        return
    # Forking a process that has run torch may hang the child.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes or os.cpu_count(), context, initializer=_settle)
    try:
        waiting = [pool.submit(_draw, folder, n, genuine, forgeries, seed) for n in missing]
        for drawn in as_completed(waiting):
            drawn.result()
            done += each
            if progress is not None:
                progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)


def _claim(folder: Path, seed: int) -> None:
    """Refuse a folder of real signatures, or of another seed's: they would be mixed for ever."""
    mark, sentence = folder / MARK, f"Made-up signers, drawn from seed {seed}.\n"
    if mark.is_file():
        if mark.read_text() != sentence:
            raise DatasetError(
                f"{folder} holds the signers of another seed; choose another folder."
            )
    elif folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DatasetError(f"{folder} holds other files than made-up signers; choose another one.")
    else:
        write_atomically(mark, sentence.encode())


def _settle() -> None:
    """Ctrl-C is for the parent to act on, and the processors are all taken."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _draw(folder: Path, number: int, genuine: int, forgeries: int, seed: int) -> None:
    for name, image in images_of(number, genuine, forgeries, seed=seed):
        write_image(folder / name, image)
