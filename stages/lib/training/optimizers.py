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
    "learning_rate", "weight_decay", "name", "loss_scale_factor", "gradient_accumulation_steps",
)  # fmt: skip
_FRACTION, _POSITIVE = Meta(ge=0, lt=1), Meta(gt=0)
_LIMITS = {  # those that Keras states in words, or not at all
    **dict.fromkeys(("momentum", "ema_momentum", "rho", "beta_1", "beta_2"), _FRACTION),
    **dict.fromkeys(("adam_beta_1", "adam_beta_2"), _FRACTION),
    **dict.fromkeys(("epsilon", *_CLIPPING), _POSITIVE),
}
_WITHOUT_EFFECT = {"nesterov": "momentum", "ema_momentum": "use_ema"}  # unless the other is set


def check(name: str, arguments: Mapping[str, float | bool]) -> None:
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
        if isinstance(default, (bool, int)):
            yield key, type(default), default
        elif isinstance(default, float) or key in _CLIPPING:
            number = Annotated[float, _LIMITS[key]] if key in _LIMITS else float
            yield key, number if default is not None else number | None, default


def make(
    name: str, weight_decay: float, arguments: Mapping[str, float | bool] | None = None
) -> "keras.optimizers.Optimizer":
    """A Keras optimizer by its lower-case name.

    Args:
        name: One of ``Name``.
        weight_decay: The fraction of every weight that a step of learning rate 1 takes off.
            Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019.
        arguments: Its own ones, as ``check`` lets them pass; others have Keras's defaults.
    """
    kind = _kinds()[name]
    optimizer: keras.optimizers.Optimizer = kind(weight_decay=weight_decay, **(arguments or {}))
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
