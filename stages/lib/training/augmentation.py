"""Random changes of training images that leave their class as it is."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from stages.lib.core import config

if TYPE_CHECKING:
    import tensorflow as tf

    Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Augmentation(config.Schema, frozen=True):
    """How far training images are changed at random; 0 and false leave them alone."""

    shift: Annotated[
        int, Meta(ge=0, le=64, description="moved along each axis by up to so many pixels")
    ] = 0
    rotation: Annotated[
        float, Meta(ge=0, le=180, description="turned by up to so many degrees")
    ] = 0.0
    zoom: Annotated[
        float, Meta(ge=0, lt=1, description="made larger or smaller by up to this fraction")
    ] = 0.0
    flip: Annotated[bool, Meta(description="mirrored left to right, half of the images")] = False
    cutout: Annotated[
        int,
        Meta(ge=0, le=64, description="side in pixels of a square set to 0 (DeVries, Taylor 2017)"),
    ] = 0


def make(settings: Augmentation) -> "Augment | None":
    """The function from a batch and its seed to a changed batch, or None for no change.

    Returns:
        A function of float32 B x H x W (x C) and an int32 (2,) seed, to the same shape.
    """
    moved = bool(settings.shift or settings.rotation or settings.zoom)
    if not moved and not settings.flip and not settings.cutout:
        return None

    def augment(images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        for_flip, for_move, for_cutout = tf.unstack(tf.random.split(seed, 3))
        batch = images if len(images.shape) == 4 else images[..., None]
        if settings.flip:
            batch = _mirror(batch, for_flip)
        if moved:
            batch = _move(batch, for_move, settings)
        if settings.cutout:
            batch = _cut_out(batch, for_cutout, settings.cutout)
        return tf.reshape(batch, images.shape)

    return augment


def _mirror(images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    chosen = tf.random.stateless_uniform([images.shape[0], 1, 1, 1], seed) < 0.5
    return tf.where(chosen, tf.reverse(images, axis=[2]), images)


def _move(images: "tf.Tensor", seed: "tf.Tensor", settings: Augmentation) -> "tf.Tensor":
    """Shifts, turns and zooms about the centre in one interpolation; 0 fills the gaps."""
    import tensorflow as tf

    count, height, width, _ = images.shape
    seeds = tf.unstack(tf.random.split(seed, 3))
    steps = tf.random.stateless_uniform(
        [2, count], seeds[0], -settings.shift, settings.shift + 1, tf.int32
    )
    right, down = tf.unstack(tf.cast(steps, tf.float32))
    limit = math.radians(settings.rotation)
    angle = tf.random.stateless_uniform([count], seeds[1], -limit, limit)
    scale = 1 / tf.random.stateless_uniform([count], seeds[2], 1 - settings.zoom, 1 + settings.zoom)
    # The source (x', y') of every target pixel (x, y): turned and scaled about the centre, shifted
    cosine, sine = scale * tf.cos(angle), scale * tf.sin(angle)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    start_x = centre_x - cosine * centre_x + sine * centre_y - right
    start_y = centre_y - sine * centre_x - cosine * centre_y - down
    none = tf.zeros(count)
    rows = [cosine, -sine, start_x, sine, cosine, start_y, none, none]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack(rows, axis=1),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _cut_out(images: "tf.Tensor", seed: "tf.Tensor", size: int) -> "tf.Tensor":
    """Sets a square about a random pixel to 0, as far as it lies inside the image."""
    import tensorflow as tf

    count, height, width, _ = images.shape
    seeds = tf.unstack(tf.random.split(seed, 2))
    outside = []
    for axis_seed, length in zip(seeds, (height, width), strict=True):
        first = tf.random.stateless_uniform([count, 1], axis_seed, 0, length, tf.int32) - size // 2
        place = tf.range(length)
        outside.append((place < first) | (place >= first + size))
    rows, columns = outside
    return images * tf.cast(rows[:, :, None] | columns[:, None, :], tf.float32)[..., None]
