"""What the figures show, in words with numbers, for those who do not see them."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from stages.lib.metrics import Calibration, PerClass
from stages.lib.reporting.data_tables import Look
from stages.lib.reporting.stage_outputs import Confusion, Predictions
from stages.lib.wording import counted, percent

Floats = npt.NDArray[np.float64]

_LONG = 40  # entries after which a list in an alt text is cut; tables on the page hold them all


def raw_image(
    name: str, shape: Sequence[int], values: tuple[float, float], pixel_max: float
) -> str:
    """The first training image: its class, size and range of raw values."""
    low, high = values
    return (
        f"The first training image, of class {name}: {' by '.join(str(size) for size in shape)} "
        f"values from {low:g} to {high:g}, beside a colour bar from 0 to {pixel_max:g}."
    )


def samples(names: Sequence[str]) -> str:
    """The training images shown: their classes in order."""
    return f"{counted(len(names), 'training image')}, row by row: {_listed(names)}."


def augmented(names: Sequence[str], variants: int) -> str:
    """Training images before and after augmentation: how many, and their classes."""
    return (
        f"{counted(len(names), 'training image')}, one a row, each before "
        f"{counted(variants, 'augmented variant')} of it: {_listed(names)}."
    )


def curves(history: Mapping[str, Floats]) -> str:
    """The course of loss and accuracy: first and last values."""
    epochs = len(history["epoch"])
    sentences = []
    for key, name in (("loss", "training loss"), ("val_loss", "validation loss")):
        if key in history:
            sentences.append(_course(name, *(f"{history[key][at]:.4f}" for at in (0, -1))))
    for key, name in (("accuracy", "training accuracy"), ("val_accuracy", "validation accuracy")):
        if key in history:
            sentences.append(_course(name, *(percent(history[key][at]) for at in (0, -1))))
    return f"Curves over {counted(epochs, 'epoch')}: {'; '.join(sentences)}."


def confusion(
    predictions: Predictions, confusions: Sequence[Confusion], names: Sequence[str]
) -> str:
    """The confusion matrix: how many images are correct, and the most frequent confusion."""
    correct, images = int(predictions.correct.sum()), len(predictions.actual)
    text = (
        f"Confusion matrix of {len(names)} classes: {correct:,} of {images:,} test images are "
        "predicted correctly, on the diagonal."
    )
    if confusions:
        first = confusions[0]
        text += (
            f" The most frequent confusion is {names[first.actual]} predicted as "
            f"{names[first.predicted]}, {counted(first.images, 'image')}."
        )
    return text


def per_class(names: Sequence[str], scores: PerClass) -> str:
    """F1 by class: the classes with their values, best first."""
    order = np.argsort(-scores.f1, kind="stable")  # NaN comes last
    said = [f"{names[at]} {percent(scores.f1[at], 1)}" for at in order]
    return f"F1 by class: {_listed(said)}."


def calibration(bins: Calibration, error: float) -> str:
    """The reliability diagram: its error and its fullest bin."""
    at = int(bins.images.argmax())
    return (
        f"Reliability diagram, expected calibration error {percent(error)}. "
        f"{bins.images[at]:,} of {bins.images.sum():,} test images have a confidence from "
        f"{percent(bins.edges[at], 0)} to {percent(bins.edges[at + 1], 0)}, "
        f"{percent(bins.confidence[at], 1)} on average; "
        f"{percent(bins.accuracy[at], 1)} of them are predicted correctly."
    )


def predictions(indices: Sequence[int], test: Predictions, names: Sequence[str]) -> str:
    """Test images with their predictions: how many are correct, and each."""
    correct = int(test.correct[list(indices)].sum())
    each = [
        f"{names[test.actual[at]]} predicted as {names[test.predicted[at]]} at "
        f"{percent(confidence, 1)}"
        for at, confidence in zip(indices, test.confidences[list(indices)], strict=True)
    ]
    count = counted(len(each), "test image")
    return f"{count}, {correct} of them predicted correctly: {_listed(each)}."


def second_looks(looks: Sequence[Look], names: Sequence[str]) -> str:
    """Images whose labels are worth a second look: label and likeliest other class of each."""
    each = [
        f"{look.split} image {look.index} labelled {names[look.label]}, or "
        f"{names[look.other]} at {percent(look.other_probability, 1)}"
        for look in looks
    ]
    return f"{counted(len(each), 'image')}, most doubtful first: {_listed(each)}."


def none_misclassified(images: int) -> str:
    """That there is no misclassified image to show."""
    return f"None of the {images:,} test images is misclassified."


def _course(name: str, first: str, last: str) -> str:
    return f"{name} {last}" if first == last else f"{name} from {first} to {last}"


def _listed(entries: Sequence[str]) -> str:
    rest = len(entries) - _LONG
    return ", ".join(entries[:_LONG]) + (f" and {rest} more" if rest > 0 else "")
