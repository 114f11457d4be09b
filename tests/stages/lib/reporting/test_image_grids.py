import numpy as np
import pytest

from stages.lib.reporting import image_grids, palette
from stages.lib.reporting.data_tables import Look
from stages.lib.reporting.stage_outputs import Predictions
from tests.stages.lib.reporting import drawn
from tests.stages.plot_inputs import PREDICTIONS, gradient

LONG = ["a very long class name that nobody would want to read in full", "T-shirt/top", "b"]


def grey(thumbnail: object) -> list[list[int]]:
    array = np.asarray(thumbnail)
    assert (array[..., 0] == array[..., 1]).all()
    assert (array[..., 1] == array[..., 2]).all()
    return [list(map(int, row)) for row in array[..., 0]]


def test_a_small_image_has_its_pixels_repeated() -> None:
    image = np.array([[0.0, 1.0], [0.2, 0.4]], np.float32)
    expected = [[0, 0, 255, 255], [0, 0, 255, 255], [51, 51, 102, 102], [51, 51, 102, 102]]
    assert grey(image_grids.thumbnail(image, 4)) == expected


def test_a_large_image_is_averaged() -> None:
    image = np.zeros((4, 4), np.float32)
    image[0, 0], image[2:, 2:] = 0.8, 0.2
    assert grey(image_grids.thumbnail(image, 2)) == [[51, 0], [0, 51]]


def test_blocks_at_the_edge_are_averaged_over_what_they_hold() -> None:
    image = np.ones((5, 5), np.float32)
    assert grey(image_grids.thumbnail(image, 2)) == [[255, 255], [255, 255]]


def test_an_image_that_is_not_square_is_centred_on_white() -> None:
    image = np.zeros((2, 4), np.float32)
    assert grey(image_grids.thumbnail(image, 4)) == [[255] * 4, [0] * 4, [0] * 4, [255] * 4]


def test_three_channels_are_colours_and_others_are_averaged() -> None:
    colour = np.array([[[1.0, 0.2, 0.0]]], np.float32)
    assert image_grids.thumbnail(colour, 1).tolist() == [[[255, 51, 0]]]
    two = np.array([[[0.2, 0.6]]], np.float32)
    assert grey(image_grids.thumbnail(two, 1)) == [[102]]
    assert grey(image_grids.thumbnail(np.full((1, 1, 1), 0.2, np.float32), 1)) == [[51]]


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 2), (32, 32, 3), (9, 3), (3, 9, 3)])
@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_samples_show_every_image_and_name(
    count: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [LONG[at % 3] for at in range(count)]
    with drawn.texts(monkeypatch) as texts:
        png = image_grids.samples(gradient(count, shape), names)
    drawn.assert_legible(texts, png)
    assert len(texts) == count + 1
    title = f"First {count} training images" if count > 1 else "First training image"
    assert texts[0].text == title


def test_samples_stand_in_their_order() -> None:
    images = np.stack([np.full((4, 4), value, np.float32) for value in (0.2, 0.4, 0.6)])
    row = drawn.pixels(image_grids.samples(images, ["a", "b", "c"]))[130, :, 0].tolist()
    assert [value for value in dict.fromkeys(row) if value in (51, 102, 153)] == [51, 102, 153]


@pytest.mark.parametrize(
    ("shape", "pixel_max"),
    [
        ((8, 8), 16.0), ((28, 28, 1), 255.0), ((32, 32, 3), 1.0), ((6, 6, 5), 65535.0),
        ((40, 4), 65535.0), ((4, 40), 65535.0), ((40, 4), 1.0), ((4, 40), 1.0),
    ],
)  # fmt: skip
def test_the_raw_image_has_a_colour_bar_of_its_range(
    shape: tuple[int, ...], pixel_max: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with drawn.texts(monkeypatch) as texts:
        png = image_grids.raw_image(gradient(1, shape)[0], LONG[0], pixel_max)
    drawn.assert_legible(texts, png)
    shown = [text.text for text in texts]
    assert any(text.startswith("First training image:") for text in shown)
    assert f"raw pixel value (0 to {pixel_max:g})" in shown
    assert "row (pixels)" in shown
    assert "column (pixels)" in shown


def made(num_classes: int, count: int) -> Predictions:
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.ones(num_classes), count)
    actual = random.integers(0, num_classes, count)
    return Predictions(actual, probabilities.argmax(axis=1), probabilities)


@pytest.mark.parametrize("num_classes", [2, 10, 26, 100])
@pytest.mark.parametrize("count", [1, 2, 15])
def test_predictions_are_legible(
    num_classes: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [LONG[at % 3] + str(at) for at in range(num_classes)]
    indices = range(count)
    with drawn.texts(monkeypatch) as texts:
        png = image_grids.predictions(
            "A title", gradient(count, (4, 4)), indices, made(num_classes, count), names
        )
    if num_classes <= 10:  # beyond, two labels may be those of neighbouring bars
        drawn.assert_legible(texts, png)
    assert sum(text.text.startswith(("✓", "✗")) for text in texts) == count


def test_predictions_say_what_is_predicted_and_actual(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["shirt", "coat", "bag"]
    with drawn.texts(monkeypatch) as texts:
        image_grids.predictions("Title", gradient(2, (4, 4)), [4, 1], PREDICTIONS, names)
    shown = [text.text for text in texts]
    assert "✗ bag 80.0\N{NO-BREAK SPACE}%" in shown
    assert "actual: coat · image 4" in shown
    assert "✓ coat 70.0\N{NO-BREAK SPACE}%" in shown
    assert "actual: coat · image 1" in shown


def test_correct_is_blue_and_incorrect_is_red() -> None:
    names = ["shirt", "coat", "bag"]
    correct = image_grids.predictions("Title", gradient(1, (4, 4)), [0], PREDICTIONS, names)
    incorrect = image_grids.predictions("Title", gradient(1, (4, 4)), [4], PREDICTIONS, names)
    assert drawn.count(correct, palette.CORRECT) > 1000
    assert drawn.count(correct, palette.INCORRECT) == 0
    assert (
        drawn.count(incorrect, palette.INCORRECT) > 4 * drawn.count(incorrect, palette.CORRECT) > 0
    )


def test_bars_are_as_high_as_probabilities() -> None:
    test = Predictions(np.array([0]), np.array([0]), np.array([[0.75, 0.25]]))
    png = image_grids.predictions("Title", gradient(1, (4, 4)), [0], test, ["a", "b"])

    def height(colour: str) -> int:
        wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        bar = (drawn.pixels(png) == wanted).all(axis=-1)
        return int(bar.sum(axis=0).max())

    assert height(palette.CORRECT) == pytest.approx(0.75 * 0.76 * 200, abs=2)  # of 0.76 inches
    assert height(palette.OTHER) == pytest.approx(0.25 * 0.76 * 200, abs=2)


def test_none_misclassified_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with drawn.texts(monkeypatch) as texts:
        png = image_grids.predictions(
            "Misclassified", gradient(0, (4, 4)), [], PREDICTIONS, ["a", "b", "c"]
        )
    drawn.assert_legible(texts, png)
    assert "None of the 6 test images is misclassified." in [text.text for text in texts]


@pytest.mark.parametrize("shape", [(4, 4), (32, 32, 3), (40, 4), (4, 40, 1)])
@pytest.mark.parametrize(
    ("count", "name"),
    [(1, ""), (3, "橡树"), (16, "folder/a very long file name of some camera, 12.jpeg")],
)
def test_labels_worth_a_second_look_stand_under_their_images(
    count: int, name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [
        Look(
            split="validation", index=10_000 + at, name=name, label=at % 3, other=(at + 1) % 3,
            probability=0.125, other_probability=0.75, margin=-0.625,
        )
        for at in range(count)
    ]  # fmt: skip
    with drawn.texts(monkeypatch) as texts:
        png = image_grids.second_looks(list(gradient(count, shape)), looks, LONG)
    drawn.assert_legible(texts, png)
    shown = [text.text for text in texts]
    assert sum(text.startswith("validation image 1000") for text in shown) == min(count, 10)
    assert "or: T-shirt/top, 75.0\N{NO-BREAK SPACE}%" in shown
    assert sum(text.startswith("a very long file") for text in shown) == (
        count if name.startswith("folder") else 0
    )
