"""Train: the configured architecture on the training split, watched on the validation split."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
from msgspec import Meta, field

from stages.lib import architectures, model_file, runtime, split_file
from stages.lib.core import config, files, stage, versions
from stages.lib.core.errors import UserError
from stages.lib.data import catalogue
from stages.lib.stored_images import StoredImages
from stages.lib.training import (
    augmentation,
    best,
    chance,
    checkpoint,
    class_weights,
    loop,
    naming,
    optimizers,
    phases,
    precision,
    progress,
    standardization,
    starting,
    temperature,
    typicality,
)
from stages.lib.training.augmentation import Augmentation

with runtime.starting():
    import keras

TRAIN = Path("data/normalized/train.npz")
VALIDATION = Path("data/normalized/validation.npz")
MODEL = Path("models/model.keras")
REPORTS = Path("reports/train")
SHOWN, VARIANTS = 6, 5  # training images that are shown augmented, and how often each


class Params(config.Schema, frozen=True):
    """The section ``train`` of params.yaml; defaults are those of the beginner tutorials."""

    OPTIONS: ClassVar[frozenset[str]] = frozenset(
        {
            *("optimizer_arguments", "class_weights", "standardize", "keep", "monitor"),
            *("patience", "temperature", "precision", "deterministic"),
            *("frozen_epochs", "fine_tuning_factor"),
        }
    )
    optimizer: Annotated[
        optimizers.Name, Meta(description="a Keras optimizer, by its lower-case name")
    ] = "adam"
    optimizer_arguments: Annotated[
        dict[str, int | float | bool], Meta(description="its own, by their names in Keras")
    ] = field(default_factory=dict)
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
    augmentation: Augmentation = Augmentation()
    batch_size: Annotated[int, Meta(ge=1, le=65536, description="images a step")] = 32
    epochs: Annotated[int, Meta(ge=1, le=10000, description="passes over the images")] = 5
    seed: Annotated[
        int, Meta(ge=0, le=4294967295, description="of weights, order, dropout, augmentation")
    ] = 1
    threads: Annotated[
        int, Meta(ge=1, le=1024, description="threads of one operation; part of the result")
    ] = 1
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"],
        Meta(description="of the training's arithmetic; weights and scores are float32"),
    ] = "float32"
    deterministic: Annotated[
        bool, Meta(description="the same bits on a GPU each time; false is faster")
    ] = True
    class_weights: Annotated[
        Literal["none", "balanced"], Meta(description="balanced: rare classes count as much")
    ] = "none"
    standardize: Annotated[
        bool, Meta(description="mean 0 and deviation 1 by channel, inside the model")
    ] = False
    keep: Annotated[
        Literal["last", "best"], Meta(description="the epoch whose weights are the model's")
    ] = "last"
    monitor: Annotated[
        best.Monitor, Meta(description="what is lowest or highest in the best epoch")
    ] = "val_loss"
    patience: Annotated[
        Annotated[int, Meta(ge=1, le=10000)] | None,
        Meta(description="epochs without a better one after which training ends"),
    ] = None
    temperature: Annotated[
        Literal["none", "validation"],
        Meta(description="the split by which the logits are scaled, once trained"),
    ] = "none"
    frozen_epochs: Annotated[
        int, Meta(ge=0, le=10000, description="epochs before those of model.weights are trained")
    ] = 0
    fine_tuning_factor: Annotated[
        float, Meta(gt=0, le=1, description="of learning_rate, once the frozen epochs are over")
    ] = 0.1


class Weights(config.Schema, frozen=True):
    """What this stage reads of the entry in weights.yaml."""

    files: dict[str, catalogue.File]


@dataclass(frozen=True)
class Settings:
    """What the result depends on, beside the code and the data."""

    architecture: str
    arguments: dict[str, Any]
    output: Literal["logits", "softmax"]
    weights: tuple[str, Weights]
    params: Params
    versions: dict[str, str]


def read_settings() -> Settings:
    """Reads and checks the configuration."""
    installed = versions.require(
        "h5py", "keras", "msgspec", "numpy", "pyyaml", "tensorflow", "zlib-ng"
    )
    versions.require("ml-dtypes", "opt-einsum", "optree")  # which both compute with
    params = config.section(config.PARAMS, "train", Params)
    architecture = config.value(config.PARAMS, "model.architecture", str)
    build = architectures.builder(architecture)
    return Settings(
        architecture=architecture,
        arguments=config.arguments(config.PARAMS, f"model.{architecture}", build),
        output=config.value(config.PARAMS, "model.output", Literal["logits", "softmax"]),
        weights=catalogue.active_weights(Weights),
        params=params,
        versions=installed,
    )


def fit(
    trainings: phases.Phases,
    model: keras.Model,
    split: split_file.Split,
    validation: split_file.Split,
    params: Params,
    saved: checkpoint.Checkpoint,
) -> checkpoint.History:
    """The history of a training that goes on from the last saved epoch to the last one.

    Args:
        trainings: The loops over model and optimizer.
        model: The model that it trains.
        split: The training images.
        validation: Images to watch the training on; there may be none.
        params: How to train.
        saved: Where the state after every epoch is kept.

    Returns:
        One row an epoch: loss, accuracy, learning rate, and the validation's.

    Raises:
        UserError: A loss or the weights are no longer finite.
    """
    labels = loop.as_tensor(split.labels)
    images = split.images
    if not isinstance(images, StoredImages):
        images = loop.as_tensor(images)
    kept = best.Weights(model.variables if params.keep == "best" else [])
    state: list[checkpoint.Variable] = [*trainings.variables, *kept.values]
    history = saved.restore(state)
    steps = steps_of_epoch(split, params)
    rates = learning_rates(params, steps)
    training = trainings.of(len(history))
    with progress.Progress(params.epochs, steps, len(history)) as shown:
        for epoch in range(len(history) + 1, params.epochs + 1):
            if best.is_over(history, params.monitor, params.patience, params.frozen_epochs):
                since = best.best_epoch(history, params.monitor)
                shown.line(f"No better {params.monitor} since epoch {since}: the training ends.")
                break
            order = np.random.default_rng([params.seed, epoch]).permutation(len(split.labels))
            report = shown.epoch(epoch)
            training = trainings.of(epoch)
            scores = training.epoch(
                images, labels, order, rates[epoch - 1], report, shown.report_every
            )
            results = {"loss": scores.loss, "accuracy": scores.accuracy}
            trainings.end()  # penalties of frozen layers count too, or epochs could not be compared
            with training.averaged():
                if len(validation.labels):
                    held_out = training.evaluate(validation.images, validation.labels)
                    results |= {"val_loss": held_out.loss, "val_accuracy": held_out.accuracy}
                if broken := not_finite(model, results):
                    raise diverged(broken, epoch, steps, params)
                row = {"learning_rate": float(rates[epoch - 1, -1])} | results
                history.append({name: float(f"{value:.6g}") for name, value in row.items()})
                if params.keep == "best" and best.best_epoch(history, params.monitor) == epoch:
                    kept.keep()
            numbers = ", ".join(f"{name} {value:.4f}" for name, value in results.items())
            shown.line(f"Epoch {epoch}/{params.epochs}: {numbers}")
            if runtime.is_chief():
                saved.save(state, history)
    training.average()
    kept.put()
    trainings.end()
    batch = slice(params.batch_size)  # the last step may have spoilt what no epoch's loss shows
    last = training.evaluate(split.images[batch], split.labels[batch])
    if broken := not_finite(model, {"loss": last.loss}):
        raise diverged(broken, params.epochs, steps, params)
    return history


def steps_of_epoch(split: split_file.Split, params: Params) -> int:
    """The number of batches, the last one perhaps smaller."""
    return math.ceil(len(split.labels) / params.batch_size)


def learning_rates(params: Params, steps: int) -> npt.NDArray[np.float32]:
    """The learning rates of a training by epoch and step."""
    return phases.learning_rates(
        params.learning_rate,
        params.fine_tuning_factor,
        params.schedule,
        params.warmup,
        (params.frozen_epochs, params.epochs),
        steps,
    )


def not_finite(model: keras.Model, results: dict[str, float]) -> str | None:
    """What became NaN or infinite in an epoch, or None: a result with its value, or a weight."""
    for name, value in results.items():
        if not math.isfinite(value):
            return f"{name} {value}"
    variable = model_file.not_finite(model)
    return f"NaN or infinity in the weights {variable}" if variable else None


def diverged(broken: str, epoch: int, steps: int, params: Params) -> UserError:
    """The error for a training whose losses or weights are no longer finite."""
    first, last = (epoch - 1) * steps + 1, epoch * steps
    place = f"epoch {epoch} (step {first}" + (f" to {last})" if last > first else ")")
    own = ", or leave out train.optimizer_arguments," if params.optimizer_arguments else ","
    return UserError(
        f"{config.PARAMS}: train.learning_rate: expected one that lets the loss fall; with "
        f"{params.learning_rate:g}, found {broken} after {place}.\n"
        f"Lower it or raise train.warmup{own} and run again; a network of your own may also divide "
        "by 0."
    )


def with_output(model: keras.Model, output: str) -> keras.Model:
    """The trained model itself, or with a softmax after its logits."""
    if output == "logits":
        return model
    return naming.ended_by(keras.layers.Softmax(name=naming.free("softmax", model)), model)


def metadata(output: Literal["logits", "softmax"], split: split_file.Split) -> model_file.Metadata:
    """What the model's file says about its classes, images and outputs."""
    typical = typicality.describe(split.images)
    edge = typical.mean[typical.properties.index("edge brightness")]
    resize, background = split.fitted or ("pad", float(round(edge)))
    return model_file.Metadata(
        class_names=split.class_names,
        class_names_zh=split.class_names_zh,
        input_shape=list(split.images.shape[1:]),
        input_range=(0.0, 1.0),
        pixel_max=split.pixel_max,
        resize=resize,
        background=background,
        outputs="logits" if output == "logits" else "probabilities",
        typical=typical,
    )


def run_record(
    settings: Settings, model: keras.Model, split: split_file.Split, validation: split_file.Split
) -> dict[str, object]:
    """What was run: parameters, versions, numbers of images and layers."""
    weights, _ = settings.weights
    return {
        "parameters": {
            "model.architecture": settings.architecture,
            **{f"model.{settings.architecture}.{k}": v for k, v in settings.arguments.items()},
            "model.output": settings.output,
            **({"model.weights": weights} if weights != catalogue.NO_WEIGHTS else {}),
            **{f"train.{name}": value for name, value in config.recorded(settings.params).items()},
        },
        "versions": settings.versions,
        "images": {"train": len(split.labels), "validation": len(validation.labels)},
        "penalties": bool(model.losses),
        "layers": [
            {
                "name": layer.name,
                "type": type(layer).__name__,
                "output": shape_of(layer.output),
                "parameters": layer.count_params(),
            }
            for layer in layers(model, settings.params.standardize)
        ],
    }


def shape_of(output: Any) -> str:
    """The shapes of a layer's outputs, one or several, without their first axis."""
    return ", ".join(
        " x ".join(str(size) for size in tensor.shape[1:]) for tensor in keras.tree.flatten(output)
    )


def layers(model: keras.Model, standardize: bool) -> list[keras.layers.Layer]:
    """The layers of a model, with those of the network that stands behind the standardization."""
    outer: list[keras.layers.Layer] = list(model.layers)
    if not standardize:
        return outer
    *first, network = outer
    inner = cast(keras.Model, network).layers
    return [*first, *(layer for layer in inner if not isinstance(layer, keras.layers.InputLayer))]


def augmented(split: split_file.Split, params: Params) -> split_file.Split:
    """The first training images, each before some augmented ones of it; none without augmentation.

    Their names are ``original`` and ``augmented``.
    """
    first = split.images[:SHOWN]
    images = augmentation.examples(first, params.augmentation, params.seed, VARIANTS)
    if images is None:
        images, repeats = first[:0], 0
    else:
        repeats = 1 + VARIANTS
    labels = np.repeat(split.labels[: len(first)], repeats)
    names = ["original", *["augmented"] * VARIANTS] * len(first) if repeats else []
    return replace(split, images=images, labels=labels, names=names)


def read_splits() -> tuple[split_file.Split, split_file.Split]:
    """The training and the validation split.

    Raises:
        UserError: There are no training images, or the splits are not of one data set.
    """
    split, validation = split_file.read(TRAIN), split_file.read(VALIDATION)
    if not len(split.labels):
        raise UserError(
            f"{TRAIN.as_posix()}: expected at least one training image, found none.\n"
            "Lower normalize.validation_fraction, or add images, and run `dvc repro`."
        )
    expected = (split.images.shape[1:], split.class_names)
    found = (validation.images.shape[1:], validation.class_names)
    if found != expected:
        raise UserError(
            f"{VALIDATION.as_posix()}: expected images {expected[0]} of {len(expected[1])} classes "
            f"as in {TRAIN.as_posix()}, found {found[0]} of {len(found[1])}, or other names.\n"
            "Delete both and run `dvc repro`."
        )
    return split, validation


def refuse_without_validation(params: Params) -> None:
    """Refuses what is chosen by the validation split, where there is none.

    Raises:
        UserError: The best epoch is to be kept, the training to end for want of a better one, or
            a temperature to be fitted.
    """
    for name, plain in (("keep", "last"), ("patience", None), ("temperature", "none")):
        value = getattr(params, name)
        if value != plain:
            raise UserError(
                f"{config.PARAMS}: train.{name}: expected {plain or 'null'} without a validation "
                f"split, found {value}.\nHold images out by normalize.validation_fraction, or set "
                f"train.{name}: {plain or 'null'}, and run again."
            )


@dataclass(frozen=True)
class Networks:
    """The network before its training.

    Attributes:
        scored: What is scored and saved.
        trained: The same, or one of another precision.
        started: The layers of ``trained`` that have the values of model.weights.
    """

    scored: keras.Model
    trained: keras.Model
    started: list[keras.layers.Layer]


def networks(settings: Settings, split: split_file.Split) -> Networks:
    """The network with the values that it starts from.

    Raises:
        UserError: It cannot have those of ``model.weights``; layers that have none are to be
            frozen; or images that the network scales itself would be standardized before.
    """
    refuse_frozen_epochs(settings)
    params, start = settings.params, starting.file(catalogue.sums(settings.weights[1].files))
    moments = standardization.moments(split.images) if params.standardize else None
    if start and start.suffix == ".h5" and params.standardize:
        raise UserError(
            f"{config.PARAMS}: train.standardize: expected false with weights of "
            "keras.applications, as the network scales the pixels itself, found true.\n"
            "Set it to false and run again."
        )

    def network() -> tuple[keras.Model, list[keras.layers.Layer]]:
        shape, num_classes = split.images.shape[1:], len(split.class_names)
        model = architectures.build(settings.architecture, shape, num_classes, settings.arguments)
        started = starting.assign(model, start, split.class_names) if start else []
        return standardization.standardized(model, *moments) if moments else model, started

    model, started = network()
    if params.frozen_epochs and not started:
        raise UserError(
            f"{config.PARAMS}: train.frozen_epochs: expected 0, as the network has no weights "
            f"below its last layer; found {params.frozen_epochs}.\nSet it to 0 and run again."
        )
    if params.precision == "float32":
        return Networks(model, model, started)
    with precision.mixed(params.precision, params.seed):
        trained, started = network()
    if not precision.keep_logits(trained):
        print(f"train.precision: the logits of this network stay in {params.precision}, which may")
        print("cost accuracy: its last layer is made of other layers, or keeps to that type.")
    return Networks(model, trained, started)


def refuse_frozen_epochs(settings: Settings) -> None:
    """Refuses frozen epochs where there is nothing to freeze, or more of them than epochs.

    Raises:
        UserError: It is so.
    """
    frozen, epochs = settings.params.frozen_epochs, settings.params.epochs
    name, weights = settings.weights
    where = f"{config.PARAMS}: train.frozen_epochs"
    if frozen and not weights.files:
        raise UserError(
            f"{where}: expected 0, as model.weights is {name}; found {frozen}.\n"
            "Name weights to start from, or set it to 0, and run again."
        )
    if frozen > epochs:
        raise UserError(
            f"{where}: expected at most train.epochs, {epochs}; found {frozen}.\n"
            "Lower it or raise train.epochs, and run again."
        )


def make_loop(
    network: Networks, labels: npt.NDArray[np.int64], params: Params, first_step: int = 0
) -> loop.Loop:
    """The loop that trains the layers of a network, of K outputs, that are not frozen.

    Args:
        network: What is trained and scored.
        labels: Of the N training images.
        params: How to train.
        first_step: The number of steps of the phase before.
    """
    num_classes = network.scored.outputs[0].shape[-1]
    weights = None
    if params.class_weights == "balanced":
        weights = class_weights.balanced(labels, num_classes)
    return loop.Loop(
        network.trained,
        optimizers.make(params.optimizer, params.weight_decay, params.optimizer_arguments),
        loop.cross_entropy(num_classes, params.label_smoothing),
        params.batch_size,
        augmentation.make(params.augmentation),
        params.seed,
        weights,
        augmentation.make_mix(params.augmentation),
        network.scored,
        first_step,
    )


def remarks(model: keras.Model, params: Params) -> Iterator[str]:
    """What would train the model faster on this machine."""
    cores = runtime.cores()
    if remark := runtime.remark_on_threads(model, params.threads, params.batch_size, cores):
        yield f"train.threads: {remark}; the number is part of the result."
    if remark := precision.remark(params.precision):
        yield f"train.precision: {remark}."


def main(settings: Settings) -> Callable[[], None] | None:
    """Writes models/model.keras and reports/train/, metrics.json last.

    Returns:
        What removes the checkpoint, to be called once the result is accepted; None in a worker
        that writes nothing.
    """
    params = settings.params
    optimizers.check(params.optimizer, params.optimizer_arguments)
    augmentation.check(params.augmentation)
    runtime.configure(params.threads, params.seed, params.deterministic)
    strategy = runtime.strategy()
    split, validation = read_splits()
    if not len(validation.labels):
        refuse_without_validation(params)
    print(runtime.device())
    section = f"model.{settings.architecture}"
    with strategy.scope(), runtime.enough_memory(section, "a network that fits", "Make it smaller"):
        network = networks(settings, split)
    model = network.scored
    architectures.refuse_idle(settings.architecture, network.trained)
    architectures.refuse_unloadable(settings.architecture, model)
    size = min(params.batch_size, len(split.labels))
    if strategy.num_replicas_in_sync > 1:
        kept = model_file.is_of_keras(network.trained)
    else:
        kept = chance.is_kept(network.trained, size)
    if not kept:
        print(
            "Layers of this network draw random numbers, or keep values, outside of its variables:"
        )
        print("interrupted, the training starts anew. docs/own-network.md says how it would go on.")
    saved = checkpoint.Checkpoint(stage.key(settings, [TRAIN, VALIDATION]), kept)
    with (
        strategy.scope(),
        runtime.enough_memory("train.batch_size"),
        runtime.deterministic_operations(),
    ):
        trainings = phases.Phases(
            lambda step: make_loop(network, split.labels, params, step),
            network.started,
            params.frozen_epochs,
            steps_of_epoch(split, params),
        )
        model.summary(line_length=80)
        if settings.weights[1].files:
            name, count = settings.weights[0], len(network.started)
            print(f"Starts from {name}; layers below the last that have its values: {count}")
        for remark in remarks(model, params):
            print(remark)
        batch, num_classes = slice(params.batch_size), len(split.class_names)
        first = trainings.of(1)
        trainings.end()  # as after each epoch
        untrained = first.evaluate(split.images[batch], split.labels[batch])
        print(
            f"{'Starting' if settings.weights[1].files else 'Untrained'} loss on one batch: "
            f"{untrained.loss:.4f}; "
            f"ln {num_classes} = {math.log(num_classes):.4f} would be by chance"
        )
        history = fit(trainings, network.trained, split, validation, params, saved)
    if not runtime.is_chief():
        return None
    write(settings, model, split, validation, history, untrained.loss)
    return saved.remove


def write(
    settings: Settings,
    model: keras.Model,
    split: split_file.Split,
    validation: split_file.Split,
    history: checkpoint.History,
    untrained_loss: float,
) -> None:
    """Writes the model and reports/train/.

    Args:
        settings: What the result depends on.
        model: The trained network, up to its logits.
        split: The training images.
        validation: The validation images.
        history: One row an epoch.
        untrained_loss: Of one batch, in nats.
    """
    params, final, scaling = settings.params, model, dict[str, float]()
    if params.temperature == "validation":
        final, scaling = temperature.calibrated(model, validation.images, validation.labels)
        low, high = scaling["temperature_low"], scaling["temperature_high"]
        print(f"Temperature {scaling['temperature']:.3g} (95 % interval {low:.3g} to {high:.3g})")
    model_file.save(with_output(final, settings.output), MODEL, metadata(settings.output, split))
    split_file.write(REPORTS / "augmented.npz", augmented(split, params))
    rows = [[epoch, *row.values()] for epoch, row in enumerate(history, start=1)]
    files.write_csv(REPORTS / "history.csv", ["epoch", *history[0]], rows)
    files.write_json(REPORTS / "run.json", run_record(settings, model, split, validation))
    scores = final_metrics(history, model, untrained_loss, params)
    files.write_json(REPORTS / "metrics.json", {**scores, **scaling})
    print(f"{model.count_params():,} parameters in {MODEL.as_posix()}")
    print(f"History and metrics in {REPORTS.as_posix()}/")


def final_metrics(
    history: checkpoint.History, model: keras.Model, untrained_loss: float, params: Params
) -> dict[str, float]:
    """The metrics of the training by name, of the epoch whose weights the model has."""
    names = {
        "loss": "train_loss",
        "accuracy": "train_accuracy",
        "val_loss": "val_loss",
        "val_accuracy": "val_accuracy",
    }
    facts = {"epochs": len(history)}
    if params.keep == "best":
        facts["best_epoch"] = best.best_epoch(history, params.monitor)
    row = history[facts.get("best_epoch", len(history)) - 1]
    scores = {new: row[name] for name, new in names.items() if name in row}
    facts["parameters"] = model.count_params()
    return {**scores, **facts, "untrained_loss": round(untrained_loss, 6)}


if __name__ == "__main__":
    stage.run(read_settings, main, [TRAIN, VALIDATION, starting.FOLDER])
