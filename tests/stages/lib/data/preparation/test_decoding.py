"""Every kind of image file, with pixels worked out by hand."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from stages.lib.data.preparation import decoding
from stages.lib.data.preparation.decoding import Target

# 3 wide, 2 high: all six differ
CORNERS = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
COLOURS = np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [90, 100, 110]]], np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(content: bytes, **options: Any) -> Any:
    with decoding.quietly():
        return np.asarray(decoding.decode(content, **options).image).tolist()


def notes(content: bytes) -> str:
    with decoding.quietly():
        return "; ".join(decoding.decode(content).notes)


def refusal(content: bytes) -> str:
    with pytest.raises(decoding.UnreadableError) as caught, decoding.quietly():
        decoding.decode(content)
    return str(caught.value)


def exif(orientation: int, order: str = "II") -> bytes:
    """EXIF data of the orientation alone, by the description of TIFF."""
    letter = {"II": "<", "MM": ">"}[order]
    entry = struct.pack(f"{letter}HHIHH", 0x0112, 3, 1, orientation, 0)
    return (
        b"Exif\0\0"
        + order.encode()
        + struct.pack(f"{letter}HIH", 42, 8, 1)
        + entry
        + struct.pack(f"{letter}I", 0)
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_files_give_their_pixels(kind: str, options: dict[str, Any]) -> None:
    assert pixels(saved(Image.fromarray(COLOURS), kind, **options)) == COLOURS.tolist()
    if kind != "WEBP":  # which knows colour alone
        assert pixels(saved(Image.fromarray(CORNERS), kind, **options)) == CORNERS.tolist()


def test_a_gif_gives_its_pixels() -> None:
    assert pixels(saved(Image.fromarray(CORNERS), "GIF")) == CORNERS.tolist()
    colours = Image.fromarray(COLOURS).quantize(4)
    assert pixels(saved(colours, "GIF")) == np.asarray(colours.convert("RGB")).tolist()


def test_a_jpeg_gives_its_pixels_nearly() -> None:
    grey = np.full((16, 16), 77, np.uint8)
    assert pixels(saved(Image.fromarray(grey), "JPEG", quality=95)) == grey.tolist()
    colour = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    found = np.array(pixels(saved(Image.fromarray(colour), "JPEG", quality=95)))
    assert abs(found - colour.astype(int)).max() <= 2


def test_black_and_white_becomes_0_and_255() -> None:
    image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    for kind in ("PNG", "BMP", "TIFF", "GIF"):
        assert pixels(saved(image, kind)) == [[0, 255], [255, 0]]


def test_16_bits_are_scaled_by_their_range_and_keep_their_steps() -> None:
    ramp = np.array([[0, 1, 257, 32896, 65535]], np.uint16)
    expected = [[0.0, 1 / 257, 1.0, 128.0, 255.0]]
    for kind in ("PNG", "TIFF"):
        content = saved(Image.fromarray(ramp), kind)
        assert np.allclose(pixels(content), expected, rtol=1e-6, atol=0)
        assert notes(content) == "of 16 bits, scaled from 0 to 65535"
    whole = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.mean(pixels(saved(Image.fromarray(whole), "PNG"))) == pytest.approx(127.5)


def test_colours_of_16_bits_become_8() -> None:
    rows = b"".join(b"\0" + struct.pack(">6H", *row) for row in ([0, 257, 65535, 32896, 1, 300],))
    content = png(2, 1, 16, 2, zlib.compress(rows))
    assert pixels(content) == [[[0, 1, 255], [128, 0, 1]]]


def png(width: int, height: int, bits: int, colour: int, data: bytes, *chunks: bytes) -> bytes:
    """A PNG by its description."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunk(each[:4], each[4:]) for each in chunks)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("bits", "colour", "row", "key", "expected"),
    [
        (1, 0, bytes([0b01000000]), [1], [0, 70]),
        (2, 0, bytes([0b01110000]), [1], [70, 255]),
        (4, 0, bytes([0x5F]), [5], [70, 255]),
        (8, 0, bytes([5, 128]), [5], [70, 128]),
        (16, 0, struct.pack(">2H", 0, 257), [0], [70, 1]),
        (8, 2, bytes([1, 2, 3, 1, 2, 4]), [1, 2, 3], [[70, 70, 70], [1, 2, 4]]),
        (
            *(16, 2, struct.pack(">6H", 0x1234, 0x1234, 0x1234, 514, 514, 771)),
            *([0x1234] * 3, [[70, 70, 70], [2, 2, 3]]),
        ),
    ],
)
def test_the_transparent_colour_of_a_png_of_any_depth(
    bits: int, colour: int, row: bytes, key: list[int], expected: list[Any]
) -> None:
    chunk = b"tRNS" + struct.pack(f">{len(key)}H", *key)
    content = png(2, 1, bits, colour, zlib.compress(b"\0" + row), chunk)
    assert pixels(content, background=70) == [expected]
    assert "transparent, over the background" in notes(content)


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        ([0.0, 0.5, 1.0], [0, 127.5, 255], "of floats, scaled from 0 to 1"),
        ([0.2, 0.3, 0.4], [51, 76.5, 102], "of floats, scaled from 0 to 1"),
        ([-1.0, 0.0, 3.0], [0, 63.75, 255], "of other numbers, each scaled from its lowest to "),
        ([100.0, 150.0, 200.0], [0, 127.5, 255], "of other numbers, each scaled from its lowest"),
        ([7.0, 7.0, 7.0], [0, 0, 0], "of other numbers, each scaled from its lowest to its high"),
    ],
)
def test_floats_are_scaled_by_their_own_range(
    values: list[float], expected: list[float], note: str
) -> None:
    content = saved(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert np.allclose(pixels(content), [expected], rtol=1e-5)
    assert notes(content).startswith(note)


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        ([0, 65535, 257], [0, 255, 1], "of 16 bits, scaled from 0 to 65535"),
        ([514, 257, 257], [2, 1, 1], "of 16 bits, scaled from 0 to 65535"),
        ([0, 65536, 32768], [0, 255, 127.5], "of other numbers, each scaled from its lowest"),
        ([-5, 5, 0], [0, 255, 127.5], "of other numbers, each scaled from its lowest"),
    ],
)
def test_integers_of_32_bits_are_taken_for_16_where_they_fit(
    values: list[int], expected: list[float], note: str
) -> None:
    content = saved(Image.fromarray(np.array([values], np.int32)), "TIFF")
    assert np.allclose(pixels(content), [expected], rtol=1e-5)
    assert notes(content).startswith(note)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_no_numbers_are_refused(value: float) -> None:
    content = saved(Image.fromarray(np.array([[0, value]], np.float32)), "TIFF")
    assert refusal(content) == "pixels that are no finite numbers"


def test_integers_of_32_bits_are_scaled_by_what_holds_them() -> None:
    deep = Image.fromarray(np.array([[0, 65535]], np.int32))
    assert pixels(saved(deep, "TIFF")) == [[0, 255]]
    deeper = Image.fromarray(np.array([[-100, 0, 100_000]], np.int32))
    assert np.allclose(pixels(saved(deeper, "TIFF")), [[0, 255 * 100 / 100_100, 255]])


def test_16_bits_of_a_tiff_whose_0_is_white_are_inverted() -> None:
    content = saved(Image.fromarray(np.array([[0, 65535]], np.uint16)), "TIFF")
    entry = struct.pack("<HHI", 262, 3, 1)
    at = content.index(entry) + len(entry)
    assert content[at] == 1
    assert pixels(content[:at] + b"\0" + content[at + 1 :]) == [[255, 0]]


def test_a_palette_gives_its_colours() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 200, 100, 0])
    image.putdata([0, 1])
    for kind in ("PNG", "BMP", "GIF", "TIFF"):
        assert pixels(saved(image, kind)) == [[[9, 8, 7], [200, 100, 0]]]


def test_a_palette_of_greys_is_grey() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([9, 9, 9, 200, 200, 200])
    image.putdata([0, 1])
    assert pixels(saved(image, "PNG")) == [[9, 200]]


TRANSPARENT = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [10, 20, 30, 51]]], np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_lets_the_background_through(kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    content = saved(Image.fromarray(TRANSPARENT), kind, **options)
    # A fifth of the colour and four fifths of the background: 2 + 204, 4 + 204, 6 + 204
    assert pixels(content) == [[[255, 255, 255], [10, 20, 30], [206, 208, 210]]]
    assert pixels(content, background=0) == [[[0, 0, 0], [10, 20, 30], [2, 4, 6]]]
    assert notes(content) == "transparent, over the background"


def test_a_transparent_grey_stays_grey() -> None:
    content = saved(Image.fromarray(np.array([[[10, 0], [10, 255]]], np.uint8)), "PNG")
    assert pixels(content) == [[255, 10]]


def test_a_transparent_colour_of_a_palette_and_of_a_table_lets_the_background_through() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 200, 100, 0])
    image.putdata([0, 1])
    for kind in ("PNG", "GIF"):
        assert pixels(saved(image, kind, transparency=0)) == [[[255, 255, 255], [200, 100, 0]]]
    rows = zlib.compress(b"\0\x09\x08\x07\xc8\x64\x00")
    content = png(2, 1, 8, 2, rows, b"tRNS" + struct.pack(">3H", 9, 8, 7))
    assert pixels(content) == [[[255, 255, 255], [200, 100, 0]]]


def test_cmyk_becomes_rgb() -> None:
    # Without a profile: red is white less cyan, and so on, each less black
    image = Image.new("CMYK", (1, 1), (0, 255, 255, 0))
    content = saved(image, "TIFF")
    assert pixels(content) == [[[255, 0, 0]]]
    assert notes(content) == "CMYK, without its colour profile"
    whole = saved(Image.new("CMYK", (16, 16), (0, 128, 255, 0)), "JPEG", quality=95)
    found = np.array(pixels(whole))
    assert abs(found - (255, 127, 0)).max() <= 3


# What each orientation makes of the stored pixels. Source: EXIF 2.3, tag 274
UPRIGHT: dict[int, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]] = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: stored[::-1, ::-1],
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.flipud(stored).T,
    7: lambda stored: stored[::-1, ::-1].T,
    8: lambda stored: np.fliplr(stored).T,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["II", "MM"])
def test_images_are_turned_upright(orientation: int, order: str) -> None:
    expected = UPRIGHT[orientation](CORNERS).tolist()
    image = Image.fromarray(CORNERS)
    assert pixels(saved(image, "PNG", exif=exif(orientation, order))) == expected
    colour = image.convert("RGB")
    content = saved(colour, "WEBP", lossless=True, exif=exif(orientation, order))
    assert np.array(pixels(content))[..., 0].tolist() == expected
    tiff = saved(image, "TIFF", tiffinfo={274: orientation})
    assert pixels(tiff) == expected
    said = "" if orientation == 1 else "turned upright as EXIF says"
    assert notes(content) == notes(tiff) == said
    deep = saved(Image.fromarray(CORNERS * np.uint16(257)), "TIFF", tiffinfo={274: orientation})
    assert np.allclose(pixels(deep), expected)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photos_are_turned_upright(orientation: int) -> None:
    stored = np.repeat(np.repeat(CORNERS, 16, axis=0), 16, axis=1)
    content = saved(Image.fromarray(stored), "JPEG", quality=95, exif=exif(orientation))
    found = np.array(pixels(content))
    assert abs(found - UPRIGHT[orientation](stored).astype(int)).max() <= 3


BROKEN_EXIF = {
    "empty": b"",
    "no order of bytes": b"Exif\0\0XX*\0\x08\0\0\0",
    "cut off": exif(6)[:16],
    "a directory elsewhere": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "orientation 0": exif(0),
    "orientation 9": exif(9),
    "nonsense": b"Exif\0\0" + bytes(range(200)),
}


@pytest.mark.parametrize("name", BROKEN_EXIF)
def test_an_image_with_broken_exif_is_read_as_it_lies(name: str) -> None:
    for kind in ("PNG", "JPEG"):
        image = Image.fromarray(np.full((16, 8), 77, np.uint8))
        content = saved(image, kind, exif=BROKEN_EXIF[name], quality=95)
        assert np.array(pixels(content)).shape == (16, 8)


def test_an_orientation_is_read_though_the_rest_of_exif_is_broken() -> None:
    entry = struct.pack("<HHII", 0x010F, 2, 999_999, 888_888)  # a maker's name far outside
    turned = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    broken = b"Exif\0\0II" + struct.pack("<HIH", 42, 8, 77) + entry + turned  # 77 entries, no end
    content = saved(Image.fromarray(CORNERS), "PNG", exif=broken)
    assert pixels(content) == np.flipud(CORNERS).T.tolist()


def test_an_animation_gives_its_first_frame() -> None:
    first, second = Image.fromarray(COLOURS), Image.fromarray(255 - COLOURS)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        content = saved(first, kind, save_all=True, append_images=[second], **options)
        assert pixels(content) == COLOURS.tolist()
        assert notes(content) == "of several frames, the first of them"
    grey = [Image.fromarray(CORNERS), Image.fromarray(255 - CORNERS)]
    content = saved(grey[0], "GIF", save_all=True, append_images=grey[1:])
    assert pixels(content) == CORNERS.tolist()
    assert notes(content) == "of several frames, the first of them"


def noise(kind: str) -> bytes:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    return saved(Image.fromarray(image), kind)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.9])
def test_a_file_that_is_cut_off_is_refused(kind: str, fraction: float) -> None:
    content = noise(kind)
    assert refusal(content[: int(len(content) * fraction)])


def test_half_a_jpeg_is_refused_though_pillow_verifies_it() -> None:
    content = noise("JPEG")[:2500]
    with Image.open(io.BytesIO(content)) as opened:
        opened.verify()
    assert "truncated" in refusal(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"no image", "no BMP, GIF, JPEG, PNG, TIFF or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no BMP, GIF, JPEG, PNG, TIFF or WebP"),
        (b"P5 2 2 255 abcd", "no BMP, GIF, JPEG, PNG, TIFF or WebP"),
    ],
)
def test_what_is_no_image_is_refused(content: bytes, reason: str) -> None:
    assert refusal(content) == reason


def test_an_enormous_image_is_refused_before_it_is_decoded() -> None:
    assert refusal(png(50_000, 50_000, 8, 0, zlib.compress(b"\0"))) == (
        "50,000 x 50,000 pixels, more than 178,956,970"
    )
    content = bytearray(saved(Image.fromarray(CORNERS), "GIF"))
    content[6:10] = b"\xff\xff\xff\xff"
    assert refusal(bytes(content)).startswith("65,535 x 65,535 pixels")


def test_damaged_files_are_refused_or_read_and_nothing_else() -> None:
    random = np.random.default_rng(2)
    for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"):
        content = noise(kind)
        for _ in range(60):
            damaged = bytearray(content)
            for at in random.integers(0, min(len(damaged), 400), 3):
                damaged[at] = random.integers(256)
            reason = ""
            with decoding.quietly():
                try:
                    decoding.decode(bytes(damaged))
                except decoding.UnreadableError as error:
                    reason = str(error)
            assert " at 0x" not in reason  # the same words in every process


def test_equal_pixels_have_equal_digests_whatever_the_file() -> None:
    image = Image.fromarray(COLOURS)
    contents = [saved(image, kind) for kind in ("PNG", "BMP", "TIFF")]
    contents.append(saved(image, "PNG", compress_level=0))
    turned = Image.fromarray(np.fliplr(COLOURS))
    contents.append(saved(turned, "PNG", exif=exif(2)))
    assert len({decoding.decode(content).digest for content in contents}) == 1
    others = [COLOURS.transpose(1, 0, 2), 255 - COLOURS, COLOURS[:1], COLOURS[..., 0]]
    digests = {
        decoding.decode(saved(Image.fromarray(np.ascontiguousarray(other)), "PNG")).digest
        for other in [COLOURS, *others]
    }
    assert len(digests) == 5


def test_grey_that_is_stored_as_colours_has_the_digest_of_grey() -> None:
    grey = Image.fromarray(COLOURS[..., 0])
    colours = grey.convert("RGB")
    contents = [saved(grey, "PNG"), saved(colours, "BMP"), saved(grey, "WEBP", lossless=True)]
    assert len({decoding.decode(content).digest for content in contents}) == 1
    late = np.array(colours)
    late[-1, -1, 2] ^= 1
    digest = decoding.decode(saved(Image.fromarray(late), "PNG")).digest
    assert digest != decoding.decode(contents[0]).digest


def resized(image: npt.NDArray[Any], **target: Any) -> Any:
    return decoding.array(Image.fromarray(image), Target(**target))


def test_an_image_of_the_size_is_left_as_it_is() -> None:
    for resize in ("pad", "crop", "stretch"):
        assert resized(COLOURS, size=(2, 2), resize=resize).tolist() == COLOURS.tolist()
    assert resized(COLOURS).tolist() == COLOURS.tolist()


def test_padding_keeps_all_of_the_image_in_its_proportions() -> None:
    wide = np.full((10, 40), 100, np.uint8)
    found = resized(wide, size=(20, 20), resize="pad", background=7)
    assert (found[:7] == 7).all()
    assert (found[7:12] == 100).all()
    assert (found[12:] == 7).all()
    high = np.full((40, 10, 3), (1, 2, 3), np.uint8)
    found = resized(high, size=(20, 30), resize="pad")
    assert found.shape == (20, 30, 3)
    assert (found[:, :12] == 255).all()
    assert (found[:, 12:17] == (1, 2, 3)).all()
    assert (found[:, 17:] == 255).all()


def test_cropping_keeps_the_middle_in_its_proportions() -> None:
    wide = np.repeat(np.repeat(np.array([[0, 100, 200]], np.uint8), 20, axis=0), 20, axis=1)
    found = resized(wide, size=(20, 20), resize="crop")
    assert (found == 100).all()
    found = resized(wide.T.copy(), size=(10, 10), resize="crop")
    assert (found[1:-1] == 100).all()


def test_stretching_fills_the_size() -> None:
    wide = np.repeat(np.array([[0], [200]], np.uint8), 40, axis=1)
    assert resized(wide, size=(2, 5), resize="stretch").tolist() == [[0] * 5, [200] * 5]


def test_shrinking_is_antialiased() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    found = resized(stripes, size=(8, 8), resize="stretch")
    assert abs(found.astype(int) - 127).max() <= 8  # and not black or white by chance
    deep = (stripes / np.float32(255) * 255).astype(np.float32)
    assert abs(resized(deep, size=(8, 8), resize="stretch") - 127.5).max() <= 8


def test_colour_and_grey_become_each_other() -> None:
    grey = resized(COLOURS, colour="grey")
    # ITU-R 601: 0.299 red, 0.587 green, 0.114 blue
    assert grey.tolist() == [[75, 147], [28, 98]]
    assert resized(CORNERS, colour="rgb").tolist() == np.stack([CORNERS] * 3, -1).tolist()
    deep = CORNERS.astype(np.float32)
    assert resized(deep, colour="rgb").tolist() == np.stack([deep] * 3, -1).tolist()
    assert resized(deep, colour="grey").dtype == np.float32


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
def test_arrays_are_resized_as_files_are(channels: int | None, resize: str) -> None:
    shape = (2, 20, 30) if channels is None else (2, 20, 30, channels)
    images = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    target = Target(size=(8, 9), resize=resize)
    found = decoding.arrays((images / np.float32(255)).astype(np.float32), target)
    assert found.dtype == np.float32
    planes = images[..., None] if channels is None else images
    expected = np.stack(
        [
            np.stack(
                [
                    resized(np.ascontiguousarray(image[..., c]), size=(8, 9), resize=resize)
                    for c in range(planes.shape[3])
                ],
                axis=-1,
            )
            for image in planes
        ]
    )
    assert found.shape == (2, 8, 9) + (() if channels is None else (channels,))
    assert abs(found.reshape(expected.shape) * 255 - expected).max() <= 1.01  # rounded twice


@pytest.mark.parametrize(
    ("shape", "colour", "expected"),
    [
        ((2, 4, 5), "rgb", (2, 4, 5, 3)),
        ((2, 4, 5, 1), "rgb", (2, 4, 5, 3)),
        ((2, 4, 5, 1), "grey", (2, 4, 5)),
        ((2, 4, 5, 3), "grey", (2, 4, 5)),
        ((2, 4, 5), "grey", (2, 4, 5)),
        ((2, 4, 5, 3), "rgb", (2, 4, 5, 3)),
        ((2, 4, 5, 1), None, (2, 4, 5, 1)),
    ],
)
def test_arrays_take_the_colour(
    shape: tuple[int, ...], colour: str | None, expected: tuple[int, ...]
) -> None:
    images = np.random.default_rng(3).random(shape, np.float32)
    found = decoding.arrays(images, Target(colour=colour))
    assert found.shape == expected
    if shape[-1] == 3 and colour == "grey":
        assert np.allclose(found, images @ [0.299, 0.587, 0.114], atol=1e-6)
    else:
        plain = images.reshape(2, 4, 5, -1)
        assert (found.reshape(2, 4, 5, -1) == plain).all()
