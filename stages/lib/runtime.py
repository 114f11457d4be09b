"""How TensorFlow starts: quietly, and with the same settings on every machine."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """The block that imports TensorFlow or Keras for the first time.

    What a user's environment would change about the numbers is settled here. TensorFlow's notes
    about the machine, which it prints whatever the log level, are kept back; whoever sets
    TF_CPP_MIN_LOG_LEVEL sees them.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _quietly():
        yield


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
    with _quietly():
        tf.config.list_logical_devices()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keeps back what C++ code prints to the standard error stream."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
