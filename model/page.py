"""One HTML page that needs nothing but itself: text, tables and pictures, no script.

It is light, prints, and can be read on a phone: wide tables scroll by themselves. Every text is
escaped here, so callers pass plain text only, and pieces of HTML only from these functions.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #586474; --line: #d9dee5; --blue: #0b5cad; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 68rem; color: var(--ink);
  background: #fff; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 2.75rem 0 .5rem; padding-top: .75rem;
  border-top: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .4rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--blue); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 1rem 0; padding: 0;
  list-style: none; }
.note { padding: .6rem .9rem; border-left: 4px solid; border-radius: 3px; max-width: none; }
.good { background: #eaf6ef; border-color: #1b7a45; }
.bad { background: #fcecea; border-color: #b3261e; }
.doubt { background: #fdf4dd; border-color: #a06a00; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .35rem; }
caption span { display: inline-block; position: sticky; left: 0; max-width: calc(100vw - 2rem); }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { border-bottom: 2px solid var(--ink); vertical-align: bottom; }
thead th.group { border-bottom: 1px solid var(--line); text-align: center; }
tbody th { font-weight: 600; min-width: 8.8rem; }
.words tbody th { min-width: 0; }
.numbers td, .numbers thead th:not(:first-child):not(.group) { text-align: right;
  white-space: nowrap; }
.figures { display: grid; gap: 1.25rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 23rem), 1fr)); }
figure { margin: 0; }
img { display: block; width: 100%; max-width: 34rem; height: auto; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: .3rem; }
dl { display: grid; grid-template-columns: fit-content(35%) 1fr; gap: .2rem 1rem; margin: .75rem 0;
  font-size: .92rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--blue); }
li { overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { padding: 1rem .75rem 3rem; }
  th, td { padding: .3rem .5rem; } }
@media print {
  @page { margin: 14mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; } .scroll { overflow: visible; }
  .figures { grid-template-columns: 1fr 1fr; }
  table { font-size: 8pt; } th, td { padding: .15rem .35rem; }
  figure, table, .note { break-inside: avoid; } h2, h3, caption { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def page(title: str, *parts: str) -> str:
    """The whole document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1></header>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(name: str, title: str, *parts: str) -> str:
    """A part of the page under a heading, which `#name` leads to."""
    body = "\n".join(parts)
    return f'<section id="{escape(name)}">\n<h2>{escape(title)}</h2>\n{body}\n</section>'


def heading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def note(text: str, kind: str) -> str:
    """A paragraph that catches the eye; `kind` is good, bad or doubt."""
    return f'<p class="note {escape(kind)}">{escape(text)}</p>'


def contents(links: Mapping[str, str]) -> str:
    """Links to the sections, title by name."""
    items = (
        f'<li><a href="#{escape(name)}">{escape(title)}</a></li>' for name, title in links.items()
    )
    return f'<nav aria-label="Contents"><ul>{"".join(items)}</ul></nav>'


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    groups: Sequence[tuple[str, int]] = (),
    words: bool = False,
) -> str:
    """A table whose first column heads its rows; `groups` name (columns) of a second header line.

    Cells are numbers, set to the right, or `words`.
    """
    upper = "".join(
        f'<th scope="colgroup" class="group" colspan="{span}">{escape(name)}</th>'
        for name, span in groups
    )
    lines = [f"<tr><td></td>{upper}</tr>"] if groups else []
    lines.append(
        "<tr>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in head) + "</tr>"
    )
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in others)
        + "</tr>"
        for first, *others in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0">'
        f'<table class="{"words" if words else "numbers"}">\n'
        f"<caption><span>{escape(caption)}</span></caption>\n"
        f"<thead>{''.join(lines)}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def facts(pairs: Mapping[str, object]) -> str:
    """Names and values; what is None or empty is left out."""
    return "<dl>" + "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"
        for name, value in pairs.items()
        if value not in (None, "")
    ) + "</dl>"  # fmt: skip


def figures(*pieces: str) -> str:
    """Figures beside each other where there is room."""
    return f'<div class="figures">{"".join(pieces)}</div>'


def figure(png: bytes, *, alt: str, caption: str) -> str:
    """A PNG, in the page itself; `alt` says what it shows to those who cannot see it."""
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def listing(summary: str, items: Sequence[str]) -> str:
    """A list that opens on demand."""
    points = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<details><summary>{escape(summary)}</summary><ul>{points}</ul></details>"
