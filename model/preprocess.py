"""From the bytes of a scan to the array that the network sees.

The default, `strokes`, keeps only where the ink lies: the grey of paper and ink tells one scanning
session from another, and with it, in CEDAR, the genuine from the forged. `seed_grey` reproduces
the input of seed checkpoints, grey included. Training and serving both come through `preprocess`,
and the name and version of what it did travel in the checkpoint.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .arrays import Canvas, Mask
from .errors import (
    BlankImage,
    DecodingTooLarge,
    ImageTooLarge,
    PageNotFound,
    PreprocessingError,
    RegionOutside,
    UnreadableImage,
)

try:
    import cv2

    from .lines import without_lines
    from .specks import without_small_pieces, without_specks
except ImportError:  # seed_grey has a fall-back, strokes says what is missing
    cv2 = None  # type: ignore[assignment]

Grey = NDArray[np.uint8]
# What Pillow's parsers let out on damaged files, mutated headers included.
_DECODING_FAILURES = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    AttributeError,
)

_OPENCV_OUT_OF_MEMORY = -4

Region = tuple[int, int, int, int]
"""x, y, width, height in pixels of the upright page."""

MAX_PIXELS = 100_000_000
"""An A3 page at 600 dpi has 70 million pixels."""

MAX_PAGES = 1_000
"""How far into a TIFF a page is looked for; a chain of a million pages takes a minute to walk."""

MAX_SCANS = 200
"""Passes of a progressive JPEG; encoders write about ten, and each passes over all pixels again."""

BAND = 2**21
"""Pixels turned to grey at a time: float64 copies of a whole page would take gigabytes."""

VERSIONS = {"strokes": (1, 2), "seed_grey": (1,)}
"""What this release can do, the latest last: `strokes/2` takes lines of forms off the ink, too, and
tells specks from faint strokes by where they lie."""

WORKING_WIDTH = 512  # a CEDAR signature at 300 dpi is about as wide, so pens are 3 to 8 px here
MIN_CONTRAST = 24  # grey levels between paper and ink; scanner noise of sigma 8 splits into 13
MIN_INK = 64  # pixels; less is a speck, not a signature


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Which input a model was trained on: the mode, its version, and the canvas in pixels.

    Without a version it is the latest. With `coordinates` the network also sees where on the canvas
    each pixel lies (CoordConv, Liu et al., 2018): averaged over the canvas, its features would
    otherwise not know. With `detail` it sees in their place what twice as fine a canvas shows
    (`alignment.detailed`).
    """

    name: str = "strokes"
    version: int = 0
    height: int = 224
    width: int = 224
    coordinates: bool = False
    detail: bool = False

    def __post_init__(self) -> None:
        if self.version == 0 and self.name in VERSIONS:
            object.__setattr__(self, "version", VERSIONS[self.name][-1])
        if self.version not in VERSIONS.get(self.name, ()):
            modes = ", ".join(f"{name}/{one}" for name, all in VERSIONS.items() for one in all)
            raise PreprocessingError(
                f"This release has no preprocessing {self.name}/{self.version} (it has {modes})."
            )
        if not (16 <= self.height <= 2048 and 16 <= self.width <= 2048):
            raise PreprocessingError(
                f"A canvas of {self.height} x {self.width} is outside 16 to 2048 pixels a side."
            )

    @property
    def label(self) -> str:
        """Mode, version and canvas in one word, as the record keeps it."""
        seen = "+detail" if self.detail else "+xy" if self.coordinates else ""
        return f"{self.name}/{self.version} {self.height}x{self.width}{seen}"

    @property
    def finds_ink(self) -> bool:
        """Whether ink is told from paper on the way to the canvas."""
        return self.name == "strokes"

    @property
    def cleans(self) -> bool:
        """Whether the ink is cleaned of lines, and of specks by where they lie."""
        return self.finds_ink and self.version >= 2

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as the checkpoint keeps them."""
        return asdict(self)


def preprocess(
    data: bytes,
    how: Preprocessing,
    *,
    page: int | None = None,
    region: Region | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Canvas:
    """Decode a scan and bring its signature onto the model's canvas.

    Returns float32 of shape (1, height, width) in [-1, 1], white paper 1 and black ink -1.
    `page` counts from 1, None is the first.

    Raises UnreadableImage, ImageTooLarge, DecodingTooLarge, PageNotFound, RegionOutside or
    BlankImage.
    """
    with memory_errors():
        return from_grey(decode_part(data, page, region, max_pixels), how)


def decode_part(data: bytes, page: int | None, region: Region | None, max_pixels: int) -> Grey:
    """The part of a scan that is looked at, grey (H, W), uint8: a page, or a region of it."""
    grey = decode_grey(data, page=page, max_pixels=max_pixels)
    return grey if region is None else crop_region(grey, region)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise DecodingTooLarge in place of what Python and OpenCV raise without memory."""
    try:
        yield
    except MemoryError as error:
        raise _too_large() from error
    except Exception as error:
        # OpenCV has an exception of its own, which cannot be named where it is not installed.
        if getattr(error, "code", None) == _OPENCV_OUT_OF_MEMORY:
            raise _too_large() from error
        raise


def from_grey(grey: Grey, how: Preprocessing) -> Canvas:
    """The same from a decoded grey page (H, W), uint8."""
    if how.finds_ink:
        return strokes_canvas(ink_mask(grey, how), how)
    return _seed_canvas(grey, how)


def decode_grey(data: bytes, *, page: int | None = None, max_pixels: int = MAX_PIXELS) -> Grey:
    """Decode PNG, JPEG, BMP or TIFF bytes to an upright grey page (H, W), uint8, paper as scanned.

    Transparent pixels become white paper; 16-bit samples keep their high byte; an EXIF
    orientation is applied. The size is checked from the header, before any pixel is decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of oddities that it then survives
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "BMP", "TIFF")) as image:
                _turn_to_page(image, 1 if page is None else page)
                _check_size(image, max_pixels)
                _check_scans(image, data)
                image.load()
                # exif_transpose keeps the mode, so a rotated 16-bit scan stays 16-bit
                ImageOps.exif_transpose(image, in_place=True)
                return _to_grey(image)
    except UnidentifiedImageError as error:
        raise UnreadableImage("The file is not a PNG, JPEG, BMP or TIFF image.") from error
    except Image.DecompressionBombError as error:
        raise ImageTooLarge("The image declares more pixels than can be decoded safely.") from error
    except MemoryError as error:
        raise _too_large() from error
    except _DECODING_FAILURES as error:
        raise UnreadableImage(f"The image is damaged and cannot be decoded ({error}).") from error


def _too_large() -> DecodingTooLarge:
    return DecodingTooLarge("Decoding the image takes more memory than is allowed.")


def _turn_to_page(image: Image.Image, page: int) -> None:
    """Only a TIFF has pages: frames of an animated PNG and second views of a camera are none."""
    if page == 1:
        return
    if page > MAX_PAGES:
        raise PageNotFound(f"Pages are looked for up to page {MAX_PAGES:,}; {page} was asked for.")
    try:
        if page < 1 or image.format != "TIFF":
            raise EOFError
        image.seek(page - 1)
    except EOFError as error:
        raise PageNotFound(f"The document has no page {page}.") from error


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"The image is {width} x {height} pixels; the limit is {max_pixels:,} pixels."
        )


def _check_scans(image: Image.Image, data: bytes) -> None:
    """Compressed JPEG data never holds the marker that begins a scan, so it can be counted."""
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS:
        raise UnreadableImage(f"The JPEG consists of more than {MAX_SCANS} scans.")


def _to_grey(image: Image.Image) -> Grey:
    """Band by band, for a page of 100 million pixels would need 2 GB for its transparency alone."""
    convert = _wide if image.mode in _WIDE else _stretch(image) if image.mode == "F" else _narrow
    width, height = image.size
    grey = np.empty((height, width), np.uint8)
    for top, band in _bands(image):
        grey[top : top + band.height] = convert(band)
    return grey


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Strips of the whole width, each with its first row."""
    width, height = image.size
    rows = max(BAND // width, 1)
    if rows >= height:
        yield 0, image
        return
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


_WIDE = ("I;16", "I;16B", "I;16L", "I")


def _wide(image: Image.Image) -> Grey:
    return as_grey(np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255))


def _narrow(image: Image.Image) -> Grey:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return as_grey(np.asarray(image.convert("L")))


def _stretch(image: Image.Image) -> Callable[[Image.Image], Grey]:
    """Float samples have no agreed range: spread what is there over 0 to 255."""

    def finite(band: Image.Image) -> NDArray[np.float64]:
        values = np.asarray(band, dtype=np.float64)
        return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)

    ends = [(values.min(), values.max()) for values in (finite(band) for _, band in _bands(image))]
    low, high = (float(end) for end in (min(e[0] for e in ends), max(e[1] for e in ends)))
    scale = 255.0 / max(high - low, 1e-12)
    return lambda band: np.round((finite(band) - low) * scale).astype(np.uint8)


def crop_region(grey: Grey, region: Region) -> Grey:
    """Cut a region (x, y, width, height in pixels) out of the page; raises RegionOutside."""
    x, y, width, height = region
    page_height, page_width = grey.shape
    inside = x >= 0 and y >= 0 and x + width <= page_width and y + height <= page_height
    if not inside or width < 1 or height < 1:
        raise RegionOutside(
            f"The region {x},{y},{width},{height} (x, y, width, height) does not lie within "
            f"the page of {page_width} x {page_height} pixels."
        )
    return grey[y : y + height, x : x + width]


def ink_mask(grey: Grey, how: Preprocessing) -> Mask:
    """Find the ink on a grey page (H, W): True where the pen was.

    Light-on-dark scans are inverted, uneven lighting is divided out, Otsu's threshold (IEEE
    Trans. SMC 9, 1979) splits ink from paper, lines of forms and specks are dropped. Every stroke
    stays, not only the largest contour. Raises BlankImage.
    """
    if cv2 is None:
        raise PreprocessingError("The strokes input needs OpenCV: install opencv-python-headless.")
    if min(grey.shape) < 8:
        raise BlankImage("The image is too small to hold a signature.")
    flat = _flatten_lighting(_paper_light(grey))
    _, dark = cv2.threshold(flat, 0, 255, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    ink = dark > 0
    paper_level, ink_level = cv2.mean(flat, cv2.bitwise_not(dark))[0], cv2.mean(flat, dark)[0]
    if not ink.any() or paper_level - ink_level < MIN_CONTRAST:
        raise BlankImage("No ink stands out from the paper.")
    ink = without_specks(without_lines(ink)) if how.cleans else without_small_pieces(ink)
    if np.count_nonzero(ink) < MIN_INK:
        raise BlankImage("There is too little ink to be a signature.")
    return ink


def _paper_light(grey: Grey) -> Grey:
    """Paper is what most pixels show; if that is the dark end of the scan, turn it over.

    Noise on a blank page leans to one side as often as to the other and turns nothing over.
    """
    dark, middle, light = _percentiles(grey, (0.5, 50, 99.5))
    return 255 - grey if light - middle > max(middle - dark, MIN_CONTRAST) else grey


def _percentiles(grey: Grey, shares: tuple[float, ...]) -> tuple[float, ...]:
    """As `numpy.percentile` gives them, from a histogram: in 1 ms for an A4 page, not in 60.

    >>> _percentiles(np.array([[0, 10], [20, 30]], np.uint8), (0, 50, 75))
    (0.0, 15.0, 22.5)
    """
    upto = np.cumsum(cv2.calcHist([grey], [0], None, [256], [0, 256]), dtype=np.int64)
    places = np.array(shares) / 100 * (grey.size - 1)
    low, high = (np.searchsorted(upto, end(places), side="right") for end in (np.floor, np.ceil))
    return tuple(float(value) for value in low + (high - low) * (places % 1))


def _flatten_lighting(grey: Grey) -> Grey:
    """Divide by the brightness of the paper around each pixel: a shadow is not ink."""
    height, width = grey.shape
    eighth = (max(width // 8, 8), max(height // 8, 8))
    small = cv2.resize(grey, eighth, interpolation=cv2.INTER_AREA)
    paper = cv2.blur(cv2.dilate(small, np.ones((15, 15), np.uint8)), (15, 15))
    paper = cv2.resize(paper, (width, height), interpolation=cv2.INTER_LINEAR)
    return as_grey(cv2.divide(grey, np.maximum(paper, 32), scale=255))


def strokes_canvas(ink: Mask, how: Preprocessing) -> Canvas:
    """Bring a mask (H, W) onto the canvas: crop to the ink, keep the aspect, centre, smooth.

    Size and position on the page are lost on purpose: image height alone tells forged from
    genuine in two public corpora. The 5 x 5 median takes away the edge texture that is left of
    the scanner after binarising. Returns (1, height, width) in [-1, 1], ink -1.
    """
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8) * 255
    margin = 1.0 - 2.0 / 16  # strokes that touch the border would lose half their receptive field
    working = (WORKING_WIDTH, round(WORKING_WIDTH * how.height / how.width))
    scale = margin * min(working[0] / box.shape[1], working[1] / box.shape[0])
    size = (max(round(box.shape[1] * scale), 1), max(round(box.shape[0] * scale), 1))
    shrinks = scale < 1
    scaled = cv2.resize(box, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    # Below one half, so that a hairline scanned finely does not vanish when it is shrunk.
    box = np.where(scaled > (50 if shrinks else 127), 255, 0).astype(np.uint8)
    large = np.zeros((working[1], working[0]), np.uint8)
    top, left = (working[1] - size[1]) // 2, (working[0] - size[0]) // 2
    large[top : top + size[1], left : left + size[0]] = box
    # Thinner than three pixels a stroke would not survive the median.
    smooth = cv2.medianBlur(cv2.dilate(large, np.ones((3, 3), np.uint8)), 5)
    canvas = cv2.resize(smooth, (how.width, how.height), interpolation=cv2.INTER_AREA)
    return to_range(255 - as_grey(canvas))


def shrunk(pixels: Grey, height: int, width: int) -> Grey:
    """A canvas averaged down to fewer pixels, or as it is where it has no more."""
    if pixels.shape[0] <= height and pixels.shape[1] <= width:
        return pixels
    return as_grey(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))


def as_grey(pixels: NDArray[Any]) -> Grey:
    """The same pixels as uint8: OpenCV and Pillow keep the type, but their stubs do not say so."""
    return np.asarray(pixels, dtype=np.uint8)


def to_range(pixels: Grey) -> NDArray[np.float32]:
    """Grey pixels (..., H, W) -> network input (..., 1, H, W) in [-1, 1], white paper 1.

    Paper must not be 0: MambaOut's layers of zeros then meet LayerNorms of zero variance, and
    the gradient at random initialisation has norm 1e12 instead of 3.
    """
    return (pixels[..., None, :, :].astype(np.float32) / 255.0 - 0.5) / 0.5


def to_pixels(canvas: Canvas) -> Grey:
    """The inverse of `to_range`, for one canvas (1, H, W): the same in a quarter of the space."""
    return np.asarray(np.round((canvas[0] + 1.0) * 127.5), dtype=np.uint8)


def _seed_canvas(grey: Grey, how: Preprocessing) -> Canvas:
    """The seed notebook's input: box of the largest contour, grey kept, aspect squashed."""
    image = Image.fromarray(_largest_contour_box(grey) if cv2 is not None else grey)
    square = image.resize((how.width, how.height), Image.Resampling.BILINEAR)
    return to_range(np.asarray(square))


def _largest_contour_box(grey: Grey) -> Grey:
    _, dark = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(dark, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return grey
    x, y, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
    return grey[y : y + height, x : x + width]
