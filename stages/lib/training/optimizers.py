"""Keras's optimizers by name, with their own arguments."""

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stages.lib.core import config
from stages.lib.core.errors import UserError

if TYPE_CHECKING:
    import keras


# Stated here so that a name can be checked without Keras; a test holds them equal to Keras's.
Name = Literal[
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "ftrl",
    "lamb",
    "lion",
    "muon",
    "nadam",
    "rmsprop",
    "sgd",
]
_KEY = "train.optimizer_arguments"
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
_ELSEWHERE = (  # set by other keys of params.yaml, or of no use in one training
    "learning_rate", "weight_decay", "adam_weight_decay", "name", "loss_scale_factor",
    "gradient_accumulation_steps",
)  # fmt: skip
# Training computes in float32, whose largest number is 3.4e38; in it 0.9999999999 is 1
_NUMBER, _FRACTION = Meta(ge=-1e38, le=1e38), Meta(ge=0, le=0.999999)
_POSITIVE, _NOT_NEGATIVE = Meta(ge=1e-37, le=1e38), Meta(ge=0, le=1e38)
_LIMITS = {  # those that Keras states in words, or not at all
    **dict.fromkeys(("momentum", "ema_momentum", "rho", "beta_1", "beta_2"), _FRACTION),
    **dict.fromkeys(("adam_beta_1", "adam_beta_2"), _FRACTION),
    **dict.fromkeys(("epsilon", "epsilon_1", "epsilon_2", "clip_threshold"), _POSITIVE),
    **dict.fromkeys(_CLIPPING, _POSITIVE),
    **dict.fromkeys(("l1_regularization_strength", "l2_regularization_strength"), _NOT_NEGATIVE),
    **dict.fromkeys(("l2_shrinkage_regularization_strength", "beta"), _NOT_NEGATIVE),
    "initial_accumulator_value": _NOT_NEGATIVE,
    "learning_rate_power": Meta(ge=-1e38, le=0),
    "beta_2_decay": Meta(ge=-1e38, le=-1e-6),
}
_LIMITS_OF_KIND = {("lion", "beta_1"): Meta(ge=1e-6, le=0.999999)}
_COUNTS = {"ns_steps": Annotated[int, Meta(ge=1, le=100)]}  # other numbers may have fractions
_WITHOUT_EFFECT = {"nesterov": "momentum", "ema_momentum": "use_ema"}  # unless the other is set


def check(name: str, arguments: Mapping[str, int | float | bool]) -> None:
    """Checks an optimizer's own arguments against the signature that Keras gives it.

    Args:
        name: One of ``Name``.
        arguments: Values of params.yaml by the name of the argument.

    Raises:
        UserError: An argument is not one of the optimizer's, has a value of another kind or out of
            range, excludes another one, or does nothing without another one.
    """
    where = f"{config.PARAMS}: {_KEY}"
    schema = msgspec.defstruct(
        "Arguments", list(_arguments(name)), bases=(config.Schema,), kw_only=True
    )
    checked = config.convert(dict(arguments), schema, where)
    clipping = [key for key in _CLIPPING if key in arguments]
    if len(clipping) > 1:
        raise UserError(
            f"{where}: expected one way to clip, found {', '.join(clipping)}.\n"
            "Keep one of them and run again."
        )
    for key, other in _WITHOUT_EFFECT.items():
        if arguments.get(key) and not getattr(checked, other):
            raise UserError(
                f"{where}.{key}: expected {other} beside it, found none, without which it does "
                f"nothing.\nAdd {other}, or delete {key}, and run again."
            )


def _arguments(name: str) -> Iterator[tuple[str, Any, Any]]:
    """The name, type and default of each argument that is a number or a truth value."""
    for parameter in inspect.signature(_kinds()[name]).parameters.values():
        key, default = parameter.name, parameter.default
        if key in _ELSEWHERE:
            continue
        if isinstance(default, bool):
            yield key, bool, default
        elif key in _COUNTS:
            yield key, _COUNTS[key], default
        elif isinstance(default, (int, float)) or key in _CLIPPING:
            limits = _LIMITS_OF_KIND.get((name, key)) or _LIMITS.get(key, _NUMBER)
            number = Annotated[float, limits]
            yield key, number if default is not None else number | None, default


def make(
    name: str, weight_decay: float, arguments: Mapping[str, int | float | bool] | None = None
) -> "keras.optimizers.Optimizer":
    """A Keras optimizer by its lower-case name.

    Args:
        name: One of ``Name``.
        weight_decay: The fraction of every weight that a step of learning rate 1 takes off.
            Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019.
        arguments: Its own ones, as ``check`` lets them pass; others have Keras's defaults.

    Raises:
        UserError: Keras refuses one of them all the same.
    """
    kind = _kinds()[name]
    own = {  # Keras takes no 0 for 0.0
        key: value if isinstance(value, bool) or key in _COUNTS else float(value)
        for key, value in (arguments or {}).items()
    }
    if "adam_weight_decay" in inspect.signature(kind).parameters:  # of vectors and convolutions
        own["adam_weight_decay"] = weight_decay
    try:
        optimizer: keras.optimizers.Optimizer = kind(weight_decay=weight_decay, **own)
    except (TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"{config.PARAMS}: {_KEY}: expected values that Keras takes, found: {said[:200]}\n"
            "Correct them and run again."
        ) from None
    if not weight_decay:
        optimizer.weight_decay = None  # some kinds refuse None, all of them work for 0
    return optimizer


def _kinds() -> "dict[str, type[keras.optimizers.Optimizer]]":
    """Keras's optimizers by their lower-case names."""
    import keras

    base = keras.optimizers.Optimizer
    others = (  # those that a name alone does not make: base, wrappers, one that swaps weights
        base,
        keras.optimizers.LossScaleOptimizer,
        keras.optimizers.MultiOptimizer,
        keras.optimizers.ScheduleFreeAdamW,
    )
    return {
        name.lower(): kind
        for name, kind in vars(keras.optimizers).items()
        if isinstance(kind, type) and issubclass(kind, base) and kind not in others
    }
