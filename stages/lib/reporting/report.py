"""What the report page says: the sections, their figures, tables and words."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.lib.metrics import Calibration, PerClass
from stages.lib.reporting import alt_text, page, stage_outputs
from stages.lib.reporting.alt_text import counted, percent
from stages.lib.reporting.page import Cell

Floats = npt.NDArray[np.float64]

_CONFUSIONS = 15  # most frequent ones, as a table


@dataclass(frozen=True)
class Dataset:
    """The data set; K classes.

    Attributes:
        name: Its entry in datasets.yaml.
        title: Of the publication.
        licence: Of the publication.
        citation: Of the publication.
        names: K class names as figures show them.
        local_names: K class names as the page shows them.
        language: Of ``local_names``, such as zh.
        labels: Of the training images shown, in order.
        image: The first training image in raw values, H x W or H x W x C.
        pixel_max: The largest raw value that there may be.
    """

    name: str
    title: str
    licence: str
    citation: str
    names: Sequence[str]
    local_names: Sequence[str]
    language: str
    labels: Sequence[int]
    image: npt.NDArray[np.float32]
    pixel_max: float

    def cells(self, labels: Iterable[int]) -> list[Cell]:
        """Class names for tables of the page."""
        names = [self.local_names[label] for label in labels]
        if self.language == "en":
            return [Cell(name) for name in names]
        return [Cell(page.in_language(name, self.language)) for name in names]


@dataclass(frozen=True)
class Results:
    """The trained model and its test; N test images, K classes, E epochs.

    Attributes:
        run: What was trained.
        training: The last losses and accuracies, the untrained loss, the number of parameters.
        history: E values each.
        test: The test metrics.
        predictions: For all N test images.
        matrix: K x K, the confusion matrix.
        scores: K values each.
        bins: Of the reliability diagram.
        shown: Test images shown with their predictions.
        mistakes: Test images shown as most confident mistakes.
    """

    run: stage_outputs.Run
    training: Mapping[str, Any]
    history: Mapping[str, Floats]
    test: Mapping[str, Any]
    predictions: stage_outputs.Predictions
    matrix: npt.NDArray[np.int64]
    scores: PerClass
    bins: Calibration
    shown: Sequence[int]
    mistakes: Sequence[int]


def render(dataset: Dataset, found: Results, pngs: Mapping[str, bytes]) -> str:
    """The page as HTML.

    Args:
        dataset: The data set.
        found: The results.
        pngs: The figures by name.
    """
    sections = [
        page.Section("results", "Results", _results(found)),
        page.Section("run", "What was run", _run(dataset, found)),
        page.Section("training", "Training", _training(found, pngs)),
        page.Section("confusion", "Confusion matrix", _confusion(dataset, found, pngs)),
        page.Section("classes", "By class", _classes(dataset, found, pngs)),
        page.Section("calibration", "Calibration", _calibration(found, pngs)),
        page.Section("predictions", "Predictions", _predictions(dataset, found, pngs)),
        page.Section("mistakes", "Mistakes", _mistakes(dataset, found, pngs)),
        page.Section("data", "Data", _data(dataset, pngs)),
    ]
    return page.document(dataset.title, "Image classification report", _summary(found), sections)


def _summary(found: Results) -> str:
    run, epochs = found.run, int(found.history["epoch"][-1])
    architecture = run.parameters.get("model.architecture", "network")
    return (
        f"The model ({architecture}, {found.training['parameters']:,} parameters) was trained "
        f"for {counted(epochs, 'epoch')} on {counted(run.images.get('train', 0), 'image')}. "
        f"It predicts {percent(found.test['accuracy'])} of {found.test['images']:,} test images "
        f"right; the 95\N{NO-BREAK SPACE}% interval is {_interval(found.test)}."
    )


def _results(found: Results) -> list[page.Markup]:
    test, classes = found.test, len(found.matrix)
    rows = [
        ("Test accuracy", percent(test["accuracy"]), f"95 % interval {_interval(test)}"),
        ("Test loss", f"{test['loss']:.4f}", "mean cross-entropy in nats"),
        ("Macro F1", percent(test["macro_f1"]), f"mean F1 of {classes} classes"),
        (
            "Top-2 accuracy",
            percent(test["top2_accuracy"]),
            "the right class is among the first two",
        ),
        (
            "Expected calibration error",
            percent(test["expected_calibration_error"]),
            "mean distance of confidence and accuracy",
        ),
        (
            "Untrained loss",
            f"{found.training['untrained_loss']:.4f}",
            f"guessing one of {classes} classes: ln {classes} = {math.log(classes):.4f}",
        ),
    ]
    return [
        page.cards(rows),
        page.table("Loss and accuracy by split", _by_split(found)),
        page.paragraph(_how_measured(found.run.parameters.get("train.label_smoothing", 0))),
    ]


def _how_measured(label_smoothing: float) -> str:
    """What the losses of the splits leave to know, so that nobody compares what differs."""
    text = "Training values are means over the last epoch, while the weights move."
    if label_smoothing:
        text += (
            f" The losses of training and validation are against labels smoothed by "
            f"{label_smoothing:g}, which the test loss is not."
        )
    return text


def _by_split(found: Results) -> dict[str, list[Cell]]:
    images, training = found.run.images, found.training
    rows = [("training", images.get("train", 0), training["loss"], training["accuracy"])]
    if "val_loss" in training:
        held_out = images.get("validation", 0)
        rows += [("validation", held_out, training["val_loss"], training["val_accuracy"])]
    rows += [("test", found.test["images"], found.test["loss"], found.test["accuracy"])]
    names, counts, losses, accuracies = zip(*rows, strict=True)
    return {
        "Split": _texts(names),
        "Images": _integers(counts),
        "Loss (nats)": _losses(losses),
        "Accuracy": _shares(accuracies),
    }


def _run(dataset: Dataset, found: Results) -> list[page.Markup]:
    run = found.run
    splits = {**run.images, "test": found.test["images"]}
    size = " × ".join(str(length) for length in dataset.image.shape)
    name = f"{page.escape(dataset.title)} (<code>{page.escape(dataset.name)}</code>)"
    facts = [
        ("Data set", page.Markup(name)),
        ("Licence", dataset.licence),
        ("Citation", page.linked(dataset.citation)),
        ("Images", ", ".join(f"{count:,} {split}" for split, count in splits.items())),
        ("Image size", f"{size} pixels, raw values from 0 to {dataset.pixel_max:g}"),
        ("Classes", str(len(dataset.names))),
    ]
    parameters = {
        "Parameter": _texts(run.parameters),
        "Value": _texts(
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for value in run.parameters.values()
        ),
    }
    versions = sorted(run.versions.items())
    libraries = {
        "Library": _texts(package for package, _ in versions),
        "Version": _texts(version for _, version in versions),
    }
    return [
        page.definitions(facts, "facts"),
        page.beside(
            page.table("Parameters of the training", parameters),
            _network(run.layers),
            page.table("Library versions", libraries, sortable=False),
        ),
    ]


def _network(layers: Sequence[Mapping[str, Any]]) -> page.Markup:
    sizes = [layer["parameters"] for layer in layers]
    columns = {
        "Layer": _texts(layer["name"] for layer in layers),
        "Type": _texts(layer["type"] for layer in layers),
        "Output": _texts(layer["output"] for layer in layers),
        "Parameters": _integers(sizes),
    }
    caption = f"Network: {counted(len(layers), 'layer')}, {counted(sum(sizes), 'parameter')}"
    return page.table(caption, columns, sortable=False)


def _training(found: Results, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    history = found.history
    columns = {"Epoch": _integers(history["epoch"])}
    for key, name, cells in (
        ("learning_rate", "Learning rate", _reals),
        ("loss", "Training loss", _losses),
        ("accuracy", "Training accuracy", _shares),
        ("val_loss", "Validation loss", _losses),
        ("val_accuracy", "Validation accuracy", _shares),
    ):
        if key in history:
            columns[name] = cells(history[key])
    caption = "Loss and accuracy on the training images and, if some were held out, on those."
    return [
        page.figure(pngs["curves"], alt_text.curves(history), caption),
        page.folded("All epochs as a table", page.table("Training by epoch", columns)),
    ]


def _confusion(dataset: Dataset, found: Results, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    pairs = stage_outputs.confusions(found.matrix, _CONFUSIONS)
    alt = alt_text.confusion(found.predictions, pairs, dataset.names)
    caption = "Rows are actual classes, columns predicted ones; the diagonal is right."
    figure = page.figure(pngs["confusion"], alt, caption)
    if not pairs:
        return [figure, page.paragraph(alt_text.no_mistakes(len(found.predictions.actual)))]
    columns = {
        "Actual class": dataset.cells([pair.actual for pair in pairs]),
        "Predicted class": dataset.cells([pair.predicted for pair in pairs]),
        "Images": _integers([pair.images for pair in pairs]),
        "Share of the actual class": _shares([pair.share for pair in pairs]),
    }
    return [figure, page.table("Most frequent confusions", columns)]


def _classes(dataset: Dataset, found: Results, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    scores, labels = found.scores, range(len(dataset.names))
    columns = {"Class": dataset.cells(labels)}
    if list(dataset.local_names) != list(dataset.names):
        columns["In figures"] = _texts(dataset.names)
    columns |= {
        "Label": _integers(labels),
        "Precision": _shares(scores.precision),
        "Recall": _shares(scores.recall),
        "F1": _shares(scores.f1),
        "Test images": _integers(scores.support),
    }
    caption = (
        "Precision: the share of the images predicted as a class that are of it. "
        "Recall: the share of the images of a class that are predicted as it."
    )
    return [
        page.figure(pngs["per_class"], alt_text.per_class(dataset.names, scores), caption),
        page.table("Scores by class", columns),
    ]


def _calibration(found: Results, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    bins = found.bins
    limits = zip(bins.edges[:-1], bins.edges[1:], strict=True)
    columns = {
        "Confidence": [
            Cell(f"{percent(lower, 1)} to {percent(upper, 1)}", lower) for lower, upper in limits
        ],
        "Images": _integers(bins.images),
        "Mean confidence": _shares(bins.confidence),
        "Accuracy": _shares(bins.accuracy),
    }
    alt = alt_text.calibration(bins, found.test["expected_calibration_error"])
    caption = (
        "A calibrated model is right as often as it is confident. Where the hatched part lies "
        "above the accuracy, the model is surer than it should be."
    )
    return [
        page.figure(pngs["calibration"], alt, caption),
        page.folded("All bins as a table", page.table("Calibration by confidence", columns)),
    ]


def _predictions(dataset: Dataset, found: Results, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    alt = alt_text.predictions(found.shown, found.predictions, dataset.names)
    caption = (
        "The first test images, each with its predicted class and the probabilities of all classes."
    )
    table = _images("The first test images", found.shown, dataset, found.predictions)
    return [
        page.figure(pngs["predictions"], alt, caption),
        page.folded("These images as a table", table),
    ]


def _mistakes(dataset: Dataset, found: Results, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    count = int((~found.predictions.right).sum())
    if not count:
        return [page.paragraph(alt_text.no_mistakes(len(found.predictions.actual)))]
    alt = alt_text.predictions(found.mistakes, found.predictions, dataset.names)
    caption = (
        f"{len(found.mistakes):,} of {counted(count, 'mistake')}: those with the highest "
        "probability of a wrong class. Some may be labelled wrong in the data."
    )
    table = _images("Most confident mistakes", found.mistakes, dataset, found.predictions)
    return [
        page.figure(pngs["mistakes"], alt, caption),
        page.folded("These images as a table", table),
    ]


def _images(
    caption: str, indices: Sequence[int], dataset: Dataset, of: stage_outputs.Predictions
) -> page.Markup:
    at = np.array(indices)
    columns = {
        "Test image": _integers(at),
        "Actual class": dataset.cells(of.actual[at].tolist()),
        "Predicted class": dataset.cells(of.predicted[at].tolist()),
        "Probability": _shares(of.confidences[at]),
        "Of the actual class": _shares(of.probabilities[at, of.actual[at]]),
        "Prediction": _texts("right" if right else "wrong" for right in of.right[at]),
    }
    return page.table(caption, columns)


def _data(dataset: Dataset, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    names, image = [dataset.names[label] for label in dataset.labels], dataset.image
    values = (float(image.min()), float(image.max()))
    alt = alt_text.raw_image(names[0], image.shape, values, dataset.pixel_max)
    caption = "The first training image as published, before scaling to 0 to 1."
    return [
        page.figure(pngs["samples"], alt_text.samples(names), "The first training images."),
        page.figure(pngs["raw_image"], alt, caption),
    ]


def _interval(test: Mapping[str, Any]) -> str:
    return f"{100 * test['accuracy_low']:.2f} to {percent(test['accuracy_high'])}"


def _texts(values: Iterable[object]) -> list[Cell]:
    return [Cell(str(value)) for value in values]


def _integers(values: Iterable[float]) -> list[Cell]:
    return [Cell(f"{int(value):,}", value) for value in values]


def _losses(values: Iterable[float]) -> list[Cell]:
    return [Cell(f"{value:.4f}", value) for value in values]


def _reals(values: Iterable[float]) -> list[Cell]:
    return [Cell(f"{value:.3g}", value) for value in values]


def _shares(values: Iterable[float]) -> list[Cell]:
    """Cells of shares; NaN, of no images, is a dash and sorts first."""
    return [Cell("–", -1) if math.isnan(value) else Cell(percent(value), value) for value in values]
