"""How TensorFlow starts: quietly, and with the same settings on every machine."""

import contextlib
import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.lib.core import config, stage
from stages.lib.core.errors import UserError


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """The block that imports TensorFlow or Keras for the first time.

    What a user's environment would change about the numbers is settled here. TensorFlow's notes
    about the machine, which it prints whatever the log level, are kept back; whoever sets
    TF_CPP_MIN_LOG_LEVEL sees them. Two things that make the import slow and serve no stage are left
    out: collecting garbage among modules (a quarter of the time, and a second later on), and
    matplotlib, which Keras imports wherever it finds it (a sixth).
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    hidden = "matplotlib" not in sys.modules
    if hidden:
        sys.modules["matplotlib"] = None  # type: ignore[assignment] # Python's way to say: none here
    gc.disable()
    try:
        with quietly():
            yield
    except KeyboardInterrupt:  # it takes seconds, and stage.run has not begun
        stage.interrupted()
    finally:
        gc.freeze()  # or the first collection, and that at exit, would walk over all of it
        gc.enable()
        if hidden:
            del sys.modules["matplotlib"]


def configure(threads: int, seed: int = 0) -> None:
    """Settles threads, number types and seeds; call it before TensorFlow's first operation.

    Args:
        threads: The number of threads of one operation. It comes from the configuration and not
            from the machine, because sums of several threads round differently.
        seed: The seed of initial weights and dropout.
    """
    import keras
    import tensorflow as tf

    keras.config.set_floatx("float32")  # a user's ~/.keras/keras.json may say otherwise
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)
    keras.utils.clear_session()  # layers are numbered from the start
    keras.utils.set_random_seed(seed)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if not os.environ.get("TF_CONFIG"):  # then the strategy has to come first
        with quietly():
            tf.config.list_logical_devices()


def strategy() -> Any:
    """How training is spread, as TensorFlow calls it.

    With TF_CONFIG set it is one of the workers that it describes; with several GPUs all of them
    are used; else it is the plain one. Call it after ``configure`` and before anything else.
    """
    import tensorflow as tf

    if os.environ.get("TF_CONFIG"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief() -> bool:
    """Whether this process writes: true but for the other workers that TF_CONFIG describes."""
    task = json.loads(os.environ.get("TF_CONFIG") or "{}")
    others = "chief" in task.get("cluster", {})
    kind, index = task.get("task", {}).get("type", "chief"), task.get("task", {}).get("index", 0)
    return kind == "chief" or (kind == "worker" and int(index) == 0 and not others)


@contextlib.contextmanager
def enough_memory(key: str) -> Iterator[None]:
    """The block that runs a model on batches whose size a key of params.yaml sets.

    Raises:
        UserError: The block asks TensorFlow for more memory than there is.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        reason = str(error.message).strip().splitlines()[0][:120]
        raise UserError(
            f"{config.PARAMS}: {key}: expected batches that fit into memory, found: {reason}.\n"
            "Lower it, or make the model smaller, and run again."
        ) from None


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps back what C++ code prints to the standard error stream."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
