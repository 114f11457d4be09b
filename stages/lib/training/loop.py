"""Training and evaluation of a Keras model with many steps in one graph.

``Model.fit`` comes back to Python and through a tf.data pipeline at every step, which costs a small
network more than its arithmetic. Here the images stay in memory, each step gathers its rows by
index inside one ``tf.while_loop``, and Python is back only for the next epoch or to report. Images
that are stored in a file are read by a thread, a chunk of steps ahead; the steps are the same.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stages.lib import split_file, stored_images
from stages.lib.stored_images import StoredImages
from stages.lib.training import kernels, precision

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt
    import tensorflow as tf

    Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    Mix = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class Scores(NamedTuple):
    """Mean loss over images (nats for a cross-entropy) and accuracy (0 to 1)."""

    loss: float
    accuracy: float


Report = Callable[[int, int, Scores], None]  # steps done, steps in all, scores so far


class Loop:
    """Training and evaluation of a model; make both within the strategy's scope, if any.

    All state is in ``variables``: training goes on bit for bit where these are restored. Of several
    replicas each takes its slice of every batch, and gradients are summed before the optimizer
    clips or averages them, so that it sees those of one process. Losses contain the penalties that
    layers add, in training and in evaluation, as Keras's own do.

    Args:
        model: Built, images N x H x W or N x H x W x C to outputs N x K.
        optimizer: Any of Keras's; its learning rate is set step by step.
        loss: Labels (N) and outputs (N x K) to the loss of each image (N), as the ``call`` of
            Keras's losses is.
        batch_size: The number of images in a step, over all replicas.
        augment: Images of a step and a seed, int32 (2,), for ``tf.random.stateless_*`` to images of
            the same shape.
        seed: The first of augment's two; the second numbers steps and replicas.
        class_weights: K factors of the training losses by label, as Keras's ``class_weight``;
            evaluation has none.
        mix: Images of a step, after augment, and the same seed to mixtures of each with the one
            as far from the other end of the batch, and the fractions (B) that are of its own; the
            losses of both labels are weighed by these.
        scored: The same network in float32 where ``model`` computes in another precision. The
            values of ``model`` are copied to it before it is scored. Of a model that computes in
            float16 the losses are scaled, as by Keras, so that small gradients are not 0.
        first_step: The steps of an earlier loop, so that augment's seeds go on from its.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: Loss,
        batch_size: int,
        augment: Augment | None = None,
        seed: int = 0,
        class_weights: npt.NDArray[np.float32] | None = None,
        mix: Mix | None = None,
        scored: keras.Model | None = None,
        first_step: int = 0,
    ) -> None:
        import tensorflow as tf

        self._model, self._optimizer, self._loss = model, optimizer, loss
        self._batch_size, self._augment, self._seed = batch_size, augment, seed
        self._class_weights, self._mix = class_weights, mix
        self._scored = scored or model
        self._first_step = first_step
        self._strategy = tf.distribute.get_strategy()
        self._replicas: int = self._strategy.num_replicas_in_sync
        self._scaling = precision.scaled(model, optimizer)
        if not self._scaling.built:
            self._scaling.build(model.trainable_variables)
        kernels.fuse(model, optimizer)
        if self._replicas > 1:  # _gradients has summed them by then
            optimizer._all_reduce_sum_gradients = lambda pairs: pairs  # type: ignore[method-assign]
        self._train = tf.function(self._steps, autograph=False)
        self._test = tf.function(self._test_batch, autograph=False, reduce_retracing=True)

    @property
    def variables(self) -> list[keras.Variable]:
        """All state of the training."""
        return [*self._model.variables, *self._scaling.variables]

    def epoch(
        self,
        images: tf.Tensor | StoredImages,
        labels: tf.Tensor,
        permutation: npt.NDArray[np.integer[Any]],
        rates: npt.NDArray[np.float32],
        report: Report | None = None,
        report_every: int = 100,
    ) -> Scores:
        """The mean scores on the way of one training on each image of the permutation.

        Args:
            images: float32, N x H x W or N x H x W x C, from ``as_tensor``, or stored.
            labels: Integers, N, from ``as_tensor``.
            permutation: Indices of images in the order of training; what is left after the last
                full batch makes a smaller one.
            rates: float32, the learning rate of every step.
            report: Called with steps done, steps in all and the scores so far.
            report_every: The number of steps between two reports, or more of stored images. Bits
                do not depend on it.
        """
        import tensorflow as tf

        size, count = self._batch_size, len(permutation)
        full, rest = divmod(count, size)
        indices = permutation.astype(np.int32)
        batches = indices[: full * size].reshape(full, size)
        stride = report_every if report else max(full, 1)
        if isinstance(images, StoredImages):
            stride = min(stride, stored_images.at_once((size, *images.shape[1:]), stride))
        chunks = [batches[start : start + stride] for start in range(0, full, stride)]
        if rest:
            chunks.append(indices[np.newaxis, full * size :])
        steps, totals = 0, tf.zeros(2, tf.float64)
        for source, targets, chunk in _with_rows(images, labels, chunks):
            chunk_rates = tf.constant(rates[steps : steps + len(chunk)])
            totals = self._train(source, targets, tf.constant(chunk), chunk_rates, totals)
            before, steps = steps, steps + len(chunk)
            due = steps // report_every > before // report_every or steps == len(rates)
            if report and due:
                scores = _mean(totals, min(steps * size, count))
                report(steps, full + bool(rest), scores)
        return _mean(totals, count)

    def evaluate(
        self,
        images: tf.Tensor | StoredImages,
        labels: tf.Tensor,
        batch_size: int | None = None,
    ) -> Scores:
        """The scores of the model as it is, at inference.

        Args:
            images: As those of ``epoch``, or an array.
            labels: Integers, N.
            batch_size: Images at once; None for as many as ``inference_batch`` says.
        """
        import tensorflow as tf

        if self._scored is not self._model:
            for mine, its in zip(self._model.variables, self._scored.variables, strict=True):
                its.assign(mine.value)
        batch_size = batch_size or inference_batch(images.shape[1:], self._batch_size)
        totals = tf.zeros(2, tf.float64)
        for start in range(0, len(labels), batch_size):
            batch = slice(start, start + batch_size)
            totals += self._test(images[batch], labels[batch])
        return _mean(totals, len(labels))

    def average(self) -> None:
        """Gives the model the averaged weights, if the optimizer keeps any (``use_ema``)."""
        for variable, mean in self._averages():
            variable.assign(mean.value)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The block in which the model has the averaged weights, if there are any."""
        before = [(variable, np.array(variable.numpy())) for variable, _ in self._averages()]
        self.average()
        try:
            yield
        finally:
            for variable, value in before:
                variable.assign(value)

    def _averages(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Each variable whose moving average the optimizer keeps, and that average."""
        if not self._optimizer.use_ema:
            return []
        pairs = zip(
            self._optimizer._trainable_variables,
            self._optimizer._model_variables_moving_average,
            strict=True,
        )
        return [(variable, mean) for variable, mean in pairs if mean is not None]

    def _steps(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        batches: tf.Tensor,
        rates: tf.Tensor,
        totals: tf.Tensor,
    ) -> tf.Tensor:
        """The totals, float64 (2,), after training on batches of indices (S steps x B images)."""
        import tensorflow as tf

        def body(step: tf.Tensor, totals: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            self._optimizer.learning_rate.assign(rates[step])
            sums = self._strategy.run(self._step, args=(images, labels, batches[step]))
            return step + 1, totals + self._strategy.reduce("SUM", sums, axis=None)

        count = tf.shape(batches)[0]
        _, totals = tf.while_loop(
            lambda step, _: step < count, body, (0, totals), parallel_iterations=1
        )
        return totals

    def _step(self, images: tf.Tensor, labels: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """The sums, float64 (2,), of training on this replica's part of one batch."""
        import tensorflow as tf

        size = batch.shape[0]
        batch, weights = self._part(batch)
        inputs, labels = tf.gather(images, batch), tf.gather(labels, batch)
        if self._augment:
            inputs = self._augment(inputs, self._step_seed())
        own = None
        if self._mix:
            inputs, own = self._mix(inputs, self._step_seed())
        with tf.GradientTape() as tape:
            outputs = tf.cast(self._model(inputs, training=True), tf.float32)
            losses = self._weighted_losses(labels, outputs)
            if own is not None:
                others = tf.reverse(labels, axis=[0])
                losses = own * losses + (1 - own) * self._weighted_losses(others, outputs)
                labels = tf.where(own < 0.5, others, labels)  # an accuracy needs one of the two
            losses = losses if weights is None else losses * weights
            penalties = _penalties(self._model)
            penalties /= self._replicas
            loss = tf.reduce_sum(losses) / size + penalties
            scaled = self._scaling.scale_loss(loss)
        self._scaling.apply(self._gradients(tape, scaled), self._model.trainable_variables)
        return _sums(loss * size, labels, outputs, weights)

    def _weighted_losses(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The losses of images (N), times the weights of their classes, if there are any."""
        import tensorflow as tf

        losses = self._loss(labels, outputs)
        if self._class_weights is None:
            return losses
        return losses * tf.gather(self._class_weights, labels)

    def _test_batch(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The sums over a batch, float64 (2,)."""
        import tensorflow as tf

        outputs = self._scored(images, training=False)
        loss = tf.reduce_sum(self._loss(labels, outputs))
        if self._scored.losses:
            loss += _penalties(self._scored) * tf.cast(tf.shape(outputs)[0], loss.dtype)
        return _sums(loss, labels, outputs)

    def _gradients(self, tape: tf.GradientTape, loss: tf.Tensor) -> list[tf.Tensor]:
        """One gradient for each trainable variable, summed over replicas."""
        import tensorflow as tf

        variables = [variable.value for variable in self._model.trainable_variables]
        gradients = tape.gradient(loss, variables)
        if self._replicas > 1:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce("SUM", gradients)
        return list(gradients)

    def _part(self, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """This replica's indices and their weights, None where all are 1.

        Parts have one static size; where the batch does not divide, the last ones are filled up
        with its last image at weight 0.
        """
        import tensorflow as tf

        if self._replicas == 1:
            return batch, None
        size = batch.shape[0]
        length = -(-size // self._replicas)
        positions = _replica() * length + tf.range(length)
        part = tf.gather(batch, tf.minimum(positions, size - 1))
        weights = tf.cast(positions < size, tf.float32)
        return part, weights if size % self._replicas else None

    def _step_seed(self) -> tf.Tensor:
        """A seed, int32 (2,), another one at every step and in every replica."""
        import tensorflow as tf

        iterations = tf.cast(self._optimizer.variables[0].value, tf.int32) + self._first_step
        return tf.stack([self._seed, iterations * self._replicas + _replica()])


def inference_batch(shape: Sequence[int], batch_size: int = 1) -> int:
    """How many images of a shape (H x W or H x W x C) a model takes at once to be scored.

    As many as have the pixels of 1,000 small ones, but no fewer than ``batch_size``, the number
    in a step: a training holds more of them than their scoring does.
    """
    return max(batch_size, min(1000, (1 << 20) // math.prod(shape[:2])), 1)


def _with_rows(
    images: tf.Tensor | StoredImages, labels: tf.Tensor, chunks: Sequence[npt.NDArray[np.int32]]
) -> Iterator[tuple[tf.Tensor, tf.Tensor, npt.NDArray[np.int32]]]:
    """Each chunk of batches of indices (S x B), with images and labels that they are indices of.

    Of stored images these are those of the chunk alone, in its order; each chunk is read while the
    one before is in use. Their number is that of the largest chunk, so that one graph serves all.
    """
    if not isinstance(images, StoredImages):
        yield from ((images, labels, chunk) for chunk in chunks)
        return
    room, given = max(chunk.size for chunk in chunks), labels.numpy()
    shape = images.shape[1:]

    def rows(chunk: npt.NDArray[np.int32]) -> tuple[tf.Tensor, tf.Tensor, npt.NDArray[np.int32]]:
        chosen = chunk.ravel()
        pixels = stored_images.aligned_empty((room, *shape), np.float32)
        images.read_into(pixels, chosen.tolist())
        targets = np.resize(given[chosen], room)
        places = np.arange(chunk.size, dtype=np.int32).reshape(chunk.shape)
        return as_tensor(pixels), as_tensor(targets), places

    yield from split_file.ahead(map(rows, chunks))


def _replica() -> tf.Tensor:
    """The number of the replica that runs this, from 0 on."""
    import tensorflow as tf

    return tf.distribute.get_replica_context().replica_id_in_sync_group


def _penalties(model: keras.Model) -> Any:
    """What regularizers and ``add_loss`` of layers add to the loss, summed as by Keras."""
    import tensorflow as tf

    return sum(tf.reduce_sum(tf.cast(each, tf.float32)) for each in model.losses)


def _sums(
    loss: tf.Tensor, labels: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
) -> tf.Tensor:
    """The summed loss and the number of correct predictions, float64 (2,)."""
    import tensorflow as tf

    correct = tf.cast(tf.equal(tf.argmax(outputs, -1, labels.dtype), labels), tf.float32)
    correct = correct if weights is None else correct * weights
    return tf.cast(tf.stack([loss, tf.reduce_sum(correct)]), tf.float64)


def _mean(totals: tf.Tensor, count: int) -> Scores:
    loss, accuracy = (totals.numpy() / count).tolist()
    return Scores(loss, accuracy)


def cross_entropy(num_classes: int, label_smoothing: float = 0.0) -> Loss:
    """The function of labels (N) and logits (N x K) that gives the loss, float32 (N), in nats.

    Args:
        num_classes: K.
        label_smoothing: The fraction of the target that is spread over all classes, 0 to 1.
            Source: Szegedy et al., Rethinking the Inception Architecture, 2016.
    """
    import keras

    def sparse(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    def smooth(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        targets = keras.ops.one_hot(labels, num_classes)
        return keras.losses.categorical_crossentropy(
            targets, logits, from_logits=True, label_smoothing=label_smoothing
        )

    return smooth if label_smoothing else sparse


def as_tensor(array: npt.NDArray[Any]) -> tf.Tensor:
    """A tensor on the array's own memory, or on one copy of it.

    ``tf.convert_to_tensor`` makes two copies. Do not write to the array after.

    Args:
        array: Any shape and dtype; copied unless writable, contiguous and aligned as
            ``stored_images.aligned_empty`` makes them (on other memory TensorFlow aborts).
    """
    import tensorflow as tf

    flags = array.flags
    if not (flags.c_contiguous and flags.writeable) or array.ctypes.data % stored_images.ALIGNMENT:
        copy = stored_images.aligned_empty(array.shape, array.dtype)
        copy[...] = array
        array = copy
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
