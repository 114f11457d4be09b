"""How TensorFlow starts: quietly, and with the same settings on every machine."""

import contextlib
import gc
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.core import config, stage
from stages.lib.core.errors import UserError

if TYPE_CHECKING:
    import keras

# lines of an error of TensorFlow's that say where it came up
_WHERE = r'Graph execution error|Detected at node|File "|<stack traces|\d+ root error|\[\[|Hint: '
_SMALL = 10_000_000  # weights times images of a step; 100,000 x 32 runs twice as fast on 1 thread

# With many of these TensorFlow would choose other kernels, whose sums round differently
_OTHER_BITS = ("TF_", "ONEDNN_", "DNNL_", "XLA_")
_SAME_BITS = (
    "TF_CONFIG",
    "TF_CPP_",
    "TF_FORCE_GPU_ALLOW_GROWTH",
    "TF_GPU_ALLOCATOR",
    "ONEDNN_MAX_CPU_ISA",  # the processor that oneDNN takes this one for: docs/audit.md
    "ONEDNN_VERBOSE",
)


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
    for name in [name for name in os.environ if name.startswith(_OTHER_BITS)]:
        if not name.startswith(_SAME_BITS):
            del os.environ[name]
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


def configure(threads: int, seed: int = 0, deterministic: bool = True) -> None:
    """Settles threads, number types and seeds; call it before TensorFlow's first operation.

    On a CPU operations give the same bits each time anyhow.

    Args:
        threads: The number of threads of one operation, and of operations at once. It comes from
            the configuration and not from the machine, because sums of several threads round
            differently; how many operations run at once changes no bit.
        seed: The seed of initial weights and dropout.
        deterministic: Whether those of a GPU are to do so too, which are slower.
    """
    import keras
    import tensorflow as tf

    keras.config.set_floatx("float32")  # a user's ~/.keras/keras.json may say otherwise
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)
    keras.utils.clear_session()  # layers are numbered from the start
    keras.utils.set_random_seed(seed)
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # TensorFlow has begun
        raise UserError(
            "stages/models: expected tensors and variables to be made by functions, found some "
            "made when a module was imported.\n"
            "Move them into build, or into the layer that uses them, and run again."
        ) from None
    with quietly():
        if deterministic and tf.config.list_physical_devices("GPU"):
            tf.config.experimental.enable_op_determinism()
        if not os.environ.get("TF_CONFIG"):  # then the strategy has to come first
            tf.config.list_logical_devices()


def strategy() -> Any:
    """How training is spread, as TensorFlow calls it.

    With TF_CONFIG set it is one of the workers that it describes; with several GPUs all of them
    are used; else it is the plain one. Call it after ``configure`` and before anything else.
    """
    import tensorflow as tf

    if os.environ.get("TF_CONFIG"):
        _task()
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief() -> bool:
    """Whether this process writes: true but for the other workers that TF_CONFIG describes."""
    kind, index, others = _task()
    return kind == "chief" or (kind == "worker" and index == 0 and not others)


def _task() -> tuple[str, int, bool]:
    """Kind and number of this process by TF_CONFIG, and whether there is a chief.

    Raises:
        UserError: TF_CONFIG describes no cluster that this process is in.
    """
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        found = json.loads(text)
        if found == {}:
            return "chief", 0, True
        kind, index = str(found["task"]["type"]), int(found["task"]["index"])
        if index not in range(len(found["cluster"][kind])):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise UserError(
            "TF_CONFIG: expected JSON of a cluster and of this process's task in it, found "
            f"{text[:60]}.\nSet it as docs/scaling.md shows, or unset it to train on this machine."
        ) from None
    return kind, index, "chief" in found["cluster"]


def device() -> str:
    """What TensorFlow computes on and why, in a sentence; call it after ``strategy``."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        names = ", ".join(str(detail.get("device_name", "of no name")) for detail in details)
        return f"Runs on {len(gpus)} GPU: {names}."
    if not tf.test.is_built_with_gpu_support():
        return "Runs on the CPU: this TensorFlow was built without support for GPUs."
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "Runs on the CPU: CUDA_VISIBLE_DEVICES hides every GPU."
    return (
        "Runs on the CPU: TensorFlow found no GPU that it can use; with TF_CPP_MIN_LOG_LEVEL=0 "
        "it says why."
    )


def cores() -> int:
    """The number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def remark_on_threads(model: "keras.Model", threads: int, batch_size: int, cores: int) -> str:
    """What would train a model faster on a machine of so many cores; empty if nothing is known.

    Args:
        model: Built.
        threads: Of one operation.
        batch_size: The number of images in a step.
        cores: Of the processor.
    """
    layers = model._flatten_layers()
    convolutional = any(hasattr(layer, "kernel_size") for layer in layers)
    if threads > cores:
        return f"{threads} threads are more than the {cores} cores of this machine"
    if convolutional and threads == 1 < cores:
        return f"a convolutional network trains faster with more than 1 thread, of {cores} cores"
    small = model.count_params() * batch_size < _SMALL
    if not convolutional and threads > 1 and small:
        return f"a step of a network this small is faster with 1 thread than with {threads}"
    return ""


@contextlib.contextmanager
def enough_memory(
    key: str, what: str = "batches that fit", step: str = "Lower it, or make the model smaller,"
) -> Iterator[None]:
    """The block whose need of memory a key of params.yaml sets.

    Args:
        key: The key.
        what: What it should be, but for the words "into memory".
        step: What to do before running again.

    Raises:
        UserError: The block asks for more memory than there is.
    """
    import tensorflow as tf

    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise UserError(
            f"{config.PARAMS}: {key}: expected {what} into memory, found: "
            f"{_said(error) or 'no memory left'}.\n{step} and run again."
        ) from None


@contextlib.contextmanager
def deterministic_operations() -> Iterator[None]:
    """The block that runs operations of which a GPU may have no deterministic form.

    Raises:
        UserError: It has none of one of them.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.UnimplementedError as error:
        said = _said(error, "determinis")
        if not said:
            raise
        raise UserError(
            f"{config.PARAMS}: train.deterministic: expected operations that give the same bits on "
            f"a GPU each time, found: {said}.\n"
            "Use other layers, or set it to false, and no two trainings will be quite equal."
        ) from None


def _said(error: Exception, word: str = "") -> str:
    """The line of an error of TensorFlow's that says what is wrong and has a word, or none."""
    lines = str(getattr(error, "message", error)).splitlines()
    lines = [re.sub(r"\{\{.*?\}\}|^\s*\(\d+\) [A-Z_]+:", "", line).strip() for line in lines]
    telling = (line for line in lines if line and not re.match(_WHERE, line))
    return next((line for line in telling if word in line.lower()), "")[:120].rstrip(". ")


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
