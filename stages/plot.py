"""Plot: figures of the data, the training and the test results, and the report page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from stages.lib import metrics, split_file
from stages.lib.core import config, files, stage, versions
from stages.lib.core.errors import UserError
from stages.lib.data import catalogue
from stages.lib.reporting import drawing, figures, image_grids, report, stage_outputs

TRAIN_IMAGES = Path("data/normalized/train.npz")
TEST_IMAGES = Path("data/normalized/test.npz")
HISTORY = Path("reports/train/history.csv")
TRAINING = Path("reports/train/metrics.json")
RUN = Path("reports/train/run.json")
TEST = Path("reports/evaluate/metrics.json")
PREDICTIONS = Path("reports/evaluate/predictions.csv")
PER_CLASS = Path("reports/evaluate/per_class.csv")
CALIBRATION = Path("reports/evaluate/calibration.csv")
INPUTS = [
    TRAIN_IMAGES,
    TEST_IMAGES,
    HISTORY,
    TRAINING,
    RUN,
    TEST,
    PREDICTIONS,
    PER_CLASS,
    CALIBRATION,
]

FIGURES = Path("reports/figures")
PAGE = Path("reports/index.html")

TRAINING_KEYS = ("loss", "accuracy", "parameters", "untrained_loss")
TEST_KEYS = (
    "loss",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "macro_f1",
    "expected_calibration_error",
    "top2_accuracy",
    "images",
)


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
    """What this stage reads of the catalogue's entry."""

    title: str
    licence: str
    citation: str


@dataclass(frozen=True)
class Settings:
    """What the result depends on."""

    dataset: str
    entry: Entry
    params: Params


def read_settings() -> Settings:
    """Reads and checks the configuration."""
    versions.require("matplotlib", "numpy", "pyyaml", "zlib-ng")
    return Settings(*catalogue.active(Entry), config.section(config.PARAMS, "plot", Params))


def read_dataset(settings: Settings, train: split_file.Split) -> report.Dataset:
    """The data set as the figures and the page name it.

    Raises:
        UserError: Chinese class names are asked for and the data set has none.
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
        names=drawing.drawable(train.class_names),
        local_names=[" ".join(name.split()) for name in local_names],
        language=language,
        labels=train.labels.tolist(),
        image=train.images[0] * np.float32(train.pixel_max),
        pixel_max=train.pixel_max,
    )


def read_results(params: Params, test: split_file.Split) -> report.Results:
    """What train and evaluate found.

    Raises:
        UserError: A file is missing, incomplete or about another test set.
    """
    num_classes = len(test.class_names)
    predictions = stage_outputs.read_predictions(PREDICTIONS, test.labels, num_classes)
    found = stage_outputs.read_json(TEST, TEST_KEYS)
    if found["images"] != len(test.labels):
        raise stage_outputs.unexpected(
            TEST, f"images {len(test.labels)} as in {TEST_IMAGES}", found["images"]
        )
    return report.Results(
        run=stage_outputs.read_run(RUN),
        training=stage_outputs.read_json(TRAINING, TRAINING_KEYS),
        history=stage_outputs.read_history(HISTORY),
        test=found,
        predictions=predictions,
        matrix=metrics.confusion_matrix(predictions.actual, predictions.predicted, num_classes),
        scores=stage_outputs.read_per_class(PER_CLASS, num_classes),
        bins=stage_outputs.read_calibration(CALIBRATION),
        shown=range(min(params.predictions, len(test.labels))),
        mistakes=stage_outputs.mistakes(predictions, params.mistakes),
    )


def draw(
    dataset: report.Dataset, found: report.Results, train: split_file.Split, test: split_file.Split
) -> dict[str, bytes]:
    """The figures as PNG, by name."""
    names, predictions = dataset.names, found.predictions
    shown, wrong = list(found.shown), list(found.mistakes)
    count = f"First {len(shown)} test images" if len(shown) > 1 else "First test image"
    error = found.test["expected_calibration_error"]
    return {
        "raw_image": image_grids.raw_image(
            train.images[0], names[dataset.labels[0]], train.pixel_max
        ),
        "samples": image_grids.samples(train.images, [names[label] for label in dataset.labels]),
        "curves": figures.curves(found.history),
        "confusion": figures.confusion(found.matrix, names),
        "per_class": figures.per_class(names, found.scores),
        "calibration": figures.calibration(found.bins, error),
        "predictions": image_grids.predictions(
            count, test.images[shown], shown, predictions, names
        ),
        "mistakes": image_grids.predictions(
            "Most confident mistakes", test.images[wrong], wrong, predictions, names
        ),
    }


def main(settings: Settings) -> None:
    """Writes reports/figures/ and reports/index.html."""
    train = split_file.read_first(TRAIN_IMAGES, settings.params.samples)
    test = split_file.read(TEST_IMAGES)
    dataset, found = read_dataset(settings, train), read_results(settings.params, test)
    pngs = draw(dataset, found, train, test)
    with files.replacing(FIGURES) as temporary:
        temporary.mkdir()
        for name, png in pngs.items():
            (temporary / f"{name}.png").write_bytes(png)
    files.write_text(PAGE, report.render(dataset, found, pngs))
    size = PAGE.stat().st_size / 1e6
    print(f"{len(pngs)} figures in {FIGURES.as_posix()}/, {PAGE.as_posix()} of {size:.1f} MB")


if __name__ == "__main__":
    stage.run(read_settings, main, INPUTS)
