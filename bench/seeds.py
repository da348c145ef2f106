"""Sound files to be broken: signatures, and pictures that hold none, in every way to write them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from model.preprocess import Grey, as_grey
from model.synthetic import SyntheticSigner, genuine, make_signer

SIGNERS = 4
SHAPE = (160, 280)  # rows, columns


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A file that can be read. `signature` says whether it shows one."""

    name: str
    signature: bool
    data: bytes


def seeds(seed: int) -> list[Seed]:
    """Every picture in every way to write it."""
    rng = np.random.default_rng(seed)
    signed = {f"signature {n}": _signature(*one) for n, one in enumerate(_signers(seed))}
    made = [(name, True, grey) for name, grey in signed.items()]
    made += [(name, False, grey) for name, grey in nothing(rng).items()]
    return [
        Seed(name=f"{name}, {way}", signature=signature, data=data)
        for name, signature, grey in made
        for way, data in written(grey).items()
    ]


def enrolled(seed: int, references: int) -> list[list[bytes]]:
    """Specimens of the signers whose signatures are among the seeds."""
    found = []
    for signer, rng in _signers(seed):
        (other,) = rng.spawn(1)  # not the signatures that are questioned
        pictures = [Image.fromarray(_signature(signer, other)) for _ in range(references)]
        found.append([_saved(picture, "PNG", {}) for picture in pictures])
    return found


def nothing(rng: np.random.Generator) -> dict[str, Grey]:
    """Pictures without a signature."""
    height, width = SHAPE
    column = np.linspace(0, 255, width)[None].repeat(height, 0)
    waves = 128 + 100 * np.sin(np.arange(height)[:, None] / 9) * np.cos(column / 13)
    pictures = {
        "blank": np.full(SHAPE, 245.0),
        "black": np.zeros(SHAPE),
        "noise": rng.uniform(0, 255, SHAPE),
        "faint noise": rng.normal(240, 8, SHAPE),
        "gradient": column,
        "waves": waves,
        "clouds": cv2.normalize(
            cv2.GaussianBlur(rng.normal(0, 1, SHAPE), (0, 0), 9), None, 0, 255, cv2.NORM_MINMAX
        ),
        "checks": 255.0 * ((np.indices(SHAPE) // 16).sum(0) % 2),
        "stripes": 255.0 * (np.arange(height)[:, None] // 6 % 3 > 0).repeat(width, 1),
        "text": _text(rng),
        "form": _form(),
    }
    return {name: np.clip(picture, 0, 255).astype(np.uint8) for name, picture in pictures.items()}


def _signers(seed: int) -> list[tuple[SyntheticSigner, np.random.Generator]]:
    """Each with the random source of the hand."""
    sources = [np.random.default_rng((seed, number)) for number in range(SIGNERS)]
    return [(make_signer(rng), rng) for rng in sources]


def _signature(signer: SyntheticSigner, rng: np.random.Generator) -> Grey:
    grey = genuine(signer, rng)
    return as_grey(cv2.resize(grey, SHAPE[::-1], interpolation=cv2.INTER_AREA))


def _text(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    page = np.full(SHAPE, 240, np.uint8)
    for row in range(20, SHAPE[0], 18):
        letters = "".join(chr(letter) for letter in rng.integers(97, 123, 24))
        cv2.putText(page, letters, (8, row), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 30, 1)
    return page


def _form() -> np.ndarray[Any, Any]:
    page = np.full(SHAPE, 250, np.uint8)
    for row in range(25, SHAPE[0], 30):
        cv2.line(page, (10, row), (SHAPE[1] - 10, row), 60, 1)
    cv2.rectangle(page, (180, 40), (260, 80), 20, 2)
    return page


def written(grey: Grey) -> Mapping[str, bytes]:
    """The same picture in each format and mode that this service reads."""
    image = Image.fromarray(grey)
    colour = image.convert("RGB")
    info = PngInfo()
    info.add_text("comment", "x" * 500, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    two = {"save_all": True, "append_images": [image.rotate(5)]}
    ways: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "png": (image, "PNG", {"pnginfo": info}),
        "png rgba": (image.convert("RGBA"), "PNG", {"icc_profile": b"\0" * 400}),
        "png palette": (image.convert("P"), "PNG", {"transparency": 0}),
        "png 1 bit": (image.convert("1"), "PNG", {}),
        "png 16 bit": (Image.fromarray(grey.astype(np.uint16) * 257), "PNG", {}),
        "png animated": (image, "PNG", two),
        "jpeg": (image, "JPEG", {}),
        "jpeg colour": (colour, "JPEG", {"exif": exif}),
        "jpeg progressive": (colour, "JPEG", {"progressive": True}),
        "jpeg cmyk": (image.convert("CMYK"), "JPEG", {"progressive": True}),
        "bmp": (image, "BMP", {}),
        "bmp colour": (colour, "BMP", {}),
        "tiff": (image, "TIFF", {}),
        "tiff pages": (image, "TIFF", two | {"compression": "tiff_deflate"}),
        "tiff lzw": (colour, "TIFF", {"compression": "tiff_lzw"}),
        "tiff packbits": (image, "TIFF", {"compression": "packbits"}),
        "tiff jpeg": (colour, "TIFF", {"compression": "jpeg"}),
        "tiff fax": (image.convert("1"), "TIFF", {"compression": "group4"}),
        "tiff 16 bit": (Image.fromarray(grey.astype(np.uint16) * 257), "TIFF", {}),
        "tiff float": (Image.fromarray(grey.astype(np.float32)), "TIFF", {}),
    }
    return {name: _saved(*way) for name, way in ways.items()}


def _saved(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
