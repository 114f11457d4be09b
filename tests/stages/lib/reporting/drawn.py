"""What a figure shows: its pixels, and the texts as Matplotlib drew them."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from PIL import Image


@dataclass(frozen=True)
class Text:
    """A text and the box that it was drawn in, in pixels from the lower left."""

    text: str
    left: float
    bottom: float
    right: float
    top: float


@contextmanager
def texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Text]]:
    """Yields a list that fills with the texts that are drawn."""
    by_artist: dict[int, tuple[object, Text]] = {}
    draw: Any = RendererAgg.draw_text

    def spy(renderer: RendererAgg, *arguments: Any, mtext: Any = None, **others: Any) -> None:
        if mtext is not None:
            box = mtext.get_window_extent(renderer)
            by_artist[id(mtext)] = (mtext, Text(mtext.get_text(), box.x0, box.y0, box.x1, box.y1))
        draw(renderer, *arguments, **others | {"mtext": mtext})

    drawn: list[Text] = []
    with monkeypatch.context() as patch:
        patch.setattr(RendererAgg, "draw_text", spy)
        yield drawn
    drawn += [text for _, text in by_artist.values()]


def pixels(png: bytes) -> npt.NDArray[np.uint8]:
    """The image, H x W x 3."""
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def count(png: bytes, colour: str) -> int:
    """How many pixels have exactly this colour."""
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return int((pixels(png) == wanted).all(axis=-1).sum())


def assert_legible(drawn: list[Text], png: bytes) -> None:
    """Checks that no text leaves the image and none lies on another."""
    height, width, _ = pixels(png).shape
    slack = 3  # pixels: boxes of text hold more than the ink
    for text in drawn:
        assert text.left >= -slack, text
        assert text.bottom >= -slack, text
        assert text.right <= width + slack, text
        assert text.top <= height + slack, text
    for at, one in enumerate(drawn):
        for other in drawn[at + 1 :]:
            across = min(one.right, other.right) - max(one.left, other.left)
            up = min(one.top, other.top) - max(one.bottom, other.bottom)
            assert min(across, up) <= slack, (one, other)
