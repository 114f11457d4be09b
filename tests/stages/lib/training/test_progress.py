import io
import sys

import pytest

from stages.lib.training import loop, progress

SCORES = loop.Scores(0.25, 0.5)


class Terminal(io.StringIO):
    """A standard error stream on which somebody watches."""

    def isatty(self) -> bool:
        return True


def test_nobody_watching_nothing_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress(3, 40, 0) as shown:
        assert shown.epoch(1) is None
        shown.line("Epoch 1/3: loss 0.5")
    assert capsys.readouterr() == ("Epoch 1/3: loss 0.5\n", "")


def test_bars_of_the_epoch_and_of_the_training_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(progress, "_PAUSE", 0)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.Progress(4, 40, 1) as shown:  # the first epoch was done by an earlier run
        report = shown.epoch(2)
        assert report is not None
        report(20, 40, SCORES)
        half = terminal.getvalue()
        report(40, 40, SCORES)
        shown.line("Epoch 2/4: loss 0.2500")
    bars = [part for part in half.replace("\n", "\r").split("\r") if "left" in part]
    epochs = [bar for bar in bars if bar.startswith("Epoch 2/4")]
    trainings = [bar for bar in bars if bar.startswith("Training")]
    assert " 50 %" in epochs[-1]
    assert "loss 0.2500" in epochs[-1]
    assert " 38 %" in trainings[-1]  # 60 of 160 steps
    assert capsys.readouterr().out.splitlines() == ["Epoch 2/4: loss 0.2500"]


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (20, 1), (21, 2), (1875, 94)])
def test_about_twenty_reports_an_epoch(steps: int, every: int) -> None:
    assert progress.Progress(1, steps, 0).report_every == every
