"""Archives of image files through normalize, with pixels worked out by hand."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from PIL import Image

from stages.lib.data.formats import images
from tests.conftest import Finished, Project, Repository, idx_bytes

Run = Callable[[str], Finished]
Arrays = dict[str, dict[str, npt.NDArray[Any]]]


def image_bytes(pixels: npt.NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def flat(value: int | tuple[int, int, int], height: int = 4, width: int = 4) -> bytes:
    """An image of one value."""
    shape = (height, width) if isinstance(value, int) else (height, width, 3)
    return image_bytes(np.full(shape, value, np.uint8))


def numbered(number: int) -> bytes:
    """An image that differs from those of other numbers."""
    return image_bytes(np.frombuffer(number.to_bytes(4, "big"), np.uint8).reshape(2, 2))


def zipped(files: Mapping[str, bytes], names: Iterable[str] | None = None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names or files:
            archive.writestr(name, files[name])
    return stream.getvalue()


def tarred(files: Mapping[str, bytes], mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def use(project: Project, files: Mapping[str, bytes] | bytes, *class_names: str) -> None:
    """Makes the data set an archive of image files."""
    content = files if isinstance(files, bytes) else zipped(files)
    project.tiny.update(format="images", files={}, class_names=list(class_names))
    project.publish("archive", content, "tiny.zip")
    project.save()
    project.put_raw()


def normalized(project: Project, run_stage: Run, **params: Any) -> Arrays:
    project.params["normalize"] = params
    project.save()
    done = run_stage("normalize")
    assert done.code == 0, done.err
    assert project.left_over() == []
    return arrays(project)


def arrays(project: Project) -> Arrays:
    found: Arrays = {}
    for path in sorted((project.path / "data/normalized").iterdir()):
        with np.load(path, allow_pickle=False) as opened:
            found[path.stem] = dict(opened)
    return found


def refusal(project: Project, run_stage: Run, **params: Any) -> str:
    project.params["normalize"] = params
    project.save()
    message = run_stage("normalize").message
    assert not (project.path / "data/normalized").exists()
    assert project.left_over() == []
    return message


def where(splits: Arrays) -> dict[str, str]:
    """The split of each file."""
    return {str(name): split for split, found in splits.items() for name in found["names"]}


def two_classes(count: int) -> dict[str, bytes]:
    return {
        f"{('oak', 'beech')[number % 2]}/{number:04}.png": numbered(number)
        for number in range(count)
    }


def test_images_labels_and_names_belong_together(project: Project, run_stage: Run) -> None:
    files = two_classes(100)
    use(project, files, "oak", "beech")
    splits = normalized(project, run_stage)
    assert sorted(where(splits)) == sorted(files)
    for found in splits.values():
        assert found["images"].dtype == np.float32
        assert found["images"].shape[1:] == (2, 2)
        assert found["labels"].dtype == np.int64
        assert found["class_names"].tolist() == ["oak", "beech"]
        for image, label, name in zip(
            found["images"], found["labels"], found["names"], strict=True
        ):
            number = int(str(name)[-8:-4])
            assert label == number % 2
            assert (image * 255).round().astype(int).ravel().tolist() == list(
                number.to_bytes(4, "big")
            )
    sizes = {name: len(found["labels"]) for name, found in splits.items()}
    assert 10 <= sizes["test"] <= 32  # 20 of 100
    assert 1 <= sizes["validation"] <= 18  # 8 of 100


@pytest.mark.parametrize("seed", range(3))
def test_an_image_that_is_added_moves_no_other(project: Project, run_stage: Run, seed: int) -> None:
    files = two_classes(1000)
    use(project, files, "oak", "beech")
    before = where(normalized(project, run_stage, seed=seed))
    assert {split: list(before.values()).count(split) for split in ("test", "validation")} == (
        pytest.approx({"test": 200, "validation": 80}, abs=45)
    )
    more = {"oak/0.png": numbered(5000), **files, "beech/z.png": numbered(5001)}
    use(project, more, "oak", "beech")
    after = where(normalized(project, run_stage, seed=seed))
    assert {name: after[name] for name in files} == before
    assert len(after) == 1002


def test_copies_of_an_image_are_in_one_split(project: Project, run_stage: Run) -> None:
    files = two_classes(60)
    copies = {f"{name[:-4]} (1).png": content for name, content in files.items()}
    for name, content in files.items():  # and once more in another kind of file
        with Image.open(io.BytesIO(content)) as opened:
            copies[f"{name[:-4]}.bmp"] = image_bytes(np.asarray(opened), "BMP")
    use(project, {**files, **copies}, "oak", "beech")
    splits = where(normalized(project, run_stage))
    assert set(splits.values()) == {"train", "validation", "test"}
    for name in files:
        assert splits[f"{name[:-4]}.bmp"] == splits[f"{name[:-4]} (1).png"] == splits[name]


def test_another_seed_draws_other_images_and_the_same_the_same(
    project: Project, run_stage: Run
) -> None:
    use(project, two_classes(200), "oak", "beech")
    first, again = (where(normalized(project, run_stage, seed=1)) for _ in range(2))
    assert first == again
    other = where(normalized(project, run_stage, seed=2))
    assert sum(other[name] != first[name] for name in first) > 20


def test_neither_size_nor_validation_moves_a_test_image(project: Project, run_stage: Run) -> None:
    use(project, two_classes(200), "oak", "beech")
    first = where(normalized(project, run_stage))
    for params in ({"size": 7}, {"colour": "rgb"}, {"validation_fraction": 0.4}):
        other = where(normalized(project, run_stage, **params))
        assert [name for name, split in other.items() if split == "test"] == [
            name for name, split in first.items() if split == "test"
        ]


def test_the_bytes_depend_neither_on_the_order_in_the_archive_nor_on_its_kind(
    project: Project, run_stage: Run
) -> None:
    files = two_classes(100)
    contents = []
    backwards = zipped(files, reversed(list(files)))
    for archive in (zipped(files), backwards, tarred(files), tarred(files, "w"), zipped(files)):
        use(project, archive, "oak", "beech")
        normalized(project, run_stage)
        paths = sorted((project.path / "data/normalized").iterdir())
        contents.append([path.read_bytes() for path in paths])
    assert all(content == contents[0] for content in contents)


def test_the_images_of_a_split_are_not_sorted_by_class(project: Project, run_stage: Run) -> None:
    use(project, two_classes(300), "oak", "beech")
    for found in normalized(project, run_stage).values():
        changes = np.count_nonzero(np.diff(found["labels"]))
        assert changes > len(found["labels"]) / 4


def test_given_splits_are_used(project: Project, run_stage: Run) -> None:
    files = {
        "train/oak/1.png": flat(1),
        "train/beech/1.png": flat(2),
        "valid/oak/1.png": flat(3),
        "test/beech/1.png": flat(4),
    }
    use(project, files, "beech", "oak")
    splits = normalized(project, run_stage)
    assert where(splits) == {
        name: {"valid": "validation"}.get(name.partition("/")[0], name.partition("/")[0])
        for name in files
    }
    # oak has no test image, and keeps its number
    assert splits["test"]["labels"].tolist() == [0]
    assert splits["validation"]["labels"].tolist() == [1]


def test_a_validation_split_is_drawn_where_only_test_is_given(
    project: Project, run_stage: Run
) -> None:
    files = {f"train/{name}": content for name, content in two_classes(200).items()}
    files |= {"test/oak/1.png": flat(4, 2, 2), "test/beech/1.png": flat(5, 2, 2)}
    use(project, files, "oak", "beech")
    splits = normalized(project, run_stage, validation_fraction=0.3)
    assert len(splits["test"]["labels"]) == 2
    assert len(splits["validation"]["labels"]) == pytest.approx(60, abs=25)
    none = normalized(project, run_stage, validation_fraction=0)
    assert none["validation"]["images"].shape == (0, 2, 2)
    assert none["validation"]["names"].shape == (0,)


def test_a_table_of_labels(project: Project, run_stage: Run) -> None:
    rows = [f"{n}.png,{'ab'[n % 2]},{'train' if n < 8 else 'test'}\n" for n in range(10)]
    files = {f"{number}.png": numbered(number) for number in range(10)}
    files["labels.csv"] = "".join(["path,label,split\n", *rows]).encode()
    use(project, files, "a", "b")
    splits = normalized(project, run_stage, validation_fraction=0)
    assert sorted(splits["test"]["names"].tolist()) == ["8.png", "9.png"]
    assert sorted(splits["test"]["labels"].tolist()) == [0, 1]


def test_12_images_of_two_classes(project: Project, run_stage: Run) -> None:
    use(project, two_classes(12), "oak", "beech")
    splits = normalized(project, run_stage, seed=1)
    assert sum(len(found["labels"]) for found in splits.values()) == 12


def test_200_classes_with_names_in_chinese(project: Project, run_stage: Run) -> None:
    names = [f"类别{number}" for number in range(200)]
    files = {
        f"{name}/图{n}.png": numbered(100 * number + n)
        for number, name in enumerate(names)
        for n in range(25)
    }
    use(project, files, *names)
    splits = normalized(project, run_stage)
    assert splits["train"]["class_names"].tolist() == names
    for found in splits.values():
        for label, name in zip(found["labels"], found["names"], strict=True):
            assert str(name).startswith(f"类别{label}/图")


def test_one_image_of_another_size_is_enough_to_need_one(project: Project, run_stage: Run) -> None:
    use(project, two_classes(40) | {"oak/wide.png": flat(100, 10, 40)}, "oak", "beech")
    assert "expected images of one height and width, found 2, such as" in refusal(
        project, run_stage
    )


def test_images_of_several_sizes_need_one(project: Project, run_stage: Run) -> None:
    files = two_classes(40) | {"oak/wide.png": flat(100, 10, 40), "oak/high.png": flat(50, 40, 10)}
    use(project, files, "oak", "beech")
    message = refusal(project, run_stage)
    assert message == (
        "data/raw/tiny.zip: expected images of one height and width, found 3, such as 2 x 2 "
        "(oak/0000.png) and 40 x 10 (oak/high.png).\n"
        "Set normalize.size in params.yaml, such as 96 or [96, 128]."
    )
    splits = normalized(project, run_stage, size=[20, 30], background="black")
    found = {
        str(name): image
        for each in splits.values()
        for name, image in zip(each["names"], each["images"], strict=True)
    }
    assert all(image.shape == (20, 30) for image in found.values())
    wide, high = found["oak/wide.png"], found["oak/high.png"]
    assert (wide[:6] == 0).all()
    assert (wide[6:14] == np.float32(100 / 255)).all()
    assert (wide[14:] == 0).all()
    assert (high[:, :12] == 0).all()
    assert (high[:, 12:17] == np.float32(50 / 255)).all()
    splits = normalized(project, run_stage, size=8, resize="crop")
    found = {
        str(name): image
        for each in splits.values()
        for name, image in zip(each["names"], each["images"], strict=True)
    }
    assert (found["oak/wide.png"] == np.float32(100 / 255)).all()


def test_one_image_in_colour_makes_all_so_unless_grey_is_asked_for(
    project: Project, run_stage: Run
) -> None:
    files = {
        "train/a/1.png": flat(10),
        "train/b/1.png": flat((200, 100, 0)),
        "test/a/1.png": flat(30),
    }
    use(project, files, "a", "b")
    splits = normalized(project, run_stage, validation_fraction=0)
    assert splits["train"]["images"].shape == (2, 4, 4, 3)
    by_label = dict(zip(splits["train"]["labels"].tolist(), splits["train"]["images"], strict=True))
    assert (by_label[0] == np.float32(10 / 255)).all()
    assert (by_label[1] == (np.array([200, 100, 0]) / 255).astype(np.float32)).all()
    splits = normalized(project, run_stage, validation_fraction=0, colour="grey")
    by_label = dict(zip(splits["train"]["labels"].tolist(), splits["train"]["images"], strict=True))
    assert (by_label[1] == np.float32(118 / 255)).all()  # 0.299 * 200 + 0.587 * 100
    use(project, {name: flat(7) for name in files}, "a", "b")
    splits = normalized(project, run_stage, validation_fraction=0)
    assert splits["train"]["images"].shape == (2, 4, 4)
    splits = normalized(project, run_stage, validation_fraction=0, colour="rgb")
    assert (splits["train"]["images"] == np.full((2, 4, 4, 3), np.float32(7 / 255))).all()


def test_16_bits_keep_their_steps(project: Project, run_stage: Run) -> None:
    deep = np.array([[0, 1], [32768, 65535]], np.uint16)
    files = {
        "train/a/1.png": image_bytes(deep),
        "train/b/1.png": flat(7, 2, 2),
        "test/a/1.png": flat(9, 2, 2),
    }
    use(project, files, "a", "b")
    splits = normalized(project, run_stage, validation_fraction=0)
    image = splits["train"]["images"][splits["train"]["labels"].tolist().index(0)]
    assert np.allclose(image, deep / 65535, rtol=1e-6)


def test_what_was_seen_and_done_is_said(project: Project, run_stage: Run) -> None:
    transparent = np.zeros((4, 4, 4), np.uint8)
    files = {
        "train/a/1.png": image_bytes(transparent),
        "train/b/1.png": image_bytes(np.full((4, 4), 300, np.uint16)),
        "train/b/2.bmp": image_bytes(np.full((4, 4), 30, np.uint8), "BMP"),
        "test/a/1.png": flat(9),
        "about.txt": b"text",
    }
    use(project, files, "a", "b")
    project.params["normalize"] = {"validation_fraction": 0}
    project.save()
    assert run_stage("normalize").out.splitlines()[:6] == [
        "class folders in test, train; 4 images: 1 BMP L, 1 PNG I;16, 1 PNG L, 1 PNG RGBA",
        "height x width: 4 x 4",
        "1 of 16 bits, scaled from 0 to 65535",
        "1 transparent, over the background",
        "not used, as of no class: 1, such as about.txt",
        "tiny, pixels 0 to 255 to float32 0 to 1:",
    ]


def test_all_files_that_cannot_be_read_are_listed_or_skipped(
    project: Project, run_stage: Run
) -> None:
    whole = image_bytes(np.random.default_rng(1).integers(0, 256, (2, 2, 3), np.uint8), "JPEG")
    files = two_classes(100) | {
        "oak/cut.jpg": whole[:-20],
        "beech/empty.png": b"",
        "beech/notes.txt": b"notes",
        "beech/really.txt": numbered(77_777),  # the content decides
        "oak/huge.png": b"\x89PNG\r\n\x1a\n"
        b"\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\0\0\0\0"
        b"\xbe\x9c\x9b\xd8",
    }
    use(project, files, "oak", "beech")
    project.params["normalize"] = {}
    project.save()
    done = run_stage("normalize")
    assert done.message == (
        "data/raw/tiny.zip: expected image files, found 4 that cannot be read, all listed above, "
        "first beech/empty.png: an empty file.\n"
        "Mend or remove them, or set `normalize.unreadable: skip` in params.yaml."
    )
    listed = done.err.splitlines()
    assert listed[:2] == [
        "beech/empty.png: an empty file",
        "beech/notes.txt: no BMP, GIF, JPEG, PNG, TIFF or WebP",
    ]
    assert listed[2].startswith("oak/cut.jpg: ")
    assert listed[3].startswith("oak/huge.png: ")
    assert not (project.path / "data/normalized").exists()
    splits = normalized(project, run_stage, unreadable="skip")
    assert set(files) - set(where(splits)) == {
        "beech/empty.png",
        "beech/notes.txt",
        "oak/cut.jpg",
        "oak/huge.png",
    }
    reports = project.path / "reports/data"
    assert json.loads((reports / "metrics.json").read_bytes())["unreadable_files"] == 4
    assert (reports / "tables/unreadable.csv").read_text(encoding="utf-8").splitlines() == [
        "name,class",
        "beech/empty.png,beech",
        "beech/notes.txt,beech",
        "oak/cut.jpg,oak",
        "oak/huge.png,oak",
    ]


def test_archives_that_attack_are_refused_and_write_nothing(
    project: Project, run_stage: Run
) -> None:
    use(project, two_classes(10) | {"../evil.png": flat(1)}, "oak", "beech")
    before = sorted(project.path.parent.rglob("*"))
    message = refusal(project, run_stage)
    assert message.startswith("data/raw/tiny.zip: ../evil.png: expected a file that an archive of ")
    assert sorted(project.path.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("class_names", "message"),
    [
        (
            ["oak", "birch"],
            "data/raw/tiny.zip: expected the classes of class_names (oak, birch), found beech too.",
        ),
        (["oak", "beech", "elm"], ""),
    ],
)
def test_classes_are_those_of_the_catalogue(
    project: Project, run_stage: Run, class_names: list[str], message: str
) -> None:
    use(project, two_classes(60), *class_names)
    if message:
        assert refusal(project, run_stage).startswith(message)
        return
    project.params["normalize"] = {}
    project.save()
    assert "WARNING: 1 of 3 classes has no training image" in run_stage("normalize").err


def test_letters_with_accents_are_the_same_in_either_form(project: Project, run_stage: Run) -> None:
    files = {f"chên\u00e9/{n}.png": flat(n) for n in range(20)}
    files |= {f"beech/{n}.png": flat(n + 50) for n in range(20)}
    use(project, files, "beech", "chêne\u0301")
    assert set(normalized(project, run_stage)["train"]["labels"]) == {0, 1}


def test_no_seed_is_looked_for_where_none_can_help(
    project: Project, run_stage: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    split = images._split

    def counted(records: Any, options: Any) -> Any:
        drawn.append(options.seed)
        return split(records, options)

    monkeypatch.setattr(images, "_split", counted)
    use(project, two_classes(30) | {"yew/1.png": numbered(999)}, "beech", "oak", "yew")
    project.params["normalize"] = {}
    project.save()
    assert "Add images" in run_stage("normalize").err
    assert len(drawn) == 1


def test_too_few_images_to_test_on_are_named_with_a_seed_that_serves(
    project: Project, run_stage: Run
) -> None:
    use(project, two_classes(4), "oak", "beech")
    message = refusal(project, run_stage, test_fraction=0.01)
    assert message.startswith("data/raw/tiny.zip: expected test images, found none among the 4 ")
    assert message.endswith("\nAdd images, or folders train and test of them.")
    use(project, two_classes(12), "oak", "beech")
    said = []
    for seed in range(20):
        project.params["normalize"] = {"seed": seed}
        project.save()
        done = run_stage("normalize")
        said.append("without a test image" in done.err or "found none among" in done.err)
        if said[-1]:
            better = int(done.err.partition("Set normalize.seed to ")[2].partition(",")[0])
            splits = normalized(project, run_stage, seed=better)
            assert set(splits["test"]["labels"]) == set(splits["train"]["labels"]) == {0, 1}
    assert any(said)
    assert not all(said)


def test_a_class_of_one_image_does_not_hide_the_seed_that_serves_the_others(
    project: Project, run_stage: Run
) -> None:
    use(project, two_classes(8) | {"yew/1.png": numbered(999)}, "beech", "oak", "yew")
    for seed in range(40):
        project.params["normalize"] = {"seed": seed}
        project.save()
        error = run_stage("normalize").err
        if "found none among" in error:
            break
    better = int(error.partition("Set normalize.seed to ")[2].partition(",")[0])
    splits = normalized(project, run_stage, seed=better)
    assert set(splits["test"]["labels"]) >= {0, 1}


def test_no_image_at_all_is_named(project: Project, run_stage: Run) -> None:
    use(project, {"a/1.png": b"", "b/1.png": b""}, "a", "b")
    message = refusal(project, run_stage, unreadable="skip")
    assert message.startswith("data/raw/tiny.zip: expected images, found none that can be read.")


def test_pixel_max_is_what_files_are_decoded_to(project: Project, run_stage: Run) -> None:
    use(project, two_classes(10), "oak", "beech")
    project.tiny["pixel_max"] = 16
    assert refusal(project, run_stage) == (
        "datasets.yaml: tiny.pixel_max: expected 255, to which image files are decoded, found 16.\n"
        "Set it to 255."
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": 0}, "normalize.size: expected an integer in [1, 4096], found 0."),
        ({"size": "big"}, "normalize.size: expected an integer in [1, 4096], found the text 'big'"),
        ({"size": [96]}, "normalize.size: expected a list of 2, each an integer in [1, 4096], fou"),
        ({"size": [96, 0]}, "normalize.size[1]: expected an integer in [1, 4096], found 0."),
        ({"colour": "red"}, "normalize.colour: expected one of grey, rgb; found 'red'."),
        ({"resize": "fit"}, "normalize.resize: expected one of pad, crop, stretch; found 'fit'."),
        ({"unreadable": "no"}, "normalize.unreadable: expected one of fail, skip; found 'no'."),
        ({"test_fraction": 0}, "normalize.test_fraction: expected a number in (0, 1), found 0."),
        ({"background": "red"}, "normalize.background: expected one of white, black; found 'red'."),
    ],
)
def test_parameters_are_checked(
    project: Project, run_stage: Run, params: dict[str, Any], message: str
) -> None:
    project.put_raw()
    assert refusal(project, run_stage, **params).startswith(f"params.yaml: {message}")


def test_arrays_take_size_and_colour_too(project: Project, run_stage: Run) -> None:
    project.put_raw()
    splits = normalized(project, run_stage, size=[4, 6], colour="rgb", resize="stretch")
    plain = normalized(project, run_stage)
    for name, found in splits.items():
        assert found["images"].shape == (len(found["labels"]), 4, 6, 3)
        assert found["labels"].tolist() == plain[name]["labels"].tolist()
        assert "names" not in found
        before, after = (
            plain[name]["images"].mean(axis=(1, 2)),
            found["images"].mean(axis=(1, 2, 3)),
        )
        assert abs(before - after).max() < 0.02
    project.publish("train_images", idx_bytes(np.zeros((20, 2, 3, 2))))
    project.publish("test_images", idx_bytes(np.zeros((5, 2, 3, 2))))
    project.save()
    project.put_raw()
    project.params["normalize"] = {"colour": "grey"}
    project.save()
    assert run_stage("normalize").message == (
        "params.yaml: normalize.colour: expected images of 1 or 3 channels, found 2.\n"
        "Set it to null."
    )


def test_the_watched_stage_reads_image_files(repository: Repository) -> None:
    content = zipped(two_classes(50))
    path = repository.path / "data/raw/leaves.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    catalogue = yaml.safe_load((repository.path / "datasets.yaml").read_text("utf-8"))
    catalogue["leaves"] = {
        **catalogue["digits"],
        "format": "images",
        "files": {"archive": {"name": path.name, "sha256": hashlib.sha256(content).hexdigest()}},
        "pixel_max": 255,
        "class_names": ["oak", "beech"],
    }
    (repository.path / "datasets.yaml").write_text(yaml.safe_dump(catalogue), "utf-8")
    repository.edit("params.yaml", "dataset: digits", "dataset: leaves")
    (repository.path / "dvc.lock").unlink()
    digests = set()
    for _ in range(2):
        done = repository.run("python", "-m", "stages.normalize")
        assert (done.code, done.err) == (0, "")
        made = sorted((repository.path / "data/normalized").iterdir())
        assert [each.name for each in made] == ["test.npz", "train.npz", "validation.npz"]
        digests.add(b"".join(each.read_bytes() for each in made))
    assert len(digests) == 1
