"""How results look: tables of at most 100 columns, plain words, UTC times, short digests, JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

WIDTH = 100
SHORT_DIGEST = 12
STYLES = {"accept": "green", "reject": "red", "review": "yellow", "error": "magenta"}
STYLES |= {"ok": "green", "fault": "red", "warning": "yellow", "skipped": "dim"}
STYLES |= {"added": "green", "refused": "red", "already enrolled": "yellow"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A table column: numbers stand on the right, and where room is short, the others wrap.

    `whole` keeps a cell on one line; `styled` colours the words of `STYLES`.
    """

    title: str
    right: bool = False
    whole: bool = False
    styled: bool = False


def console(*, stderr: bool = False) -> Console:
    """A console no wider than 100 columns, and exactly that wide when it is not a terminal."""
    from rich.console import Console

    found = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    found.width = min(found.width, WIDTH) if found.is_terminal else WIDTH
    return found


def plain(value: object) -> str:
    """A value as text without control characters, which would act on the reader's terminal."""
    text = "-" if value is None else str(value)
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def say(text: str, *, style: str | None = None, stderr: bool = False) -> None:
    """One paragraph, wrapped only where a terminal wraps it, so that paths can be copied."""
    console(stderr=stderr).print(plain(text), style=style, soft_wrap=True)


def note(text: str) -> None:
    """A remark beside the result: it goes to stderr, where it does not spoil `--json`."""
    say(text, stderr=True)


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print rows as a table; every cell is taken literally."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title=title, title_justify="left"
    )
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        one_line = column.right or column.whole
        grid.add_column(column.title, justify=justify, overflow="fold", no_wrap=one_line)
    for row in rows:
        cells = zip(columns, map(plain, row), strict=True)
        styled = ((text, STYLES.get(text, "") if column.styled else "") for column, text in cells)
        grid.add_row(*(Text(text, style=style) for text, style in styled))
    console().print(grid)


def facts(pairs: Mapping[str, object]) -> None:
    """Print names and values below each other; absent values are left out."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs.items():
        if value is not None:
            text = plain(value)
            grid.add_row(Text(name, style="bold"), Text(text, style=STYLES.get(text, "")))
    console().print(grid)


def as_json(value: Any) -> None:
    """Print a value as one indented JSON document."""
    print(json.dumps(jsonable(value), indent=2, ensure_ascii=False, allow_nan=False))


def jsonable(value: Any) -> Any:
    """The value in JSON's own kinds: times in ISO 8601 UTC, anything else by its text."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, datetime):
        return when(value, timespec="milliseconds")
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return str(value)


def when(moment: datetime | None, *, timespec: str = "seconds") -> str | None:
    """A time in ISO 8601, UTC, to the second; one without a zone is UTC."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def number(value: float | None) -> str | None:
    """A distance, score or threshold with three decimals."""
    return None if value is None else f"{value:.3f}"


def count(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> count(1, "decision"), count(2000, "decision")
    ('1 decision', '2,000 decisions')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def short(digest: str | None) -> str | None:
    """The first twelve digits of a digest: enough to tell models apart."""
    return None if digest is None else digest[:SHORT_DIGEST]


def as_sentence(text: str) -> str:
    """The text with a capital at its beginning, unless that is a name, and a stop at its end."""
    first = text.partition(" ")[0]
    text = text[0].upper() + text[1:] if first.isalpha() and first.islower() else text
    return text if text.endswith((".", "!", "?")) else f"{text}."


def head(name: str | None, length: int = 18) -> str | None:
    """The beginning of an id, enough to tell it apart."""
    if name is None or len(name) <= length:
        return name
    return name[: length - 1] + "…"


def tail(uri: str | None, length: int = 40) -> str | None:
    """The end of a URI or path, which names the thing; the beginning is often all alike."""
    if uri is None or len(uri) <= length:
        return uri
    return "…" + uri[-(length - 1) :]


def progress(*, hidden: bool = False) -> Progress:
    """A progress bar on stderr, gone when it is done; `hidden` for machine-readable output."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    err = console(stderr=True)
    return Progress(*columns, console=err, transient=True, disable=hidden or not err.is_terminal)


def flush() -> None:
    """Write out what is buffered; a reader that has gone away (`| head`) is no failure."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
