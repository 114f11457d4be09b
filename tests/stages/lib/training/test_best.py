import numpy as np
import pytest

from stages.lib.training import best

LOSSES = [0.9, 0.5, 0.7, 0.5, 0.6]
HISTORY = [{"val_loss": loss, "val_accuracy": 1 - loss} for loss in LOSSES]


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_of_equal_epochs_the_first_is_the_best(monitor: best.Monitor) -> None:
    assert best.best_epoch(HISTORY, monitor) == 2
    assert best.best_epoch(HISTORY[:1], monitor) == 1


def test_patience_counts_the_epochs_after_the_best() -> None:
    over = [best.is_over(HISTORY[:count], "val_loss", 2) for count in range(6)]
    assert over == [False, False, False, False, True, True]
    assert not best.is_over(HISTORY, "val_loss", None)
    assert not best.is_over(HISTORY, "val_loss", 4)


def test_patience_begins_when_the_frozen_epochs_are_over() -> None:
    over = [best.is_over(HISTORY[:count], "val_loss", 2, 3) for count in range(6)]
    assert over == [False, False, False, False, False, True]


def test_a_copy_does_not_move_with_its_variable() -> None:
    memory = np.array([1.0, 2.0])

    class Variable:
        def numpy(self) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
            return memory

        def assign(self, value: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", /) -> None:
            memory[:] = value

    copy = best.Weights([Variable()])
    memory[:] = 5
    assert copy.values[0].numpy().tolist() == [1, 2]
    copy.put()
    assert memory.tolist() == [1, 2]
    memory[:] = 7
    copy.keep()
    assert copy.values[0].numpy().tolist() == [7, 7]
