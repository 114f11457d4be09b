import numpy as np
import numpy.typing as npt
import pytest

from stages.lib.metrics import Calibration, PerClass
from stages.lib.reporting import figures, palette
from stages.lib.reporting.stage_outputs import Predictions
from tests.stages.lib.reporting import drawn

NAMES = ["T-shirt/top", "a very long class name that nobody would want to read in full", "Coat"]


def names(count: int) -> list[str]:
    return [f"{NAMES[at % 3]} {at}" for at in range(count)]


def history(epochs: int, validation: bool = True) -> dict[str, npt.NDArray[np.float64]]:
    epoch = np.arange(1, epochs + 1, dtype=np.float64)
    training = {"epoch": epoch, "loss": 1 / epoch, "accuracy": 1 - 0.5 / epoch}
    held_out = {"val_loss": 2 / epoch, "val_accuracy": 1 - 0.7 / epoch}
    return training | held_out if validation else training


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("epochs", [1, 2, 5, 30, 1000])
def test_curves_of_any_length(
    epochs: int, validation: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with drawn.texts(monkeypatch) as texts:
        png = figures.curves(history(epochs, validation))
    drawn.assert_legible(texts, png)
    shown = [text.text for text in texts]
    assert shown.count("epoch") == 2
    assert shown.count("training") == 2
    assert shown.count("validation") == 2 * validation
    assert drawn.count(png, palette.TRAINING) > 50
    assert bool(drawn.count(png, palette.VALIDATION)) == validation


def test_curves_of_a_training_that_diverged() -> None:
    diverged = history(3)
    diverged["loss"][1:], diverged["val_loss"][:] = np.nan, np.inf
    assert drawn.pixels(figures.curves(diverged)).size


def predictions(matrix: npt.NDArray[np.int64]) -> Predictions:
    """Predictions whose confusion matrix is the given one."""
    cells = np.repeat(np.arange(matrix.size), matrix.reshape(-1))
    actual, predicted = np.divmod(cells, len(matrix))
    return Predictions(actual, predicted, np.broadcast_to(0.0, (len(cells), len(matrix))))


@pytest.mark.parametrize("count", [2, 3, 10, 20, 21, 26, 100])
def test_a_confusion_matrix_of_any_size(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).integers(0, 90, (count, count))
    with drawn.texts(monkeypatch) as texts:
        png = figures.confusion(predictions(matrix), names(count))
    drawn.assert_legible(texts, png)
    assert max(drawn.pixels(png).shape) < 200 * 14


def test_a_confusion_matrix_holds_its_numbers_and_no_zeros(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    matrix = np.array([[97, 3, 0], [0, 41, 0], [0, 0, 0]])
    with drawn.texts(monkeypatch) as texts:
        figures.confusion(predictions(matrix), ["a", "b", "c"])
    numbers = {text.text: text for text in texts if text.text.isdigit()}
    assert set(numbers) == {"97", "3", "41"}
    assert numbers["97"].left < numbers["3"].left  # predicted to the right
    assert numbers["97"].bottom > numbers["41"].top  # actual downwards
    assert (
        abs(numbers["3"].left + numbers["3"].right - numbers["41"].left - numbers["41"].right) < 4
    )


def test_the_diagonal_is_blue_and_the_rest_red() -> None:
    correct = figures.confusion(predictions(np.diag([5, 5])), ["a", "b"])
    incorrect = figures.confusion(predictions(np.array([[0, 5], [5, 0]])), ["a", "b"])
    assert drawn.count(correct, palette.CORRECT) > 10 * drawn.count(correct, palette.INCORRECT)
    assert drawn.count(incorrect, palette.INCORRECT) > 10 * drawn.count(incorrect, palette.CORRECT)


def bins(images: list[int], confidence: list[float], accuracy: list[float]) -> Calibration:
    edges = np.linspace(0, 1, len(images) + 1)
    return Calibration(edges, np.array(images), np.array(confidence), np.array(accuracy))


@pytest.mark.parametrize(
    "reliability",
    [
        bins([0, 6], [np.nan, 0.8], [np.nan, 0.666667]),
        bins([1], [1.0], [1.0]),
        bins([0] * 14 + [10000], [np.nan] * 14 + [0.99], [np.nan] * 14 + [0.0]),
    ],
)
def test_calibration_says_its_error(
    reliability: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    with drawn.texts(monkeypatch) as texts:
        png = figures.calibration(reliability, 0.133333)
    drawn.assert_legible(texts, png)
    assert any("error 13.33\N{NO-BREAK SPACE}%" in text.text for text in texts)


def test_calibration_bars_are_as_high_as_the_accuracy() -> None:
    png = figures.calibration(bins([8, 8], [0.4, 0.8], [0.25, 0.75]), 0.1)
    blue = (drawn.pixels(png) == [0x00, 0x72, 0xB2]).all(axis=-1)
    heights = np.flatnonzero(blue.sum(axis=0) > 20)
    left, right = heights[len(heights) // 4], heights[len(heights) * 3 // 4]
    ratio = blue[:, right - 60].sum() / blue[:, left - 60].sum()
    assert ratio == pytest.approx(3, rel=0.1)


def scores(f1: list[float]) -> PerClass:
    values = np.array(f1)
    return PerClass(np.clip(values + 0.05, 0, 1), values - 0.05, values, np.full(len(f1), 7))


@pytest.mark.parametrize("count", [2, 10, 26, 100])
def test_classes_of_any_number(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with drawn.texts(monkeypatch) as texts:
        png = figures.per_class(names(count), scores(np.linspace(0.1, 0.99, count).tolist()))
    drawn.assert_legible(texts, png)


def test_classes_stand_best_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with drawn.texts(monkeypatch) as texts:
        figures.per_class(["a", "b", "c"], scores([0.5, 0.9, 0.7]))
    places = {text.text: text.top for text in texts}
    assert places["b"] > places["c"] > places["a"]


@pytest.mark.parametrize("f1", [[0.0, 0.0], [1.0, 1.0], [0.999, 1.0]])
def test_classes_at_the_ends_of_the_scale(f1: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array(f1)
    with drawn.texts(monkeypatch) as texts:
        png = figures.per_class(["a", "b"], PerClass(values, values, values, np.array([1, 1])))
    drawn.assert_legible(texts, png)
    said = "F1, precision, recall" + " (the axis starts above 0)" * (f1[0] > 0)
    found = [text.text for text in texts]
    assert said in found
    ticks = [float(text.split()[0]) for text in found if text.endswith("%")]
    assert min(ticks) < 99.1  # not a hundredth of a per cent apart where all is near 100
