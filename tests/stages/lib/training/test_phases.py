from typing import Any

import numpy as np
import pytest

from stages.lib.training import loop, optimizers, phases, schedule
from stages.models import cnn

COUNT, BATCH = 40, 8
STEPS = COUNT // BATCH


def test_each_phase_has_its_warm_up_and_schedule() -> None:
    rates = phases.learning_rates(0.1, 0.5, "cosine", 0.2, (2, 5), 10)
    assert rates.shape == (5, 10)
    first = schedule.learning_rates(0.1, "cosine", 0.2, 20).reshape(2, 10)
    second = schedule.learning_rates(0.05, "cosine", 0.2, 30).reshape(3, 10)
    assert np.array_equal(rates, np.concatenate([first, second]))


def test_without_a_first_phase_the_rates_are_those_of_one_training() -> None:
    rates = phases.learning_rates(0.1, 0.5, "linear", 0.2, (0, 3), 10)
    assert np.array_equal(rates.ravel(), schedule.learning_rates(0.1, "linear", 0.2, 30))
    whole = phases.learning_rates(0.1, 0.5, "linear", 0.2, (3, 3), 10)
    assert np.array_equal(whole, rates)


class Trained:
    """A small network, the first convolution of which was not to be trained anyway."""

    def __init__(self, epochs: int) -> None:
        import keras

        keras.utils.set_random_seed(1)
        self.model = cnn.build((6, 6), 2, channels=[3, 4], convolutions=[1, 1], dropout=0.0)
        self.layers = [layer for layer in self.model.layers if layer.weights]
        self.layers[0].trainable = False
        self.phases = phases.Phases(self.loop, self.layers[:-1], epochs, STEPS)
        random = np.random.default_rng(0)
        self.images = loop.as_tensor(random.random((COUNT, 6, 6), np.float32))
        self.labels = loop.as_tensor(np.arange(COUNT) % 2)

    def loop(self, first_step: int) -> loop.Loop:
        optimizer = optimizers.make("adam", 0.0)
        loss = loop.cross_entropy(2)
        return loop.Loop(self.model, optimizer, loss, BATCH, first_step=first_step)

    def epoch(self, number: int) -> None:
        order, rates = np.arange(COUNT), np.full(STEPS, 0.01, np.float32)
        self.phases.of(number).epoch(self.images, self.labels, order, rates)

    def values(self) -> list[list[Any]]:
        return [[value.copy() for value in layer.get_weights()] for layer in self.layers]

    def moved(self, before: list[list[Any]]) -> list[bool]:
        return [
            any(not np.array_equal(a, b) for a, b in zip(old, new, strict=True))
            for old, new in zip(before, self.values(), strict=True)
        ]


@pytest.mark.usefixtures("tensorflow")
def test_frozen_layers_stay_as_they_are_until_the_second_phase() -> None:
    trained = Trained(2)
    before = trained.values()
    trained.epoch(1)
    trained.epoch(2)
    assert trained.moved(before) == [False] * 4 + [True]  # nor do the statistics move
    between = trained.values()
    trained.epoch(3)
    assert trained.moved(between) == [False, *[True] * 4]
    assert trained.moved(before)[0] is False


@pytest.mark.usefixtures("tensorflow")
def test_the_second_phase_draws_its_augmentation_from_other_seeds() -> None:
    trained = Trained(2)
    assert trained.phases.of(1)._step_seed().numpy().tolist() == [0, 0]
    assert trained.phases.of(3)._step_seed().numpy().tolist() == [0, 2 * STEPS]
    trained.epoch(3)
    assert trained.phases.of(3)._step_seed().numpy().tolist() == [0, 3 * STEPS]


@pytest.mark.usefixtures("tensorflow")
def test_at_the_end_nothing_is_frozen_but_what_was_so_before() -> None:
    trained = Trained(2)
    trained.epoch(1)
    assert [layer.trainable for layer in trained.layers] == [False] * 4 + [True]
    trained.phases.end()
    assert [layer.trainable for layer in trained.layers] == [False, *[True] * 4]


@pytest.mark.usefixtures("tensorflow")
def test_the_state_holds_each_variable_of_both_phases_once() -> None:
    two, one = Trained(1), Trained(0)
    ids = [id(variable) for variable in two.phases.variables]
    assert len(ids) == len(set(ids))
    head = 2 + 2 * 2  # iterations and rate, and two moments of kernel and bias
    assert len(ids) == len(one.phases.variables) + head
    assert len(one.phases.variables) == len(one.loop(0).variables)


def test_what_a_layer_holds_frozen_for_good_stays_frozen() -> None:
    import keras

    class Around(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.fixed, self.free = keras.layers.Dense(4), keras.layers.Dense(4)
            self.fixed.trainable = False

        def call(self, inputs: Any) -> Any:
            return self.free(self.fixed(inputs))

    layer = Around()
    layer(np.zeros((1, 3), np.float32))
    made: list[int] = []
    trained = phases.Phases(
        lambda _: made.append(len(layer.trainable_variables)),  # type: ignore[arg-type,return-value]
        [layer],
        1,
        STEPS,
    )
    assert made == [0, 2]
    trained.of(1)
    assert not layer.trainable_variables
    trained.end()
    assert (layer.fixed.trainable, layer.free.trainable) == (False, True)
