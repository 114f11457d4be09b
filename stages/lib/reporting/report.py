"""What the report page says: the values that its template names."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.lib.metrics import Calibration, PerClass
from stages.lib.reporting import alt_text, cells, data_sections, drawing, page, stage_outputs
from stages.lib.reporting.confusion_matrix import shown_classes
from stages.lib.reporting.data_tables import Data
from stages.lib.reporting.page import Cell, Table
from stages.lib.wording import counted, percent

Floats = npt.NDArray[np.float64]

_CONFUSIONS = 15  # most frequent ones, as a table
_ELSEWHERE = ("accuracy_low", "accuracy_high", "images")  # metrics that have no card of their own


@dataclass(frozen=True)
class Augmented:
    """Training images before and after augmentation; none where there was none.

    Attributes:
        images: n x V x H x W or n x V x H x W x C, 0 to 1; the first of each row is the original.
        labels: n.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """The data set; K classes.

    Attributes:
        name: Its entry in datasets.yaml.
        title: Of the publication.
        licence: Of the publication.
        citation: Of the publication.
        class_names: K class names as the data set has them, in English.
        names: K class names as figures show them.
        local_names: K class names as the page shows them.
        language: Of ``local_names``, such as zh.
        labels: Of the training images shown, in order.
        image: The first training image in raw values, H x W or H x W x C.
        pixel_max: The largest raw value that there may be.
        resize: How images were brought to one size, as ``normalize.resize``, or empty.
        augmented: What the network was given.
    """

    name: str
    title: str
    licence: str
    citation: str
    class_names: Sequence[str]
    names: Sequence[str]
    local_names: Sequence[str]
    language: str
    labels: Sequence[int]
    image: npt.NDArray[np.float32]
    pixel_max: float
    resize: str
    augmented: Augmented

    def cells(self, labels: Iterable[int]) -> list[Cell]:
        """Class names for tables of the page."""
        language = "" if self.language == "en" else self.language
        return [Cell(self.local_names[label], language=language) for label in labels]


@dataclass(frozen=True)
class Source:
    """What was published by others: its title, its licence and how it is to be cited."""

    title: str
    licence: str
    citation: str


@dataclass(frozen=True)
class Results:
    """The trained model and its test; N test images, K classes, E epochs.

    Attributes:
        weights: What the training started from, or None.
        run: What was trained.
        training: The last losses and accuracies, the untrained loss, the number of parameters.
        history: E values each.
        metrics: Of the test split by name, in the order to show them.
        predictions: For all N test images.
        scores: K values each.
        bins: Of the reliability diagram.
        first: Test images shown with their predictions.
        misclassified: Test images shown as misclassified with the highest confidence.
    """

    weights: Source | None
    run: stage_outputs.Run
    training: Mapping[str, Any]
    history: Mapping[str, Floats]
    metrics: Mapping[str, stage_outputs.Metric]
    predictions: stage_outputs.Predictions
    scores: PerClass
    bins: Calibration
    first: Sequence[int]
    misclassified: Sequence[int]


def render(dataset: Dataset, results: Results, data: Data, pngs: Mapping[str, bytes]) -> str:
    """The page as HTML.

    Args:
        dataset: The data set.
        results: Of train and evaluate.
        data: What normalize counted and evaluate doubts.
        pngs: The figures by name.
    """
    confusions = stage_outputs.confusions(results.predictions, _CONFUSIONS)
    alts = _alternatives(dataset, results, confusions)
    alts["second_looks"] = alt_text.second_looks(data.shown, dataset.names)
    figures = {name: page.Figure(png, alts[name]) for name, png in pngs.items()}
    values = {
        "title": dataset.title,
        "dataset": dataset,
        "weights": results.weights,
        "figures": figures,
        **_summary(results),
        **_results(results),
        **_run(dataset, results),
        **_tables(dataset, results, confusions),
        **data_sections.values(dataset.cells, data),
    }
    return page.render("report.html.jinja", values)


def _alternatives(
    dataset: Dataset, results: Results, confusions: Sequence[stage_outputs.Confusion]
) -> dict[str, str]:
    """What each figure shows, in words."""
    labels, image, predictions = dataset.labels, dataset.image, results.predictions
    extremes = (float(image.min()), float(image.max()))
    error = results.metrics["expected_calibration_error"].value
    changed = [dataset.names[label] for label in dataset.augmented.labels.tolist()]
    return {
        "augmented": alt_text.augmented(changed, dataset.augmented.images.shape[1] - 1),
        "curves": alt_text.curves(results.history),
        "confusion": alt_text.confusion(predictions, confusions, dataset.names),
        "per_class": alt_text.per_class(dataset.names, results.scores),
        "calibration": alt_text.calibration(results.bins, error),
        "predictions": alt_text.predictions(results.first, predictions, dataset.names),
        "mistakes": alt_text.predictions(results.misclassified, predictions, dataset.names),
        "samples": alt_text.samples([dataset.names[label] for label in labels]),
        "raw_image": alt_text.raw_image(
            dataset.names[labels[0]], image.shape, extremes, dataset.pixel_max
        ),
    }


def _summary(results: Results) -> dict[str, object]:
    run, metrics = results.run, results.metrics
    return {
        "architecture": run.parameters.get("model.architecture", "network"),
        "parameter_count": counted(results.training["parameters"], "parameter"),
        "epoch_count": counted(len(results.history["epoch"]), "epoch"),
        "training_count": counted(run.images.get("train", 0), "image"),
        "test_count": counted(int(metrics["images"].value), "test image"),
        "accuracy": percent(metrics["accuracy"].value),
        "interval": _interval(metrics),
    }


def _results(results: Results) -> dict[str, object]:
    classes, training = len(results.scores.f1), results.training
    smoothing = results.run.parameters.get("train.label_smoothing", 0)
    return {
        "cards": _cards(results.metrics),
        "by_split": Table("Loss and accuracy by split", _by_split(results)),
        "kept_epoch": f"{training.get('best_epoch', training['epochs']):,}",
        "best_of": _best_of(results),
        "penalties": results.run.penalties,
        "label_smoothing": f"{smoothing:g}" if isinstance(smoothing, float) and smoothing else "",
        "class_weights": results.run.parameters.get("train.class_weights", "none") != "none",
        "temperature": temperature(training),
        "untrained_loss": f"{training['untrained_loss']:.4f}",
        "chance_loss": f"{math.log(classes):.4f}",
        "classes": classes,
    }


def temperature(training: Mapping[str, Any]) -> str:
    """What temperature scaling did; empty where there was none."""
    if "temperature" not in training:
        return ""
    before, after = training["uncalibrated_val_loss"], training["calibrated_val_loss"]
    low, high = training["temperature_low"], training["temperature_high"]
    return (
        f"The logits are divided by a temperature of {training['temperature']:.3g} (95 % interval "
        f"{low:.3g} to {high:.3g}), fitted to the validation images; their loss went from "
        f"{before:.4f} to {after:.4f} by that."
    )


def _best_of(results: Results) -> str:
    """By what the model's epoch is the best, and of how many; empty for the last epoch."""
    if "best_epoch" not in results.training:
        return ""
    monitor = results.run.parameters.get("train.monitor", "val_loss")
    by = "highest validation accuracy" if monitor == "val_accuracy" else "lowest validation loss"
    return f"{by} of {counted(results.training['epochs'], 'epoch')}"


def _cards(metrics: Mapping[str, stage_outputs.Metric]) -> list[dict[str, str]]:
    """Every metric as its label, its value and a note about it."""
    notes = {"accuracy": f"95\N{NO-BREAK SPACE}% interval {_interval(metrics)}"}
    return [
        {"name": metric.label, "value": _value(metric), "note": notes.get(name) or _note(metric)}
        for name, metric in metrics.items()
        if name not in _ELSEWHERE
    ]


def _value(metric: stage_outputs.Metric) -> str:
    if metric.unit == "proportion":
        return percent(metric.value)
    if metric.unit == "images":
        return counted(int(metric.value), "image")
    return f"{metric.value:.4f}" if metric.unit == "nats" else f"{metric.value:.6g}"


def _note(metric: stage_outputs.Metric) -> str:
    unit = metric.unit if metric.unit == "nats" else ""
    better = f"{metric.better} is better" if metric.better else ""
    return "; ".join(filter(None, (unit, better)))


def _by_split(results: Results) -> dict[str, list[Cell]]:
    images, training, metrics = results.run.images, results.training, results.metrics
    rows: list[tuple[str, int, float, float]] = [
        ("training", images.get("train", 0), training["train_loss"], training["train_accuracy"])
    ]
    if "val_loss" in training:
        held_out = images.get("validation", 0)
        rows += [("validation", held_out, training["val_loss"], training["val_accuracy"])]
    count = len(results.predictions.actual)
    rows += [("test", count, metrics["loss"].value, metrics["accuracy"].value)]
    names, counts, losses, accuracies = zip(*rows, strict=True)
    return {
        "Split": cells.texts(names),
        "Images": cells.integers(counts),
        "Loss (nats)": cells.losses(losses),
        "Accuracy": cells.proportions(accuracies),
    }


def _run(dataset: Dataset, results: Results) -> dict[str, object]:
    run = results.run
    splits = {**run.images, "test": len(results.predictions.actual)}
    parameters = {
        "Parameter": cells.texts(run.parameters),
        "Value": cells.texts(
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for value in run.parameters.values()
        ),
    }
    versions = sorted(run.versions.items())
    libraries = {
        "Library": cells.texts(package for package, _ in versions),
        "Version": cells.texts(version for _, version in versions),
    }
    return {
        "split_sizes": ", ".join(f"{count:,} {split}" for split, count in splits.items()),
        "image_size": " × ".join(str(length) for length in dataset.image.shape),
        "pixel_max": f"{dataset.pixel_max:g}",
        "parameters": Table("Parameters of the training", parameters),
        "network": _network(run.layers),
        "libraries": Table("Library versions", libraries, sortable=False),
    }


def _network(layers: Sequence[stage_outputs.Layer]) -> Table:
    sizes = [layer.parameters for layer in layers]
    columns = {
        "Layer": cells.texts(layer.name for layer in layers),
        "Type": cells.texts(layer.type for layer in layers),
        "Output": cells.texts(layer.output for layer in layers),
        "Parameters": cells.integers(sizes),
    }
    caption = f"Network: {counted(len(layers), 'layer')}, {counted(sum(sizes), 'parameter')}"
    return Table(caption, columns, sortable=False)


def _tables(
    dataset: Dataset, results: Results, confusions: Sequence[stage_outputs.Confusion]
) -> dict[str, object]:
    predictions = results.predictions
    misclassified = int((~predictions.correct).sum())
    return {
        "epochs": _epochs(results.history),
        "held_out": "val_loss" in results.history,
        "confusions": _confusions(dataset, confusions),
        "matrix_classes": len(shown_classes(predictions)),
        "by_class": _classes(dataset, results.scores),
        "bins": _bins(results.bins),
        "bars_of_all": len(dataset.names) <= drawing.MANY_CLASSES,
        "first_images": _images("The first test images", results.first, dataset, predictions),
        "misclassified_count": misclassified,
        "misclassified": counted(misclassified, "misclassified image"),
        "misclassified_shown": f"{len(results.misclassified):,}",
        "misclassified_images": _images(
            "Misclassified with the highest confidence", results.misclassified, dataset, predictions
        ),
        "none_misclassified": alt_text.none_misclassified(len(predictions.actual)),
    }


def _epochs(history: Mapping[str, Floats]) -> Table:
    columns = {"Epoch": cells.integers(history["epoch"])}
    for key, name, column in (
        ("learning_rate", "Learning rate", cells.reals),
        ("loss", "Training loss", cells.losses),
        ("accuracy", "Training accuracy", cells.proportions),
        ("val_loss", "Validation loss", cells.losses),
        ("val_accuracy", "Validation accuracy", cells.proportions),
    ):
        if key in history:
            columns[name] = column(history[key])
    return Table("Training by epoch", columns)


def _confusions(dataset: Dataset, confusions: Sequence[stage_outputs.Confusion]) -> Table:
    columns = {
        "Actual class": dataset.cells([pair.actual for pair in confusions]),
        "Predicted class": dataset.cells([pair.predicted for pair in confusions]),
        "Images": cells.integers([pair.images for pair in confusions]),
        "Proportion of the actual class": cells.proportions(
            [pair.proportion for pair in confusions]
        ),
    }
    return Table("Most frequent confusions", columns)


def _classes(dataset: Dataset, scores: PerClass) -> Table:
    labels = range(len(dataset.names))
    columns = {"Class": dataset.cells(labels)}
    if list(dataset.local_names) != list(dataset.names):
        columns["In figures"] = cells.texts(dataset.names)
    columns |= {
        "Label": cells.integers(labels),
        "Precision": cells.proportions(scores.precision),
        "Recall": cells.proportions(scores.recall),
        "F1": cells.proportions(scores.f1),
        "Test images": cells.integers(scores.support),
    }
    return Table("Scores by class", columns)


def _bins(bins: Calibration) -> Table:
    limits = zip(bins.edges[:-1], bins.edges[1:], strict=True)
    columns = {
        "Confidence": [
            Cell(f"{percent(lower, 1)} to {percent(upper, 1)}", lower) for lower, upper in limits
        ],
        "Images": cells.integers(bins.images),
        "Mean confidence": cells.proportions(bins.confidence),
        "Accuracy": cells.proportions(bins.accuracy),
    }
    return Table("Calibration by confidence", columns)


def _images(
    caption: str, indices: Sequence[int], dataset: Dataset, test: stage_outputs.Predictions
) -> Table:
    at = np.array(indices, np.int64)
    columns = {
        "Test image": cells.integers(at),
        "Actual class": dataset.cells(test.actual[at].tolist()),
        "Predicted class": dataset.cells(test.predicted[at].tolist()),
        "Confidence": cells.proportions(test.confidences[at]),
        "Probability of the actual class": cells.proportions(
            test.probabilities[at, test.actual[at]]
        ),
        "Prediction": cells.texts("correct" if ok else "incorrect" for ok in test.correct[at]),
    }
    return Table(caption, columns)


def _interval(metrics: Mapping[str, stage_outputs.Metric]) -> str:
    low, high = metrics["accuracy_low"].value, metrics["accuracy_high"].value
    return f"{100 * low:.2f} to {percent(high)}"
