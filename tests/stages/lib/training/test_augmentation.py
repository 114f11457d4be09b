from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stages.lib.core.errors import UserError
from stages.lib.training import augmentation

pytestmark = pytest.mark.usefixtures("tensorflow")

NONE: dict[str, Any] = {"shift": 0, "rotation": 0.0, "zoom": 0.0, "flip": False, "cutout": 0}
IMAGES = np.random.default_rng(0).random((64, 6, 6), np.float32)


def change(images: npt.NDArray[np.float32], seed: int = 1, **settings: Any) -> npt.NDArray[Any]:
    import tensorflow as tf

    augment = augmentation.make(augmentation.Augmentation(**{**NONE, **settings}))
    assert augment is not None
    changed: npt.NDArray[Any] = augment(tf.constant(images), tf.constant([seed, 7])).numpy()
    return changed


def test_nothing_asked_for_is_nothing_done() -> None:
    assert augmentation.make(augmentation.Augmentation(**NONE)) is None


def test_shifts_are_whole_pixels_up_to_the_limit_and_fill_with_zero() -> None:
    changed = change(IMAGES, shift=1)
    seen = set()
    for before, after in zip(IMAGES, changed, strict=True):
        padded = np.pad(before, 1)
        moves = [
            (down, right)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if np.allclose(after, padded[1 - down : 7 - down, 1 - right : 7 - right], atol=1e-5)
        ]
        assert len(moves) == 1
        seen.add(moves[0])
    assert len(seen) == 9


@pytest.mark.parametrize(
    ("fill", "padding"),
    [("white", {"constant_values": 1}), ("edge", {"mode": "edge"})],
)
def test_what_fills_the_gaps_is_chosen(fill: str, padding: dict[str, Any]) -> None:
    black = change(IMAGES, shift=2)
    for before, other, after in zip(IMAGES, black, change(IMAGES, shift=2, fill=fill), strict=True):
        padded, zeros = np.pad(before, 2, **padding), np.pad(before, 2)
        moved = [
            np.s_[2 - down : 8 - down, 2 - right : 8 - right]
            for down in range(-2, 3)
            for right in range(-2, 3)
        ]
        (move,) = [each for each in moved if np.allclose(other, zeros[each], atol=1e-5)]
        assert np.allclose(after, padded[move], atol=1e-5)
    turned = change(np.ones_like(IMAGES), rotation=45, zoom=0.3, fill=fill)
    assert np.allclose(turned, 1, atol=1e-5)
    assert change(np.ones_like(IMAGES), rotation=45, zoom=0.3).min() == 0


def test_flip_mirrors_about_half_of_the_images() -> None:
    changed = change(IMAGES, flip=True)
    mirrored = (changed == IMAGES[:, :, ::-1]).all(axis=(1, 2))
    same = (changed == IMAGES).all(axis=(1, 2))
    assert (mirrored ^ same).all()
    assert 16 < mirrored.sum() < 48


def test_cutout_blanks_a_square_and_nothing_else() -> None:
    changed = change(np.ones((64, 9, 9), np.float32), cutout=3)
    blank = (changed == 0).sum(axis=(1, 2))
    assert set(blank) <= {4, 6, 9}  # in a corner, at an edge, inside
    assert 9 in blank
    assert set(np.unique(changed)) == {0, 1}


# Pixel (x, y) has the value x - 4: turned and scaled about the centre it is again a plane, whose
# slopes along x and y are those of the source's x, s cos(a) and -s sin(a), by the definition of a
# rotation by a and of a zoom by 1 / s. Read inside, where no zeros come in from outside.
PLANE = np.broadcast_to(np.arange(9, dtype=np.float32) - 4, (64, 9, 9)).copy()


def slopes(images: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The slopes (N) along x and y of planes, read off two pixels on each side of the centre."""
    return (images[:, 4, 5] - images[:, 4, 3]) / 2, (images[:, 5, 4] - images[:, 3, 4]) / 2


def test_rotation_turns_about_the_centre_by_angles_up_to_the_limit() -> None:
    turned = change(PLANE, rotation=40.0)
    along_x, along_y = slopes(turned)
    assert turned[:, 4, 4] == pytest.approx(np.zeros(64), abs=1e-5)
    assert np.hypot(along_x, along_y) == pytest.approx(np.ones(64), abs=1e-5)
    angles = np.degrees(np.arctan2(along_y, along_x))
    assert np.abs(angles).max() <= 40.001
    assert angles.max() > 25
    assert angles.min() < -25
    for y in (3, 5):  # the plane through the centre of these slopes, at the corners too
        for x in (3, 5):
            plane = (x - 4) * along_x + (y - 4) * along_y
            assert turned[:, y, x] == pytest.approx(plane, abs=1e-5)


def test_zoom_scales_about_the_centre_by_factors_up_to_the_limit() -> None:
    zoomed = change(PLANE, zoom=0.3)
    along_x, along_y = slopes(zoomed)
    assert zoomed[:, 4, 4] == pytest.approx(np.zeros(64), abs=1e-5)
    assert along_y == pytest.approx(np.zeros(64), abs=1e-5)
    factors = 1 / along_x
    assert factors.min() >= 0.7 - 1e-4
    assert factors.max() <= 1.3 + 1e-4
    assert factors.min() < 0.85
    assert factors.max() > 1.15


def test_a_quarter_turn_of_a_symmetric_cross_stays_inside() -> None:
    image = np.zeros((32, 9, 9), np.float32)
    image[:, 4, 2:7] = 1
    turned = change(image, rotation=90.0)
    assert turned[:, 0].max() < 0.5
    assert np.abs(turned - image).max() > 0.5


def test_the_seed_alone_decides() -> None:
    settings: dict[str, Any] = {"shift": 2, "rotation": 10.0, "zoom": 0.1, "cutout": 2}
    assert (change(IMAGES, **settings) == change(IMAGES, **settings)).all()
    assert (change(IMAGES, 1, **settings) != change(IMAGES, 2, **settings)).any()


def test_colour_images_change_as_a_whole() -> None:
    colour = np.repeat(IMAGES[..., None], 3, axis=-1)
    changed = change(colour, shift=2, flip=True, rotation=5.0, cutout=2)
    assert changed.shape == colour.shape
    assert (changed[..., 0] == changed[..., 2]).all()


def test_a_vertical_flip_mirrors_about_half_of_the_images_and_others_than_a_flip() -> None:
    changed = change(IMAGES, flip_vertical=True)
    mirrored = (changed == IMAGES[:, ::-1]).all(axis=(1, 2))
    assert (mirrored ^ (changed == IMAGES).all(axis=(1, 2))).all()
    assert 16 < mirrored.sum() < 48
    sideways = (change(IMAGES, flip=True) == IMAGES[:, :, ::-1]).all(axis=(1, 2))
    assert (sideways != mirrored).any()


def test_new_changes_leave_the_draws_of_the_others_as_they_are() -> None:
    flipped = change(IMAGES, flip=True)
    both = change(IMAGES, flip=True, flip_vertical=True)
    assert all((b == f).all() or (b == f[::-1]).all() for b, f in zip(both, flipped, strict=True))


def test_brightness_is_one_number_for_an_image_within_the_limit() -> None:
    images = IMAGES * 0.2 + 0.4
    differences = change(images, brightness=0.3) - images
    assert differences.std(axis=(1, 2)) == pytest.approx(0, abs=1e-6)
    assert differences.min() < -0.2 < 0.2 < differences.max()
    assert np.abs(differences).max() <= 0.3 + 1e-6
    full = change(IMAGES, brightness=1.0)
    assert (full.min(), full.max()) == (0, 1)


def test_contrast_keeps_the_mean_and_scales_the_deviation() -> None:
    images = IMAGES * 0.2 + 0.4
    changed = change(images, contrast=0.5)
    assert changed.mean(axis=(1, 2)) == pytest.approx(images.mean(axis=(1, 2)), abs=1e-5)
    factors = changed.std(axis=(1, 2)) / images.std(axis=(1, 2))
    assert 0.5 <= factors.min() < 0.7 < 1.3 < factors.max() <= 1.5


def mixed(**settings: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    import tensorflow as tf

    mix = augmentation.make_mix(augmentation.Augmentation(**{**NONE, **settings}))
    assert mix is not None
    images, own = mix(tf.constant(IMAGES), tf.constant([1, 7]))
    return images.numpy(), own.numpy()


def test_mixup_is_a_weighted_mean_of_an_image_and_its_partner() -> None:
    images, own = mixed(mixup=0.4)
    weights = own[:, None, None]
    assert images == pytest.approx(weights * IMAGES + (1 - weights) * IMAGES[::-1], abs=1e-6)
    assert len(np.unique(own)) == len(own)


def test_weights_are_of_a_beta_distribution() -> None:
    own = np.concatenate([mixed(mixup=alpha)[1] for alpha in (2.0, 2.0001, 2.0002, 2.0003)])
    assert own.mean() == pytest.approx(0.5, abs=0.06)
    assert own.var() == pytest.approx(1 / 20, abs=0.012)  # 1 / (4 (2 a + 1))
    assert np.isfinite(mixed(mixup=1e-3)[1]).all()


def test_cutmix_puts_in_a_rectangle_of_the_partner_and_counts_its_pixels() -> None:
    images, own = mixed(cutmix=1.0)
    for at, (image, fraction) in enumerate(zip(images, own, strict=True)):
        from_partner = image != IMAGES[at]
        assert (image[from_partner] == IMAGES[::-1][at][from_partner]).all()
        assert 1 - from_partner.mean() == pytest.approx(fraction, abs=1e-6)
        rows, columns = from_partner.any(axis=1), from_partner.any(axis=0)
        assert from_partner.sum() == rows.sum() * columns.sum()
    assert own.std() > 0.1


def test_mixup_and_cutmix_exclude_each_other() -> None:
    settings = augmentation.Augmentation(mixup=0.2, cutmix=1.0)
    with pytest.raises(UserError, match=r"augmentation.cutmix: expected 0 beside mixup, found 1\."):
        augmentation.check(settings)


def test_examples_have_no_negative_zero_which_is_not_the_same_in_every_process() -> None:
    images = np.random.default_rng(0).random((6, 4, 4), np.float32)
    found = augmentation.examples(images, augmentation.Augmentation(shift=1), 1, 3)
    assert found is not None
    assert (found == 0).any()
    assert not np.signbit(found).any()
