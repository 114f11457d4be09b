import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.lib import architectures
from stages.lib.core.errors import UserError
from stages.lib.training import precision

pytestmark = pytest.mark.usefixtures("tensorflow")

OWN = """
import keras

layers = keras.layers


class Scale(layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor


@keras.saving.register_keras_serializable()
class RegisteredScale(Scale):
    pass


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(layers.Flatten()(inputs))


@keras.saving.register_keras_serializable()
class RegisteredModel(keras.Model):
    def __init__(self, **named):
        super().__init__(**named)
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def build(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = layers.Flatten()(inputs)
    BODY
"""

ENDINGS = {
    "plain": "return keras.Model(inputs, layers.Dense(num_classes)(x))",
    "registered": "return keras.Model(inputs, layers.Dense(num_classes)(RegisteredScale()(x)))",
    "unregistered": "return keras.Model(inputs, layers.Dense(num_classes)(Scale()(x)))",
    "lambda": "return keras.Model(inputs, layers.Dense(num_classes)("
    "layers.Lambda(lambda x: 2 * x)(x)))",
    "nested lambda": "inner = keras.Sequential([layers.Dense(4), layers.Lambda(lambda x: 2 * x)])\n"
    "    return keras.Model(inputs, layers.Dense(num_classes)(inner(x)))",
    "subclassed": "return Subclassed()",
    "not built": "return keras.Sequential([layers.Flatten(), layers.Dense(num_classes)])",
    "no model": "return x",
    "softmax, then nothing new": "return keras.Model(inputs, layers.Reshape((num_classes,))("
    'layers.Dropout(0.5)(layers.Activation("linear")(layers.Softmax()('
    "layers.Dense(num_classes)(x))))))",
    "logits of two": "inner_in = keras.Input((16,)); logits = layers.Dense(num_classes)(inner_in)\n"
    "    inner = keras.Model(inner_in, [layers.Softmax()(logits), logits])\n"
    "    return keras.Model(inputs, inner(x)[1])",
    "probabilities of two": "inner_in = keras.Input((16,)); "
    "logits = layers.Dense(num_classes)(inner_in)\n"
    "    inner = keras.Model(inner_in, [logits, layers.Softmax()(logits)])\n"
    "    return keras.Model(inputs, inner(x)[1])",
    "training of its own": "class Own(keras.Model):\n"
    "        def train_step(self, data): ...\n"
    "    return Own(inputs, layers.Dense(num_classes)(x))",
    "softmax, then a sum": "return keras.Model(inputs, layers.Dense(num_classes)("
    "layers.Softmax()(layers.Dense(num_classes)(x))))",
    "outputs by name": 'return keras.Model(inputs, {"a": layers.Dense(num_classes)(x)})',
    "inputs by name": "return keras.Model({inputs.name: inputs}, layers.Dense(num_classes)(x))",
    "two outputs": "d = layers.Dense(num_classes)(x)\n    return keras.Model(inputs, [d, d])",
    "outputs": "return keras.Model(inputs, layers.Dense(num_classes + 1)(x))",
    "input": "i = keras.Input((9, 9))\n"
    "    return keras.Model(i, layers.Dense(num_classes)(layers.Flatten()(i)))",
    "bytes": 'i = keras.Input(input_shape, dtype="uint8")\n'
    "    return keras.Model(i, layers.Dense(num_classes)(layers.Flatten()(i)))",
    "half": 'return keras.Model(inputs, layers.Dense(num_classes, dtype="float16")(x))',
    "double": 'return keras.Model(inputs, layers.Dense(num_classes, dtype="float64")(x))',
    "dense softmax": "return keras.Model("
    'inputs, layers.Dense(num_classes, activation="softmax")(x))',
    "softmax layer": "return keras.Model(inputs, layers.Softmax()(layers.Dense(num_classes)(x)))",
    "softmax operation": "return keras.Model("
    "inputs, keras.ops.softmax(layers.Dense(num_classes)(x)))",
    "activation layer": "return keras.Model("
    'inputs, layers.Activation("softmax")(layers.Dense(num_classes)(x)))',
    "sigmoid": 'return keras.Model(inputs, layers.Dense(num_classes, activation="sigmoid")(x))',
    "nested softmax": "return keras.Sequential([keras.Input(input_shape), "
    'layers.Flatten(), keras.Sequential([layers.Dense(num_classes, activation="softmax")])])',
    "built by shape": "model = keras.Sequential([layers.Flatten(), layers.Dense(num_classes)])\n"
    "    model.build((None, *input_shape))\n    return model",
    "subclassed within": "return keras.Model(inputs, RegisteredModel()(x))",
    "value error": 'raise ValueError("of the author")',
    "empty value error": "raise ValueError",
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """``own("lambda")`` builds a network of an author's own as train does."""
    names = iter(range(100))
    monkeypatch.setattr(architectures, "FOLDER", tmp_path)
    monkeypatch.setattr(
        importlib.import_module("stages.models"),
        "__path__",
        [str(tmp_path)],
    )

    def build(ending: str) -> Any:
        name = f"own{tmp_path.name[-3:]}{next(names)}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(OWN.replace("BODY", ENDINGS[ending]))
        importlib.invalidate_caches()
        try:
            model = architectures.build(name, (4, 4), 3, {})
            architectures.refuse_unloadable(name, model)
        except UserError as error:
            raise UserError(str(error).replace(name, "own")) from None
        return model

    return build


def refusal(build: Callable[[str], Any], ending: str) -> str:
    with pytest.raises(UserError) as refused:
        build(ending)
    message = str(refused.value)
    assert message.startswith("stages/models/own.py: build: expected ")
    assert len(message.splitlines()) == 2
    return message


@pytest.mark.parametrize(
    "ending",
    [
        "plain", "registered", "built by shape", "subclassed within", "softmax, then a sum",
        "logits of two",
    ],
)  # fmt: skip
def test_networks_that_load_are_accepted(ending: str, own: Callable[[str], Any]) -> None:
    assert own(ending).output_shape == (None, 3)
    with precision.mixed("bfloat16", 1):
        assert own(ending).output_shape == (None, 3)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("unregistered", "Could not locate class 'Scale'"),
        ("lambda", "`Lambda` layer"),
        ("nested lambda", "`Lambda` layer"),
    ],
)
def test_networks_that_would_not_load_are_refused(
    ending: str, reason: str, own: Callable[[str], Any]
) -> None:
    message = refusal(own, ending)
    assert "a model that loads again once it is saved, found: " in message
    assert reason in message
    assert "@keras.saving.register_keras_serializable()" in message


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("subclassed", "expected a model of known shapes, keras.Model(inputs, outputs) from"),
        ("not built", "expected a model of known shapes, keras.Model(inputs, outputs) from"),
        ("no model", "expected a keras.Model, found KerasTensor"),
        ("outputs by name", "expected a tensor as output, found a dict"),
        ("inputs by name", "expected a tensor as input, found a dict"),
        ("two outputs", "expected one input and one output, found 1 and 2"),
        ("outputs", "expected 3 outputs, one a class, found outputs of shape (4,)"),
        ("input", "expected images (4, 4) as input, found (9, 9)"),
        ("bytes", "expected images of float32 as input, found uint8, to which they would be cut"),
        ("half", "expected outputs of float32, found float16"),
        ("double", "expected outputs of float32, found float64"),
    ],
)
def test_networks_that_do_not_fit_the_data_set_are_refused(
    ending: str, reason: str, own: Callable[[str], Any]
) -> None:
    assert reason in refusal(own, ending)


@pytest.mark.parametrize(
    "ending",
    [
        "dense softmax", "softmax layer", "softmax operation", "activation layer", "sigmoid",
        "nested softmax", "softmax, then nothing new", "probabilities of two",
    ],
)  # fmt: skip
def test_networks_that_end_in_probabilities_are_refused(
    ending: str, own: Callable[[str], Any]
) -> None:
    name = "sigmoid" if ending == "sigmoid" else "softmax"
    message = refusal(own, ending)
    assert f"expected a model that ends in logits, found {name} at its end" in message
    assert "model.output: softmax" in message


def test_a_network_that_would_train_itself_is_refused(own: Callable[[str], Any]) -> None:
    assert "found a train_step of its own.\nLeave it out" in refusal(own, "training of its own")


@pytest.mark.parametrize(
    ("head", "found"),
    [
        ("", "found none"),
        ("build = 3\n", "found none"),
        ("def build(shape): pass\n", "found build(shape)"),
        ("def build(*, width): pass\n", "found build()"),
        ("def build(shape, n, width=3): pass\n", "found build(shape, n, width)"),
        ("import functools\nbuild = functools.partial(print)\n", "found none"),
        ("def build(*arguments, **named): pass\n", ""),
        ("def build(shape, n, /, *, width=3): pass\n", ""),
    ],
)
def test_a_module_without_build_as_it_is_called_is_refused(
    head: str, found: str, own: Callable[[str], Any]
) -> None:
    path = architectures.FOLDER / f"headed{abs(hash(head))}.py"
    path.write_text(head)
    importlib.invalidate_caches()
    if not found:
        assert architectures.builder(path.stem).__name__ == "build"
        return
    with pytest.raises(
        UserError, match=r"expected a function build\(input_shape, num_cl"
    ) as refused:
        architectures.builder(path.stem)
    assert f", {found}.\n" in str(refused.value)


@pytest.mark.parametrize("ending", ["value error", "empty value error"])
def test_an_error_of_the_authors_code_passes_as_it_is(
    ending: str, own: Callable[[str], Any]
) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 the message may be empty
        own(ending)
    assert str(raised.value) == ("of the author" if ending == "value error" else "")


def test_finds_an_architecture_by_its_file_name() -> None:
    assert architectures.builder("mlp").__module__ == "stages.models.mlp"


def test_an_unknown_name_lists_what_is_there() -> None:
    with pytest.raises(
        UserError, match=r"expected one of cnn, mlp, pretrained; found 'mpl'.\nDid you mean 'mlp'"
    ):
        architectures.builder("mpl")


def test_arguments_that_do_not_fit_name_their_key() -> None:
    arguments = {"channels": [4, 4], "convolutions": [1], "dropout": 0.0}
    with pytest.raises(UserError, match=r"^params.yaml: model.cnn.convolutions: expected a number"):
        architectures.build("cnn", (8, 8), 10, arguments)
