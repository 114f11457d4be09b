"""Random changes of training images: those that leave their class as it is, and mixtures."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from stages.lib.core import config
from stages.lib.core.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

    Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    Mix = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class Augmentation(config.Schema, frozen=True):
    """How far training images are changed at random; 0 and false leave them alone."""

    OPTIONS: ClassVar[frozenset[str]] = frozenset(
        {"fill", "flip_vertical", "brightness", "contrast", "mixup", "cutmix"}
    )
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
    fill: Annotated[
        Literal["black", "white", "edge"],
        Meta(description="what shows where an image was moved away; edge repeats its last pixels"),
    ] = "black"
    flip_vertical: Annotated[bool, Meta(description="mirrored upside down, half of the images")] = (
        False
    )
    brightness: Annotated[
        float, Meta(ge=0, le=1, description="made brighter or darker by up to this much of 1")
    ] = 0.0
    contrast: Annotated[
        float, Meta(ge=0, le=1, description="distance from the mean changed by up to this fraction")
    ] = 0.0
    mixup: Annotated[
        float,
        Meta(ge=0, le=100, description="a in Beta(a, a), the weight of another image (Zhang 2018)"),
    ] = 0.0
    cutmix: Annotated[
        float,
        Meta(ge=0, le=100, description="a in Beta(a, a), the area of another image (Yun 2019)"),
    ] = 0.0


def check(settings: Augmentation) -> None:
    """Checks that the changes asked for do not exclude each other.

    Raises:
        UserError: Mixup and cutmix are both asked for.
    """
    if settings.mixup and settings.cutmix:
        raise UserError(
            f"{config.PARAMS}: train.augmentation.cutmix: expected 0 beside mixup, found "
            f"{settings.cutmix:g}.\nSet one of them to 0 and run again."
        )


def make(settings: Augmentation) -> "Augment | None":
    """The function from a batch and its seed to a changed batch, or None for no change.

    Returns:
        A function of float32 B x H x W (x C) and an int32 (2,) seed, to the same shape.
    """
    moved = bool(settings.shift or settings.rotation or settings.zoom)
    lit = bool(settings.brightness or settings.contrast)
    if not (moved or lit or settings.flip or settings.flip_vertical or settings.cutout):
        return None

    def augment(images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        for_flip, for_move, for_cutout = tf.unstack(tf.random.split(seed, 3))
        batch = images if len(images.shape) == 4 else images[..., None]
        if settings.flip:
            batch = _mirror(batch, for_flip, axis=2)
        if settings.flip_vertical:
            batch = _mirror(batch, tf.random.fold_in(seed, 1), axis=1)
        if moved:
            batch = _move(batch, for_move, settings)
        if lit:
            batch = _light(batch, tf.random.fold_in(seed, 2), settings)
        if settings.cutout:
            batch = _cut_out(batch, for_cutout, settings.cutout)
        return tf.reshape(batch, images.shape)

    return augment


def make_mix(settings: Augmentation) -> "Mix | None":
    """The function from a batch and its seed to mixtures, or None where none are made.

    Each image is mixed with the one as far from the other end of the batch, which is in random
    order; labels reversed are those of these partners.

    Returns:
        A function of float32 B x H x W (x C) and an int32 (2,) seed, to the same shape and the
        fraction, float32 B, of each mixture that is of its own image.
    """
    if not settings.mixup and not settings.cutmix:
        return None

    def mix(images: "tf.Tensor", seed: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
        import tensorflow as tf

        for_weights, for_place = tf.unstack(tf.random.split(tf.random.fold_in(seed, 3), 2))
        count = images.shape[0]
        alpha = settings.mixup or settings.cutmix
        # Two of Gamma(a) make one of Beta(a, a); both may round to 0 where a is small
        first, second = tf.unstack(tf.random.stateless_gamma([2, count], for_weights, alpha))
        own = tf.math.divide_no_nan(first, first + second)
        batch = images if len(images.shape) == 4 else images[..., None]
        if settings.mixup:
            mask = own[:, None, None, None]
        else:
            mask = _outside(batch, for_place, tf.sqrt(1 - own))
            own = tf.reduce_mean(mask, axis=[1, 2, 3])
        mixed = mask * batch + (1 - mask) * tf.reverse(batch, axis=[0])
        return tf.reshape(mixed, images.shape), own

    return mix


def examples(
    images: npt.NDArray[np.float32], settings: Augmentation, seed: int, variants: int
) -> npt.NDArray[np.float32] | None:
    """Images beside what augmentation makes of them, or None where it makes nothing.

    Args:
        images: float32, n x H x W (x C), 0 to 1; mixtures are of these.
        settings: The changes.
        seed: Of the training.
        variants: How many of each image, V.

    Returns:
        float32, n (1 + V) x H x W (x C): each image and its variants, 0 to 1.
    """
    import tensorflow as tf

    augment, mix = make(settings), make_mix(settings)
    if not augment and not mix:
        return None
    columns = [images]
    for variant in range(variants):
        batch, drawn = tf.constant(images), tf.constant([seed, variant])
        if augment:
            batch = augment(batch, drawn)
        if mix:
            batch, _ = mix(batch, drawn)
        columns.append(np.clip(batch.numpy(), 0, 1) + 0)  # of -0, which comes and goes, 0
    return np.stack(columns, axis=1).reshape(-1, *images.shape[1:])


def _outside(images: "tf.Tensor", seed: "tf.Tensor", side: "tf.Tensor") -> "tf.Tensor":
    """1 outside of a rectangle about a random pixel, 0 inside: float32 B x H x W x 1.

    Args:
        images: B x H x W x C.
        seed: int32 (2,).
        side: B, 0 to 1, the sides of the rectangles as fractions of the image's; what lies beyond
            the image is cut off.
    """
    import tensorflow as tf

    count, height, width, _ = images.shape
    inside = []
    for axis_seed, length in zip(
        tf.unstack(tf.random.split(seed, 2)), (height, width), strict=True
    ):
        size = tf.cast(tf.round(side * length), tf.int32)[:, None]
        first = tf.random.stateless_uniform([count, 1], axis_seed, 0, length, tf.int32) - size // 2
        place = tf.range(length)
        inside.append((place >= first) & (place < first + size))
    rows, columns = inside
    return 1 - tf.cast(rows[:, :, None] & columns[:, None, :], tf.float32)[..., None]


def _mirror(images: "tf.Tensor", seed: "tf.Tensor", axis: int) -> "tf.Tensor":
    import tensorflow as tf

    chosen = tf.random.stateless_uniform([images.shape[0], 1, 1, 1], seed) < 0.5
    return tf.where(chosen, tf.reverse(images, axis=[axis]), images)


def _move(images: "tf.Tensor", seed: "tf.Tensor", settings: Augmentation) -> "tf.Tensor":
    """Shifts, turns and zooms about the centre in one interpolation, and fills the gaps."""
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
        fill_value=1.0 if settings.fill == "white" else 0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST" if settings.fill == "edge" else "CONSTANT",
    )


def _light(images: "tf.Tensor", seed: "tf.Tensor", settings: Augmentation) -> "tf.Tensor":
    """Changes contrast about the image's mean, then brightness; pixels stay from 0 to 1."""
    import tensorflow as tf

    shape = [images.shape[0], 1, 1, 1]
    seeds = tf.unstack(tf.random.split(seed, 2))
    low, high = 1 - settings.contrast, 1 + settings.contrast
    factor = tf.random.stateless_uniform(shape, seeds[0], low, high)
    light = tf.random.stateless_uniform(shape, seeds[1], -settings.brightness, settings.brightness)
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return tf.clip_by_value((images - mean) * factor + mean + light, 0, 1)


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
