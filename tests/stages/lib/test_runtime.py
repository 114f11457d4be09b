import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.lib import runtime
from stages.lib.core.errors import UserError

NOISE = """
import os, sys
from stages.lib import runtime
with runtime.starting():
    os.write(2, b"from C++\\n")
    import keras
runtime.configure(threads=3, seed=5)
import tensorflow as tf
threading = tf.config.threading
print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
print(keras.config.image_data_format())
print("matplotlib" in sys.modules, keras.config.floatx(), keras.layers.Dense(1).name)
import matplotlib.figure
print("from Python", file=sys.stderr)
"""
AT_ONCE = """
import hashlib, sys
import numpy as np
from stages.lib import runtime
from stages.lib.training import loop, optimizers
with runtime.starting():
    import keras
import tensorflow as tf
threading, layers = tf.config.threading, keras.layers
allowed = threading.set_inter_op_parallelism_threads
threading.set_inter_op_parallelism_threads = lambda _: allowed(int(sys.argv[1]))
runtime.configure(threads=2, seed=1)
x = inputs = keras.Input((16, 16, 1))
for _ in range(2):
    branches = [layers.Conv2D(16, size, padding="same")(x) for size in (1, 3, 5)]
    x = layers.BatchNormalization()(layers.Concatenate()(branches))
    x = layers.Dropout(0.2)(layers.ReLU()(x))
model = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
optimizer = optimizers.make("adamw", 0.01, {"use_ema": True, "clipnorm": 1.0})
training = loop.Loop(model, optimizer, loop.cross_entropy(4), 32)
rng = np.random.default_rng(1)
images = loop.as_tensor(rng.random((320, 16, 16, 1), np.float32))
labels = loop.as_tensor(rng.integers(0, 4, 320))
scores = training.epoch(images, labels, np.arange(320), np.full(10, 0.01, np.float32))
bits = b"".join(np.asarray(variable).tobytes() for variable in training.variables)
print(threading.get_inter_op_parallelism_threads(), scores, hashlib.sha256(bits).hexdigest())
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
    assert done.out == "3 3\nchannels_last\nFalse float32 dense\n"
    assert done.err == "from Python\n"


@pytest.mark.slow
def test_how_many_operations_run_at_once_changes_no_bit(run: Callable[..., Any]) -> None:
    found = {}
    for number in ("1", "2", "7"):
        done = run([sys.executable, "-c", AT_ONCE, number], Path(__file__).parents[3])
        assert done.code == 0, done.err
        used, _, found[number] = done.out.partition(" ")
        assert used == number
    assert len(set(found.values())) == 1


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


def test_settings_that_choose_other_kernels_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    dropped = ["TF_ENABLE_ONEDNN_OPTS", "ONEDNN_DEFAULT_FPMATH_MODE", "TF_XLA_FLAGS", "XLA_FLAGS"]
    dropped += ["TF_DETERMINISTIC_OPS", "TF_SET_ONEDNN_FPMATH_MODE", "DNNL_MAX_CPU_ISA"]
    dropped += ["TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "TF_OF_A_LATER_VERSION"]
    kept = ("TF_CONFIG", "TF_CPP_MIN_LOG_LEVEL", "TF_FORCE_GPU_ALLOW_GROWTH")
    for name in (*dropped, *kept):
        monkeypatch.setenv(name, "0")
    with runtime.starting():
        assert not {*dropped} & {*os.environ}
        assert {*kept} <= {*os.environ}


def test_whoever_sets_the_log_level_sees_the_log(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with runtime.starting():
        os.write(2, b"from C++\n")
    assert capfd.readouterr().err == "from C++\n"


@pytest.mark.slow  # TensorFlow waits ten seconds for memory to be given back
@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("graph", [False, True])
def test_a_lack_of_memory_is_told_in_the_words_that_say_it(graph: bool) -> None:
    import tensorflow as tf

    def much(rows: Any) -> Any:
        return tf.reduce_sum(tf.random.stateless_uniform([rows, 10_000_000], [1, 2]))

    said = r"memory, found: OOM when allocating tensor with shape\[10000000,10000000\]"
    with pytest.raises(UserError, match=said), runtime.enough_memory("train.batch_size"):
        (tf.function(much) if graph else much)(tf.constant(10_000_000))


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("graph", [False, True])
def test_what_tensorflow_lacks_otherwise_keeps_its_traceback(graph: bool) -> None:
    import tensorflow as tf

    def lacking(text: Any) -> Any:
        return tf.cast(text, tf.float32)

    with pytest.raises(tf.errors.UnimplementedError), runtime.deterministic_operations():
        (tf.function(lacking) if graph else lacking)(tf.constant("1"))


def network(kind: str) -> Any:
    import keras

    layers = {
        "dense": [keras.layers.Flatten(), keras.layers.Dense(100)],
        "wide": [keras.layers.Flatten(), keras.layers.Dense(10000)],
        "convolutional": [keras.Sequential([keras.layers.Conv2D(4, 3)]), keras.layers.Flatten()],
    }[kind]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize(
    ("kind", "threads", "cores", "said"),
    [
        ("convolutional", 1, 2, "a convolutional network trains faster with more than 1 thread"),
        ("convolutional", 1, 1, ""),
        ("convolutional", 2, 8, ""),
        ("dense", 1, 8, ""),
        ("dense", 2, 8, "a step of a network this small is faster with 1 thread than with 2"),
        ("wide", 2, 8, ""),
        ("wide", 4, 2, "4 threads are more than the 2 cores of this machine"),
    ],
)
def test_threads_far_from_what_the_network_wants_are_remarked_upon(
    kind: str, threads: int, cores: int, said: str
) -> None:
    remark = runtime.remark_on_threads(network(kind), threads, 32, cores)
    assert remark.startswith(said)
    assert bool(remark) == bool(said)


@pytest.mark.usefixtures("tensorflow")
def test_the_device_comes_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    monkeypatch.setattr(tf.test, "is_built_with_gpu_support", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert runtime.device() == "Runs on the CPU: CUDA_VISIBLE_DEVICES hides every GPU."
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "found no GPU that it can use" in runtime.device()
    monkeypatch.setattr(tf.test, "is_built_with_gpu_support", lambda: False)
    assert "was built without support for GPUs" in runtime.device()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["a", "b"])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"device_name": f"GPU {gpu}"}
    )
    assert runtime.device() == "Runs on 2 GPU: GPU a, GPU b."


def test_the_cores_are_those_that_this_process_may_use() -> None:
    assert 1 <= runtime.cores() <= (os.cpu_count() or 1)
