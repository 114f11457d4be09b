import csv
import hashlib
import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from stages.lib import model_file, split_file
from stages.lib.training import typicality
from tests.conftest import Repository
from tests.documents import blocks
from tests.tools import model_fixtures
from tools.lib import classifier
from tools.predict import __main__ as predict
from tools.predict import answers, image_files

pytestmark = pytest.mark.usefixtures("tensorflow", "project")


def png(pixels: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def pixels() -> npt.NDArray[np.uint8]:
    """The 40 test images of a model in the working folder, as bytes."""
    model_fixtures.put_model(model_fixtures.network())
    path = Path("data/normalized/test.npz")
    test = split_file.read(path)
    levels = np.rint(test.images[:] * 255).astype(np.uint8)
    exact = np.divide(levels, np.float32(255), dtype=np.float32)
    split_file.write(path, replace(test, images=exact))
    return levels


def expected() -> npt.NDArray[np.float64]:
    """The probabilities of the test images by Keras and the definition of a softmax."""
    import keras

    model = keras.saving.load_model("models/model.keras")
    images = split_file.read(Path("data/normalized/test.npz")).images
    powers = np.exp(model(images, training=False).numpy().astype(np.float64))
    probabilities: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """The answers as JSON."""
    capsys.readouterr()
    assert predict.main(["--json", *arguments]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def save_all(pixels: npt.NDArray[np.uint8], folder: str = "test") -> None:
    Path(folder).mkdir()
    for number, image in enumerate(pixels):
        Path(folder, f"{number:02}.png").write_bytes(png(image))


def check(found: list[dict[str, Any]]) -> None:
    probabilities = expected()
    assert len(found) == len(probabilities)
    for answer, row in zip(found, probabilities, strict=True):
        by_class = {entry["class"]: entry["probability"] for entry in answer["classes"]}
        assert by_class == pytest.approx(
            dict(zip(model_fixtures.NAMES, row, strict=True)), abs=1.5e-6
        )
        assert list(by_class.values()) == sorted(by_class.values(), reverse=True)


def test_a_folder_an_archive_and_files_give_the_probabilities_of_the_arrays(
    pixels: npt.NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    save_all(pixels)
    check(told(capsys, "--top", "3", "test"))
    with zipfile.ZipFile("all.zip", "w") as archive:
        for path in sorted(Path("test").iterdir()):
            archive.write(path)
        archive.writestr("readme.txt", "no image")
    found = told(capsys, "--top", "9", "all.zip")
    check(found)
    assert found[0]["file"] == "all.zip:test/00.png"
    check(told(capsys, "--top", "3", *sorted(map(str, Path("test").iterdir()))))


def test_files_of_two_archives_are_not_mixed_up(
    pixels: npt.NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, part in (("a", pixels[:20]), ("b", pixels[20:])):
        with zipfile.ZipFile(f"{name}.zip", "w") as archive:
            for number, image in enumerate(part):
                archive.writestr(f"{number}.png", png(image))
    check(told(capsys, "--top", "3", "a.zip", "b.zip"))


def test_a_damaged_member_of_an_archive_is_told_and_the_others_answered(
    pixels: npt.NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile("all.zip", "w") as archive:
        for number, image in enumerate(pixels[:4]):
            archive.writestr(f"{number}.png", png(image))
    content = bytearray(Path("all.zip").read_bytes())
    content[content.index(b"1.png") + 50] ^= 1
    Path("all.zip").write_bytes(content)
    Path("one.png").write_bytes(png(pixels[0]))
    assert predict.main(["--csv", "all.zip", "one.png"]) == 1
    printed = capsys.readouterr()
    assert [row["file"] for row in csv.DictReader(io.StringIO(printed.out))] == [
        "all.zip:0.png",
        "one.png",
    ]
    Path("cut.zip").write_bytes(content[:50])
    assert predict.main(["--csv", "cut.zip", "nowhere.png", "one.png"]) == 1
    answered = capsys.readouterr()
    assert answered.out.splitlines()[1].startswith("one.png,")
    assert answered.err.count("ERROR: ") == 2
    first, _, second, _ = printed.err.strip().splitlines()
    assert first.startswith("ERROR: all.zip: expected a whole zip, tar or tar.gz archive, found: ")
    assert second.startswith("ERROR: all.zip: expected a whole archive, found images behind the")


def test_without_an_image_tensorflow_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classifier, "load", lambda *_: pytest.fail("started"))
    assert predict.main(["nowhere.png", "nowhere.png"]) == 1
    assert capsys.readouterr().err.count("ERROR: nowhere.png: not found.") == 1


def test_what_a_system_left_in_a_folder_or_an_archive_is_no_image(
    pixels: npt.NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("scans/1.png", "scans/._1.png", "scans/__MACOSX/2.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(png(pixels[0]) if name == "scans/1.png" else b"litter")
    with zipfile.ZipFile("scans.zip", "w") as archive:
        for path in sorted(Path("scans").rglob("*.png")):
            archive.write(path)
    found = told(capsys, "scans", "scans.zip")
    assert [answer["file"] for answer in found] == ["scans/1.png", "scans.zip:scans/1.png"]


def test_the_standard_input_is_an_image(
    pixels: npt.NDArray[np.uint8],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(png(pixels[0])))
    monkeypatch.setattr(sys, "stdin", stream)
    (found,) = told(capsys, "-")
    assert found["file"] == "-"
    assert found["classes"][0]["probability"] == pytest.approx(expected()[0].max(), abs=1.5e-6)


def test_inverted_images_give_what_the_others_gave(
    pixels: npt.NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    save_all(255 - pixels, "inverted")
    check(told(capsys, "--top", "3", "--invert", "inverted"))


def test_raw_values_are_scaled_by_the_data_sets_own_range(
    pixels: npt.NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    import keras

    levels = (pixels // 16).astype(np.uint8)  # 0 to 15, of 16
    metadata = replace_metadata(pixel_max=16.0)
    model_file.save(keras.saving.load_model("models/model.keras"), MODEL, metadata)
    path = Path("data/normalized/test.npz")
    images = np.divide(levels, np.float32(16), dtype=np.float32)
    split_file.write(path, replace(split_file.read(path), images=images))
    save_all(levels)
    check(told(capsys, "--top", "3", "--raw", "test"))
    capsys.readouterr()
    Path("white.png").write_bytes(png(np.full((6, 6), 255, np.uint8)))
    assert predict.main(["--raw", "white.png"]) == 1
    assert capsys.readouterr().err == (
        "ERROR: white.png: expected raw values up to 16, found 255.\n"
        "Leave out --raw, or name files of raw values.\n"
    )
    Image.fromarray(np.full((6, 6), 16, np.uint16)).save("deep.png")
    assert predict.main(["--raw", "deep.png"]) == 1
    assert capsys.readouterr().err == (
        "ERROR: deep.png: expected raw values of 8 bits, found I;16, which is scaled.\n"
        "Call the model on arrays of raw values divided by 16.\n"
    )


MODEL = Path("models/model.keras")


def replace_metadata(**changes: Any) -> model_file.Metadata:
    return msgspec.structs.replace(model_file.read_metadata(MODEL), **changes)


@pytest.mark.parametrize(
    ("resize", "background", "column"),
    [("pad", 0.0, [0, 255, 0]), ("pad", 1.0, [255, 255, 255]), ("stretch", 0.0, [255] * 3)],
)
def test_an_image_of_another_size_is_fitted_as_the_model_says(
    resize: str, background: float, column: list[int]
) -> None:
    metadata = model_fixtures.metadata((6, 6, 3))
    metadata = msgspec.structs.replace(metadata, resize=resize, background=background)
    prepare = image_files.preparation(classifier.MODEL, metadata, invert=False, raw=False)
    wide = png(np.full((20, 60), 255, np.uint8))  # grey, for a model of colours
    image = prepare(image_files.Source("wide.png", lambda: wide)).image
    assert image.shape == (6, 6, 3)
    assert image[[0, 2, 5], 3, 0].tolist() == [value / 255 for value in column]
    dark = png(np.zeros((20, 60), np.uint8))
    inverted = image_files.preparation(classifier.MODEL, metadata, invert=True, raw=False)
    found = inverted(image_files.Source("dark.png", lambda: dark))
    assert (found.image == image).all()
    uninverted = image_files.preparation(classifier.MODEL, metadata, invert=False, raw=False)
    assert (uninverted(image_files.Source("dark.png", lambda: dark)).inverse == image).all()


def test_what_resembles_no_training_image_is_told_in_words(
    pixels: npt.NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("black.png").write_bytes(png(np.zeros((6, 6), np.uint8)))
    Path("usual.png").write_bytes(png(pixels[0]))
    black, usual = told(capsys, "black.png", "usual.png")
    assert "brightness 0.00, there 0." in black["difference"]
    assert black["typicality"] == 0
    assert usual["difference"] == ""
    assert usual["typicality"] > 0
    assert predict.main(["black.png"]) == 0
    assert "unlike the training images: brightness 0.00" in capsys.readouterr().out


def test_an_inverted_image_is_recognized_as_one() -> None:
    dark = (model_fixtures.images(200) * 0.3).astype(np.float32)
    metadata = msgspec.structs.replace(
        model_fixtures.metadata((6, 6)), typical=typicality.describe(dark)
    )
    image = 1 - dark[0]
    values = typicality.properties(image[None])[0].tolist()
    said = predict._difference(dark[0], values, metadata)
    assert said.endswith("inverted it resembles them: --invert")
    shaded = dark[0] + np.float32(0.25)  # the inverse of one on grey paper
    said = predict._difference(shaded, values, metadata)
    assert said.endswith("inverted it comes nearer to them: --invert")
    values = typicality.properties(dark[:1])[0].tolist()
    assert predict._difference(image, values, metadata) == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"no image at all", "no BMP, GIF, JPEG, PNG, TIFF or WebP"),
        ("half", ""),
    ],
)
def test_garbage_is_named_and_the_others_are_answered(
    content: Any, reason: str, pixels: npt.NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    save_all(pixels[:3])
    broken = png(pixels[3])[:60] if content == "half" else content
    Path("test/01.png").write_bytes(broken)
    assert predict.main(["test", "--csv"]) == 1
    out, err = capsys.readouterr()
    assert [row["file"] for row in csv.DictReader(io.StringIO(out))] == [
        "test/00.png",
        "test/02.png",
    ]
    assert err.startswith("ERROR: test/01.png: expected an image, found: ")
    assert reason in err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "nowhere.png: not found.\nName an image, a folder, an archive, or -."),
        (["empty"], "empty: expected images, found none.\nImages end in .bmp, .gif, .jpeg, "),
        (["no.zip"], "no.zip: expected a whole zip, tar or tar.gz archive, found: "),
        (["--model", "none.keras", "x.png"], "none.keras: not found; expected a .keras file"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str],
    message: str,
    pixels: npt.NDArray[np.uint8],
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("empty").mkdir()
    Path("no.zip").write_bytes(b"PK no archive")
    Path("x.png").write_bytes(png(pixels[0]))
    assert predict.main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"ERROR: {message}")
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda model: model.layers[-1].bias.assign([0, np.nan, 0]), "finite weights, found NaN"),
        (lambda model: model.layers[-1].bias.assign([0, np.inf, 0]), "finite weights, found NaN"),
        (None, "3 outputs, one a class, found outputs of shape (4,)"),
    ],
)
def test_a_model_that_cannot_answer_is_refused(
    spoil: Callable[[Any], None] | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import keras

    model = model_fixtures.network()
    if spoil:
        spoil(model)
    else:
        model = keras.Sequential([model, keras.layers.Dense(4)])
    model_fixtures.put_model(model)
    Path("x.png").write_bytes(png(np.zeros((6, 6), np.uint8)))
    assert predict.main(["x.png"]) == 1
    assert f"models/model.keras: expected {says}" in capsys.readouterr().err


def test_tables_for_programs_are_in_utf_8_whatever_the_console_has(
    pixels: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("\u82b1.png").write_bytes(png(pixels[0]))
    for option in ("--csv", "--json"):
        written = io.BytesIO()
        console = io.TextIOWrapper(written, encoding="cp1252")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", console)
            assert predict.main([option, "\u82b1.png"]) == 0
        assert "\u82b1.png" in written.getvalue().decode("utf-8")


class Deaf(io.StringIO):
    """A stream whose reader has gone, as that of `| head` does."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError

    def fileno(self) -> int:
        return os.open(os.devnull, os.O_WRONLY)


def test_whatever_ends_it_ends_in_words(
    pixels: npt.NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_all(pixels[:2])

    def ends(error: BaseException) -> Callable[..., Any]:
        def ending(*_: Any, **__: Any) -> Any:
            raise error

        return ending

    for error, code, says in (
        (OSError(13, "Permission denied", "m.keras"), 1, "ERROR: m.keras: Permission denied.\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr("tools.lib.classifier.load", ends(error))
            assert predict.main(["test"]) == code
        assert capsys.readouterr().err.startswith(says)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", Deaf())
        assert predict.main(["test"]) == 0
    assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit):
        predict.main(["--top", "0", "test"])
    assert "expected 1 or more, found 0" in capsys.readouterr().err


def test_images_are_counted_on_a_terminal(
    pixels: npt.NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_all(pixels[:3])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert predict.main(["test"]) == 0
    found = capsys.readouterr()
    assert " images" in found.err
    assert len(found.out.splitlines()) == 4


def test_the_three_ways_to_show_answers() -> None:
    found = [
        answers.Answer("a.png", ["靴", "bag"], [0.25, 0.75], 0.4, ""),
        answers.Answer("long/name.png", ["靴", "bag"], [0.9, 0.1], 0, "brightness 1.00"),
    ]
    unlike = "unlike the training images: brightness 1.00"
    assert answers.table(found, 2).splitlines() == [
        "file           class  probability  class  probability  typical",
        "a.png          bag    75.00 %      靴     25.00 %      40 %",
        "long/name.png  靴     90.00 %      bag    10.00 %      0 %      " + unlike,
    ]
    assert answers.comma_separated(found, 1) == (
        "file,class,probability,typicality,difference\n"
        "a.png,bag,0.750000,0.4000,\n"
        "long/name.png,靴,0.900000,0.0000,brightness 1.00\n"
    )
    assert json.loads(answers.as_json(found, 1))[0] == {
        "file": "a.png",
        "classes": [{"class": "bag", "probability": 0.75}],
        "typicality": 0.4,
        "difference": "",
    }


def write_colours(path: Path) -> str:
    """An archive of colour images of many sizes in two class folders; gives its SHA-256."""
    random = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(60):
            height, width = random.integers(8, 40, 2)
            colours = random.integers(0, 120, (height, width, 3)).astype(np.uint8)
            colours[..., number % 2] += np.uint8(120)  # red or green
            archive.writestr(f"{('red', 'green')[number % 2]}/{number}.png", png(colours))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "resize", ["pad", *(pytest.param(way, marks=pytest.mark.slow) for way in ("crop", "stretch"))]
)
def test_colour_files_that_were_resized_give_the_very_probabilities_that_evaluate_wrote(
    resize: str, project: Any, run_stage: Callable[[str], Any], capfd: pytest.CaptureFixture[str]
) -> None:
    Path("data/raw").mkdir(parents=True)
    digest = write_colours(Path("data/raw/colours.zip"))
    files = {"archive": {"name": "colours.zip", "sha256": digest}}
    names = ["green", "red"]
    project.tiny.update(format="images", files=files, class_names=names)
    project.params["normalize"] |= {"size": [12, 10], "colour": "rgb", "resize": resize}
    project.params["model"]["mlp"] = {"hidden_units": [8], "dropout": 0.0}
    project.params["train"] |= {"epochs": 3, "batch_size": 8}
    project.save()
    Path("data/weights").mkdir()
    for stage in ("normalize", "train", "evaluate"):
        done = run_stage(stage)
        assert done.code == 0, done.err
    test = split_file.read(Path("data/normalized/test.npz"))
    assert test.names is not None
    with Path("reports/evaluate/predictions.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert predict.main(["--csv", "--top", "2", "data/raw/colours.zip"]) == 0
    answered = {row["file"]: row for row in csv.DictReader(io.StringIO(capfd.readouterr().out))}
    assert len(answered) == 60
    assert len(test.names) == len(rows) >= 10
    for name, row in zip(test.names, rows, strict=True):
        said = answered[f"data/raw/colours.zip:{name}"]
        probabilities = {
            said["class"]: said["probability"],
            said["class_2"]: said["probability_2"],
        }
        assert probabilities == {names[label]: row[f"probability_{label}"] for label in range(2)}


def agree(repository: Repository, name: str, *options: str) -> None:
    """Compares what evaluate wrote of each test image with what predict says of its file."""
    folder = repository.path
    test = split_file.read(folder / "data/normalized/test.npz")
    with zipfile.ZipFile(folder / name, "w") as archive:
        for number, image in enumerate(test.images[:]):
            levels = np.rint(image * test.pixel_max).astype(np.uint8)
            archive.writestr(f"{number:05}.png", png(levels))
    count = str(len(test.class_names))
    done = repository.run("python", "-m", "tools.predict", "--csv", "--top", count, *options, name)
    assert done.code == 0, done.err
    labels = {f"probability_{label}": text for label, text in enumerate(test.class_names)}
    with (folder / "reports/evaluate/predictions.csv").open(encoding="utf-8") as stream:
        written = [
            {labels.get(key, key): text for key, text in row.items()}
            for row in csv.DictReader(stream)
        ]
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert len(rows) == len(written) == len(test.labels)
    for row, wrote in zip(rows, written, strict=True):
        ranks = ["", *(f"_{at}" for at in range(2, len(labels) + 1))]
        said = {row[f"class{rank}"]: row[f"probability{rank}"] for rank in ranks}
        assert said == {text: wrote[text] for text in test.class_names}, row["file"]


@pytest.mark.slow
def test_every_test_image_of_the_digits_gives_the_very_probabilities_that_evaluate_wrote(
    repository: Repository,
) -> None:
    assert repository.run("dvc", "repro", "evaluate", DATASET_MIRROR="").code == 0
    agree(repository, "digits.zip", "--raw")
    (shown,) = blocks(repository.path / "docs/using-the-model.md", "")
    with np.load(repository.path / "data/normalized/test.npz") as arrays:
        first, second, third = arrays["images"][:3]
    scans = repository.path / "scans"
    scans.mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (8, 8), np.uint8) / 255
    paper = 0.9 - 0.7 * third
    for name, image in (("0", first), ("1", second), ("noise", noise), ("on-paper", paper)):
        levels = np.rint(image * 255).astype(np.uint8)
        (scans / f"{name}.png").write_bytes(png(levels))
    found = repository.run(sys.executable, "-m", "tools.predict", "scans/").out
    number = r"-?\d+\.?\d*"
    assert re.sub(number, "#", found).split() == re.sub(number, "#", shown).split()
    values = [[float(value) for value in re.findall(number, text)] for text in (found, shown)]
    assert values[0] == pytest.approx(values[1], abs=2)  # another processor gives other bits


@pytest.mark.real_data
def test_all_images_of_mnist_give_the_very_probabilities_that_evaluate_wrote(
    repository: Repository, mirror: Path
) -> None:
    recipe = repository.path / "recipes/mnist-mlp-logits.yaml"
    (repository.path / "params.yaml").write_bytes(recipe.read_bytes())
    environment = {"DATASET_MIRROR": os.fspath(mirror)}
    assert repository.run("dvc", "repro", "evaluate", **environment).code == 0
    agree(repository, "mnist.zip")


def test_files_that_are_not_called_as_images_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("b.png", "a.JPG", "1.txt", "scan", ".DS_Store"):
        (folder / name).write_bytes(b"1")
    found = [Path(source.name).name for source in image_files.find(str(folder))]
    assert found == ["a.JPG", "b.png"]
    told = capsys.readouterr().err
    assert told.startswith(f"{folder}: 2 files passed over. Images end in .bmp, ")
