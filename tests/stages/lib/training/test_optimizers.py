from typing import Any, get_args

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
        ("sgd", {"momentum": 1}, r".momentum: expected a number in \[0, 1\), found 1"),
        ("sgd", {"nesterov": 1.0}, ".nesterov: expected true or false, found 1.0"),
        ("adam", {"beta_2": True}, r".beta_2: expected a number in \[0, 1\), found true"),
        ("adam", {"clipnorm": -1.0}, r".clipnorm: expected a number in \(0, inf\), found -1.0"),
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
