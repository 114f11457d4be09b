import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.lib import runtime

NOISE = """
import os, sys
from stages.lib import runtime
with runtime.starting():
    os.write(2, b"from C++\\n")
    import keras
runtime.configure(threads=3, seed=5)
import tensorflow as tf
print(tf.config.threading.get_intra_op_parallelism_threads(), keras.config.image_data_format())
print("matplotlib" in sys.modules, keras.config.floatx(), keras.layers.Dense(1).name)
import matplotlib.figure
print("from Python", file=sys.stderr)
"""


def test_a_users_keras_settings_do_not_matter_and_tensorflow_is_quiet(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    settings = {"floatx": "float64", "backend": "jax", "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    done = run(
        [sys.executable, "-c", NOISE], Path(__file__).parents[3],
        KERAS_HOME=str(tmp_path), KERAS_BACKEND="jax",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out == "3 channels_last\nFalse float32 dense\n"
    assert done.err == "from Python\n"


def test_what_starting_takes_away_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with runtime.starting():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert "matplotlib" not in sys.modules


def test_ctrl_c_during_the_import_ends_the_process_with_a_word(run: Callable[..., Any]) -> None:
    code = """
from stages.lib import runtime
with runtime.starting():
    raise KeyboardInterrupt
"""
    done = run([sys.executable, "-c", code], Path(__file__).parents[3])
    assert (done.code, done.out) == (130, "")
    assert done.err == "\nInterrupted; nothing half-made was left behind.\n"


def test_no_collection_walks_over_what_was_imported(run: Callable[..., Any]) -> None:
    code = """
import gc
from stages.lib import runtime
with runtime.starting():
    made = [[] for _ in range(100_000)]
print(len(gc.get_objects()) < 50_000 < gc.get_freeze_count())
"""
    assert run([sys.executable, "-c", code], Path(__file__).parents[3]).out == "True\n"


def test_whoever_sets_the_log_level_sees_the_log(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with runtime.starting():
        os.write(2, b"from C++\n")
    assert capfd.readouterr().err == "from C++\n"
