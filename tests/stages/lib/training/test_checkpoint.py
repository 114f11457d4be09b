import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from stages.lib.training import checkpoint

HISTORY = [{"loss": 0.5, "accuracy": 0.25}]


class Variable:
    """What a checkpoint needs of a Keras variable."""

    def __init__(self, value: list[float]) -> None:
        self.value: npt.NDArray[np.float32] = np.array(value, np.float32)

    def numpy(self) -> npt.NDArray[np.float32]:
        return self.value

    def assign(self, value: npt.NDArray[np.float32]) -> None:
        self.value = value


@pytest.fixture(autouse=True)
def _in_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_restores_what_was_saved() -> None:
    checkpoint.Checkpoint("a").save([Variable([1, 2]), Variable([])], HISTORY)
    first, second = Variable([0, 0]), Variable([])
    assert checkpoint.Checkpoint("a").restore([first, second]) == HISTORY
    assert first.value.tolist() == [1, 2]
    assert second.value.tolist() == []


@pytest.mark.usefixtures("tensorflow")
def test_bits_of_a_type_that_numpy_cannot_state_come_back() -> None:
    import tensorflow as tf

    kind = tf.bfloat16.as_numpy_dtype

    def variable(value: list[float]) -> Variable:
        made = Variable([])
        made.value = np.array(value, kind)
        return made

    checkpoint.Checkpoint("a").save([variable([1.5, -2])], HISTORY)
    found = variable([0, 0])
    assert checkpoint.Checkpoint("a").restore([found]) == HISTORY
    assert found.value.dtype == kind
    assert found.value.tolist() == [1.5, -2]


def test_a_state_that_is_not_to_be_kept_is_not() -> None:
    checkpoint.Checkpoint("a", kept=False).save([Variable([1])], HISTORY)
    assert not checkpoint.FOLDER.exists()
    checkpoint.Checkpoint("a").save([Variable([1])], HISTORY)
    assert checkpoint.Checkpoint("a", kept=False).restore([Variable([7])]) == []


def test_without_a_state_training_starts_anew(capsys: pytest.CaptureFixture[str]) -> None:
    variable = Variable([7])
    assert checkpoint.Checkpoint("a").restore([variable]) == []
    assert variable.value.tolist() == [7]
    assert capsys.readouterr().err == ""


def test_a_state_of_another_configuration_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.Checkpoint("a").save([Variable([1])], HISTORY)
    variable = Variable([7])
    assert checkpoint.Checkpoint("b").restore([variable]) == []
    assert variable.value.tolist() == [7]
    assert "a.npz: of another configuration" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "fewer variables"])
def test_a_damaged_state_is_left_alone(damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.Checkpoint("a").save([Variable(list(range(500)))], HISTORY)
    path = checkpoint.FOLDER / "a.npz"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-100])
    elif damage == "flipped":
        content[1200] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    wanted = [Variable([7]), Variable([8])] if damage == "fewer variables" else [Variable([7])]
    assert checkpoint.Checkpoint("a").restore(wanted) == []
    assert wanted[0].value.tolist() == [7]
    assert "a.npz: damaged" in capsys.readouterr().err


def test_a_damaged_state_is_left_alone_wherever_the_damage_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = np.arange(200, dtype=np.float32)
    checkpoint.Checkpoint("a").save([Variable(value.tolist()), Variable([1, 2])], HISTORY)
    path = checkpoint.FOLDER / "a.npz"
    content = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for trial in range(400):
        damaged = bytearray(content)
        for at in random.integers(0, len(content), 1 + trial % 3).tolist():
            damaged[at] ^= 1 << int(random.integers(8))
        if trial % 4 == 0:
            damaged = bytearray(content[: int(random.integers(len(content)))])
        path.write_bytes(damaged)
        variables = [Variable([7] * 200), Variable([8, 8])]
        history = checkpoint.Checkpoint("a").restore(variables)
        said = capsys.readouterr().err
        if history:  # a bit that says nothing of the state, such as the time of a member
            assert history == HISTORY
            assert (variables[0].value == value).all()
            assert variables[1].value.tolist() == [1, 2]
        else:
            refused += 1
            assert ".checkpoints/a.npz: damaged (" in said
            assert len(said.splitlines()) == 1
            assert variables[0].value.tolist() == [7] * 200
            assert variables[1].value.tolist() == [8, 8]
    assert refused > 250


def test_a_state_of_other_shapes_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.Checkpoint("a").save([Variable([1]), Variable([1, 2])], HISTORY)
    variables = [Variable([7]), Variable([7, 8, 9])]
    assert checkpoint.Checkpoint("a").restore(variables) == []
    assert variables[0].value.tolist() == [7]
    assert "a.npz: damaged (float32 (2,) for float32 (3,))" in capsys.readouterr().err


def test_removing_leaves_nothing_behind() -> None:
    kept = checkpoint.Checkpoint("a")
    kept.save([Variable([1])], HISTORY)
    kept.remove()
    assert not checkpoint.FOLDER.exists()


def test_killed_while_writing_the_state_before_stays(tmp_path: Path) -> None:
    checkpoint.Checkpoint("a").save([Variable([1])], HISTORY)
    script = (
        "import os, signal, numpy\n"
        "from stages.lib.training import checkpoint\n"
        "class V:\n"
        "    def numpy(self): return numpy.zeros(4)\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoint.Checkpoint('a').save([V()], [])\n"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert done.returncode == -signal.SIGKILL
    variable = Variable([0])
    assert checkpoint.Checkpoint("a").restore([variable]) == HISTORY
    assert variable.value.tolist() == [1]
