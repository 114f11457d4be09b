from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from stages.lib.data.preparation import neighbours

Floats = npt.NDArray[np.float64]


def smooth(random: np.random.Generator, count: int, shape: Sequence[int]) -> Floats:
    """Images of a few coarse patches, as photos are, with some noise."""
    coarse = random.uniform(0, 255, (count, 4, 4, *shape[2:]))
    wide = coarse.repeat(-(-shape[0] // 4), axis=1).repeat(-(-shape[1] // 4), axis=2)
    return wide[:, : shape[0], : shape[1]] + random.normal(0, 4, (count, *shape))


def search(images: Floats, held_out: int) -> list[neighbours.Pair]:
    """The nearest of the first ``held_out`` images among the others."""
    values = images.reshape(len(images), -1).astype(np.float32)
    features = neighbours.standardized(values, values.mean(axis=1), values.std(axis=1))
    scaled = images.astype(np.float32)
    projected = features @ neighbours.projection(scaled[held_out:])
    indices = np.arange(len(images))
    take = scaled.__getitem__
    return neighbours.nearest(projected, indices[:held_out], indices[held_out:], take)


def by_hand(images: Floats, held_out: int) -> dict[int, tuple[int, float]]:
    """The same from the correlations of all pairs, as NumPy gives them."""
    values = images.reshape(len(images), -1)
    every = np.atleast_2d(np.corrcoef(values))[:held_out, held_out:]
    best = every.argmax(axis=1)
    return {
        row: (held_out + int(best[row]), float(every[row, best[row]]))
        for row in range(held_out)
        if every[row, best[row]] >= neighbours.LIMIT
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(28, 28), (17, 31, 3), (5, 3), (40, 2)])
def test_the_nearest_are_those_of_all_pairs(seed: int, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    images = smooth(random, 1700, shape)
    held_out = 700
    copies = random.permutation(held_out)[:60]
    sources = held_out + random.permutation(1000)[:60]
    scale = images.std() * random.uniform(0, 0.3, (60, *[1] * len(shape)))
    images[copies] = images[sources] + scale * random.normal(0, 1, (60, *shape))
    images = images.astype(np.float32).astype(float)  # as they are given
    expected = by_hand(images, held_out)
    pairs = search(images, held_out)
    assert len(expected) > 15
    assert {pair[1]: pair[2] for pair in pairs} == {row: at for row, (at, _) in expected.items()}
    for correlation, row, _ in pairs:
        assert correlation == pytest.approx(expected[row][1], abs=1e-8)
    assert [pair[0] for pair in pairs] == sorted((pair[0] for pair in pairs), reverse=True)


def test_many_candidates_are_compared_in_several_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    images = smooth(random, 300, (10, 10))
    images[:100] = images[100:200] + random.normal(0, 1, (100, 10, 10))
    once = search(images, 100)
    assert len(once) == 100
    monkeypatch.setattr(neighbours, "_KEPT", 3000)  # 30 images
    assert search(images, 100) == once


def test_a_brighter_and_a_paler_copy_are_copies_and_a_negative_is_none() -> None:
    images = smooth(np.random.default_rng(1), 40, (16, 16))
    images[0] = images[20] + 60
    images[1] = images[21] * 0.4
    images[2] = 255 - images[22]
    images[3] = np.roll(images[23], 3, axis=0)
    assert [pair[1:] for pair in sorted(search(images, 10), key=lambda pair: pair[1])] == [
        (0, 20),
        (1, 21),
    ]


def test_images_that_are_all_alike_are_told_once_each() -> None:
    random = np.random.default_rng(1)
    images = smooth(random, 1, (12, 12)).repeat(900, axis=0) + random.normal(0, 1, (900, 12, 12))
    pairs = search(images, 400)
    assert [pair[1] for pair in sorted(pairs, key=lambda pair: pair[1])] == list(range(400))
