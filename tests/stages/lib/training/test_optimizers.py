from typing import Any, get_args

import numpy as np
import pytest

from stages.lib.core.errors import UserError
from stages.lib.training import optimizers

pytestmark = pytest.mark.usefixtures("tensorflow")


@pytest.mark.parametrize("name", get_args(optimizers.Name))
def test_every_optimizer_clips_and_averages(name: str) -> None:
    arguments = {"use_ema": True, "ema_momentum": 0.9, "clipnorm": 1}
    optimizers.check(name, arguments)
    made = optimizers.make(name, 0.0, arguments)
    assert (made.use_ema, made.ema_momentum, made.clipnorm) == (True, 0.9, 1)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("sgd", {"momentun": 0.9}, ".momentun: unknown key; allowed are momentum, .*'momentum'"),
        ("adam", {"momentum": 0.9}, ".momentum: unknown key; allowed are beta_1, "),
        ("adam", {"learning_rate": 0.9}, ".learning_rate: unknown key"),
        ("sgd", {"momentum": 1}, r".momentum: expected a number in \[0, 0.999999\], found 1"),
        ("adam", {"beta_1": 0.99999999999}, r".beta_1: expected a number in \[0, 0.999999\], "),
        ("adam", {"clipnorm": 1e300}, r".clipnorm: expected a number in \[1e-37, 1e\+38\], "),
        ("lion", {"beta_1": 0.0}, r".beta_1: expected a number in \[1e-06, 0.999999\], found 0.0"),
        ("ftrl", {"learning_rate_power": 0.5}, r".learning_rate_power: expected a number in "),
        ("ftrl", {"l1_regularization_strength": -0.001}, ".l1_regularization_strength: expected "),
        ("adagrad", {"initial_accumulator_value": 1e308}, ".initial_accumulator_value: expected "),
        ("adafactor", {"beta_2_decay": 0.8}, ".beta_2_decay: expected a number in "),
        ("muon", {"ns_steps": 0}, r".ns_steps: expected an integer in \[1, 100\], found 0"),
        ("muon", {"muon_a": 10**400}, ".muon_a: expected a number in "),
        ("sgd", {"nesterov": 1}, ".nesterov: expected true or false, found 1."),
        ("sgd", {"nesterov": 1.0}, ".nesterov: expected true or false, found 1.0"),
        ("adam", {"beta_2": True}, r".beta_2: expected a number in \[0, 0.999999\], found true"),
        (
            "adam",
            {"clipnorm": -1.0},
            r".clipnorm: expected a number in \[1e-37, 1e\+38\], found -1",
        ),
        ("adam", {"clipnorm": 1, "clipvalue": 1}, ": expected one way to clip, found clipnorm, c"),
        ("sgd", {"nesterov": True}, ".nesterov: expected momentum beside it, found none"),
        ("adam", {"ema_momentum": 0.9}, ".ema_momentum: expected use_ema beside it, found none"),
    ],
    ids=str,
)
def test_what_an_optimizer_does_not_take_is_named(
    name: str, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=f"(?s)^params.yaml: train.optimizer_arguments{said}"):
        optimizers.check(name, arguments)


@pytest.mark.parametrize("name", get_args(optimizers.Name))
def test_every_optimizer_takes_its_own_defaults(name: str) -> None:
    given = {key: default for key, _, default in optimizers._arguments(name) if default is not None}
    defaults = {key: value for key, value in given.items() if key != "ema_momentum"}
    optimizers.check(name, {**defaults, "momentum": 0.9} if "momentum" in defaults else defaults)
    optimizers.make(name, 0.0, defaults)


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("name", [name for name in get_args(optimizers.Name) if name != "ftrl"])
def test_weight_decay_is_that_of_all_weights(name: str, decay: float) -> None:
    import keras

    weights = [keras.Variable(np.full(shape, 2.0, np.float32)) for shape in ((3, 4), (4,))]
    weights.append(keras.Variable(np.full((3, 3, 2, 4), 2.0, np.float32)))
    optimizer = optimizers.make(name, decay)
    optimizer.learning_rate = 0.1
    optimizer.build(weights)
    optimizer.apply([np.zeros(weight.shape, np.float32) for weight in weights])
    for weight in weights:
        np.testing.assert_allclose(weight.numpy(), 2.0 * (1 - 0.1 * decay), rtol=1e-6)


def test_what_keras_refuses_all_the_same_is_told() -> None:
    with pytest.raises(UserError, match="expected values that Keras takes, found: "):
        optimizers.make("lion", 0.0, {"beta_1": 0.0})


def test_a_whole_number_does_where_keras_wants_a_fraction() -> None:
    optimizers.check("sgd", {"momentum": 0})
    assert optimizers.make("sgd", 0.0, {"momentum": 0}).momentum == 0.0
    assert optimizers.make("muon", 0.0, {"ns_steps": 6, "nesterov": False}).ns_steps == 6
