"""Which epoch's weights a training keeps, and when it ends before its last epoch."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stages.lib.training.checkpoint import History, Variable

Monitor = Literal["val_loss", "val_accuracy"]


def best_epoch(history: History, monitor: Monitor) -> int:
    """The number, from 1, of the first epoch with the lowest loss or the highest accuracy."""
    values = [row[monitor] for row in history]
    return 1 + values.index(min(values) if monitor == "val_loss" else max(values))


def is_over(history: History, monitor: Monitor, patience: int | None, start: int = 0) -> bool:
    """Whether the last ``patience`` epochs, all after ``start``, were no better than one before."""
    if patience is None or not history:
        return False
    return len(history) - max(best_epoch(history, monitor), start) >= patience


class Weights:
    """A copy of the values of variables.

    Args:
        variables: Of a model; they are copied as they are.
    """

    def __init__(self, variables: Sequence[Variable]) -> None:
        self._variables = variables
        self.values = [Value(variable) for variable in variables]

    def keep(self) -> None:
        """Copies the variables as they are now."""
        for variable, value in zip(self._variables, self.values, strict=True):
            value.assign(variable.numpy())

    def put(self) -> None:
        """Sets the variables to their copies."""
        for variable, value in zip(self._variables, self.values, strict=True):
            variable.assign(value.numpy())


class Value:
    """A copy of the value of a variable, saved and restored as a variable is.

    Args:
        variable: What is copied.
    """

    def __init__(self, variable: Variable) -> None:
        self.assign(variable.numpy())

    def numpy(self) -> npt.NDArray[Any]:
        """The value."""
        return self._value

    def assign(self, value: npt.NDArray[Any], /) -> None:
        """Sets the value to a copy of another one."""
        self._value = np.array(value)  # TensorFlow's own memory would change with the variable
