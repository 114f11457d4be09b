"""A training in two phases: of the new layers alone, then of the whole network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stages.lib.training import schedule
from stages.lib.training.loop import Loop

if TYPE_CHECKING:
    import keras


class Phases:
    """The loop of each epoch, with the layers frozen that are to be in it.

    Each phase has an optimizer of its own, so that the second one begins without momentum.

    Args:
        make: The number of steps before a phase to its loop, over the layers that are not frozen.
        frozen: Layers that the first phase leaves as they are.
        epochs: Of the first phase; 0 makes it one training of all.
        steps: Of one epoch.
    """

    def __init__(
        self,
        make: Callable[[int], Loop],
        frozen: Sequence[keras.layers.Layer],
        epochs: int,
        steps: int,
    ) -> None:
        # What a layer holds may be frozen for good; the layer itself comes before what it holds
        layers = [layer for layer in frozen if layer.trainable] if epochs else []
        inner = (each for layer in layers for each in layer._flatten_layers())
        self._trainable = [(each, each.trainable) for each in inner]
        self._epochs = epochs
        self._loops: list[Loop] = []
        if epochs:
            self._freeze(True)
            self._loops.append(make(0))
            self._freeze(False)
        self._loops.append(make(epochs * steps))

    def of(self, epoch: int) -> Loop:
        """The loop that trains an epoch, counted from 1; call it before any of its steps."""
        first = epoch <= self._epochs
        self._freeze(first)
        return self._loops[0 if first else -1]

    @property
    def variables(self) -> list[keras.Variable]:
        """All state of the training, each variable once."""
        unique = {id(each): each for loop in self._loops for each in loop.variables}
        return list(unique.values())

    def end(self) -> None:
        """Leaves no layer frozen that was not so before."""
        self._freeze(False)

    def _freeze(self, frozen: bool) -> None:
        for layer, trainable in self._trainable:
            layer.trainable = trainable and not frozen


def learning_rates(
    peak: float, factor: float, shape: str, warmup: float, epochs: tuple[int, int], steps: int
) -> npt.NDArray[np.float32]:
    """The learning rate of every step; each phase has its own warm-up and schedule.

    Args:
        peak: The highest one of the first phase, or of the only one.
        factor: What the second phase's is of it.
        shape: As ``schedule.learning_rates`` takes it.
        warmup: The same.
        epochs: Of the first phase, which may be 0, and in all.
        steps: Of one epoch.

    Returns:
        float32, epochs x steps.
    """
    first, total = epochs
    second = peak * factor if first else peak
    rates = [
        schedule.learning_rates(highest, shape, warmup, count * steps)
        for highest, count in ((peak, first), (second, total - first))
    ]
    return np.concatenate(rates).reshape(total, steps)
