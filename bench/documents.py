"""The documents that the bench sends: signature crops and A4 pages, of real writers or made up."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from model.dataset import Signer, scan_dataset
from model.inference import Embedder, load_embedder
from model.preprocess import Grey, decode_grey
from model.synthetic import write_dataset

CROP = (450, 700)  # rows, columns
A4 = (3508, 2480)  # at 300 dpi
REFERENCES = 5


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Writers with at least REFERENCES genuine signatures and some to question."""

    name: str
    signers: tuple[Signer, ...]

    @property
    def questioned(self) -> list[tuple[str, Path]]:
        """Who is claimed, and the picture: genuine signatures and forgeries in turn."""
        found = []
        for number in range(max(len(s.genuine) + len(s.forged) for s in self.signers)):
            for signer in self.signers:
                rest = (*signer.genuine[REFERENCES:], *signer.forged)
                if number < len(rest):
                    found.append((signer_id(signer), rest[number]))
        return found


def corpus(data: Path | None, folder: Path, *, signers: int = 8) -> Corpus:
    """The corpus at `data`, or generated signers written into `folder`."""
    if data is not None:
        return Corpus(name=data.resolve().name, signers=scan_dataset(data))
    write_dataset(folder, signers=signers, genuine=12, forgeries=8, seed=123)
    return Corpus(name="generated", signers=scan_dataset(folder))


def folders_and_embedder(
    about: str, arguments: Sequence[str] | None
) -> tuple[list[Path], Embedder]:
    """The corpora named on a command line, and the network to look at them with."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("folders", type=Path, nargs="+")
    default = Path("checkpoints/siamese_vision_mamba_tiny.pt")
    parser.add_argument("--checkpoint", type=Path, default=default)
    options = parser.parse_args(arguments)
    return options.folders, load_embedder(options.checkpoint, "cpu")


def signer_id(signer: Signer) -> str:
    """A name that the service takes."""
    return signer.name.replace("/", "-")


def crop(picture: bytes) -> bytes:
    """The signature in the middle of a field of 450 x 700 pixels with a scanner's noise, as PNG."""
    return _png(_placed(decode_grey(picture), CROP, np.random.default_rng(len(picture))))


def page(picture: bytes) -> bytes:
    """The signature on an A4 page at 300 dpi with a scanner's noise, as JPEG."""
    paper = _placed(decode_grey(picture), A4, np.random.default_rng(len(picture)))
    buffer = io.BytesIO()
    Image.fromarray(paper).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def numbered(picture: bytes, number: int) -> bytes:
    """The same PNG picture under another hash."""
    with Image.open(io.BytesIO(picture)) as image:
        info = PngInfo()
        info.add_text("number", str(number))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=info, compress_level=1)
    return buffer.getvalue()


def _placed(ink: Grey, size: tuple[int, int], rng: np.random.Generator) -> Grey:
    """The picture, shrunk if it must be, on paper of `size`, at a place drawn by `rng`."""
    scale = min(0.9 * size[0] / ink.shape[0], 0.9 * size[1] / ink.shape[1], 1.0)
    ink = np.asarray(cv2.resize(ink, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    top, left = (int(rng.integers(size[axis] - ink.shape[axis] + 1)) for axis in (0, 1))
    paper = np.full(size, 245.0)
    paper[top : top + ink.shape[0], left : left + ink.shape[1]] *= ink / 255.0
    return np.clip(paper + rng.normal(0, 2, size), 0, 255).astype(np.uint8)


def _png(pixels: Grey) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def first(pictures: Sequence[tuple[str, Path]], count: int) -> list[tuple[str, Path]]:
    """So many of them, from the beginning again where there are fewer."""
    return [pictures[number % len(pictures)] for number in range(count)]
