"""What the report page says: the sections, their figures, tables and words."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.lib import descriptions, page, results
from stages.lib.descriptions import percent
from stages.lib.metrics import Calibration, PerClass
from stages.lib.page import Cell

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

    def local_name(self, label: int) -> str:
        """A class name for the page."""
        name = self.local_names[label]
        return name if self.language == "en" else page.in_language(name, self.language)


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

    run: results.Run
    training: Mapping[str, Any]
    history: Mapping[str, Floats]
    test: Mapping[str, Any]
    predictions: results.Predictions
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
        f"The model ({architecture}, {found.training['parameters']:,} parameters) was trained for "
        f"{epochs} {'epoch' if epochs == 1 else 'epochs'} on {run.images.get('train', 0):,} images. It "
        f"predicts {percent(found.test['accuracy'])} of {found.test['images']:,} test images right; "
        f"the 95\N{NO-BREAK SPACE}% interval is {_interval(found.test)}."
    )


def _results(found: Results) -> list[page.Markup]:
    test, classes = found.test, len(found.matrix)
    rows = [
        ("Test accuracy", percent(test["accuracy"]), f"95 % interval {_interval(test)}"),
        ("Test loss", _loss(test["loss"]), "mean cross-entropy in nats"),
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
            _loss(found.training["untrained_loss"]),
            f"guessing one of {classes} classes: ln {classes} = {math.log(classes):.4f}",
        ),
    ]
    splits = [
        (
            "training",
            found.run.images.get("train"),
            found.training["loss"],
            found.training["accuracy"],
        ),
        ("test", test["images"], test["loss"], test["accuracy"]),
    ]
    if "val_loss" in found.training:
        of_split = (found.training["val_loss"], found.training["val_accuracy"])
        splits.insert(1, ("validation", found.run.images.get("validation"), *of_split))
    table = page.table(
        "Loss and accuracy by split",
        ["Split", "Images", "Loss (nats)", "Accuracy"],
        [
            [Cell(name), _integer(images or 0), _real(loss), _share(accuracy)]
            for name, images, loss, accuracy in splits
        ],
    )
    note = "Training values are means over the last epoch, while the weights still move."
    return [page.cards(rows), table, page.paragraph(note)]


def _run(dataset: Dataset, found: Results) -> list[page.Markup]:
    run = found.run
    splits = {**run.images, "test": found.test["images"]}
    size = " × ".join(str(length) for length in dataset.image.shape)
    facts = [
        (
            "Data set",
            page.Markup(f"{page.escape(dataset.title)} (<code>{page.escape(dataset.name)}</code>)"),
        ),
        ("Licence", dataset.licence),
        ("Citation", page.linked(dataset.citation)),
        ("Images", ", ".join(f"{count:,} {split}" for split, count in splits.items())),
        ("Image size", f"{size} pixels, raw values from 0 to {dataset.pixel_max:g}"),
        ("Classes", f"{len(dataset.names)}"),
    ]
    parameters = [[Cell(key), _value(value)] for key, value in run.parameters.items()]
    layers = [
        [
            Cell(str(layer["name"])),
            Cell(str(layer["type"])),
            Cell(str(layer["output"])),
            _integer(layer["parameters"]),
        ]
        for layer in run.layers
    ]
    total = sum(layer["parameters"] for layer in run.layers)
    versions = [[Cell(package), Cell(version)] for package, version in sorted(run.versions.items())]
    return [
        page.definitions(facts, "facts"),
        page.table("Parameters of the training", ["Parameter", "Value"], parameters),
        page.table(
            f"Network: {len(layers)} layers, {total:,} parameters",
            ["Layer", "Type", "Output", "Parameters"],
            layers,
            sortable=False,
        ),
        page.table("Library versions", ["Library", "Version"], versions, sortable=False),
    ]


def _training(found: Results, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    history = found.history
    names = {
        "learning_rate": "Learning rate",
        "loss": "Training loss",
        "accuracy": "Training accuracy",
        "val_loss": "Validation loss",
        "val_accuracy": "Validation accuracy",
    }
    shown = [name for name in names if name in history]
    rows = [
        [
            _integer(int(epoch)),
            *(
                Cell(f"{history[name][at]:.3g}", float(history[name][at]))
                if name == "learning_rate"
                else (_share if "accuracy" in name else _real)(float(history[name][at]))
                for name in shown
            ),
        ]
        for at, epoch in enumerate(history["epoch"])
    ]
    caption = "Loss and accuracy on the training images and, if some were held out, on those."
    table = page.table("Training by epoch", ["Epoch", *(names[name] for name in shown)], rows)
    return [
        page.figure(pngs["curves"], descriptions.curves(history), caption),
        page.folded("All epochs as a table", table),
    ]


def _confusion(dataset: Dataset, found: Results, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    pairs = results.confusions(found.matrix, _CONFUSIONS)
    alt = descriptions.confusion(found.predictions, pairs, dataset.names)
    caption = "Rows are actual classes, columns predicted ones; the diagonal is right."
    figure = page.figure(pngs["confusion"], alt, caption)
    if not pairs:
        return [figure, page.paragraph(descriptions.no_mistakes(len(found.predictions.actual)))]
    rows = [
        [
            Cell(dataset.local_name(pair.actual)),
            Cell(dataset.local_name(pair.predicted)),
            _integer(pair.images),
            _share(pair.share),
        ]
        for pair in pairs
    ]
    header = ["Actual class", "Predicted class", "Images", "Share of the actual class"]
    return [figure, page.table("Most frequent confusions", header, rows)]


def _classes(dataset: Dataset, found: Results, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    translated = list(dataset.local_names) != list(dataset.names)
    scores = found.scores
    rows = [
        [
            Cell(dataset.local_name(label)),
            *([Cell(dataset.names[label])] if translated else []),
            _integer(label),
            *(
                _share(float(values[label]))
                for values in (scores.precision, scores.recall, scores.f1)
            ),
            _integer(int(scores.support[label])),
        ]
        for label in range(len(dataset.names))
    ]
    header = [
        "Class",
        *(["In figures"] if translated else []),
        "Label",
        "Precision",
        "Recall",
        "F1",
        "Test images",
    ]
    alt = descriptions.per_class(dataset.names, scores)
    caption = "Precision: how many of those predicted as the class are of it. Recall: how many of those of the class are predicted as it."
    return [
        page.figure(pngs["per_class"], alt, caption),
        page.table("Scores by class", header, rows),
    ]


def _calibration(found: Results, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    bins = found.bins
    rows = [
        [
            Cell(
                f"{percent(bins.edges[at], 1)} to {percent(bins.edges[at + 1], 1)}",
                float(bins.edges[at]),
            ),
            _integer(int(images)),
            *(
                (_share(float(bins.confidence[at])), _share(float(bins.accuracy[at])))
                if images
                else (Cell("–", -1), Cell("–", -1))
            ),
        ]
        for at, images in enumerate(bins.images)
    ]
    alt = descriptions.calibration(bins, found.test["expected_calibration_error"])
    caption = (
        "A calibrated model is right as often as it is confident. Where the hatched part lies above "
        "the accuracy, the model is surer than it should be."
    )
    table = page.table(
        "Calibration by confidence", ["Confidence", "Images", "Mean confidence", "Accuracy"], rows
    )
    return [
        page.figure(pngs["calibration"], alt, caption),
        page.folded("All bins as a table", table),
    ]


def _predictions(dataset: Dataset, found: Results, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    alt = descriptions.predictions(found.shown, found.predictions, dataset.names)
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
        return [page.paragraph(descriptions.no_mistakes(len(found.predictions.actual)))]
    alt = descriptions.predictions(found.mistakes, found.predictions, dataset.names)
    caption = (
        f"{len(found.mistakes):,} of {count:,} mistakes: those with the highest probability of a wrong "
        "class. Some may be labelled wrong in the data."
    )
    table = _images("Most confident mistakes", found.mistakes, dataset, found.predictions)
    return [
        page.figure(pngs["mistakes"], alt, caption),
        page.folded("These images as a table", table),
    ]


def _images(
    caption: str, indices: Sequence[int], dataset: Dataset, of: results.Predictions
) -> page.Markup:
    rows = [
        [
            _integer(at),
            Cell(dataset.local_name(int(of.actual[at]))),
            Cell(dataset.local_name(int(of.predicted[at]))),
            _share(float(of.confidences[at])),
            _share(float(of.probabilities[at, of.actual[at]])),
            Cell("right" if of.right[at] else "wrong"),
        ]
        for at in indices
    ]
    header = [
        "Test image",
        "Actual",
        "Predicted",
        "Probability",
        "Of the actual class",
        "Prediction",
    ]
    return page.table(caption, header, rows)


def _data(dataset: Dataset, pngs: Mapping[str, bytes]) -> list[page.Markup]:
    name, image = dataset.names[dataset.labels[0]], dataset.image
    values = (float(image.min()), float(image.max()))
    alt = descriptions.raw_image(name, image.shape, values, dataset.pixel_max)
    names = [dataset.names[label] for label in dataset.labels]
    return [
        page.figure(pngs["samples"], descriptions.samples(names), "The first training images."),
        page.figure(
            pngs["raw_image"],
            alt,
            "The first training image as published, before scaling to 0 to 1.",
        ),
    ]


def _interval(test: Mapping[str, Any]) -> str:
    return f"{100 * test['accuracy_low']:.2f} to {percent(test['accuracy_high'])}"


def _loss(value: float) -> str:
    return f"{value:.4f}"


def _integer(value: int) -> Cell:
    return Cell(f"{value:,}", float(value))


def _real(value: float) -> Cell:
    return Cell(_loss(value), value)


def _share(value: float) -> Cell:
    return Cell(percent(value), value)


def _value(value: object) -> Cell:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Cell(text)
