"""Files as somebody who means harm would write them: sound ones, broken in ways that decoders meet.

Every mutant follows from its random source alone. Some ways know the format and mend its
checksums, so that the damage gets past the first look.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

Mutator = Callable[[bytes, Random], bytes]

PNG = b"\x89PNG\r\n\x1a\n"
EXTREMES = (0, 1, 2, 3, 7, 8, 16, 127, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def mutate(data: bytes, rng: Random, donors: Sequence[bytes]) -> bytes:
    """Change a file in one to three ways; `donors` give what is spliced in."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        way = rng.random()
        if way < 0.1:
            data = rng.choice((splice, concatenate))(data, rng.choice(donors), rng)
        elif way < 0.5:
            data = rng.choice(ANYWHERE)(data, rng)
        else:
            data = _by_format(data)(data, rng)
    return mended(data) if rng.random() < 0.7 else data


def mended(data: bytes) -> bytes:
    """The same with sound checksums, if it is a PNG: one without is not looked at for long."""
    chunks = _chunks(data)
    return PNG + b"".join(_chunk(kind, body) for kind, body in chunks) if chunks else data


def splice(data: bytes, other: bytes, rng: Random) -> bytes:
    """The beginning of one and the end of another."""
    return data[: _place(data, rng)] + other[_place(other, rng) :]


def concatenate(data: bytes, other: bytes, rng: Random) -> bytes:
    """Two files in one, which some programs read as the first and some as the second."""
    return data + other if rng.random() < 0.7 else other[: rng.randint(1, 64)] + data


def flip_bits(data: bytes, rng: Random) -> bytes:
    """One to 64 bits, most often few, most often near the beginning, where the headers are."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16, 64))):
        if changed:
            changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(data: bytes, rng: Random) -> bytes:
    """Only the beginning; now and then nothing at all."""
    return data[: _place(data, rng)]


def overwrite(data: bytes, rng: Random) -> bytes:
    """A run of one byte or of random ones."""
    at, length = _place(data, rng), rng.choice((1, 2, 4, 32, 1024))
    run = (
        bytes([rng.choice((0, 255, 0x80))]) * length
        if rng.random() < 0.5
        else rng.randbytes(length)
    )
    return data[:at] + run + data[at + length :]


def repeat(data: bytes, rng: Random) -> bytes:
    """A piece again and again."""
    at, length = _place(data, rng), rng.choice((1, 12, 100, 1000))
    return (
        data[: at + length] + data[at : at + length] * rng.choice((1, 3, 50)) + data[at + length :]
    )


def remove(data: bytes, rng: Random) -> bytes:
    """A piece less."""
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 4, 100, 5000)) :]


def number(data: bytes, rng: Random) -> bytes:
    """Four or two bytes near the beginning become an extreme number, in either order."""
    value, order = rng.choice(EXTREMES), rng.choice("<>")
    packed = struct.pack(order + "I", value)
    if rng.random() < 0.5:
        packed = struct.pack(order + "H", value & 0xFFFF)
    at = rng.randrange(min(len(data), 200) + 1)
    return data[:at] + packed + data[at + len(packed) :]


def another_magic(data: bytes, rng: Random) -> bytes:
    """The first bytes of another format."""
    magic = rng.choice((PNG, b"\xff\xd8\xff\xe0", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"%PDF-1.7"))
    return magic + data[len(magic) :]


ANYWHERE: tuple[Mutator, ...] = (
    *(flip_bits, flip_bits, truncate, overwrite, repeat, remove),
    *(number, another_magic),
)


def break_png(data: bytes, rng: Random) -> bytes:
    """Edit chunks, or what is compressed in them, with sound checksums."""
    chunks = _chunks(data)
    if not chunks:
        return flip_bits(data, rng)
    at = rng.randrange(len(chunks))
    kind, body = chunks[at]
    way = rng.choice(("header", "deep", "body", "again", "drop", "swap", "text", "bomb"))
    if way == "header":
        chunks[0] = (chunks[0][0], _extreme(chunks[0][1], rng, (0, 4, 8, 9, 10, 11, 12)))
    elif way == "deep":
        chunks = [(k, _recompressed(b, rng) if k == b"IDAT" else b) for k, b in chunks]
    elif way == "body":
        chunks[at] = (kind, flip_bits(body, rng))
    elif way == "again":
        chunks[at:at] = [(kind, body)] * rng.choice((1, 2, 1000))
    elif way == "drop":
        del chunks[at]
    elif way == "swap":
        rng.shuffle(chunks)
    else:
        chunks.insert(1, _extra(rng, bomb=way == "bomb"))
    return PNG + b"".join(_chunk(kind, body) for kind, body in chunks)


def _extra(rng: Random, *, bomb: bool) -> tuple[bytes, bytes]:
    kind = rng.choice((b"zTXt", b"iCCP", b"iTXt", b"tRNS", b"PLTE", b"eXIf", b"acTL", b"gAMA"))
    if kind in (b"zTXt", b"iCCP"):
        return kind, b"name\0\0" + zlib.compress(bytes(10**7 if bomb else 1000))
    return kind, rng.randbytes(rng.choice((0, 1, 8, 300, 70_000 if bomb else 768)))


def _recompressed(body: bytes, rng: Random) -> bytes:
    try:
        rows = zlib.decompress(body)
    except zlib.error:
        return body
    changed = rng.choice((flip_bits, truncate, overwrite, repeat))(rows, rng)
    return zlib.compress(changed, rng.choice((0, 1)))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], len(PNG)
    while data.startswith(PNG) and at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    return found


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def break_jpeg(data: bytes, rng: Random) -> bytes:
    """Edit what stands behind a marker: sizes, tables, components; or repeat a scan."""
    markers = [
        at for at in range(len(data) - 9) if data[at] == 0xFF and 0xC0 <= data[at + 1] < 0xFF
    ]
    if not markers:
        return flip_bits(data, rng)
    at = rng.choice(markers)
    frame = [at for at in markers if 0xC0 <= data[at + 1] <= 0xCF]
    way = rng.choice(("frame", "segment", "marker", "scans"))
    if way == "frame" and frame:
        at = rng.choice(frame)
        return (
            data[:at]
            + _extreme(data[at : at + 20], rng, (2, 4, 5, 7, 9, 10, 11, 12))
            + data[at + 20 :]
        )
    if way == "marker":
        return data[: at + 1] + bytes([rng.randrange(0xC0, 0xFF)]) + data[at + 2 :]
    scan = data.rfind(b"\xff\xda")
    if way == "scans" and scan > 0:
        return data[:scan] + data[scan : scan + 2000] * rng.choice((2, 50, 500)) + data[scan:]
    return data[: at + 2] + flip_bits(data[at + 2 : at + 40], rng) + data[at + 40 :]


def break_tiff(data: bytes, rng: Random) -> bytes:
    """Edit an entry of the directory, or let the directories form a ring."""
    order = "<" if data.startswith(b"II") else ">"
    if len(data) < 16:
        return flip_bits(data, rng)
    (directory,) = struct.unpack_from(order + "I", data, 4)
    if directory + 2 > len(data):
        return flip_bits(data, rng)
    (count,) = struct.unpack_from(order + "H", data, directory)
    changed = bytearray(data)
    entry = directory + 2 + 12 * rng.randrange(max(count, 1))
    link = directory + 2 + 12 * count
    if rng.random() < 0.1 and link + 4 <= len(data):
        changed[link : link + 4] = struct.pack(order + "I", directory)
    elif entry + 12 <= len(data):
        field, code = rng.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H"), (8, "I")))
        value = rng.choice((*EXTREMES, rng.randrange(2**16), len(data), directory))
        value &= 0xFFFF if code == "H" else 0xFFFFFFFF
        struct.pack_into(order + code, changed, entry + field, value)
    return bytes(changed)


def break_bmp(data: bytes, rng: Random) -> bytes:
    """A field of the header becomes extreme."""
    return _extreme(data, rng, (2, 10, 14, 18, 22, 26, 28, 30, 34, 46, 50))


def _by_format(data: bytes) -> Mutator:
    kinds: dict[bytes, Mutator] = {
        PNG[:2]: break_png,
        b"\xff\xd8": break_jpeg,
        b"BM": break_bmp,
        b"II": break_tiff,
        b"MM": break_tiff,
    }
    return kinds.get(data[:2], flip_bits)


def _extreme(header: bytes, rng: Random, fields: Sequence[int]) -> bytes:
    """One, two or four bytes at one of the places become an extreme number."""
    at, code = rng.choice(fields), rng.choice(("B", "<H", ">H", "<I", ">I"))
    mask = 2 ** (8 * struct.calcsize(code)) - 1
    packed = struct.pack(code, rng.choice(EXTREMES) & mask)
    return header[:at] + packed + header[at + len(packed) :]


def _place(data: bytes, rng: Random) -> int:
    """Anywhere, every other time in the first 300 bytes; 0 for nothing."""
    return rng.randrange(min(len(data), 300) if rng.random() < 0.5 else len(data)) if data else 0
