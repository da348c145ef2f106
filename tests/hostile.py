"""Files that are out to do harm, each with what must become of it: a code, or None for a canvas."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from model import synthetic

Entry = tuple[int, int, int, int]
Case = tuple[str, Callable[[], bytes], str | None]
"""What it is, how it is built, what becomes of it."""

UNREADABLE, BLANK, LARGE = "unreadable_image", "blank_image", "image_too_large"
PNG = b"\x89PNG\r\n\x1a\n"
SIGNATURE = synthetic.genuine(
    synthetic.make_signer(np.random.default_rng(3)), np.random.default_rng(4)
)
"""A signature on grey paper (250, 450), uint8."""

FRAMES = [Image.fromarray(SIGNATURE).rotate(angle) for angle in (90, 180)]


def saved(picture: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    """The picture as a file."""
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# PNG


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with a sound checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *extra: bytes, depth: int = 8, rows: bytes | None = None) -> bytes:
    """A grey PNG of any size it says it has; white unless `rows` are given."""
    if rows is None:
        rows = (b"\0" + b"\xff" * width) * height
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows, 1)))
    return PNG + b"".join(parts) + chunk(b"IEND", b"")


def with_chunk(kind: bytes, body: bytes, times: int = 1) -> bytes:
    """The signature as a PNG with one more chunk before its pixels, or many of them."""
    data = saved(SIGNATURE)
    end = len(PNG) + 25  # of the header
    return data[:end] + chunk(kind, body) * times + data[end:]


def deflated(megabytes: int, times: int = 1) -> bytes:
    """Zeros, compressed again and again."""
    data = bytes(megabytes * 10**6)
    for _ in range(times):
        data = zlib.compress(data, 9)
    return data


def pngs() -> Iterator[Case]:
    """Of PNG."""
    text = zlib.compress(bytes(10**6))
    yield "png without pixels", lambda: png(0, 0), UNREADABLE
    yield "png without width", lambda: png(0, 100), UNREADABLE
    yield "png of 2^31 pixels a side", lambda: png(2**31 - 1, 2**31 - 1, rows=b"\0" * 99), LARGE
    yield "png of a row of 10^8 pixels", lambda: png(10**8, 1, rows=bytes(10**6)), UNREADABLE
    yield "png of 10^7 rows of a pixel", lambda: png(1, 10**7, rows=bytes(2 * 10**7)), BLANK
    yield "png of eight rows of 10^6 pixels", lambda: png(10**6, 8), BLANK
    yield "png bomb of 900 million pixels", lambda: saved(Image.new("1", (30_000, 30_000))), LARGE
    yield "png bomb of 81 million pixels", lambda: saved(Image.new("L", (9_000, 9_000), 9)), BLANK
    yield "png with too many rows", lambda: png(99, 99, rows=bytes(10**8)), BLANK
    yield "bomb in zTXt", lambda: with_chunk(b"zTXt", b"a\0\0" + deflated(200)), UNREADABLE
    yield "bomb in iTXt", lambda: with_chunk(b"iTXt", b"a\0\1\0\0\0" + deflated(200)), UNREADABLE
    yield "bomb in iCCP", lambda: with_chunk(b"iCCP", b"a\0\0" + deflated(200)), UNREADABLE
    yield "bomb in a bomb in zTXt", lambda: with_chunk(b"zTXt", b"a\0\0" + deflated(200, 2)), None
    yield (
        "png with 99 megabytes of text",
        lambda: with_chunk(b"zTXt", b"a\0\0" + text, 99),
        UNREADABLE,
    )
    yield "png with 100,000 chunks", lambda: with_chunk(b"tEXt", b"a\0b", 100_000), None
    yield (
        "png with a chunk of 2^32 bytes",
        lambda: PNG + b"\xff" * 4 + b"IHDR" + bytes(99),
        UNREADABLE,
    )
    yield "png with gamma 0", lambda: with_chunk(b"gAMA", bytes(4)), None
    yield "png with 0 dots a metre", lambda: with_chunk(b"pHYs", bytes(9)), None
    yield "animated png", lambda: saved(SIGNATURE, save_all=True, append_images=FRAMES), None


# TIFF


def tiff(*directories: list[tuple[int, int, int, int]], links: list[int] | None = None) -> bytes:
    """A little-endian TIFF of such entries (tag, type, count, value), linked in a row, or to the
    directories whose numbers are given; data may follow at `PIXELS`.
    """
    places, at = [], 8
    for entries in directories:
        places.append(at)
        at += 2 + 12 * len(entries) + 4
    data = b"II*\0" + struct.pack("<I", 8)
    for number, entries in enumerate(directories):
        following = number + 1 if links is None else links[number]
        link = places[following] if following < len(places) else 0
        packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        data += struct.pack("<H", len(entries)) + packed + struct.pack("<I", link)
    return data


def strip(
    width: int, height: int, at: int, length: int, *, compression: int = 1, bits: int = 8
) -> list[tuple[int, int, int, int]]:
    """The entries of a grey page in one strip."""
    return [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, at),
        (278, 4, 1, height),
        (279, 4, 1, length),
    ]


def one_page(
    width: int,
    height: int,
    pixels: bytes,
    compression: int = 1,
    bits: int = 8,
    more: Sequence[Entry] = (),
) -> bytes:
    """A TIFF of one page. Its pixels begin at 110, 12 further on for each of `more` entries."""
    at = 110 + 12 * len(more)
    entries = strip(width, height, at, len(pixels), compression=compression, bits=bits)
    return tiff([*entries, *more]) + pixels


def signed(*more: Entry) -> bytes:
    """The signature as a TIFF with more entries."""
    height, width = SIGNATURE.shape
    return one_page(width, height, SIGNATURE.tobytes() + bytes(8), more=more)


def ring(pages: int) -> bytes:
    """White pages whose directories lead from the last to the first."""
    entries = strip(100, 100, 8 + pages * 102, 10_000)
    return tiff(*[entries] * pages, links=[*range(1, pages), 0]) + b"\xff" * 10_000


def floats(wrong: float) -> bytes:
    """The signature in float samples, some of them wrong."""
    values = SIGNATURE.astype(np.float32)
    values[:20, :20] = wrong
    return saved(values, "TIFF")


def tiffs() -> Iterator[Case]:
    """Of TIFF."""
    nowhere, bits = 2**32 - 1, 2**16 - 1
    lzw = b"\x80\x0b\x60\x50" * 9_000
    yield "tiff by hand", signed, None
    yield "tiff without pixels", lambda: one_page(0, 0, b""), UNREADABLE
    yield "tiff of 2^32 pixels a side", lambda: one_page(2**32 - 1, 2**32 - 1, b"x"), LARGE
    yield (
        "tiff of 81 million pixels that are missing",
        lambda: one_page(9_000, 9_000, b"x"),
        UNREADABLE,
    )
    yield "tiff bomb, deflate", lambda: one_page(9_000, 9_000, deflated(81), 8), BLANK
    yield "tiff bomb, lzw", lambda: one_page(9_000, 9_000, lzw, 5), UNREADABLE
    yield "tiff whose strip is too long", lambda: one_page(99, 99, deflated(200), 8), BLANK
    yield "tiff that is its own next page", lambda: ring(1), BLANK
    yield "tiff whose pages form a ring", lambda: ring(3), BLANK
    yield "tiff without a directory", lambda: b"II*\0" + struct.pack("<I", nowhere), UNREADABLE
    yield "tiff with a tag of 2^32 values", lambda: signed((270, 2, 2**32 - 1, 8)), None
    yield "tiff with a tag that lies nowhere", lambda: signed((270, 2, 99, nowhere)), None
    yield "tiff with 0/0 dots an inch", lambda: signed((282, 5, 1, 122 + SIGNATURE.size)), None
    yield "tiff with 65,535 entries", lambda: tiff([(256, 4, 1, 100)] * 65_535), UNREADABLE
    yield "tiff with 65,535 bits a sample", lambda: one_page(9, 9, bytes(99), bits=bits), UNREADABLE
    yield "float tiff with nan", lambda: floats(np.nan), None
    yield "float tiff with infinity", lambda: floats(-np.inf), None
    yield "float tiff with 3e38", lambda: floats(3e38), None
    yield "float tiff of nan", lambda: saved(np.full((99, 99), np.nan, np.float32), "TIFF"), BLANK


# JPEG and BMP


def turned(kind: int, value: int) -> bytes:
    """A JPEG with an EXIF orientation of any type and value."""
    return saved(SIGNATURE, "JPEG", exif=b"Exif\0\0" + tiff([(0x0112, kind, 1, value)]))


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = saved(SIGNATURE, "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def resized_jpeg(width: int, height: int) -> bytes:
    """A JPEG that says it has this size."""
    data = saved(SIGNATURE, "JPEG")
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def jpegs() -> Iterator[Case]:
    """Of JPEG. What is missing at its end the decoder paints grey."""
    yield "jpeg of 65,535 pixels a side", lambda: resized_jpeg(65_535, 65_535), LARGE
    yield "jpeg of 81 million pixels that are missing", lambda: resized_jpeg(9_000, 9_000), None
    yield "jpeg without pixels", lambda: resized_jpeg(0, 0), UNREADABLE
    yield "jpeg with a hundred scans", lambda: scans(100), None
    yield "jpeg with ten thousand scans", lambda: scans(10_000), UNREADABLE
    yield "jpeg with an orientation that is none", lambda: turned(3, 9), None
    yield "jpeg with a text for an orientation", lambda: turned(2, 0x42), None
    yield "jpeg whose orientation lies nowhere", lambda: turned(5, 2**32 - 1), None
    yield "jpeg whose orientation is not a number", lambda: turned(11, 0x7FC00000), None
    yield "jpeg whose exif is none", lambda: saved(SIGNATURE, "JPEG", exif=b"Exif\0\0MM\0*"), None
    yield "jpeg with a long comment", lambda: saved(SIGNATURE, "JPEG", comment=b"x" * 65_533), None


def bmp(width: int, height: int, compression: int = 0) -> bytes:
    """A grey BMP that says it has this size."""
    data = bytearray(saved(SIGNATURE, "BMP"))
    struct.pack_into("<ii", data, 18, width, height)
    struct.pack_into("<I", data, 30, compression)
    return bytes(data)


def bmps() -> Iterator[Case]:
    """Of BMP."""
    height, width = SIGNATURE.shape
    yield "bmp from the top down", lambda: bmp(width, -height), None
    yield "bmp without pixels", lambda: bmp(0, 0), UNREADABLE
    yield "bmp of 2^31 pixels a side", lambda: bmp(2**31 - 1, 2**31 - 1), LARGE
    yield "bmp of the least height there is", lambda: bmp(10, -(2**31)), LARGE
    yield "bmp of 81 million pixels that are missing", lambda: bmp(9_000, 9_000), UNREADABLE
    yield "bmp of 81 million pixels, run lengths", lambda: bmp(9_000, 9_000, 1), UNREADABLE


# Whatever the format


def others() -> Iterator[Case]:
    """Of no format, or of two."""
    good, eps = saved(SIGNATURE), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    yield "nothing", lambda: b"", UNREADABLE
    yield "one byte", lambda: b"\x89", UNREADABLE
    yield "zeros", lambda: bytes(10**6), UNREADABLE
    yield "png, then a zip archive", lambda: good + b"PK\3\4" + bytes(99), None
    yield "png, then a jpeg", lambda: good + saved(SIGNATURE, "JPEG"), None
    yield "pdf, then a png", lambda: b"%PDF-1.7\n" + good, UNREADABLE
    yield "jpeg with a png inside", lambda: saved(SIGNATURE, "JPEG", comment=good[:60_000]), None
    yield "gif", lambda: saved(SIGNATURE, "GIF"), UNREADABLE
    yield "webp", lambda: saved(SIGNATURE, "WEBP"), UNREADABLE
    yield "icon with a png inside", lambda: saved(SIGNATURE[:200, :200], "ICO"), UNREADABLE
    yield "svg", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", UNREADABLE
    yield "postscript", lambda: eps, UNREADABLE


HOSTILE: tuple[Case, ...] = (*pngs(), *tiffs(), *jpegs(), *bmps(), *others())
