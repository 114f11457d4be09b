"""Tests of stages/lib/training/precision.py."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.lib.training import precision


def networks() -> dict[str, Callable[[], object]]:
    import keras

    layers = keras.layers

    def plain() -> keras.Model:
        return keras.Sequential(
            [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(8, name="body"), *head()]
        )

    def head() -> list[keras.Layer]:
        return [layers.Dense(3, name="head"), layers.Rescaling(0.5)]

    def nested() -> keras.Model:
        inputs = keras.Input((6, 6, 1))
        return keras.Model(inputs, plain()(layers.Rescaling(2.0)(inputs)))

    def sum_of_two() -> keras.Model:
        inputs = keras.Input((6, 6, 1))
        body = layers.Dense(8, name="body")(layers.Flatten()(inputs))
        one, other = (layers.Dense(3, name=f"head{at}")(body) for at in range(2))
        return keras.Model(inputs, (one + other) / 2)

    def nested_without_weights() -> keras.Model:
        inputs = keras.Input((6, 6, 1))
        body = layers.Dense(8, name="body")(layers.Flatten()(inputs))
        last = keras.Sequential([keras.Input((3,)), layers.Rescaling(0.5)])
        return keras.Model(inputs, last(layers.Dense(3, name="head")(body)))

    def shared_within() -> keras.Model:
        inputs = keras.Input((6, 6, 1))
        body = layers.Dense(8, name="body")(layers.Flatten()(inputs))
        half = keras.Sequential([keras.Input((3,)), layers.Rescaling(0.5)])
        one, other = (half(layers.Dense(3, name=f"head{at}")(body)) for at in range(2))
        return keras.Model(inputs, layers.Add()([one, other]))

    def many_ways() -> keras.Model:
        inputs = keras.Input((6, 6, 1))
        x = layers.Dense(3, name="head")(layers.Dense(8, name="body")(layers.Flatten()(inputs)))
        for _ in range(40):  # 2 ** 40 ways from the outputs to the inputs
            x = layers.Add()([x, layers.ReLU()(x)]) / 2
        return keras.Model(inputs, x)

    return {
        "plain": plain,
        "nested": nested,
        "sum of two": sum_of_two,
        "nested without weights": nested_without_weights,
        "shared within": shared_within,
        "many ways": many_ways,
    }


KINDS = ["plain", "nested", "sum of two", "nested without weights", "shared within", "many ways"]


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_computed_in_float32_and_what_is_before_them_is_not(kind: str) -> None:
    import keras

    images = np.random.default_rng(1).random((4, 6, 6, 1), np.float32)
    with precision.mixed("bfloat16", 1):
        model = networks()[kind]()
    assert isinstance(model, keras.Model)
    weights = model.get_weights()
    assert precision.keep_logits(model)
    found = {each.name: each.compute_dtype for each in model._flatten_layers() if each.weights}
    assert found["body"] == "bfloat16"
    assert {found[name] for name in found if name.startswith("head")} == {"float32"}
    logits = np.asarray(model(images))
    assert logits.dtype == np.float32
    assert not np.array_equal(logits, np.asarray(keras.ops.cast(logits, "bfloat16"), np.float32))
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))


@pytest.mark.usefixtures("tensorflow")
def test_a_last_layer_made_of_layers_stays_in_the_shorter_type() -> None:
    import keras

    class Pair(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.first, self.second = keras.layers.Dense(4), keras.layers.Dense(3)

        def call(self, x: object) -> object:
            return self.second(self.first(x))

    with precision.mixed("bfloat16", 1):
        inputs = keras.Input((5,))
        model = keras.Model(inputs, Pair()(inputs))
    assert not precision.keep_logits(model)
    assert {each.compute_dtype for each in model._flatten_layers()} == {"bfloat16"}


@pytest.mark.usefixtures("tensorflow")
def test_a_last_layer_that_keeps_to_its_type_stays_as_it_is() -> None:
    import keras

    class Fixed(keras.layers.Layer):
        def build(self, shape: tuple[int, ...]) -> None:
            self.kernel = self.add_weight(shape=(shape[-1], 3))  # type: ignore[no-untyped-call]
            self.scale = keras.ops.cast(10.0, self.compute_dtype)

        def call(self, x: object) -> object:
            return keras.ops.matmul(x, self.kernel) * self.scale

    with precision.mixed("bfloat16", 1):
        inputs = keras.Input((5,))
        model = keras.Model(inputs, Fixed()(inputs))  # type: ignore[no-untyped-call]
    assert not precision.keep_logits(model)
    assert model.layers[-1].compute_dtype == "bfloat16"
    assert model(np.ones((2, 5), np.float32)).shape == (2, 3)


@pytest.mark.usefixtures("tensorflow")
def test_networks_built_afterwards_are_in_float32() -> None:
    import keras

    def fail() -> None:
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        raise ValueError("a network's own mistake")

    with pytest.raises(ValueError, match="own mistake"), precision.mixed("bfloat16", 1):
        fail()
    assert keras.layers.Dense(1).compute_dtype == "float32"


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize(
    ("flags", "slow"),
    [
        ("flags : fma avx512f avx512_bf16 amx_tile", False),
        ("flags : fma amx_bf16", False),
        ("Features : asimd bf16 i8mm", False),
        ("flags : fma avx512f avx512_vnni", True),
    ],
)
def test_a_processor_without_bfloat16_is_remarked_upon(
    flags: str, slow: bool, tmp_path: Path
) -> None:
    path = tmp_path / "cpuinfo"
    assert precision.remark("bfloat16", path) == ""  # nothing is known
    path.write_text(f"processor : 0\n{flags}\n", encoding="utf-8")
    assert ("no instructions for bfloat16" in precision.remark("bfloat16", path)) == slow
    assert precision.remark("float32", path) == ""


@pytest.mark.usefixtures("tensorflow")
def test_float16_is_remarked_upon_where_no_gpu_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    assert precision.remark("float16").startswith("float16 is for GPUs")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["one"])
    assert precision.remark("float16") == precision.remark("bfloat16") == ""
