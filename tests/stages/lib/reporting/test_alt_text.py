import numpy as np

from stages.lib.metrics import Calibration, PerClass
from stages.lib.reporting import alt_text
from stages.lib.reporting.stage_outputs import Confusion, Predictions
from tests.stages.plot_inputs import PREDICTIONS

NAMES = ["shirt", "coat", "bag"]


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_raw_image() -> None:
    assert alt_text.raw_image("shirt", (28, 28), (0, 253), 255) == (
        "The first training image, of class shirt: 28 by 28 values from 0 to 253, beside a colour "
        "bar from 0 to 255."
    )


def test_samples_are_cut_when_they_are_many() -> None:
    assert alt_text.samples(["shirt", "bag"]) == "2 training images, row by row: shirt, bag."
    assert alt_text.samples(["shirt"]).startswith("1 training image, ")
    assert alt_text.samples(["shirt"] * 100).endswith("shirt and 60 more.")


def test_curves() -> None:
    history = {
        "epoch": np.array([1.0, 2.0]),
        "loss": np.array([1.5, 0.25]),
        "accuracy": np.array([0.5, 0.9]),
    }
    assert plain(alt_text.curves(history)) == (
        "Curves over 2 epochs: training loss from 1.5000 to 0.2500; training accuracy from "
        "50.00 % to 90.00 %."
    )
    once = {name: values[:1] for name, values in history.items()}
    once["val_loss"] = np.array([1.25])
    assert plain(alt_text.curves(once)) == (
        "Curves over 1 epoch: training loss 1.5000; validation loss 1.2500; training accuracy "
        "50.00 %."
    )


def test_confusion() -> None:
    pairs = [Confusion(actual=0, predicted=1, images=1, proportion=0.5)]
    assert alt_text.confusion(PREDICTIONS, pairs, NAMES) == (
        "Confusion matrix of 3 classes: 4 of 6 test images are predicted correctly, on the "
        "diagonal. The most frequent confusion is shirt predicted as coat, 1 image."
    )
    correct = Predictions(PREDICTIONS.actual, PREDICTIONS.actual, PREDICTIONS.probabilities)
    assert "most frequent" not in alt_text.confusion(correct, [], NAMES)


def test_per_class_is_best_first() -> None:
    values = np.array([0.666667, 0.5, 0.8])
    scores = PerClass(values, values, values, np.array([2, 2, 2]))
    said = plain(alt_text.per_class(NAMES, scores))
    assert said == "F1 by class: bag 80.0 %, shirt 66.7 %, coat 50.0 %."


def test_calibration() -> None:
    bins = Calibration(
        np.array([0, 0.5, 1]), np.array([0, 6]), np.array([np.nan, 0.8]), np.array([np.nan, 0.75])
    )
    assert plain(alt_text.calibration(bins, 0.05)) == (
        "Reliability diagram, expected calibration error 5.00 %. 6 of 6 test images have a "
        "confidence from 50 % to 100 %, 80.0 % on average; 75.0 % of them are predicted correctly."
    )


def test_predictions() -> None:
    assert plain(alt_text.predictions([1, 4], PREDICTIONS, NAMES)) == (
        "2 test images, 1 of them predicted correctly: coat predicted as coat at 70.0 %, coat "
        "predicted as bag at 80.0 %."
    )
