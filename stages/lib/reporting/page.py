"""The form of the report page: one HTML file that needs no other and no network.

Every text is escaped, unless it is ``Markup`` already. The page can be read without JavaScript,
which only makes tables sortable. Its Content-Security-Policy lets no request leave it.
"""

import base64
import hashlib
import html
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PIXEL = 1.6  # pixels of a figure to one of the page: a figure 6.4 inches wide takes 800 px

_ADDRESS = re.compile(r"https?://[^\s<>\"']*[^\s<>\"'.,;:!?)\]]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it shows.
        order: What it is sorted by, if that is a number; such a cell is aligned to the right.
    """

    text: str
    order: float | None = None


def escape(text: str) -> Markup:
    """The text as HTML that shows it, quotes included; ``Markup`` stays as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(text))


def linked(text: str) -> Markup:
    """The text as HTML, each web address in it a link."""
    parts, end = [], 0
    for match in _ADDRESS.finditer(text):
        address = escape(match.group())
        parts += [
            escape(text[end : match.start()]),
            f'<a href="{address}" rel="noreferrer">{address}</a>',
        ]
        end = match.end()
    return Markup("".join([*parts, escape(text[end:])]))


def in_language(text: str, language: str) -> Markup:
    """The text, marked as one in another language than the page."""
    return Markup(f'<span lang="{escape(language)}">{escape(text)}</span>')


def paragraph(text: str) -> Markup:
    """A paragraph."""
    return Markup(f"<p>{escape(text)}</p>\n")


def definitions(rows: Sequence[tuple[str, str]], kind: str) -> Markup:
    """Terms with their descriptions; ``kind`` is their style."""
    pairs = (
        f"<div><dt>{escape(term)}</dt>\n<dd>{escape(description)}</dd></div>\n"
        for term, description in rows
    )
    return Markup(f'<dl class="{kind}">\n{"".join(pairs)}</dl>\n')


def cards(rows: Sequence[tuple[str, str, str]]) -> Markup:
    """Headline numbers, each a name, a value and a note."""
    return definitions(
        [
            (name, Markup(f"<strong>{escape(value)}</strong> <span>{escape(note)}</span>"))
            for name, value, note in rows
        ],
        "cards",
    )


def table(caption: str, columns: Mapping[str, Sequence[Cell]], sortable: bool = True) -> Markup:
    """A table by columns, the first of which names the rows, in a box that scrolls sideways."""
    heads = "".join(
        f'<th scope="col"{_number_class(cells)}>{escape(name)}</th>'
        for name, cells in columns.items()
    )
    rows = list(zip(*columns.values(), strict=True))
    body = "".join(f"<tr>{_row(row)}</tr>\n" for row in rows)
    kind = ' class="sortable"' if sortable and len(rows) > 1 else ""
    return Markup(
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0">\n'
        f"<table{kind}>\n<caption>{escape(caption)}</caption>\n"
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )


def _row(cells: Sequence[Cell]) -> str:
    parts = []
    for at, cell in enumerate(cells):
        tag, scope = ("td", "") if at else ("th", ' scope="row"')
        order = "" if cell.order is None else f' data-order="{cell.order:.9g}"'
        parts.append(f"<{tag}{scope}{_number_class([cell])}{order}>{escape(cell.text)}</{tag}>")
    return "".join(parts)


def _number_class(cells: Sequence[Cell]) -> str:
    numbers = [cell.order is not None for cell in cells]
    return ' class="number"' if numbers and all(numbers) else ""


def figure(png: bytes, alt: str, caption: str) -> Markup:
    """A figure inside the page; ``alt`` says what it shows to those who do not see it."""
    width, height = struct.unpack(">II", png[16:24])
    data = base64.b64encode(png).decode("ascii")
    return Markup(
        f'<figure>\n<img src="data:image/png;base64,{data}" alt="{escape(alt)}" '
        f'width="{round(width / _PIXEL)}" height="{round(height / _PIXEL)}">\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>\n"
    )


def beside(*parts: Markup) -> Markup:
    """Parts side by side where there is room, else below each other."""
    return Markup(f'<div class="beside">\n{"".join(parts)}</div>\n')


def folded(summary: str, *parts: Markup) -> Markup:
    """Parts that show when their summary is opened."""
    return Markup(f"<details>\n<summary>{escape(summary)}</summary>\n{''.join(parts)}</details>\n")


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: Its address within the page.
        title: Its heading.
        parts: What it holds.
    """

    name: str
    title: str
    parts: Sequence[Markup]


def document(title: str, kicker: str, summary: str, sections: Sequence[Section]) -> str:
    """The page.

    Args:
        title: Its heading.
        kicker: The line over it, which with it names the page.
        summary: The paragraph under it.
        sections: What follows.
    """
    links = "".join(f'<li><a href="#{s.name}">{escape(s.title)}</a></li>\n' for s in sections)
    body = "".join(
        f'<section id="{s.name}" aria-labelledby="{s.name}-title">\n'
        f'<h2 id="{s.name}-title">{escape(s.title)}</h2>\n{"".join(s.parts)}</section>\n'
        for s in sections
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(_STYLE)}'; "
        f"script-src '{_digest(_SCRIPT)}'; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} – {escape(kicker)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the results</a>
<header>
<p class="kicker">{escape(kicker)}</p>
<h1>{escape(title)}</h1>
<p class="summary">{escape(summary)}</p>
</header>
<nav aria-label="Contents">
<ul>
{links}</ul>
</nav>
<main id="main" tabindex="-1">
{body}</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _digest(content: str) -> str:
    """A hash source of a Content-Security-Policy."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


_STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --box: #f6f8fa; --ink: #1f2328; --muted: #59636e; --line: #d1d7de;
  --link: #0060a8; --focus: #0060a8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f1419; --box: #1a2129; --ink: #e6eaef; --muted: #a3adb8; --line: #36414d;
    --link: #74bdf2; --focus: #74bdf2;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 4rem; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body {
  margin: 0 auto; padding: 0 1.25rem 4rem; max-width: 60rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "PingFang SC",
    "Microsoft YaHei", "Noto Sans CJK SC", sans-serif;
}
a { color: var(--link); overflow-wrap: anywhere; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; border-radius: 3px; }
main:focus { outline: none; }
.skip { position: absolute; left: -100vw; padding: .5rem 1rem; background: var(--page); }
.skip:focus { left: 0; top: 0; z-index: 2; }
header { padding-top: 2.5rem; }
.kicker { margin: 0; color: var(--muted); }
h1 { margin: .1rem 0 .6rem; font-size: 2rem; line-height: 1.2; }
h2 { margin: 3rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line);
  font-size: 1.4rem; line-height: 1.3; }
.summary { margin: 0 0 1.5rem; font-size: 1.1rem; max-width: 46rem; }
p, figcaption { max-width: 46rem; }
nav { position: sticky; top: 0; z-index: 1; background: var(--page);
  border-bottom: 1px solid var(--line); }
nav ul { display: flex; gap: .1rem 1.1rem; margin: 0; padding: .5rem 0; list-style: none;
  overflow-x: auto; white-space: nowrap; font-size: .9rem; }
nav a { display: inline-block; padding: .25rem 0; text-decoration: none; }
nav a:hover { text-decoration: underline; }
dl { margin: 0 0 1rem; }
dd { margin: 0; }
.cards { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(15.5rem, 1fr)); }
.cards div { padding: .8rem 1rem; background: var(--box); border: 1px solid var(--line);
  border-radius: .6rem; }
.cards dt { color: var(--muted); font-size: .9rem; }
.cards strong { display: block; font-size: 1.7rem; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.cards span { color: var(--muted); font-size: .85rem; }
.facts div { display: grid; grid-template-columns: 8rem 1fr; gap: 0 1rem; padding: .3rem 0; }
.facts dt { color: var(--muted); }
.facts dd { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 1rem 0; max-width: 100%; }
.beside { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start; }
table { border-collapse: collapse; font-size: .92rem; }
caption { padding: 0 0 .4rem; text-align: left; font-weight: 600; }
th, td { padding: .3rem 1.1rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody th { font-weight: 400; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
th button::after { content: "\\2195"; margin-left: .3em; color: var(--muted); }
th[aria-sort=ascending] button::after { content: "\\2191"; color: inherit; }
th[aria-sort=descending] button::after { content: "\\2193"; color: inherit; }
figure { margin: 1.2rem 0; }
img { display: block; max-width: 100%; height: auto; padding: .4rem; background: #ffffff;
  border: 1px solid var(--line); border-radius: .6rem; }
figcaption { margin-top: .5rem; color: var(--muted); font-size: .92rem; }
details { margin: 1rem 0; }
summary { cursor: pointer; width: fit-content; color: var(--link); }
@media (max-width: 34rem) {
  .facts div { grid-template-columns: 1fr; }
  h1 { font-size: 1.6rem; }
}
@media print {
  :root { --page: #ffffff; --ink: #000000; --muted: #444444; --line: #bbbbbb; --link: #000000; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, .skip, th button::after { display: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
  summary { color: var(--ink); font-weight: 600; list-style: none; }
  .scroll { overflow: visible; }
  th, td { padding-right: .7rem; white-space: normal; }
  h2, caption, summary { break-after: avoid; }
  figure, tr, .cards div { break-inside: avoid; }
  img { max-height: 22cm; width: auto; border: 0; padding: 0; }
}
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const collator = new Intl.Collator(undefined, { numeric: true });
  const compare = (a, b) => {
    const [x, y] = [a.dataset.order, b.dataset.order];
    return x !== undefined && y !== undefined
      ? Number(x) - Number(y)
      : collator.compare(a.textContent, b.textContent);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      body.append(...[...body.rows].sort(
        (a, b) => sign * compare(a.cells[column], b.cells[column])));
    });
  });
}
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => { for (const details of opened) details.open = false; });
"""
