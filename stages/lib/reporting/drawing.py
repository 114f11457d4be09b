"""Sheets to draw on, measured in inches from the upper left, that become PNG bytes.

Equal drawings give equal bytes: the style is Matplotlib's own default and the lines below,
whatever a user's matplotlibrc says; the font comes with Matplotlib; the file holds no date; and
zlib-ng packs it, as the zlib inside Pillow differs from platform to platform. Without pyplot the
import takes half the time.
"""

import bisect
import contextlib
import struct
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from zlib_ng import zlib_ng

from stages.lib.reporting import palette

Pixels = npt.NDArray[np.uint8]  # H x W x 3: red, green and blue

DPI = 200  # 6.4 inches are 1280 pixels: sharp in print and on dense screens
MARGIN = 0.12  # inches
MANY_CLASSES = 100  # beyond, figures show some of the classes and say which
TITLE, TEXT, SMALL = 11.0, 8.0, 7.0  # points; 8 at 6.4 inches is 14 px in a README 800 px wide

_FONT = "DejaVu Sans"
_LEVEL = 6
_LONGEST = 400  # letters of a name, of which no figure has room for half
_STYLE: dict[str, Any] = {
    "axes.edgecolor": palette.MUTED,
    "axes.labelcolor": palette.INK,
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": TEXT,
    "font.family": [_FONT],
    "grid.color": palette.LINE,
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.6,
    "legend.fontsize": TEXT,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.color": palette.INK,
    "text.parse_math": False,  # a class may be named $100
    "xtick.color": palette.MUTED,
    "xtick.labelcolor": palette.INK,
    "xtick.labelsize": SMALL,
    "ytick.color": palette.MUTED,
    "ytick.labelcolor": palette.INK,
    "ytick.labelsize": SMALL,
}


@dataclass
class Sheet:
    """A figure in the making.

    Attributes:
        figure: Matplotlib's.
        width: In inches.
        height: In inches.
        png: The file's bytes, once the ``with`` block of ``sheet`` has ended.
    """

    figure: Figure
    width: float
    height: float
    png: bytes = b""
    pasted: list[tuple[float, float, Pixels]] = field(default_factory=list)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes in a rectangle in inches, measured from the upper left."""
        bottom = self.height - top - height
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Text in inches from the upper left; hangs from ``y``, unless ``style`` says otherwise."""
        merged: dict[str, Any] = {"fontsize": TEXT, "va": "top"} | style
        self.figure.text(x / self.width, 1 - y / self.height, text, **merged)

    def paste(self, x: float, y: float, pixels: Pixels) -> None:
        """Puts an image on top, its upper left at inches from the upper left, pixel by pixel."""
        self.pasted.append((x, y, pixels))

    def heading(self, title: list[str], subtitle: list[str]) -> None:
        """A title and a line about it, both wrapped, as ``heading`` gives them."""
        self.text(MARGIN, MARGIN, "\n".join(title), fontsize=TITLE, fontweight="bold")
        top = MARGIN + len(title) * _line(TITLE)
        self.text(MARGIN, top, "\n".join(subtitle), color=palette.MUTED, linespacing=1.3)


@contextlib.contextmanager
def sheet(width: float, height: float, title: str, subtitle: str = "") -> Iterator[Sheet]:
    """Yields a sheet with its heading above ``height`` inches of room; packs it at the end."""
    with mpl.rc_context():
        defaults = {k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith("backend")}
        mpl.rcParams.update(cast(Any, defaults | _STYLE))
        lines = heading(width, title, subtitle)
        figure = Figure((width, height + heading_height(*lines)), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        columns, rows = canvas.get_width_height()
        made = Sheet(figure, columns / DPI, rows / DPI)
        made.heading(*lines)
        yield made
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
        for x, y, image in made.pasted:  # Matplotlib would resample it, longer than all else takes
            top, left = round(y * DPI), round(x * DPI)
            pixels[top : top + len(image), left : left + image.shape[1]] = image
        made.png = png(pixels)


def heading(width: float, title: str, subtitle: str) -> tuple[list[str], list[str]]:
    """Title and subtitle in lines that fit a sheet ``width`` inches wide."""
    room = width - 2 * MARGIN
    return wrap(title, room / 1.13, TITLE), wrap(subtitle, room, TEXT)  # bold is 1.13 times as wide


def heading_height(title: list[str], subtitle: list[str]) -> float:
    """Inches that a heading takes, the space below it included."""
    return 2 * MARGIN + len(title) * _line(TITLE) + len(subtitle) * _line(TEXT)


def png(pixels: Pixels) -> bytes:
    """A PNG file without metadata but the resolution.

    Source: Portable Network Graphics Specification (Third Edition), sections 5 and 7.

    Args:
        pixels: The image.
    """
    height, width, _ = pixels.shape
    lines = np.zeros((height, 1 + 3 * width), np.uint8)  # the 0 before each line: filter "none"
    lines[:, 1:] = pixels.reshape(height, -1)
    per_metre = round(DPI / 0.0254)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)),
        (b"IDAT", zlib_ng.compress(lines.tobytes(), _LEVEL)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def text_width(text: str, points: float) -> float:
    """The width of a line of text in inches."""
    font = _font()
    font.set_size(points, 72)
    font.set_text(text, 0.0, ft2font.LoadFlags.NO_HINTING)
    return font.get_width_height()[0] / 64 / 72


def fit(text: str, inches: float, points: float) -> str:
    """``text`` itself when it fits, else as much of it as does and an ellipsis."""
    if len(text) <= _LONGEST and text_width(text, points) <= inches:
        return text
    text = text[:_LONGEST]
    length = bisect.bisect(
        range(1, len(text) + 1), inches, key=lambda end: text_width(f"{text[:end]}…", points)
    )
    return f"{text[:length].rstrip()}…"


def wrap(text: str, inches: float, points: float) -> list[str]:
    """``text`` in lines broken between words; a word that is too long keeps its own line."""
    lines: list[str] = []
    for word in text.split(" ") if text else []:  # and not at no-break spaces
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, points) <= inches:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def shortened(names: Sequence[str]) -> list[str]:
    """Names on one line each, a very long one cut."""
    lines = [" ".join(name.split()) for name in names]
    return [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in lines]


def drawable(names: Sequence[str]) -> list[str]:
    """Class names that the font has the letters of; ``class 3`` for those that it has not."""
    lines = shortened([unicodedata.normalize("NFC", name) for name in names])
    return [name if is_drawable(name) else f"class {at}" for at, name in enumerate(lines)]


def is_drawable(text: str) -> bool:
    """Whether there is a text, and the font has all its letters."""
    font = _font()
    return bool(text) and all(font.get_char_index(ord(letter)) for letter in text)


def _font() -> ft2font.FT2Font:
    return font_manager.get_font(font_manager.findfont(_FONT))


def _line(points: float) -> float:
    """The height of a line of text in inches."""
    return 1.35 * points / 72
