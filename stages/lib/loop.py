"""Training and evaluation of a Keras model in one TensorFlow graph for many steps.

`Model.fit` returns to Python and feeds a tf.data pipeline at every step, which
costs a small network more than its arithmetic. Here the images stay in memory,
every step gathers its rows by index inside a `tf.while_loop`, and Python is
back only at the end of an epoch or to report progress.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt
    import tensorflow as tf

    Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

Report = Callable[[int, int, "Scores"], None]  # steps done, steps in all, scores so far

TENSOR_ALIGNMENT = 64  # bytes; TensorFlow's kernels abort the process below it


class Scores(NamedTuple):
    """Mean loss (nats for cross-entropy) and accuracy (0..1) over images."""

    loss: float
    accuracy: float


def set_threads(intra_op: int) -> None:
    """Sets the number of cores one operation may use, before TensorFlow's first.

    Operations run one after another: a second inter-op thread only adds
    hand-overs to a graph that is a chain.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(intra_op)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def as_tensor(array: npt.NDArray[Any]) -> tf.Tensor:
    """Returns a tensor on the array's own memory where TensorFlow can use that.

    `tf.convert_to_tensor` copies twice. The array must not be written to
    while the tensor lives.

    Args:
        array: any shape and dtype; copied once if it is read-only, strided or
            its memory does not start at a multiple of 64 bytes.
    """
    import tensorflow as tf

    usable = array.flags.c_contiguous and array.flags.writeable
    if not usable or array.ctypes.data % TENSOR_ALIGNMENT:
        aligned = empty_aligned(array.shape, array.dtype)
        aligned[...] = array
        array = aligned
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def empty_aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Returns an array like `np.empty`'s that `as_tensor` takes without a copy."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + TENSOR_ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % TENSOR_ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def cross_entropy(num_classes: int, label_smoothing: float = 0.0) -> Loss:
    """Returns the cross-entropy of every image's logits, float32 (N,), in nats.

    Args:
        num_classes: K.
        label_smoothing: share of the target spread over all K classes, 0..1.
    """
    import keras

    if not label_smoothing:
        return lambda labels, outputs: keras.losses.sparse_categorical_crossentropy(
            labels, outputs, from_logits=True
        )
    return lambda labels, outputs: keras.losses.categorical_crossentropy(
        keras.ops.one_hot(labels, num_classes),
        outputs,
        from_logits=True,
        label_smoothing=label_smoothing,
    )


class Loop:
    """Runs epochs of `model`; build it and the model in the strategy's scope.

    All state is in `model.variables` and `optimizer.variables`: saved and
    restored, training goes on bit for bit. With several replicas each takes
    its slice of every batch and gradients are summed, as in one process.

    Args:
        model: built, images (N, H, W) or (N, H, W, C) to outputs (N, K).
        optimizer: any Keras optimizer; takes one with a fused kernel over.
        loss: labels (N,) and outputs (N, K) to the loss of each image (N,).
        batch_size: images per step over all replicas.
        augment: images of a step and an int32 (2,) seed for `tf.random.stateless_*`
            to images; the seed is (`seed`, number of the step and replica).
        seed: of the augmentation.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: Loss,
        batch_size: int,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        import tensorflow as tf

        self._model, self._optimizer, self._loss = model, optimizer, loss
        self._batch_size, self._augment, self._seed = batch_size, augment, seed
        self._strategy = tf.distribute.get_strategy()
        self._replicas: int = self._strategy.num_replicas_in_sync
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        if self._replicas == 1:
            fuse(optimizer)
        self._train = tf.function(self._steps, autograph=False)
        self._test = tf.function(self._test_batch, autograph=False, reduce_retracing=True)

    @property
    def variables(self) -> list[Any]:
        """All state: what is restored to these goes on bit for bit."""
        return [*self._model.variables, *self._optimizer.variables]

    def epoch(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        permutation: npt.NDArray[np.integer[Any]],
        rates: npt.NDArray[np.float32],
        report: Report | None = None,
        report_every: int = 0,
    ) -> Scores:
        """Trains on every image of a permutation once and returns its scores.

        Args:
            images: float32 (N, H, W) or (N, H, W, C), see `as_tensor`.
            labels: int32 (N,).
            permutation: indices of images, in the order of training; the last
                step takes the remainder.
            rates: float32, the learning rate of every step.
        report: called with steps done, steps in all, scores so far.
            report_every: steps between two calls of `report`; 0: none.
        """
        import tensorflow as tf

        count, size = len(permutation), self._batch_size
        full, rest = divmod(count, size)
        indices = permutation.astype(np.int32)
        batches = indices[: full * size].reshape(full, size)
        every = report_every or max(full, 1)
        chunks = [(batches[i : i + every], rates[i : i + every]) for i in range(0, full, every)]
        if rest:
            chunks.append((indices[np.newaxis, full * size :], rates[full:]))
        totals, done = tf.zeros(2, tf.float64), 0  # summed loss, correct images
        for chunk, chunk_rates in chunks:
            totals = self._train(
                images, labels, tf.constant(chunk), tf.constant(chunk_rates), totals
            )
            done += len(chunk)
            if report and report_every:
                seen = min(done * size, count)
                report(done, full + bool(rest), Scores(*(totals.numpy() / seen).tolist()))
        return Scores(*(totals.numpy() / count).tolist())

    def _steps(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        batches: tf.Tensor,
        rates: tf.Tensor,
        totals: tf.Tensor,
    ) -> tf.Tensor:
        """Adds the scores of S steps to the totals (2,); batches int32 (S, B)."""
        import tensorflow as tf

        def body(i: tf.Tensor, totals: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            self._optimizer.learning_rate.assign(rates[i])
            sums = self._strategy.run(self._step, args=(images, labels, batches[i]))
            return i + 1, totals + self._strategy.reduce("SUM", sums, axis=None)

        steps = tf.shape(batches)[0]
        return tf.while_loop(
            lambda i, _: i < steps, body, (0, totals), parallel_iterations=1
        )[1]

    def _step(self, images: tf.Tensor, labels: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """Trains on this replica's slice of a batch; float64 (2,): loss, correct."""
        import tensorflow as tf

        total = batch.shape[0]
        batch, weights = self._slice(batch)
        inputs, labels = tf.gather(images, batch), tf.gather(labels, batch)
        if self._augment:
            inputs = self._augment(inputs, self._step_seed())
        variables = [variable.value for variable in self._model.trainable_variables]
        with tf.GradientTape() as tape:
            outputs = self._model(inputs, training=True)
            losses = self._loss(labels, outputs)
            if weights is not None:
                losses *= weights
            loss = tf.reduce_sum(losses) / total
            for penalty in self._model.losses:
                loss += penalty / self._replicas
            scaled = self._optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, variables)
        self._optimizer.apply(gradients, self._model.trainable_variables)
        return tf.stack([tf.cast(loss * total, tf.float64), count_correct(labels, outputs, weights)])

    def _slice(self, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns this replica's share of a batch and its weights, None for all 1.

        Shares are equal so that shapes are static; where the batch does not
        divide, the last ones are filled up with images of weight 0.
        """
        import tensorflow as tf

        if self._replicas == 1:
            return batch, None
        size = -(-batch.shape[0] // self._replicas)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        positions = replica * size + tf.range(size)
        share = tf.gather(batch, tf.minimum(positions, batch.shape[0] - 1))
        if batch.shape[0] % self._replicas == 0:
            return share, None
        return share, tf.cast(positions < batch.shape[0], tf.float32)

    def _step_seed(self) -> tf.Tensor:
        """Returns int32 (2,), different at every step and replica."""
        import tensorflow as tf

        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        step = tf.cast(self._optimizer.variables[0].value, tf.int32)  # iterations
        return tf.stack([self._seed, step * self._replicas + replica])

    def evaluate(self, images: tf.Tensor, labels: tf.Tensor, batch_size: int = 1000) -> Scores:
        """Returns the scores of the model as it is at inference."""
        totals = np.zeros(2)
        for i in range(0, len(labels), batch_size):
            totals += self._test(images[i : i + batch_size], labels[i : i + batch_size]).numpy()
        return Scores(*(totals / len(labels)).tolist())

    def _test_batch(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns float64 (2,): summed loss, correct images."""
        import tensorflow as tf

        outputs = self._model(images, training=False)
        loss = tf.reduce_sum(self._loss(labels, outputs))
        return tf.stack([tf.cast(loss, tf.float64), count_correct(labels, outputs, None)])


def count_correct(labels: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    """Returns how many images the largest output classifies right, float64 ()."""
    import tensorflow as tf

    correct = tf.equal(tf.argmax(outputs, -1, labels.dtype), labels)
    if weights is not None:
        correct &= weights > 0
    return tf.cast(tf.math.count_nonzero(correct), tf.float64)


def fuse(optimizer: keras.optimizers.Optimizer) -> None:
    """Lets a Keras optimizer update its variables by TensorFlow's fused kernels.

    Same formulas on the same variables, one pass over memory instead of a
    dozen. Clipping, weight decay, schedules, averages and constraints stay
    Keras's. An optimizer without a kernel of the same formula is left alone.
    """
    import keras
    import tensorflow as tf

    ops = tf.raw_ops
    opt: Any = optimizer

    def adam(gradients: list[Any], variables: list[Any], rate: Any) -> None:
        step = tf.cast(opt.iterations + 1, tf.float32)
        powers = {"beta1_power": opt.beta_1**step, "beta2_power": opt.beta_2**step}
        for gradient, variable in zip(gradients, variables, strict=True):
            i = opt._get_variable_index(variable)
            ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=opt._momentums[i].value.handle,
                v=opt._velocities[i].value.handle,
                lr=rate,
                beta1=opt.beta_1,
                beta2=opt.beta_2,
                epsilon=opt.epsilon,
                grad=gradient,
                **powers,
            )

    def sgd(gradients: list[Any], variables: list[Any], rate: Any) -> None:
        for gradient, variable in zip(gradients, variables, strict=True):
            if not opt.momentum:
                ops.ResourceApplyGradientDescent(
                    var=variable.value.handle, alpha=rate, delta=gradient
                )
                continue
            ops.ResourceApplyKerasMomentum(
                var=variable.value.handle,
                accum=opt.momentums[opt._get_variable_index(variable)].value.handle,
                lr=rate,
                grad=gradient,
                momentum=opt.momentum,
                use_nesterov=opt.nesterov,
            )

    kind = type(optimizer)
    if kind in (keras.optimizers.Adam, keras.optimizers.AdamW) and not opt.amsgrad:
        opt._backend_update_step = adam
    elif kind is keras.optimizers.SGD:
        opt._backend_update_step = sgd
