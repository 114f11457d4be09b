import io
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from stages.lib.reporting import drawing
from tests.stages.lib.reporting import drawn


def test_a_png_holds_the_pixels_and_nothing_that_varies() -> None:
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    png = drawing.png(pixels)
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.mode == "RGB"
        assert set(image.info) == {"dpi"}
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        np.testing.assert_array_equal(np.asarray(image), pixels)
    assert drawing.png(pixels) == png


def sample() -> bytes:
    with drawing.sheet(3.0, 1.0, "A title", "and what it says") as sheet:
        axes = sheet.axes(0.5, 0.6, 2.0, 0.6)
        axes.plot([1, 2, 3], [3, 1, 2], label="line")
        axes.legend()
    return sheet.png


def test_a_users_matplotlibrc_changes_nothing() -> None:
    expected = sample()
    odd: dict[Any, Any] = {
        "font.size": 30,
        "font.family": ["serif"],
        "axes.grid": True,
        "figure.facecolor": "red",
    }
    with mpl.rc_context(odd):
        assert sample() == expected
        assert mpl.rcParams["font.size"] == 30


def test_a_sheet_is_as_large_as_asked_plus_its_heading() -> None:
    with drawing.sheet(3.0, 1.0, "") as plain:
        pass
    with drawing.sheet(3.0, 1.0, "A title") as titled:
        pass
    assert drawn.pixels(plain.png).shape[:2] == (round(200 * 1.24), 600)
    assert drawn.pixels(titled.png).shape[0] > 200 * 1.24 + 30


def test_images_are_pasted_pixel_by_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    with drawing.sheet(1.0, 1.0, "") as sheet:
        sheet.paste(0.25, 0.5, image)
    np.testing.assert_array_equal(drawn.pixels(sheet.png)[100:120, 50:80], image)


def test_text_that_fits_stays_and_other_ends_in_an_ellipsis() -> None:
    assert drawing.fit("Ankle boot", 1.0, 8) == "Ankle boot"
    short = drawing.fit("a name that is much too long", 0.8, 8)
    assert short.endswith("…")
    assert short[:-1] == "a name that is much too long"[: len(short) - 1]
    assert 0.6 < drawing.text_width(short, 8) <= 0.8


def test_text_twice_as_large_is_twice_as_wide() -> None:
    width = drawing.text_width("T-shirt/top", 8)
    assert drawing.text_width("T-shirt/top", 16) == pytest.approx(2 * width, rel=0.02)
    assert 0.5 < width < 0.9  # inches; 11 letters of about 8 / 72 x 0.55


def test_lines_break_between_words_only() -> None:
    words = "one two three\N{NO-BREAK SPACE}four incomprehensibilities"
    lines = drawing.wrap(words, 0.5, 8)
    assert " ".join(lines) == words
    assert lines[-1] == "incomprehensibilities"
    assert any("three\N{NO-BREAK SPACE}four" in line for line in lines)
    assert drawing.wrap("", 0.5, 8) == []


def test_names_that_the_font_cannot_draw_become_numbers() -> None:
    names = ["T-shirt/top", "衬衫", "two\nlines", "", "Größe"]
    assert drawing.drawable(names) == ["T-shirt/top", "class 1", "two lines", "class 3", "Größe"]


def test_dollars_are_no_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    with drawn.texts(monkeypatch) as texts, drawing.sheet(3.0, 1.0, r"$\frac{$ and $") as sheet:
        pass
    assert [text.text for text in texts] == [r"$\frac{$ and $"]
    assert sheet.png
