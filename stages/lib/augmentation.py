"""Random changes of training images that leave their class as it is."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

    Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def make(shift: int, flip: bool) -> "Augment | None":
    """The function from a batch and its seed to a changed batch, or None for no change.

    Args:
        shift: Images move by up to so many pixels along each axis; 0 fills the gap.
        flip: Half of the images are mirrored left to right.

    Returns:
        A function of float32 B x H x W (x C) and an int32 (2,) seed, to the same shape.
    """
    if not shift and not flip:
        return None

    def augment(images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        seeds = tf.random.split(seed, 2)
        if flip:
            images = _mirror(images, seeds[0])
        return _shift(images, seeds[1], shift) if shift else images

    return augment


def _mirror(images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    ones = [1] * (len(images.shape) - 1)
    chosen = tf.random.stateless_uniform([images.shape[0], *ones], seed) < 0.5
    return tf.where(chosen, tf.reverse(images, axis=[2]), images)


def _shift(images: "tf.Tensor", seed: "tf.Tensor", limit: int) -> "tf.Tensor":
    import tensorflow as tf

    count, height, width = images.shape[:3]
    edges = [[0, 0], [limit, limit], [limit, limit], *[[0, 0]] * (len(images.shape) - 3)]
    padded = tf.pad(images, edges)
    offsets = tf.random.stateless_uniform([2, count], seed, 0, 2 * limit + 1, tf.int32)
    rows = offsets[0][:, None] + tf.range(height)  # B x H
    columns = offsets[1][:, None] + tf.range(width)  # B x W
    by_row = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(by_row, columns, axis=2, batch_dims=1)
