"""The form of the report page: one HTML file that needs no other and no network.

Markup, style and script are in ``templates/``; Jinja2 escapes every text. The page can be read
without JavaScript, which only makes tables sortable. Its Content-Security-Policy lets no request
leave it.
"""

import base64
import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).parent / "templates"

_PIXEL = 1.6  # pixels of a figure to one of the page: a figure 6.4 inches wide takes 800 px


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it shows.
        order: What it is sorted by, if that is a number; such a cell is aligned to the right.
        language: Of the text, such as zh, where it is not the page's.
    """

    text: str
    order: float | None = None
    language: str = ""


@dataclass(frozen=True)
class Table:
    """A table by columns, the first of which names the rows.

    Attributes:
        caption: What it shows.
        columns: Cells by heading, as many in each.
        sortable: Whether a reader may sort it.
    """

    caption: str
    columns: Mapping[str, Sequence[Cell]]
    sortable: bool = True

    @property
    def rows(self) -> Iterator[tuple[Cell, ...]]:
        """The cells row by row."""
        return zip(*self.columns.values(), strict=True)

    @property
    def numeric(self) -> dict[str, bool]:
        """By heading, whether all cells of the column are numbers."""
        return {
            heading: bool(cells) and all(cell.order is not None for cell in cells)
            for heading, cells in self.columns.items()
        }


@dataclass(frozen=True)
class Figure:
    """A figure that the page holds.

    Attributes:
        png: The file.
        alt: What it shows, for those who do not see it.
    """

    png: bytes
    alt: str

    @property
    def address(self) -> str:
        """The file as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page, in CSS pixels."""
        width, height = struct.unpack(">II", self.png[16:24])
        return round(width / _PIXEL), round(height / _PIXEL)


def render(template: str, values: Mapping[str, object]) -> str:
    """The HTML that a template makes of values.

    Args:
        template: Its file in ``templates/``; it extends ``page.html.jinja`` or imports its macros.
        values: What it names.
    """
    style, script = source("style.css"), source("script.js")
    return (
        environment(TEMPLATES, of_markup=True)
        .get_template(template)
        .render(values, policy=policy(style, script), style=style, script=script)
    )


def environment(*folders: Path, of_markup: bool) -> jinja2.Environment:
    """Templates of folders, which fail on a name that they are not given.

    Args:
        folders: Those looked through, in this order.
        of_markup: Whether values are texts to be escaped for HTML.
    """
    return jinja2.Environment(
        autoescape=of_markup,  # noqa: S701 Markdown has another escape
        keep_trailing_newline=True,
        loader=jinja2.FileSystemLoader(folders, encoding="utf-8"),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def policy(style: str, script: str = "") -> str:
    """The Content-Security-Policy of a page that loads nothing but what it holds."""
    scripts = f"script-src '{_digest(script)}'; " if script else ""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; {scripts}"
        "base-uri 'none'; form-action 'none'"
    )


def source(name: str) -> str:
    """The text of a file in ``templates/``."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    """A hash source of a Content-Security-Policy."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
