"""Plot: figures of the data, the training and the test results, and the report page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from stages.lib import split_file
from stages.lib.core import config, files, stage, versions
from stages.lib.core.errors import UserError
from stages.lib.data import catalogue
from stages.lib.reporting import (
    data_tables,
    drawing,
    figures,
    image_grids,
    model_card,
    page,
    report,
    stage_outputs,
)

TRAIN_IMAGES = Path("data/normalized/train.npz")
TEST_IMAGES = Path("data/normalized/test.npz")
VALIDATION_IMAGES = Path("data/normalized/validation.npz")
DATA = Path("reports/data")
HISTORY = Path("reports/train/history.csv")
TRAINING = Path("reports/train/metrics.json")
RUN = Path("reports/train/run.json")
AUGMENTED = Path("reports/train/augmented.npz")
METRICS = Path("reports/evaluate/metrics.json")
METRICS_TABLE = Path("reports/evaluate/metrics.csv")
PREDICTIONS = Path("reports/evaluate/predictions.csv")
PER_CLASS = Path("reports/evaluate/per_class.csv")
CALIBRATION = Path("reports/evaluate/calibration.csv")
SECOND_LOOKS = Path("reports/evaluate/second_look.csv")
INPUTS = [
    TRAIN_IMAGES,
    TEST_IMAGES,
    VALIDATION_IMAGES,
    DATA / "metrics.json",
    DATA / "tables",
    HISTORY,
    TRAINING,
    RUN,
    AUGMENTED,
    METRICS,
    METRICS_TABLE,
    PREDICTIONS,
    PER_CLASS,
    CALIBRATION,
    SECOND_LOOKS,
    page.TEMPLATES,
]

FIGURES = Path("reports/figures")
PAGE = Path("reports/index.html")
CARD = Path("reports/model_card.md")


class Params(config.Schema, frozen=True):
    """The section ``plot`` of params.yaml."""

    samples: Annotated[int, Meta(ge=1, le=100, description="training images shown")] = 25
    predictions: Annotated[
        int, Meta(ge=1, le=100, description="test images shown with their probabilities")
    ] = 15
    mistakes: Annotated[
        int, Meta(ge=1, le=100, description="most confident misclassified images shown")
    ] = 15
    class_names: Annotated[
        Literal["en", "zh"], Meta(description="language of the class names on the report page")
    ] = "en"


class Entry(config.Schema, frozen=True):
    """What this stage reads of an entry of datasets.yaml or weights.yaml."""

    title: str
    licence: str
    citation: str


@dataclass(frozen=True)
class Settings:
    """What the result depends on."""

    dataset: str
    entry: Entry
    weights: Entry | None
    params: Params


def read_settings() -> Settings:
    """Reads and checks the configuration."""
    versions.require("jinja2", "matplotlib", "msgspec", "numpy", "pyyaml", "zlib-ng")
    versions.require("kiwisolver", "markupsafe", "pillow")  # matplotlib and Jinja work with them
    name, weights = catalogue.active_weights(Entry)
    return Settings(
        *catalogue.active(Entry),
        weights if name != catalogue.NO_WEIGHTS else None,
        config.section(config.PARAMS, "plot", Params),
    )


def read_dataset(settings: Settings, train: split_file.Split) -> report.Dataset:
    """The data set as the figures and the page name it.

    Raises:
        UserError: Chinese class names are asked for and the data set has none; or its augmented
            images cannot be read.
    """
    language = settings.params.class_names
    if language == "zh" and not train.class_names_zh:
        raise UserError(
            f"{config.PARAMS}: plot.class_names: expected en, as {settings.dataset} has no Chinese "
            "class names; found zh.\nSet it to en, or add Chinese class_names to "
            f"{settings.dataset} in {config.DATASETS}."
        )
    local_names = train.class_names_zh if language == "zh" else train.class_names
    return report.Dataset(
        name=settings.dataset,
        title=settings.entry.title,
        licence=settings.entry.licence,
        citation=settings.entry.citation,
        class_names=train.class_names,
        names=drawing.drawable(train.class_names),
        local_names=drawing.shortened(local_names),
        language=language,
        labels=train.labels.tolist(),
        image=train.images[0] * np.float32(train.pixel_max),
        pixel_max=train.pixel_max,
        resize=train.fitted[0] if train.fitted else "",
        augmented=read_augmented(train),
    )


def read_augmented(train: split_file.Split) -> report.Augmented:
    """Training images before and after augmentation; none where there was none.

    Raises:
        UserError: The file is missing, damaged or about another data set.
    """
    split = split_file.read(AUGMENTED)
    expected, found = (
        (each.images.shape[1:], each.class_names, each.labels[:1].tolist())
        for each in (train, split)
    )
    names = split.names or []
    variants = len(names) // max(1, names.count("original"))
    row = ["original", *["augmented"] * (variants - 1)]
    if names and (found != expected or names != row * names.count("original")):
        rows = f"images of {TRAIN_IMAGES.as_posix()}, each before its variants"
        raise stage_outputs.unexpected(AUGMENTED, rows, "others")
    shape = (-1, max(1, variants), *split.images.shape[1:])
    return report.Augmented(split.images[:].reshape(shape), split.labels[:: max(1, variants)])


def read_results(
    params: Params, test: split_file.Split, weights: Entry | None = None
) -> report.Results:
    """The results of train and evaluate, which agree with each other.

    Raises:
        UserError: A file is missing, damaged or about another training or test set.
    """
    history = stage_outputs.read_history(HISTORY)
    metrics = stage_outputs.read_metrics(METRICS, METRICS_TABLE)
    if metrics["images"].value != len(test.labels):
        raise stage_outputs.unexpected(
            METRICS, f"images {len(test.labels)} as in {TEST_IMAGES}", metrics["images"].value
        )
    predictions = stage_outputs.read_predictions(PREDICTIONS, test.labels, len(test.class_names))
    bins = stage_outputs.read_calibration(CALIBRATION, predictions)
    stage_outputs.check_metrics(METRICS, metrics, predictions, bins)
    return report.Results(
        weights=report.Source(**msgspec.structs.asdict(weights)) if weights else None,
        run=stage_outputs.read_run(RUN),
        training=stage_outputs.read_training(TRAINING, HISTORY, history),
        history=history,
        metrics=metrics,
        predictions=predictions,
        scores=stage_outputs.read_per_class(PER_CLASS, predictions),
        bins=bins,
        first=range(min(params.predictions, len(test.labels))),
        misclassified=stage_outputs.misclassified(predictions, params.mistakes),
    )


def read_data(splits: Mapping[str, split_file.Split]) -> data_tables.Data:
    """What normalize counted and evaluate doubts, which agrees with the held-out splits.

    Raises:
        UserError: A file is missing, damaged or about another data set.
    """
    labels = {name: split.labels for name, split in splits.items()}
    num_classes = len(splits["test"].class_names)
    return data_tables.read(DATA, SECOND_LOOKS, labels, num_classes)


def draw(
    dataset: report.Dataset,
    results: report.Results,
    data: data_tables.Data,
    train: split_file.Split,
    held_out: Mapping[str, split_file.Split],
) -> dict[str, bytes]:
    """The figures as PNG, by name."""
    test, looks = held_out["test"], data.shown
    names, predictions = dataset.names, results.predictions
    first, misclassified = list(results.first), list(results.misclassified)
    title = f"First {len(first)} test images" if len(first) > 1 else "First test image"
    error = results.metrics["expected_calibration_error"].value
    pngs = {
        "raw_image": image_grids.raw_image(
            train.images[0], names[dataset.labels[0]], train.pixel_max
        ),
        "samples": image_grids.samples(train.images[:], [names[label] for label in dataset.labels]),
        "curves": figures.curves(results.history),
        "confusion": figures.confusion(predictions, names),
        "per_class": figures.per_class(names, results.scores),
        "calibration": figures.calibration(results.bins, error),
        "predictions": image_grids.predictions(
            title, test.images[first], first, predictions, names
        ),
        "mistakes": image_grids.predictions(
            "Misclassified with the highest confidence",
            test.images[misclassified],
            misclassified,
            predictions,
            names,
        ),
        "second_looks": image_grids.second_looks(
            [held_out[look.split].images[look.index] for look in looks], looks, names
        ),
    }
    if changed := dataset.augmented.labels.tolist():
        pngs["augmented"] = image_grids.augmented(
            dataset.augmented.images, [names[label] for label in changed]
        )
    return pngs


def main(settings: Settings) -> None:
    """Writes reports/figures/, reports/model_card.md and reports/index.html."""
    train = split_file.read_first(TRAIN_IMAGES, settings.params.samples)
    test = split_file.read(TEST_IMAGES)
    held_out = {"test": test, "validation": split_file.read(VALIDATION_IMAGES)}
    for path, split in ((TRAIN_IMAGES, train), (TEST_IMAGES, test)):
        if not split.images.size:
            raise stage_outputs.unexpected(path, "at least one image", "none")
    dataset = read_dataset(settings, train)
    results = read_results(settings.params, test, settings.weights)
    data = read_data(held_out)
    pngs = draw(dataset, results, data, train, held_out)
    with files.replacing(FIGURES) as temporary:
        temporary.mkdir()
        for name, png in pngs.items():
            (temporary / f"{name}.png").write_bytes(png)
    files.write_text(CARD, model_card.render(dataset, results, data))
    files.write_text(PAGE, report.render(dataset, results, data, pngs))
    size = PAGE.stat().st_size / 1e6
    print(f"{len(pngs)} figures in {FIGURES.as_posix()}/, {PAGE.as_posix()} of {size:.1f} MB")


if __name__ == "__main__":
    stage.run(read_settings, main, INPUTS)
