"""The report as one HTML page that needs no other file and no network, for a browser.

It is made of the report's Markdown, whose few forms (``tools.compare.markdown`` makes them all) are
read here: a title, paragraphs, tables, images, and parts that open on a click. Cells and paragraphs
hold HTML entities, so that what a user named is text here as well.
"""

import base64
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stages.lib.reporting import page

_TEMPLATES = Path(__file__).parent / "templates"
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".svg": "image/svg+xml"}
_OPENS = "<details>\n<summary>"


@dataclass(frozen=True)
class Figure:
    """An image that the page holds: its address, its alternative text, its size in CSS pixels."""

    address: str
    alt: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class Block:
    """A paragraph, or a figure, or a table by rows, the first of which holds the headings."""

    text: str = ""
    figure: Figure | None = None
    rows: list[list[str]] = field(default_factory=list)
    numeric: list[bool] = field(default_factory=list)
    label: str = ""


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    name: str
    title: str
    blocks: list[Block]


def write(report: str, figures: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        report: The report in Markdown.
        figures: The files that it names.
    """
    title, *blocks = report.strip().split("\n\n")
    parts = _parts(blocks, figures)
    heading = html.unescape(title.removeprefix("## "))
    summary = parts[0].blocks.pop(0).text if parts[0].blocks[0].text else ""
    environment = page.environment(_TEMPLATES, page.TEMPLATES, of_markup=True)
    style = page.source("style.css")
    return environment.get_template("comparison.html.jinja").render(
        title=heading,
        kicker="Comparison of two states of the project",
        summary=summary,
        parts=parts,
        sections={part.name: _short(part.title) for part in parts},
        style=style,
        script="",
        policy=page.policy(style),
    )


def _parts(blocks: list[str], figures: Mapping[str, bytes]) -> list[Part]:
    """What stands before the first part that opens on a click, each such part, and the rest."""
    first, rest = Part("result", "Result", []), Part("notes", "Notes", [])
    part, folded = first, []
    for block in blocks:
        if block.startswith(_OPENS):
            title = block.removeprefix(_OPENS).removesuffix("</summary>")
            part = Part(_name(title), title, [])
            folded.append(part)
        elif block == "</details>":
            part = rest
        else:
            part.blocks.append(_block(block, figures, part.title))
    return [first, *folded, *([rest] if rest.blocks else [])]


def _name(title: str) -> str:
    return re.sub(r"[^a-z]+", "-", _short(title).lower()).strip("-")


def _short(title: str) -> str:
    return _text(title).partition(":")[0]


def _text(markup: str) -> str:
    """What a reader sees of it."""
    return html.unescape(re.sub(r"<[^>]+>", "", markup))


def _block(block: str, figures: Mapping[str, bytes], part: str) -> Block:
    if image := re.fullmatch(r"!\[(.*)\]\((.*)\)", block):
        return Block(figure=_figure(figures[image[2]], image[2], html.unescape(image[1])))
    if not block.startswith("| "):
        return Block(_inline(block))
    lines = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in block.splitlines()]
    header, marks, *rows = lines
    return Block(
        rows=[[_inline(cell) for cell in row] for row in (header, *rows)],
        numeric=[mark.endswith(":") for mark in marks],
        label=f"{_text(part)}: {_text(_inline(header[0])) or 'table'}",
    )


def _inline(text: str) -> str:
    """Bold and code in Markdown as HTML; all else is HTML already."""
    strong = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", strong)


def _figure(content: bytes, name: str, alt: str) -> Figure:
    kind = _TYPES[Path(name).suffix]
    size = page.Figure(content, alt).size if kind == "image/png" else None
    return Figure(f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}", alt, size)
