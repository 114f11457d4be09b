"""Train: the configured architecture on the training split, watched on the validation split."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from msgspec.structs import asdict

from stages.lib import architectures, model_file, runtime, split_file
from stages.lib.core import config, files, stage, versions
from stages.lib.core.errors import UserError
from stages.lib.training import augmentation, checkpoint, loop, optimizers, schedule

with runtime.starting():
    import keras

TRAIN = Path("data/normalized/train.npz")
VALIDATION = Path("data/normalized/validation.npz")
MODEL = Path("models/model.keras")
REPORTS = Path("reports/train")


class Params(config.Schema, frozen=True):
    """The section ``train`` of params.yaml; defaults are those of the beginner tutorials."""

    optimizer: Annotated[
        optimizers.Name, Meta(description="a Keras optimizer, by its lower-case name")
    ] = "adam"
    learning_rate: Annotated[float, Meta(gt=0, le=1e38, description="the highest one")] = 0.001
    schedule: Annotated[
        Literal["constant", "cosine", "linear"],
        Meta(description="how the learning rate falls to 0 after the warm-up"),
    ] = "constant"
    warmup: Annotated[
        float,
        Meta(ge=0, lt=1, description="fraction of the steps in which the learning rate rises"),
    ] = 0.0
    weight_decay: Annotated[
        float, Meta(ge=0, lt=1, description="taken off every weight in a step of rate 1")
    ] = 0.0
    label_smoothing: Annotated[
        float, Meta(ge=0, lt=1, description="fraction of the target spread over all classes")
    ] = 0.0
    augmentation: augmentation.Augmentation = augmentation.Augmentation()
    batch_size: Annotated[int, Meta(ge=1, le=65536, description="images a step")] = 32
    epochs: Annotated[int, Meta(ge=1, le=10000, description="passes over the images")] = 5
    seed: Annotated[
        int, Meta(ge=0, le=4294967295, description="of weights, order, dropout, augmentation")
    ] = 1
    threads: Annotated[
        int, Meta(ge=1, le=1024, description="threads of one operation; part of the result")
    ] = 1


@dataclass(frozen=True)
class Settings:
    """What the result depends on, beside the code and the data."""

    architecture: str
    arguments: dict[str, Any]
    output: Literal["logits", "softmax"]
    params: Params
    versions: dict[str, str]


def read_settings() -> Settings:
    """Reads and checks the configuration."""
    installed = versions.require("keras", "numpy", "pyyaml", "tensorflow", "zlib-ng")
    params = config.section(config.PARAMS, "train", Params)
    architecture = config.value(config.PARAMS, "model.architecture", str)
    build = architectures.builder(architecture)
    return Settings(
        architecture=architecture,
        arguments=config.arguments(config.PARAMS, f"model.{architecture}", build),
        output=config.value(config.PARAMS, "model.output", Literal["logits", "softmax"]),
        params=params,
        versions=installed,
    )


def fit(
    training: loop.Loop,
    split: split_file.Split,
    validation: split_file.Split,
    params: Params,
    kept: checkpoint.Checkpoint,
) -> checkpoint.History:
    """Trains from the last kept epoch to the last one, and returns the history.

    Args:
        training: The loop over model and optimizer.
        split: The training images.
        validation: Images to watch the training on; there may be none.
        params: How to train.
        kept: Where the state after every epoch is kept.

    Returns:
        One row an epoch: loss, accuracy, learning rate, and the validation's.
    """
    images, labels = loop.as_tensor(split.images), loop.as_tensor(split.labels)
    history = kept.restore(training.variables)
    steps = math.ceil(len(split.labels) / params.batch_size)
    rates = schedule.learning_rates(
        params.learning_rate, params.schedule, params.warmup, steps * params.epochs
    ).reshape(params.epochs, steps)
    for epoch in range(len(history) + 1, params.epochs + 1):
        order = np.random.default_rng([params.seed, epoch]).permutation(len(split.labels))
        report, every = progress(f"Epoch {epoch}/{params.epochs}", steps)
        scores = training.epoch(images, labels, order, rates[epoch - 1], report, every)
        if not math.isfinite(scores.loss):
            raise UserError(
                f"{config.PARAMS}: train.learning_rate: expected one that lets the loss fall; with "
                f"{params.learning_rate:g} it became {scores.loss} in epoch {epoch}.\n"
                "Lower it, or raise train.warmup, and run again."
            )
        row = {"learning_rate": float(rates[epoch - 1, -1])}
        row |= {"loss": scores.loss, "accuracy": scores.accuracy}
        if len(validation.labels):
            held_out = training.evaluate(validation.images, validation.labels)
            row |= {"val_loss": held_out.loss, "val_accuracy": held_out.accuracy}
        history.append({name: float(f"{value:.6g}") for name, value in row.items()})
        numbers = ", ".join(f"{k} {v:.4f}" for k, v in row.items() if k[-4:] in ("loss", "racy"))
        print(f"Epoch {epoch}/{params.epochs}: {numbers}", flush=True)
        if runtime.is_chief():
            kept.save(training.variables, history)
    return history


def progress(title: str, steps: int) -> tuple[loop.Report | None, int]:
    """A report of the share done, and the steps between two of them; none where nobody watches."""
    if not sys.stderr.isatty():
        return None, 0

    def report(done: int, total: int, scores: loop.Scores) -> None:
        bar = "#" * (20 * done // total)
        end = "\r" if done < total else "\r\033[K"
        print(f"{title} [{bar:<20}] loss {scores.loss:.4f}", end=end, file=sys.stderr, flush=True)

    return report, -(-steps // 20)


def with_output(model: keras.Model, output: str) -> keras.Model:
    """The trained model itself, or with a softmax after its logits."""
    if output == "logits":
        return model
    return keras.Model(model.inputs[0], keras.layers.Softmax()(model.outputs[0]), name=model.name)


def run_record(
    settings: Settings, model: keras.Model, split: split_file.Split, validation: split_file.Split
) -> dict[str, object]:
    """What was run: parameters, versions, numbers of images and layers."""
    return {
        "parameters": {
            "model.architecture": settings.architecture,
            **{f"model.{settings.architecture}.{k}": v for k, v in settings.arguments.items()},
            "model.output": settings.output,
            **{f"train.{name}": value for name, value in asdict(settings.params).items()},
        },
        "versions": settings.versions,
        "images": {"train": len(split.labels), "validation": len(validation.labels)},
        "layers": [
            {
                "name": layer.name,
                "type": type(layer).__name__,
                "output": " x ".join(str(size) for size in layer.output.shape[1:]),
                "parameters": layer.count_params(),
            }
            for layer in model.layers
        ],
    }


def main(settings: Settings) -> None:
    """Writes models/model.keras and reports/train/, metrics.json last."""
    params = settings.params
    runtime.configure(params.threads, params.seed)
    strategy = runtime.strategy()
    split, validation = split_file.read(TRAIN), split_file.read(VALIDATION)
    num_classes = len(split.class_names)
    with strategy.scope():
        model = architectures.build(
            settings.architecture, split.images.shape[1:], num_classes, settings.arguments
        )
        training = loop.Loop(
            model,
            optimizers.make(params.optimizer, params.weight_decay),
            loop.cross_entropy(num_classes, params.label_smoothing),
            params.batch_size,
            augmentation.make(params.augmentation),
            params.seed,
        )
        model.summary(line_length=80)
        batch = slice(params.batch_size)
        untrained = training.evaluate(split.images[batch], split.labels[batch])
        print(
            f"Untrained loss on one batch: {untrained.loss:.4f}; "
            f"ln {num_classes} = {math.log(num_classes):.4f} would be by chance"
        )
        kept = checkpoint.Checkpoint(stage.key(settings, [TRAIN, VALIDATION]))
        history = fit(training, split, validation, params, kept)
    if not runtime.is_chief():
        return
    model_file.save(with_output(model, settings.output), MODEL)
    rows = [[epoch, *row.values()] for epoch, row in enumerate(history, start=1)]
    files.write_csv(REPORTS / "history.csv", ["epoch", *history[0]], rows)
    files.write_json(REPORTS / "run.json", run_record(settings, model, split, validation))
    last = {name: value for name, value in history[-1].items() if name != "learning_rate"}
    facts = {"epochs": len(history), "parameters": model.count_params()}
    untrained_loss = {"untrained_loss": round(untrained.loss, 6)}
    files.write_json(REPORTS / "metrics.json", {**last, **facts, **untrained_loss})
    kept.remove()
    print(f"{model.count_params():,} parameters in {MODEL.as_posix()}")
    print(f"History and metrics in {REPORTS.as_posix()}/")


if __name__ == "__main__":
    stage.run(read_settings, main, [TRAIN, VALIDATION])
