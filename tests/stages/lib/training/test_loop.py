"""The loop against Keras's own optimizers and losses, and against arithmetic by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest

from stages.lib import stored_images
from stages.lib.training import class_weights, kernels, loop, optimizers, precision

pytestmark = pytest.mark.usefixtures("tensorflow")

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((70, 4, 4), np.float32)
LABELS = RANDOM.integers(0, 3, 70)
ORDER = np.random.default_rng(1).permutation(70)


def network(normalize: bool = False) -> Any:
    import keras

    keras.utils.set_random_seed(5)
    layers = keras.layers
    first = [
        layers.Reshape((4, 4, 1)),
        layers.Conv2D(3, 3, use_bias=False),
        layers.BatchNormalization(),
    ]
    hidden = first if normalize else [layers.Flatten(), layers.Dense(6, activation="relu")]
    return keras.Sequential([keras.Input((4, 4)), *hidden, layers.Flatten(), layers.Dense(3)])


def rates(steps: int, rate: float = 0.01) -> npt.NDArray[np.float32]:
    return np.full(steps, rate, np.float32)


def train(model: Any, optimizer: Any, epochs: int = 2, batch_size: int = 16) -> loop.Scores:
    training = loop.Loop(model, optimizer, loop.cross_entropy(3), batch_size)
    images, labels = loop.as_tensor(IMAGES), loop.as_tensor(LABELS)
    for _ in range(epochs):
        scores = training.epoch(images, labels, ORDER, rates(-(-70 // batch_size)))
    return scores


def train_by_keras(model: Any, optimizer: Any, epochs: int = 2, batch_size: int = 16) -> float:
    """The same training by Keras's `train_on_batch`; returns the last epoch's mean loss."""
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer.learning_rate = 0.01
    model.compile(optimizer, loss)
    for _ in range(epochs):
        total = 0.0
        for at in range(0, 70, batch_size):
            chosen = ORDER[at : at + batch_size]
            model.reset_metrics()
            total += float(model.train_on_batch(IMAGES[chosen], LABELS[chosen])) * len(chosen)
    return total / 70


def slow(*values: object) -> Any:
    """Parameters of a test that waits for the slow ones."""
    return pytest.param(*values, marks=pytest.mark.slow)


def few_of(names: Sequence[str], *quick: str) -> list[Any]:
    """All the names, of which all but a few wait for the slow tests."""
    return [name if name in quick else slow(name) for name in names]


def test_the_names_of_the_optimizers_are_keras_s() -> None:
    assert sorted(get_args(optimizers.Name)) == sorted(optimizers._kinds())


@pytest.mark.parametrize("name", few_of(get_args(optimizers.Name), "adam", "rmsprop", "sgd"))
def test_equals_keras_for_every_optimizer(name: str) -> None:
    if name == "muon":
        pytest.skip("Muon's orthogonalization amplifies rounding beyond a comparison")
    ours, theirs = network(), network()
    scores = train(ours, optimizers.make(name, 0.0))
    loss = train_by_keras(theirs, optimizers.make(name, 0.0))
    assert scores.loss == pytest.approx(loss, rel=2e-4)
    for mine, other in zip(ours.variables, theirs.variables, strict=True):
        assert mine.numpy() == pytest.approx(other.numpy(), rel=2e-3, abs=2e-5)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_equals_keras_with_batch_normalization_and_weight_decay(name: str) -> None:
    ours, theirs = network(normalize=True), network(normalize=True)
    train(ours, optimizers.make(name, 0.05))
    train_by_keras(theirs, optimizers.make(name, 0.05))
    for mine, other in zip(ours.variables, theirs.variables, strict=True):
        assert mine.numpy() == pytest.approx(other.numpy(), rel=2e-3, abs=2e-5)


def test_equals_keras_with_batch_normalization_within_a_layer_of_ones_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import keras
    import tensorflow as tf

    class Block(keras.layers.Layer):  # as its author writes it, without a word about shapes
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.first = keras.layers.Conv2D(3, 3, use_bias=False)
            self.second = keras.layers.BatchNormalization()

        def call(self, images: Any, training: bool | None = None) -> Any:
            return self.second(self.first(images), training=training)

    def model() -> Any:
        keras.utils.set_random_seed(5)
        layers = [keras.layers.Reshape((4, 4, 1)), Block(), keras.layers.Flatten()]
        return keras.Sequential([keras.Input((4, 4)), *layers, keras.layers.Dense(3)])

    fused = mock.Mock(wraps=tf.raw_ops.FusedBatchNormV3)
    ours, theirs = model(), model()
    with monkeypatch.context() as patch:
        patch.setattr(tf.raw_ops, "FusedBatchNormV3", fused)
        train(ours, optimizers.make("adam", 0.05))
    assert fused.called
    train_by_keras(theirs, optimizers.make("adam", 0.05))
    for mine, other in zip(ours.variables, theirs.variables, strict=True):
        assert mine.numpy() == pytest.approx(other.numpy(), rel=2e-3, abs=2e-5)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("sgd", {"clipvalue": 0.01}),
        ("adamw", {"use_ema": True, "ema_momentum": 0.5, "clipnorm": 0.1}),
        slow("sgd", {"momentum": 0.5, "clipnorm": 0.05}),
        slow("sgd", {"global_clipnorm": 0.05}),
        slow("adam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.01}),
        slow("adam", {"amsgrad": True}),
        slow("adamw", {"beta_1": 0.8, "global_clipnorm": 0.01}),
        slow("rmsprop", {"rho": 0.5, "momentum": 0.5, "centered": True}),
        slow("sgd", {"use_ema": True, "ema_momentum": 0.8, "momentum": 0.9}),
    ],
    ids=str,
)
def test_equals_keras_with_the_optimizer_s_own_arguments(
    name: str, arguments: dict[str, float | bool]
) -> None:
    import keras

    optimizers.check(name, arguments)
    ours, theirs, plain = network(True), network(True), network(True)
    training = loop.Loop(ours, optimizers.make(name, 0.05, arguments), loop.cross_entropy(3), 16)
    images, labels = loop.as_tensor(IMAGES), loop.as_tensor(LABELS)
    for _ in range(2):
        training.epoch(images, labels, ORDER, rates(5))
    kind = next(kind for other, kind in vars(keras.optimizers).items() if other.lower() == name)
    optimizer = kind(weight_decay=0.05, **arguments)
    train_by_keras(theirs, optimizer)
    variables = [*theirs.variables, *optimizer.variables]
    for mine, other in zip(training.variables, variables, strict=True):
        assert mine.numpy() == pytest.approx(other.numpy(), rel=2e-3, abs=2e-5)
    raw = [variable.numpy().copy() for variable in ours.variables]
    optimizer.finalize_variable_values(theirs.trainable_variables)
    with training.averaged():
        for mine, other in zip(ours.variables, theirs.variables, strict=True):
            assert mine.numpy() == pytest.approx(other.numpy(), rel=2e-3, abs=2e-5)
        expected = theirs.evaluate(IMAGES, LABELS, verbose=0)
        assert training.evaluate(IMAGES, LABELS).loss == pytest.approx(expected, rel=1e-4)
        moved = np.abs(ours.variables[0].numpy() - raw[0]).max()
        assert (moved > 1e-3) == ("use_ema" in arguments)
    for variable, before in zip(ours.variables, raw, strict=True):
        assert (variable.numpy() == before).all()
    train(plain, optimizers.make(name, 0.05))
    if arguments.keys() - {"use_ema", "ema_momentum", "amsgrad"}:  # whose effect here is slight
        assert np.abs(plain.variables[0].numpy() - raw[0]).max() > 1e-5


def test_equals_keras_with_class_weights() -> None:
    import keras

    def compiled() -> Any:
        model = network(True)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss)
        return model

    weights = class_weights.balanced(np.array([0] * 4 + [1] * 2 + [2]), 3)
    ours, theirs = network(True), compiled()
    cross_entropy = loop.cross_entropy(3)
    training = loop.Loop(
        ours, optimizers.make("adam", 0.0), cross_entropy, 35, class_weights=weights
    )
    images, labels = loop.as_tensor(IMAGES), loop.as_tensor(LABELS)
    scores = training.epoch(images, labels, np.arange(70), rates(2))
    history = theirs.fit(
        IMAGES, LABELS, batch_size=35, shuffle=False, verbose=0,
        class_weight=dict(enumerate(weights.tolist())), validation_data=(IMAGES, LABELS),
    ).history  # fmt: skip
    assert scores.loss == pytest.approx(history["loss"][0], rel=1e-4)
    held_out = training.evaluate(IMAGES, LABELS)
    assert held_out.loss == pytest.approx(history["val_loss"][0], rel=1e-4)
    for mine, other in zip(ours.variables, theirs.variables, strict=True):
        assert mine.numpy() == pytest.approx(other.numpy(), rel=2e-3, abs=2e-5)


def test_mixtures_are_trained_with_the_losses_of_both_labels() -> None:
    import tensorflow as tf

    def half(images: Any, _: object) -> tuple[Any, Any]:
        own = tf.fill([images.shape[0]], 0.75)
        return 0.75 * images + 0.25 * tf.reverse(images, axis=[0]), own

    weights = np.array([2, 0.5, 1], np.float32)
    model, by_hand = network(), network()
    cross_entropy = loop.cross_entropy(3)
    training = loop.Loop(
        model, optimizers.make("sgd", 0.0), cross_entropy, 70, class_weights=weights, mix=half
    )
    images, labels = loop.as_tensor(IMAGES), loop.as_tensor(LABELS)
    scores = training.epoch(images, labels, np.arange(70), rates(1, 0.5))
    with tf.GradientTape() as tape:
        outputs = by_hand(0.75 * IMAGES + 0.25 * IMAGES[::-1])
        own = weights[LABELS] * cross_entropy(LABELS, outputs)
        others = LABELS[::-1].copy()
        partner = weights[others] * cross_entropy(others, outputs)
        mean = tf.reduce_mean(0.75 * own + 0.25 * partner)
    variables = [variable.value for variable in by_hand.trainable_variables]
    gradients = tape.gradient(mean, variables)
    assert scores.loss == pytest.approx(float(mean), rel=1e-5)
    assert scores.accuracy == pytest.approx((outputs.numpy().argmax(1) == LABELS).mean())
    for now, before, gradient in zip(model.variables, variables, gradients, strict=True):
        assert now.numpy() == pytest.approx((before - 0.5 * gradient).numpy(), abs=1e-5)


@pytest.mark.parametrize("name", ["adam", slow("sgd"), slow("rmsprop")])
def test_equals_keras_in_float16(name: str) -> None:
    with precision.mixed("float16", 5):
        ours, theirs = network(), network()
    optimizer, other = optimizers.make(name, 0.01), optimizers.make(name, 0.01)
    scores = train(ours, optimizer)
    loss = train_by_keras(theirs, other)
    assert type(theirs.optimizer).__name__ == "LossScaleOptimizer"
    assert scores.loss == pytest.approx(loss, rel=2e-3)
    assert int(optimizer.iterations.numpy()) == int(other.iterations.numpy()) == 10
    for mine, their in zip(ours.variables, theirs.variables, strict=True):
        assert mine.numpy() == pytest.approx(their.numpy(), rel=2e-2, abs=2e-3)


def test_gradients_too_small_for_float16_are_not_lost_and_too_large_ones_skip_the_step() -> None:
    import keras

    def step(factor: float) -> Any:
        with precision.mixed("float16", 1):
            inputs = keras.Input((4, 4))
            hidden = keras.layers.Dense(3, use_bias=False, kernel_initializer="zeros")
            hidden.name = "hidden"
            shrunk = keras.layers.Rescaling(factor)
            model = keras.Model(inputs, shrunk(hidden(keras.layers.Flatten()(inputs))))
        optimizer = keras.optimizers.SGD()
        training = loop.Loop(model, optimizer, loop.cross_entropy(3), 16)
        images, labels = loop.as_tensor(IMAGES), loop.as_tensor(LABELS)
        training.epoch(images, labels, ORDER[:16], rates(1, 1.0))
        scale = next(each for each in training.variables if each.name == "dynamic_scale")
        change = np.abs(model.get_layer("hidden").get_weights()[0]).max()
        return float(change), int(optimizer.iterations.numpy()), float(scale.numpy())

    change, steps, scale = step(1e-7)
    assert 1e-9 < change < 6e-8  # which float16 takes for 0
    assert (steps, scale) == (1, 2**15)
    assert step(3e4) == (0, 0, 2**14)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_batch_normalization_of_mixed_precision_has_a_kernel_too(policy: str) -> None:
    import keras
    import tensorflow as tf

    layer = keras.layers.BatchNormalization(dtype=policy, momentum=0.9)
    other = keras.layers.BatchNormalization(dtype=policy, momentum=0.9)
    images = RANDOM.random((8, 4, 4, 3), np.float32)
    models = []
    for each in (layer, other):
        inputs = keras.Input((4, 4, 3))
        models.append(keras.Model(inputs, each(inputs)))
    kernels.fuse(models[0], keras.optimizers.SGD())
    step = tf.function(lambda batch: models[0](batch, training=True))
    graph = step.get_concrete_function(tf.TensorSpec(images.shape)).graph
    assert "FusedBatchNormV3" in {operation.type for operation in graph.get_operations()}
    outputs = [np.asarray(model(images, training=True), np.float32) for model in models]
    assert outputs[0] == pytest.approx(outputs[1], abs=0.05)  # a step of bfloat16 at 4
    for mine, theirs in zip(layer.variables, other.variables, strict=True):
        assert mine.dtype == "float32"
        assert mine.numpy() == pytest.approx(theirs.numpy(), abs=2e-3)


def test_batch_normalization_with_weights_of_16_bits_is_left_as_it_is() -> None:
    import keras

    layer = keras.layers.BatchNormalization(dtype="bfloat16")
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, layer(inputs))
    plain = layer.call
    kernels.fuse(model, keras.optimizers.SGD())
    assert layer.call == plain
    assert model(RANDOM.random((8, 4, 4, 3), np.float32), training=True).shape == (8, 4, 4, 3)


@pytest.mark.parametrize("activity", [0.0, 0.03])
def test_losses_contain_the_penalties_as_keras_has_it(activity: float) -> None:
    import keras

    class OneByOne(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            penalty = activity * keras.ops.mean(inputs * inputs, axis=1)
            self.add_loss(penalty)  # type: ignore[no-untyped-call]
            return inputs

    def regularized() -> Any:
        keras.utils.set_random_seed(5)
        hidden = keras.layers.Dense(
            6,
            kernel_regularizer=keras.regularizers.L2(0.1),
            activity_regularizer=keras.regularizers.L1(activity) if activity else None,
        )
        own = [OneByOne()] if activity else []  # type: ignore[no-untyped-call] # of a vector
        layers = [keras.layers.Flatten(), *own, hidden, keras.layers.Dense(3)]
        return keras.Sequential([keras.Input((4, 4)), *layers])

    ours, theirs, plain = regularized(), regularized(), regularized()
    training = loop.Loop(ours, optimizers.make("sgd", 0.0), loop.cross_entropy(3), 35)
    theirs.compile(
        keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    before = training.evaluate(IMAGES, LABELS, batch_size=20)  # the last batch is smaller
    expected = theirs.evaluate(IMAGES, LABELS, batch_size=20, verbose=0)
    assert before.loss == pytest.approx(expected, rel=1e-5)
    outputs = plain(IMAGES)
    bare = keras.losses.sparse_categorical_crossentropy(LABELS, outputs, from_logits=True)
    assert before.loss > float(np.mean(bare)) + 0.1  # so that a penalty left out would be seen
    images, labels = loop.as_tensor(IMAGES), loop.as_tensor(LABELS)
    scores = training.epoch(images, labels, np.arange(70), rates(2))
    history = theirs.fit(IMAGES, LABELS, batch_size=35, epochs=1, shuffle=False, verbose=0)
    assert scores.loss == pytest.approx(history.history["loss"][0], rel=1e-5)
    after = theirs.evaluate(IMAGES, LABELS, verbose=0)
    assert training.evaluate(IMAGES, LABELS, batch_size=32).loss == pytest.approx(after, rel=1e-5)


def test_the_remainder_of_an_epoch_is_trained_on_and_counted() -> None:
    import keras

    model = network()
    optimizer = optimizers.make("sgd", 0.0)
    training = loop.Loop(model, optimizer, loop.cross_entropy(3), 16)
    before = training.evaluate(IMAGES, LABELS)
    images, labels = loop.as_tensor(IMAGES), loop.as_tensor(LABELS)
    scores = training.epoch(images, labels, ORDER, rates(5, 0.0))
    assert int(optimizer.iterations.numpy()) == 5  # 4 x 16 and 6
    assert scores == pytest.approx(before, rel=1e-6)  # a learning rate of 0 changes nothing
    outputs = model(IMAGES).numpy()
    by_hand = keras.losses.sparse_categorical_crossentropy(LABELS, outputs, from_logits=True)
    assert before.loss == pytest.approx(float(np.mean(by_hand)), rel=1e-6)
    assert before.accuracy == pytest.approx((outputs.argmax(1) == LABELS).mean())


def test_fewer_images_than_a_batch() -> None:
    training = loop.Loop(network(), optimizers.make("adam", 0.0), loop.cross_entropy(3), 500)
    scores = training.epoch(loop.as_tensor(IMAGES), loop.as_tensor(LABELS), ORDER, rates(1))
    assert 0 < scores.loss < 5


def test_learning_rates_are_those_of_each_step() -> None:
    import tensorflow as tf

    model = network()
    weights = model.trainable_variables
    start = [variable.numpy() for variable in weights]
    training = loop.Loop(model, optimizers.make("sgd", 0.0), loop.cross_entropy(3), 35)
    training.epoch(
        loop.as_tensor(IMAGES), loop.as_tensor(LABELS), ORDER, np.array([0.5, 0.0], np.float32)
    )
    other = network()
    with tf.GradientTape() as tape:
        losses = loop.cross_entropy(3)(LABELS[ORDER[:35]], other(IMAGES[ORDER[:35]]))
        mean = tf.reduce_mean(losses)
    gradients = tape.gradient(mean, [variable.value for variable in other.trainable_variables])
    for now, before, gradient in zip(weights, start, gradients, strict=True):
        assert now.numpy() == pytest.approx(before - 0.5 * gradient.numpy(), abs=1e-6)


def test_label_smoothing_by_hand() -> None:
    found = loop.cross_entropy(2, label_smoothing=0.2)(np.array([0]), np.zeros((1, 2), np.float32))
    assert float(found[0]) == pytest.approx(np.log(2))
    logits = np.array([[3.0, 0.0]], np.float32)
    logs = logits - np.log(np.exp(logits).sum())
    found = loop.cross_entropy(2, label_smoothing=0.2)(np.array([0]), logits)
    assert float(found[0]) == pytest.approx(float(-0.9 * logs[0, 0] - 0.1 * logs[0, 1]), rel=1e-5)


def test_progress_is_reported_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    training = loop.Loop(network(), optimizers.make("adam", 0.0), loop.cross_entropy(3), 16)
    training.epoch(
        loop.as_tensor(IMAGES),
        loop.as_tensor(LABELS),
        ORDER,
        rates(5),
        lambda done, total, _: seen.append((done, total)),
        2,
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4, 5]), (4, [4, 5]), (20, [5])])
def test_progress_on_stored_images_is_reported_to_the_end(
    every: int, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stored_images, "PIECE", 3 * 16 * 64)  # three steps of 16 images
    images = stored_images.StoredImages(IMAGES.shape, [IMAGES.tobytes()])
    seen: list[int] = []
    training = loop.Loop(network(), optimizers.make("adam", 0.0), loop.cross_entropy(3), 16)
    labels = loop.as_tensor(LABELS)
    training.epoch(images, labels, ORDER, rates(5), lambda done, *_: seen.append(done), every)
    assert seen == expected


@pytest.mark.parametrize("offset", [0, 1])
def test_as_tensor_shares_aligned_memory_and_copies_other(offset: int) -> None:
    memory = np.zeros(64 + 16, np.float32)
    start = (-memory.ctypes.data % 64) // 4
    array = memory[start + offset : start + offset + 8]
    tensor = loop.as_tensor(array)
    array[0] = 7
    assert tensor.numpy()[0] == (7 if offset == 0 else 0)
