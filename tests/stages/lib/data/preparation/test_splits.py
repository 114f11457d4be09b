import numpy as np
import pytest

from stages.lib.data.preparation import splits


@pytest.mark.parametrize(
    ("counts", "fraction", "held_out"),
    [
        ([10, 20, 30], 0.1, [1, 2, 3]),
        ([4, 5, 6], 0.25, [1, 1, 2]),  # 1, 1.25 and 1.5: half to even
        ([1, 2, 3], 0.1, [0, 0, 0]),
        ([5, 0, 5], 0.4, [2, 0, 2]),
        ([7, 7, 7], 0.0, [0, 0, 0]),
        ([100, 10, 1], 0.99, [99, 9, 0]),  # one image of a class is left to train on
    ],
)
def test_hold_out_rounds_to_whole_images_of_each_class(
    counts: list[int], fraction: float, held_out: list[int]
) -> None:
    labels = np.random.default_rng(5).permutation(np.repeat([0, 1, 2], counts))
    kept, out = splits.hold_out(labels, fraction, seed=1)
    assert np.bincount(labels[out], minlength=3).tolist() == held_out
    assert sorted([*kept, *out]) == list(range(len(labels)))
    for indices in (kept, out):
        assert (np.diff(indices) > 0).all()


def test_hold_out_depends_on_the_seed_alone() -> None:
    labels = np.arange(100) % 10
    drawn = [splits.hold_out(labels, 0.3, seed)[1].tolist() for seed in (0, 0, 1, 2**32 - 1)]
    assert drawn[0] == drawn[1]
    assert len({tuple(each) for each in drawn}) == 3
    # Other numbers here are other results everywhere; NumPy may bring them, so it is pinned
    assert splits.hold_out(labels, 0.1, 1)[1].tolist() == [1, 3, 32, 34, 46, 58, 67, 69, 75, 80]


def test_the_held_out_images_are_spread_over_the_class() -> None:
    # Had each class lost its first ones, the mean of 1,000 of 10,000 would be 500
    _, out = splits.hold_out(np.zeros(10_000, int), 0.1, seed=3)
    assert abs(out.mean() - 4999.5) < 5 * np.sqrt((10_000**2 - 1) / 12 / 1000)


def test_draws_are_those_of_every_earlier_run() -> None:
    # Other numbers here move images of everybody's data sets to other splits
    assert splits.draws("L 4 x 6 00000001", 1) == (9745790232569697099, 5558992697286263834)
    assert splits.draws("L 4 x 6 00000001", 2) == (3914412653692604461, 5685608207873202863)
