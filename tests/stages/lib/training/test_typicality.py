import numpy as np
import pytest

from stages.lib.training import typicality


def test_properties_by_hand() -> None:
    image = np.zeros((1, 3, 3), np.float32)
    image[0, 1, 1] = 0.9
    (values,) = typicality.properties(image)
    assert values[0] == pytest.approx(0.1)  # mean
    assert values[1] == pytest.approx(np.sqrt(0.9**2 / 9 - 0.1**2))  # standard deviation
    assert values[2] == 0  # edge
    assert values[3] == pytest.approx(4 * 0.9 / 12)  # 4 of the 12 pairs of neighbours differ
    assert typicality.names((3, 3)) == ["brightness", "contrast", "edge brightness", "roughness"]


def test_the_edge_counts_every_outermost_pixel_once() -> None:
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4) / np.float32(12)
    edge = [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert typicality.properties(image)[0, 2] == pytest.approx(np.mean(edge) / 12)


def test_colour_is_a_property_of_images_with_channels() -> None:
    image = np.zeros((1, 2, 2, 3), np.float32)
    image[0, 0, 0] = (1, 0.5, 0)
    assert typicality.names((2, 2, 3))[-1] == "colourfulness"
    assert typicality.properties(image)[0, -1] == pytest.approx(1 / 4)
    assert len(typicality.names((2, 2, 1))) == typicality.properties(image[..., :1]).shape[1] == 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 3), (4, 4, 3), (1, 1, 3)])
def test_any_size_has_finite_properties(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).random((50, *shape), np.float32)
    typical = typicality.describe(images)
    values = typicality.properties(images)
    assert np.isfinite(values).all()
    assert all(np.isfinite(row).all() for row in typical.precision)
    assert all(typicality.difference(row, typical) == "" for row in values.tolist())


def strokes(seed: int, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Bright strokes on black, somewhat noisy."""
    random = np.random.default_rng(seed)
    images = np.zeros((count, 16, 16), np.float32)
    for image in images:
        column = random.integers(4, 12)
        image[3:13, column : column + 2] = random.uniform(0.7, 1)
    return images


def test_images_of_the_same_kind_are_typical() -> None:
    typical = typicality.describe(strokes(1, 3000))
    values = typicality.properties(strokes(2, 1000))
    assert typicality.typicality(values, typical).mean() == pytest.approx(0.5, abs=0.05)
    words = [typicality.difference(row, typical) for row in values.tolist()]
    assert sum(map(bool, words)) <= 5


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("inverted", "edge brightness 1.00, there 0.00 to 0.00"),
        ("black", "brightness 0.00"),
        ("white", "brightness 1.00"),
        ("noise", "roughness 0.3"),
    ],
)
def test_other_images_are_told_with_the_property_that_differs(kind: str, word: str) -> None:
    images = strokes(1, 3000)
    other = {
        "inverted": 1 - images[0],
        "black": np.zeros_like(images[0]),
        "white": np.ones_like(images[0]),
        "noise": np.random.default_rng(3).random(images[0].shape, np.float32),
    }[kind]
    typical = typicality.describe(images)
    (values,) = typicality.properties(other[None])
    assert typicality.typicality(values[None], typical)[0] == 0
    assert word in typicality.difference(values.tolist(), typical)


def test_equal_images_describe_themselves() -> None:
    images = np.full((3, 2, 2), 0.5, np.float32)
    typical = typicality.describe(images)
    values = typicality.properties(images)
    assert typicality.typicality(values, typical).tolist() == [1, 1, 1]
    assert typicality.difference(values[0].tolist(), typical) == ""
    assert "brightness 0.52" in typicality.difference([0.52, 0, 0.52, 0], typical)
