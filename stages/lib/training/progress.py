"""How far a training is, on a terminal: a bar of the epoch and one of the whole."""

import sys
from types import TracebackType
from typing import Any, Self

from stages.lib.training import loop

_FORMAT = "{desc:<14} {bar:24} {percentage:3.0f} %  {elapsed}, {remaining} left{postfix}"
_REPORTS = 20  # an epoch; each costs a return from the graph to Python
_PAUSE = 0.1  # seconds between two drawings of a bar


class Progress:
    """Bars on the standard error stream while a training runs; nothing where nobody watches.

    Args:
        epochs: The number of epochs of the whole training.
        steps: The number of steps of an epoch.
        done: The number of epochs that an earlier run has finished.
    """

    def __init__(self, epochs: int, steps: int, done: int) -> None:
        self._epochs, self._steps = epochs, steps
        self._bars: list[Any] = []
        if sys.stderr.isatty():
            self._bars = [
                _bar("Epoch", 0, steps, 0),
                _bar("Training", 1, epochs * steps, done * steps),
            ]

    def __enter__(self) -> Self:
        """The progress itself; its bars are gone when the block ends."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for bar in reversed(self._bars):
            bar.close()

    @property
    def report_every(self) -> int:
        """The number of steps between two calls of what ``epoch`` returns."""
        return -(-self._steps // _REPORTS)

    def epoch(self, number: int) -> loop.Report | None:
        """The report of an epoch's steps that moves both bars, or None where there are none."""
        if not self._bars:
            return None
        epoch_bar, training_bar = self._bars
        epoch_bar.set_description_str(f"Epoch {number}/{self._epochs}", refresh=False)
        epoch_bar.set_postfix_str("", refresh=False)
        epoch_bar.reset()

        def report(done: int, total: int, scores: loop.Scores) -> None:
            epoch_bar.set_postfix_str(f"loss {scores.loss:.4f}", refresh=False)
            epoch_bar.update(done - epoch_bar.n)
            training_bar.update((number - 1) * total + done - training_bar.n)

        return report

    def line(self, text: str) -> None:
        """Prints a line to the standard output, above the bars."""
        if self._bars:
            self._bars[0].write(text, file=sys.stdout)
        else:
            print(text)
        sys.stdout.flush()


def _bar(title: str, position: int, total: int, done: int) -> Any:
    from tqdm import tqdm  # type: ignore[import-untyped] # it has no types

    return tqdm(
        desc=title,
        total=total,
        initial=done,
        miniters=1,  # time alone decides when a bar is drawn again
        mininterval=_PAUSE,
        position=position,
        leave=False,
        bar_format=_FORMAT,
        dynamic_ncols=True,
        file=sys.stderr,
    )
