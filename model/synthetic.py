"""Made-up signers, their signatures and imitations by another hand, for demos, tests, pre-training.

A signer is a motor plan: virtual targets joined by arcs, each reached by one log-normal stroke of
the kinematic theory of rapid movements. Writing again draws the plan with small noise; an imitation
gets the shape about right and the movement wrong: slower, with tremor, hesitations, another pen.

- R. Plamondon, "A kinematic theory of rapid human movements, part I", Biological Cybernetics 72,
  1995; C. O'Reilly and R. Plamondon, "Development of a Sigma-Lognormal representation for on-line
  signatures", Pattern Recognition 42, 2009: the strokes.
- M. A. Ferrer, M. Diaz, C. Carmona-Duarte and R. Plamondon, "iDeLog: iterative dual spatial and
  kinematic extraction of sigma-lognormal parameters", IEEE TPAMI 42, 2020: targets and arcs.
- M. A. Ferrer, M. Diaz-Cabrera and A. Morales, "Static signature synthesis: a neuromotor inspired
  approach for biometrics", IEEE TPAMI 37, 2015: duplicates, forgeries and ink from one plan.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .alphabet import CAPITALS, LETTERS, MARKS, Arc, Trace
from .arrays import Floats
from .errors import DatasetError
from .files import write_atomically

Grey = NDArray[np.uint8]

HEIGHT, WIDTH = 250, 450  # pixels of every image, a signature field at 200 to 300 dpi
_MARGIN = 12  # pixels of paper kept around the ink
_RATE = 200  # samples a second of pen movement
_TURN = 4.0  # radians; an arc of nearly a full turn would be a huge circle
_FINE = 4  # drawn this much larger, then averaged down: anti-aliasing

_CDF_AT = np.linspace(-5, 5, 2001)
_CDF = np.array([(1 + math.erf(z / math.sqrt(2))) / 2 for z in _CDF_AT])


@dataclass(frozen=True, kw_only=True, eq=False)
class Strokes:
    """The log-normal strokes of a signature, all (N,) arrays but `targets`.

    Entry i leads to target i. `down` marks the targets at which the pen is put on the paper and
    which no stroke leads to. The D and the two angles of Plamondon's stroke follow from the chord
    between its targets and from `turn`, the angle of its arc.
    """

    targets: Floats  # (N, 2) pixels, y down
    down: NDArray[np.bool_]
    turn: Floats  # radians, positive to the left as one looks along the stroke
    mu: Floats  # log seconds: e^mu is the median delay of the movement after its command
    sigma: Floats  # spread of that delay, of its logarithm
    delay: Floats  # since the command of the stroke before, as a share of that stroke's half width


@dataclass(frozen=True, kw_only=True)
class Pen:
    """What a pen leaves on the paper."""

    width: float  # pixels, at the median speed
    darkness: float  # 0..1 of the ink
    flow: float  # how much a slow pen widens and a fast one thins its line


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticSigner:
    """Somebody's signature as they mean it, with the pen they mostly use."""

    strokes: Strokes
    pen: Pen
    unit: float  # pixels of the middle zone's height: the scale of all noise
    variability: float  # times the usual noise from one signature to the next


@dataclass(frozen=True, kw_only=True)
class _Hand:
    """The habits that make one person's letters differ from another's."""

    slant: float
    slope: float
    width: float
    spacing: float
    ascender: float
    descender: float
    capital: float
    roundness: float
    decay: float
    lift: float
    personal: float
    letters: str


@dataclass(frozen=True, kw_only=True)
class _Noise:
    """Standard deviations of a repetition; lengths in heights of the middle zone."""

    target: float  # of each target by itself
    reach: float  # of a target, as a share of the stroke that leads to it
    drift: float  # of each step of the slow wander along the writing
    turn: float  # radians
    timing: float  # of mu, of log sigma and of log delay
    slant: float
    rotation: float  # radians
    scale: float  # of the logarithm, of both axes and of one against the other
    zones: float  # of the logarithm of the ascenders' height, and of the descenders'


_SAME_HAND = _Noise(
    target=0.06, reach=0.03, drift=0.035, turn=0.1, timing=0.06,
    slant=0.04, rotation=0.035, scale=0.06, zones=0.07,
)  # fmt: skip
_OTHER_HAND = _Noise(
    target=0.13, reach=0.07, drift=0.09, turn=0.3, timing=0.15,
    slant=0.12, rotation=0.045, scale=0.09, zones=0.16,
)  # fmt: skip


def make_signer(rng: np.random.Generator) -> SyntheticSigner:
    """A new signer: a name, a hand that writes it, a flourish and a pen."""
    hand = _Hand(
        slant=rng.normal(0.25, 0.25),
        slope=rng.normal(0.04, 0.06),
        width=rng.uniform(0.75, 1.5),
        spacing=rng.uniform(0.0, 0.35),
        ascender=rng.uniform(0.7, 1.6),
        descender=rng.uniform(0.6, 1.5),
        capital=rng.uniform(1.0, 1.9),
        roundness=rng.uniform(0.6, 1.25),
        decay=rng.choice([0.0, 0.3, 0.75]),
        lift=rng.choice([0.0, 0.15, 0.6]),
        personal=rng.uniform(0.05, 0.14),
        letters="".join(LETTERS) if rng.random() < 0.7 else "ceilmnruvwl",  # a scrawl
    )
    traces = _flourish(_write_name(hand, rng), rng)
    strokes, unit = _plan(traces, hand, rng)
    return SyntheticSigner(
        strokes=strokes, pen=_pen(rng), unit=unit, variability=rng.uniform(0.7, 1.4)
    )


def genuine(signer: SyntheticSigner, rng: np.random.Generator) -> Grey:
    """The signer writes again: (HEIGHT, WIDTH) uint8, light paper, dark ink.

    Now and then with a pen that is not the usual one, so that the pen is no proof of the hand.
    """
    strokes = _vary(signer.strokes, signer.unit, rng, _SAME_HAND, signer.variability)
    usual = signer.pen
    pen = replace(usual, width=usual.width * rng.uniform(0.9, 1.1))
    if rng.random() < 0.3:
        pen = _pen(rng)
    return _scan(_write(strokes, rng), pen, rng)


def imitation(signer: SyntheticSigner, rng: np.random.Generator) -> Grey:
    """Another hand copies the signature (a skilled forgery): (HEIGHT, WIDTH) uint8.

    The paper, the scan and the choice of pens are those of `genuine`: only the strokes tell.
    """
    strokes = _vary(signer.strokes, signer.unit, rng, _OTHER_HAND, rng.uniform(0.75, 1.25))
    hesitant = (rng.random(strokes.mu.size) < 0.06) * rng.uniform(1, 3, strokes.mu.size)
    strokes = replace(
        strokes,
        mu=strokes.mu + rng.uniform(0.3, 0.8),  # 1.3 to 2.2 times as slow
        delay=strokes.delay * rng.uniform(0.95, 1.25) + hesitant,
    )
    return _scan(_write(strokes, rng, tremor=rng.uniform(0.25, 0.8)), _pen(rng), rng)


def blank(rng: np.random.Generator) -> Grey:
    """A scan of empty paper: (HEIGHT, WIDTH) uint8."""
    return _scan([], _pen(rng), rng)


def write_dataset(
    folder: Path,
    *,
    signers: int,
    genuine: int,
    forgeries: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a data set in the CEDAR layout, `genuine` and `forgeries` images a signer.

    `full_org/original_<s>_<n>.png` and `full_forg/forgeries_<s>_<n>.png`, counted from 1. Each
    file appears whole or not at all, and depends on `seed`, s and n only, not on the counts.
    `progress(done, total)` is called after each. Raises DatasetError for a count below zero and
    FileNotWritten for a folder that cannot be written.
    """
    if min(signers, genuine, forgeries) < 0:
        raise DatasetError("a synthetic data set cannot have a negative number of anything")
    total, done = signers * (genuine + forgeries), 0
    for number in range(1, signers + 1):
        for name, image in images_of(number, genuine, forgeries, seed=seed):
            write_image(folder / name, image)
            done += 1
            if progress is not None:
                progress(done, total)


def write_image(path: Path, image: Grey) -> None:
    """Write a PNG, whole or not at all."""
    write_atomically(path, cv2.imencode(".png", image)[1].tobytes())


def files_of(number: int, originals: int, forgeries: int) -> tuple[str, ...]:
    """The names of one signer's files in the CEDAR layout, genuine signatures first."""
    return (
        *(f"full_org/original_{number}_{n}.png" for n in range(1, originals + 1)),
        *(f"full_forg/forgeries_{number}_{n}.png" for n in range(1, forgeries + 1)),
    )


def images_of(
    number: int, originals: int, forgeries: int, *, seed: int
) -> Iterator[tuple[str, Grey]]:
    """One signer of a data set: the names of `files_of`, each with its image."""
    signer = make_signer(np.random.default_rng([seed, number]))
    names = iter(files_of(number, originals, forgeries))
    for kind, count, draw in ((1, originals, genuine), (2, forgeries, imitation)):
        for n in range(1, count + 1):
            yield next(names), draw(signer, np.random.default_rng([seed, number, kind, n]))


def _write_name(hand: _Hand, rng: np.random.Generator) -> list[Floats]:
    """The traces of one or two words, each (N, 3): x, y (up) in middle zones, and turn.

    The dots and bars come first, so that the last trace is the one that a flourish prolongs.
    """
    marks: list[Floats] = []
    traces: list[Floats] = []
    shapes: dict[str, Floats] = {}  # a person writes the same letter the same way
    x, words = 0.0, int(rng.integers(1, 3))
    for _ in range(words):
        for stroke in CAPITALS[str(rng.choice(list(CAPITALS)))]:
            traces.append(_personal(stroke, hand.capital, hand, rng) + np.array([x, 0, 0]))
        x = float(traces[-1][-1, 0])
        count = int(rng.integers(3, 9) if words == 1 else rng.integers(0, 6))
        for place, letter in enumerate(rng.choice(list(hand.letters), count)):
            if letter not in shapes:
                shapes[letter] = _personal(((0.0, 0.1), *LETTERS[letter]), 1, hand, rng)
            fade = np.array([1, 1 - hand.decay * place / count, 1])
            lifted = rng.random() < (0.5 if place == 0 else hand.lift)
            x += hand.spacing * (1.5 if lifted else 0.5)
            if letter in MARKS and rng.random() < 0.8:
                mark = _personal(MARKS[letter], 1, hand, rng)
                marks.append(mark * np.maximum(fade, 0.6) + np.array([x, 0, 0]))
            trace = shapes[letter] * fade + np.array([x, 0, 0])
            x = float(trace[-1, 0])
            traces.append(trace if lifted else np.concatenate([traces.pop(), trace[1:]]))
        x += 0.8
    return marks + traces


def _personal(trace: Trace, size: float, hand: _Hand, rng: np.random.Generator) -> Floats:
    (x, y), arcs = trace[0], trace[1:]
    points = np.array([(x, y, 0.0), *arcs])
    points[:, :2] += rng.normal(0, hand.personal, (len(points), 2))
    high, low = np.maximum(points[:, 1] - 1, 0), np.minimum(points[:, 1], 0)
    middle = points[:, 1] - high - low
    points[:, 1] = size * (middle + high * hand.ascender + low * hand.descender)
    points[:, 0] *= size * hand.width
    points[:, 2] *= hand.roundness * rng.normal(1, 0.1, len(points))
    return points


def _flourish(traces: list[Floats], rng: np.random.Generator) -> list[Floats]:
    """The traces with a last movement, which prolongs the name or is set below it."""
    ink = np.concatenate(traces)
    left, right, low = ink[:, 0].min(), ink[:, 0].max(), ink[:, 1].min()
    wide, (x, y) = right - left, traces[-1][-1, :2]
    below, turn = low - rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.5)
    a, b, c = rng.uniform(0, 1, 3)
    near, far = left + 0.4 * a * wide, right + (0.4 * b - 0.2) * wide
    prolonging: list[list[Arc]] = [
        [],
        [(x + (0.2 + 0.3 * a) * wide, y + 1.2 * b, turn)],
        [(x + 0.08 * wide, y + 1.0, 1.3), (x - 0.1 * wide, y + 1.6, 1.6), (near, below, 0.3),
         (near + 0.02 * wide, below - 0.4, 2.3), (far, below + 0.7 * c, turn)],
        [(right + 0.08 * wide, 0.9, 1.8), (left - 0.05 * wide, 0.8 + c, 0.3),
         (left - 0.06 * wide, 0.3, 2.2), (right + 0.2 * a * wide, 0.8 * b, -turn)],
        [(x + 0.06 * wide, y - 0.8, -1.4), (near, below, -0.4),
         (near - 0.03 * wide, below + 0.5, -2.2), (far, below + 0.9 + 0.8 * c, -turn)],
    ]  # fmt: skip
    separate: list[list[Arc]] = [
        [(near, below, 0), (far, below + 0.7 * c, turn)],
        [(near, below, 0), (far, below + 0.4, 0.2), (far - 0.02 * wide, below, -2.0),
         (near + 0.2 * wide, below - 0.7, 0.1), (near + 0.2 * wide, below - 1.1, 2.0),
         (far, below - 0.6 + c, 0.3)],
    ]  # fmt: skip
    if rng.random() < 0.3:
        return [*traces, np.array(separate[rng.choice([0, 0, 1])])]
    chosen = np.array(prolonging[rng.choice([0, 0, 1, 1, 2, 3, 4])]).reshape(-1, 3)
    return [*traces[:-1], np.concatenate([traces[-1], chosen])]


def _plan(traces: list[Floats], hand: _Hand, rng: np.random.Generator) -> tuple[Strokes, float]:
    points = np.concatenate(traces)
    x = points[:, 0] + hand.slant * points[:, 1]
    targets = np.stack([x, -points[:, 1] - hand.slope * x], axis=1)
    extent = np.ptp(targets, axis=0)
    unit = min(rng.uniform(0.6, 0.88) * WIDTH / extent[0], 0.74 * HEIGHT / extent[1], 45.0)
    n = len(points)
    down = np.zeros(n, dtype=bool)
    down[np.cumsum([0, *(len(trace) for trace in traces[:-1])])] = True
    strokes = Strokes(
        targets=targets * unit,
        down=down,
        turn=points[:, 2],
        mu=rng.normal(-2.1, 0.15) + rng.normal(0, 0.1, n),
        sigma=np.clip(rng.normal(rng.uniform(0.18, 0.3), 0.03, n), 0.1, 0.4),
        delay=np.clip(rng.normal(rng.uniform(0.7, 1.15), 0.07, n), 0.6, 1.5),
    )
    return strokes, unit


def _pen(rng: np.random.Generator) -> Pen:
    return Pen(
        width=rng.uniform(2.0, 4.2), darkness=rng.uniform(0.65, 0.95), flow=rng.uniform(0.1, 0.3)
    )


def _vary(
    strokes: Strokes, unit: float, rng: np.random.Generator, noise: _Noise, amount: float
) -> Strokes:
    n = len(strokes.targets)

    def normal(deviation: float, *shape: int) -> Floats:
        return rng.normal(0, amount * deviation, shape)

    steps = np.diff(strokes.targets, axis=0, prepend=strokes.targets[:1])
    length = np.hypot(steps[:, 0], steps[:, 1])[:, None]
    targets = strokes.targets / unit
    high, low = np.exp(normal(noise.zones, 2))
    y = targets[:, 1]
    targets = np.stack([targets[:, 0], np.where(y < 0, y * high, y * low)], axis=1)
    targets += normal(noise.target, n, 2) + normal(noise.reach, n, 2) * length / unit
    targets += np.cumsum(normal(noise.drift, n, 2) * (1, 0.5), axis=0)
    return Strokes(
        targets=unit * targets @ _affine(rng, noise, amount),
        down=strokes.down,
        turn=strokes.turn + normal(noise.turn, n) * np.minimum(1, 0.3 + abs(strokes.turn)),
        mu=strokes.mu + normal(noise.timing, n),
        sigma=strokes.sigma * np.exp(normal(noise.timing, n)),
        delay=strokes.delay * np.exp(normal(noise.timing, n)),
    )


def _affine(rng: np.random.Generator, noise: _Noise, amount: float) -> Floats:
    angle, shear = rng.normal(0, amount * np.array([noise.rotation, noise.slant]))
    size, aspect = rng.normal(0, amount * noise.scale, 2)
    turned = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    scaled = np.diag(np.exp([size + aspect / 2, size - aspect / 2]))
    result: Floats = scaled @ np.array([[1, 0], [shear, 1]]) @ turned
    return result


def _write(strokes: Strokes, rng: np.random.Generator, tremor: float = 0.0) -> list[Floats]:
    """The path of the pen, one (T, 2) array for each time that it is down; all in pixels."""
    bounds = [*np.flatnonzero(strokes.down), len(strokes.down)]
    paths = [_move(strokes, slice(a, b)) for a, b in itertools.pairwise(bounds)]
    if tremor:
        paths = [path + tremor * _shaking(len(path), rng) for path in paths]
    return paths


def _move(strokes: Strokes, part: slice) -> Floats:
    """Where the strokes of one trace take the pen: the sum of their arcs, in closed form."""
    targets, stroke = strokes.targets[part], slice(part.start + 1, part.stop)
    mu, sigma = strokes.mu[stroke], strokes.sigma[stroke]
    half = np.exp(mu) * np.sinh(3 * sigma)  # half the time between the 3 sigma points
    onset = np.concatenate([[0.0], np.cumsum(strokes.delay[stroke] * half)[:-1]])
    onset -= onset[0] + np.exp(mu[0] - 3 * sigma[0])
    end = np.max(onset + np.exp(mu + 3 * sigma))
    time = np.arange(0, end + 1 / _RATE, 1 / _RATE)
    since = np.maximum(time[:, None] - onset, 1e-9)
    done = np.interp((np.log(since) - mu) / sigma, _CDF_AT, _CDF)  # (T, N): share travelled
    chord = np.diff(targets, axis=0) * (1, -1)
    turn = np.clip(strokes.turn[stroke], -_TURN, _TURN)
    turn = np.where(abs(turn) < 1e-3, 1e-3, turn)  # a straight line is a very flat arc
    first = np.arctan2(chord[:, 1], chord[:, 0]) - turn / 2  # Plamondon's theta_s
    radius = np.hypot(chord[:, 0], chord[:, 1]) / (2 * np.sin(turn / 2))  # D / (theta_e - theta_s)
    angle = first + turn * done
    x = (radius * (np.sin(angle) - np.sin(first))).sum(axis=1)
    y = (radius * (np.cos(first) - np.cos(angle))).sum(axis=1)
    path: Floats = targets[0] + np.stack([x, -y], axis=1)
    return path


def _shaking(n: int, rng: np.random.Generator) -> Floats:
    """Unit noise of 4 to 12 Hz, the band of physiological tremor: (n, 2)."""
    frequency = rng.uniform(4, 12, (6, 1, 2))
    phase = rng.uniform(0, 2 * math.pi, (6, 1, 2))
    time = np.arange(n)[None, :, None] / _RATE
    waves = np.sin(2 * math.pi * frequency * time + phase)
    return np.asarray(waves.sum(axis=0) / math.sqrt(3))


def _scan(paths: list[Floats], pen: Pen, rng: np.random.Generator) -> Grey:
    """Ink on paper as a scanner sees it; paper and noise know nothing of the paths."""
    tone, tilt = rng.uniform(228, 248), rng.normal(0, 3, 2).tolist()
    noise = rng.uniform(1.0, 2.5) * rng.standard_normal((HEIGHT, WIDTH), dtype=np.float32)
    coarse = rng.standard_normal((HEIGHT // 6, WIDTH // 6), dtype=np.float32)
    fibre = cv2.resize(coarse, (WIDTH, HEIGHT))
    rows = np.linspace(-tilt[0], tilt[0], HEIGHT, dtype=np.float32)[:, None]
    paper = tone + rows + np.linspace(-tilt[1], tilt[1], WIDTH, dtype=np.float32) + fibre
    offset = rng.uniform(0, 1, 2)
    ink = _draw(_place(paths, offset), pen) * (1 + 0.05 * fibre)
    page = paper * (1 - pen.darkness * np.clip(ink, 0, 1))
    page = cv2.GaussianBlur(page, (0, 0), rng.uniform(0.4, 0.7)) + noise
    return np.clip(np.rint(page), 0, 255).astype(np.uint8)


def _place(paths: list[Floats], offset: Floats) -> list[Floats]:
    """Move the paths onto the page, and shrink them if they would not fit it."""
    if not paths:
        return paths
    ink = np.concatenate(paths)
    low, extent = ink.min(axis=0), np.ptp(ink, axis=0)
    room = np.array([WIDTH, HEIGHT]) - 2 * _MARGIN
    scale = min(1.0, *(room / np.maximum(extent, 1)))
    return [_MARGIN + (path - low) * scale + offset * (room - extent * scale) for path in paths]


def _draw(paths: list[Floats], pen: Pen) -> NDArray[np.float32]:
    """Coverage by ink, 0..1: lines whose width follows the speed."""
    canvas = np.zeros((HEIGHT * _FINE, WIDTH * _FINE), dtype=np.uint8)
    if not paths:
        return cv2.resize(canvas, (WIDTH, HEIGHT)).astype(np.float32)
    speeds = [np.hypot(*np.gradient(path, axis=0).T) for path in paths]
    usual = max(float(np.median(np.concatenate(speeds))), 1e-6)
    for path, speed in zip(paths, speeds, strict=True):
        wide = pen.width * np.clip((speed + 0.3 * usual) / (1.3 * usual), 0.2, 6) ** -pen.flow
        landing = np.minimum(1, 0.4 + np.arange(len(path)) / (0.06 * _RATE))
        wide = wide * np.minimum(landing, landing[::-1])  # the pen comes down and lifts in motion
        thick = np.maximum(np.rint(wide * _FINE).astype(int), 1)
        dots = np.rint(path * _FINE).astype(int)
        for a, b, t in zip(dots[:-1].tolist(), dots[1:].tolist(), thick.tolist(), strict=False):
            cv2.line(canvas, a, b, 255, t)
    small = cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32) / np.float32(255)
