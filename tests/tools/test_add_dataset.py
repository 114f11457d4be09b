"""Folders, archives, arrays and addresses of one's own, as far as the entry of the catalogue."""

import gzip
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from stages.lib.core import yaml_file
from stages.lib.core.errors import UserError
from stages.lib.data.preparation import decoding, splits
from tests.conftest import ROOT, Answer, Project, Repository, Server, idx_bytes
from tools.add_dataset import __main__ as add_dataset
from tools.add_dataset import catalogue_entry, contents
from tools.add_dataset.contents import Contents
from tools.lib import own_files

CATALOGUE = (ROOT / "datasets.yaml").read_text(encoding="utf-8")


def image(value: int, size: tuple[int, int] = (4, 6), mode: str = "L", kind: str = "PNG") -> bytes:
    """An image of one value; the size is width and height."""
    stream = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, 0, 255 - value)).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    """Ten images each of two classes in a folder."""
    folder = tmp_path / "My leaves"
    for name in ("oak", "beech"):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            value = number + (100 if name == "oak" else 0)
            (folder / name / f"{number}.png").write_bytes(image(value))
    return folder


@pytest.fixture
def place(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A working folder with the committed catalogue, in which DVC is not asked."""
    (project.path / "datasets.yaml").write_text(CATALOGUE, "utf-8")
    monkeypatch.setattr(own_files, "track", lambda *_: None)
    monkeypatch.setattr(own_files, "refresh_schemas", lambda: None)
    return project


def entry(name: str) -> dict[str, Any]:
    text = Path("datasets.yaml").read_text(encoding="utf-8")
    assert text.startswith(CATALOGUE)  # not a byte of what was there has changed
    added: dict[str, Any] = yaml.safe_load(text)[name]
    for file in added["files"].values():
        path = Path("data/own", file["name"])
        if path.is_file():
            content = path.read_bytes()
            assert file["sha256"] == hashlib.sha256(content).hexdigest()
            assert file["size"] == len(content)
    return added


def test_a_folder_becomes_an_archive_and_an_entry(
    place: Project, leaves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_dataset.main([str(leaves)])
    said = capsys.readouterr().out
    assert said.splitlines() == [
        "class folders; 20 images: 20 PNG L",
        "height x width: 6 x 4",
        "2 classes:",
        "  beech: 10",
        "  oak: 10",
        "datasets.yaml has the entry my_leaves; fill in its title, licence and citation.",
        "To train on it, set in params.yaml",
        "  dataset: my_leaves",
        "and run `dvc repro`.",
        "For photos, docs/own-images.md names a network to begin with.",
    ]
    added = entry("my_leaves")
    assert added["format"] == "images"
    assert added["class_names"] == ["beech", "oak"]
    assert (added["urls"], added["pixel_max"]) == ([], 255)
    assert list(added["files"]) == ["archive"]
    with zipfile.ZipFile("data/own/my_leaves.zip") as archive:
        assert archive.namelist() == sorted(
            f"{name}/{number}.png" for name in ("oak", "beech") for number in range(10)
        )
        assert archive.read("oak/3.png") == image(103)
    assert [path.name for path in Path("data/own").iterdir()] == ["my_leaves.zip"]


def test_packing_twice_gives_the_same_bytes_whatever_the_clock_and_the_order(
    place: Project, leaves: Path, tmp_path: Path
) -> None:
    contents.pack(leaves, tmp_path / "first.zip")
    other = tmp_path / "elsewhere"
    for path in sorted(leaves.rglob("*.png"), reverse=True):
        target = other / path.relative_to(leaves)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        os.utime(target, (0, 0))
        target.chmod(0o600)
    (other / ".DS_Store").write_bytes(b"x")
    (other / "oak/Thumbs.db").write_bytes(b"x")
    contents.pack(other, tmp_path / "second.zip")
    script = (
        "import sys; from pathlib import Path; from tools.add_dataset import contents;"
        "contents.pack(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    third = tmp_path / "third.zip"
    command = [sys.executable, "-c", script, str(leaves), str(third)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "TZ": "Asia/Shanghai"})
    archives = [tmp_path / f"{name}.zip" for name in ("first", "second", "third")]
    assert len({path.read_bytes() for path in archives}) == 1


def test_mixed_images_are_described_and_what_fits_them_is_said(
    place: Project, leaves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (leaves / "oak/colour.jpg").write_bytes(image(9, (64, 48), "RGB", "JPEG"))
    (leaves / "oak/broken.png").write_bytes(image(1)[:50])
    (leaves / "oak/empty.png").touch()
    (leaves / "about.txt").write_text("text")
    add_dataset.main([str(leaves), "--name", "leaves"])
    said = capsys.readouterr().out.splitlines()
    assert said[:6] == [
        "class folders; 21 images: 1 JPEG RGB, 20 PNG L",
        "height x width: 6 x 4 to 48 x 64, 2 sizes",
        "not used, as of no class: 1, such as about.txt",
        "2 classes:",
        "  beech: 10",
        "  oak: 11",  # that can be read
    ]
    assert said[6].startswith("oak/broken.png: ")
    assert said[7:9] == ["oak/empty.png: an empty file", "cannot be read: 2, as listed above"]
    assert said[-7:-2] == [
        "To train on it, set in params.yaml",
        "  dataset: leaves",
        "  normalize:",
        "    size: 4 # height and width; or [height, width]",
        "    unreadable: skip # or mend the files that are listed above",
    ]
    entry("leaves")


def test_a_table_and_splits_are_kept(
    place: Project, leaves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"{name}/{n}.png,{name},{'train' if n < 8 else 'test'}\n"
        for n in range(10)
        for name in ("oak", "beech")
    ]
    (leaves / "labels.csv").write_text("path,label,split\n" + "".join(rows), "utf-8")
    add_dataset.main([str(leaves), "--name", "leaves"])
    said = capsys.readouterr().out
    assert "labels.csv of path, label, split; 20 images" in said
    assert "  oak: 8 train, 2 test" in said
    with zipfile.ZipFile("data/own/leaves.zip") as archive:
        assert archive.read("labels.csv") == (leaves / "labels.csv").read_bytes()


def test_an_archive_is_kept_as_it_is(place: Project, leaves: Path, tmp_path: Path) -> None:
    for kind, suffix in (("zip", ".zip"), ("gztar", ".tar.gz"), ("tar", ".tar")):
        made = Path(shutil.make_archive(str(tmp_path / "made"), kind, leaves.parent, leaves.name))
        name = f"made_{kind}"
        add_dataset.main([str(made), "--name", name])
        added = entry(name)
        assert added["files"]["archive"]["name"] == f"{name}{suffix}"
        assert Path(f"data/own/{name}{suffix}").read_bytes() == made.read_bytes()
        assert added["class_names"] == ["beech", "oak"]


def test_arrays_are_recognized(
    place: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "digits.NPZ"
    with path.open("wb") as stream:
        np.savez(
            stream,
            x_train=np.full((6, 8, 8), 16, np.uint8),
            y_train=np.arange(6) % 3,
            x_test=np.zeros((3, 8, 8), np.uint8),
            y_test=np.arange(3),
        )
    add_dataset.main([str(path), "--name", "own_digits"])
    assert capsys.readouterr().out.splitlines()[:5] == [
        (
            "npz: training images (6, 8, 8), test images (3, 8, 8), uint8, "
            "the brightest pixel 16, so pixel_max 16"
        ),
        "3 classes:",
        "  0: 2 train, 1 test",
        "  1: 2 train, 1 test",
        "  2: 2 train, 1 test",
    ]
    added = entry("own_digits")
    assert (added["format"], added["pixel_max"]) == ("npz", 16)
    assert added["class_names"] == ["0", "1", "2"]
    assert list(added["files"]) == ["arrays"]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("by_file", [True, False])
def test_idx_files_are_recognized(
    place: Project, tmp_path: Path, packed: bool, by_file: bool
) -> None:
    folder = tmp_path / "idx"
    folder.mkdir()
    for name, array in {
        "train-images-idx3-ubyte": np.zeros((4, 2, 3)),
        "train-labels-idx1-ubyte": np.arange(4) % 2,
        "t10k-images-idx3-ubyte": np.full((2, 2, 3), 200),
        "t10k-labels-idx1-ubyte": np.arange(2),
    }.items():
        content = idx_bytes(array)
        (folder / name).write_bytes(gzip.compress(content, mtime=0) if packed else content)
    source = folder / "train-images-idx3-ubyte" if by_file else folder
    add_dataset.main([str(source), "--name", "lines"])
    added = entry("lines")
    assert (added["format"], added["pixel_max"]) == ("idx", 255)
    assert added["files"]["test_labels"]["name"] == "lines-t10k-labels-idx1-ubyte"
    assert len(list(Path("data/own").iterdir())) == 4


def test_an_address_is_fetched_and_stays_the_source(
    place: Project, leaves: Path, tmp_path: Path, server: Server
) -> None:
    contents.pack(leaves, tmp_path / "leaves.zip")
    archive = (tmp_path / "leaves.zip").read_bytes()
    server.answers["/sets/leaves.zip"] = [Answer(archive)]
    add_dataset.main([f"{server.url}/sets/leaves.zip"])
    added = entry("leaves")
    assert added["urls"] == [f"{server.url}/sets/"]
    assert added["files"]["archive"]["name"] == "leaves.zip"
    assert added["files"]["archive"]["sha256"] == hashlib.sha256(archive).hexdigest()
    assert list(Path("data/own").iterdir()) == []
    assert Path("cache/leaves/leaves.zip").read_bytes() == archive


def test_an_address_that_is_no_prefix_and_name_is_kept(
    place: Project, leaves: Path, tmp_path: Path, server: Server
) -> None:
    contents.pack(leaves, tmp_path / "leaves.zip")
    archive = (tmp_path / "leaves.zip").read_bytes()
    server.answers["/get?id=7"] = [Answer(archive)]
    add_dataset.main([f"{server.url}/get?id=7", "--name", "leaves"])
    assert entry("leaves")["urls"] == []
    assert Path("data/own/leaves.zip").read_bytes() == archive


def test_replacing_brings_the_entry_up_to_date_and_keeps_what_was_filled_in(
    place: Project, leaves: Path
) -> None:
    add_dataset.main([str(leaves), "--name", "leaves"])
    text = Path("datasets.yaml").read_text(encoding="utf-8")
    before = entry("leaves")
    text = text.replace("title: leaves", "title: Leaves of my garden # by hand")
    text += "# the end\n"
    Path("datasets.yaml").write_text(text, "utf-8")
    with pytest.raises(UserError, match="expected a new name, found an entry leaves"):
        add_dataset.main([str(leaves), "--name", "leaves"])
    (leaves / "elm").mkdir()
    (leaves / "elm/1.png").write_bytes(image(200))
    add_dataset.main([str(leaves), "--name", "leaves", "--replace"])
    after = entry("leaves")
    assert after["title"] == "Leaves of my garden"
    assert after["class_names"] == ["beech", "elm", "oak"]
    assert after["files"] != before["files"]
    new = Path("datasets.yaml").read_text(encoding="utf-8")
    assert "title: Leaves of my garden # by hand\n" in new
    assert new.endswith("# the end\n")


@pytest.mark.parametrize(
    "names",
    [
        ["yes", "no"],
        ["1e3", "010"],
        ["a: b", "# c"],
        ["叶子", "花"],
        [f"a long name {n}" for n in range(9)],
        ['"', "'"],
        ["~", "null"],
    ],
)
def test_names_are_written_so_that_they_are_read_as_texts(
    place: Project, tmp_path: Path, names: list[str]
) -> None:
    from stages.lib.core import config

    path = tmp_path / "x.zip"
    path.write_bytes(b"x")
    found = Contents("images", {"archive": path}, ".zip", names, 255, [])
    catalogue_entry.write("odd", found, {"archive": path}, [])
    assert config.read(config.DATASETS)["odd"]["class_names"] == names


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/a/b/My leaves/", "my_leaves"),
        ("C:\\leaves\\All.tar.gz", "all"),
        ("https://example.org/sets/Leaves-2025.zip?download=1", "leaves_2025"),
        ("叶子", "叶子"),
        ("...", "own"),
    ],
)
def test_a_name_comes_from_the_source(source: str, name: str) -> None:
    assert add_dataset.name_for(source) == name


def test_what_cannot_be_added_is_named_and_leaves_nothing(
    place: Project, leaves: Path, tmp_path: Path, server: Server
) -> None:
    (tmp_path / "empty").mkdir()
    one = tmp_path / "one"
    shutil.copytree(leaves / "oak", one / "oak")
    text = tmp_path / "notes.txt"
    text.write_text("notes")
    evil = tmp_path / "evil.zip"
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("../../x.png", image(1))
    for source, message in {
        "": "source: expected a folder, a file or an address, found nothing there.",
        str(tmp_path / "none"): "expected a folder, a file or an address, found nothing there.",
        str(tmp_path / "empty"): "expected class folders in it, or a labels.csv beside the images",
        str(one): "expected two classes or more, found oak alone.",
        str(text): "expected a whole zip, tar or tar.gz archive, found: ",
        str(evil): "../../x.png: expected a file that an archive of images may hold, found a path",
        f"{server.url}/none.zip": "could not be fetched (HTTP status 404).",
    }.items():
        with pytest.raises(UserError) as caught:
            add_dataset.main([source, "--name", "new"])
        assert message in str(caught.value)
        assert len(str(caught.value).splitlines()) == 2
    with pytest.raises(UserError, match="--name: expected letters, digits, _ and -, found 'a b'"):
        add_dataset.main([str(leaves), "--name", "a b"])
    assert Path("datasets.yaml").read_text(encoding="utf-8") == CATALOGUE
    assert list(Path("data/own").iterdir()) == []


@pytest.mark.slow
def test_from_a_folder_to_the_splits_by_dvc(repository: Repository, leaves: Path) -> None:
    for name in ("oak", "beech"):
        for number in range(10, 40):
            value = number + (100 if name == "oak" else 0)
            (leaves / name / f"{number}.png").write_bytes(image(value))
    done = repository.run("python", "-m", "tools.add_dataset", str(leaves), "--name", "leaves")
    assert (done.code, done.err) == (0, ""), done.err
    own = repository.path / "data/own"
    assert sorted(path.name for path in own.iterdir()) == [
        ".gitignore",
        "leaves.zip",
        "leaves.zip.dvc",
    ]
    listed = repository.run("git", "status", "--porcelain", "-uall").out.split()
    assert "data/own/leaves.zip" not in listed
    assert "data/own/leaves.zip.dvc" in listed
    assert "schemas/params.schema.json" in listed
    repository.edit("params.yaml", "dataset: digits", "dataset: leaves")
    done = repository.run("dvc", "repro", "normalize")
    assert done.code == 0, done.err
    with np.load(repository.path / "data/normalized/train.npz") as arrays:
        assert arrays["class_names"].tolist() == ["beech", "oak"]
    # Without the file, as in a fresh clone
    (own / "leaves.zip").unlink()
    done = repository.run("dvc", "repro", "--force", "--single-item", "download")
    assert "data/own/leaves.zip: not found; Git holds what DVC knows of it" in done.err
    assert "Run `dvc pull data/own/leaves.zip`" in done.err
    assert repository.run("dvc", "checkout", "data/own/leaves.zip").code == 0
    (own / "leaves.zip").write_bytes(b"edited")
    done = repository.run("dvc", "repro", "--force", "--single-item", "download")
    assert "ERROR: data/own/leaves.zip: expected SHA-256 " in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names and links")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda oak: [path.write_bytes(b"text") for path in oak.parent.rglob("*.png")],
            "expected images, found none that can be read among 20 files, the first ",
        ),
        (lambda oak: (oak.parent / "elm").symlink_to(oak), "elm: expected files and folders, "),
        (lambda oak: (oak / "gone.png").symlink_to(oak / "none"), "found a link to nothing"),
        (lambda oak: (oak / "loop").symlink_to(oak.parent), "found a link to a folder"),
        (
            lambda oak: oak.rename(oak.with_name("AC\\DC")),
            "expected a name without a backslash, which parts folders, found one",
        ),
        (
            lambda oak: [(oak / f"{name}.png").touch() for name in ("\u00e9", "e\u0301")],
            "expected each name once, found it in two spellings of Unicode",
        ),
        (lambda oak: Path(os.fsdecode(bytes(oak) + b"/b\xe4r.png")).touch(), "a name in UTF-8"),
        (lambda oak: oak.rename(oak.with_name("o" * 201)), "names of classes of at most 200 lett"),
        (
            lambda oak: (oak.parent / "labels.csv").write_text("path,label\n\noak/1.png,a\a\n"),
            "line 3: expected a label of at most 200 printable letters, found 'a\\x07'",
        ),
        (
            lambda oak: (oak.parent / "labels.csv").write_text('path,label\noak/1.png,"a\nb"\n'),
            "line 3: expected a label of at most 200 printable letters, found 'a\\nb'",
        ),
    ],
)
def test_a_folder_that_no_archive_can_hold_is_refused(
    place: Project, leaves: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(leaves / "oak")
    with pytest.raises(UserError) as caught:
        add_dataset.main([str(leaves), "--name", "new"])
    assert said.replace("line 3: expected", "expected line 3:") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    assert Path("datasets.yaml").read_text(encoding="utf-8") == CATALOGUE
    assert list(Path("data/own").iterdir()) == []


def test_what_a_system_or_a_person_hides_in_a_folder_does_no_harm(
    place: Project, leaves: Path
) -> None:
    (leaves / ".git").mkdir()
    (leaves / ".git/link").symlink_to("nowhere")
    (leaves / "oak/._1.png").symlink_to("nowhere")
    add_dataset.main([str(leaves), "--name", "leaves"])
    with zipfile.ZipFile("data/own/leaves.zip") as archive:
        assert len(archive.namelist()) == 20


def test_few_images_of_many_classes_are_no_mistake(place: Project, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", **(ARRAYS | {"y_train": np.arange(6) + 900}))
    add_dataset.main([str(tmp_path / "own.npz")])
    assert len(entry("own")["class_names"]) == 906


ARRAYS: dict[str, Any] = {
    "x_train": np.arange(6 * 16).reshape(6, 4, 4).astype(np.uint8),
    "y_train": np.arange(6) % 3,
    "x_test": np.zeros((3, 4, 4), np.uint8),
    "y_test": np.arange(3),
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x_train": np.full((6, 4, 4), np.nan)}, "training set: expected pixels from 0 to pixel_"),
        ({"x_train": np.full((6, 4, 4), np.inf)}, "training set: expected pixels from 0 to pixel_"),
        ({"x_train": np.full((6, 4, 4), -1.0)}, "training set: expected pixels from 0 to pixel_ma"),
        ({"x_train": np.full((6, 4, 4), "a")}, "training set: expected pixels that are numbers"),
        ({"x_train": np.ones((6, 4, 4), bool)}, "training set: expected pixels that are numbers"),
        ({"x_train": np.ones((6, 4, 4), complex)}, "training set: expected pixels that are numbe"),
        ({"x_train": np.ones((6, 16))}, "training set: expected images of N x H x W or"),
        ({"x_test": np.zeros((0, 4, 4)), "y_test": np.arange(0)}, "test set: expected images of N"),
        ({"x_test": np.zeros((3, 8, 4))}, "test set: expected images of shape (4, 4) as for trai"),
        ({"y_train": np.arange(5)}, "training set: expected labels of shape (6,), found shape (5,"),
        ({"y_test": np.eye(3, dtype=int)}, "test set: expected labels of shape (3,), found shape"),
        ({"y_train": np.int64(3)}, "training set: expected labels of shape (6,), found shape ()"),
        ({"y_train": np.arange(6) - 1}, "training set: expected labels from 0 to 4 as class_names"),
        ({"y_train": np.arange(6) / 2}, "training set: expected labels that are integers"),
        ({"y_train": np.arange(6) + 2_000_000}, "expected labels from 0 to the number of classes"),
    ],
)
def test_arrays_that_normalize_would_refuse_are_refused(
    place: Project, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    np.savez(tmp_path / "own.npz", **(ARRAYS | changes))
    with pytest.raises(UserError) as caught:
        add_dataset.main([str(tmp_path / "own.npz")])
    assert f"own.npz: {said}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    assert Path("datasets.yaml").read_text(encoding="utf-8") == CATALOGUE
    assert list(Path("data/own").iterdir()) == []


def test_arrays_beyond_the_four_are_said_not_to_be_used(
    place: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "own.npz", **ARRAYS, x_val=np.zeros(3), y_val=np.zeros(3))
    add_dataset.main([str(tmp_path / "own.npz")])
    assert "not used: x_val, y_val\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["2024", "null", "1_0", "true"])
def test_the_advice_can_be_copied_for_every_name(
    place: Project, leaves: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    add_dataset.main([str(leaves), "--name", name])
    (line,) = re.findall("  (dataset: .*)", capsys.readouterr().out)
    assert yaml_file.parse(line, "params.yaml") == {"dataset": name}


def test_files_that_a_replacement_no_longer_uses_are_named(
    place: Project, leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_dataset.main([str(leaves), "--name", "leaves"])
    Path("data/own/leaves.zip.dvc").write_text("outs")
    packed = shutil.make_archive(str(tmp_path / "packed"), "gztar", leaves)
    capsys.readouterr()
    add_dataset.main([packed, "--name", "leaves", "--replace"])
    told = "data/own/leaves.zip is no longer used: `dvc remove --outs data/own/leaves.zip.dvc`"
    assert told in capsys.readouterr().out.splitlines()
    Path("data/own/leaves.tar.gz.dvc").write_text("outs")
    add_dataset.main([packed, "--name", "leaves", "--replace"])
    assert "no longer used" not in capsys.readouterr().out


def test_two_idx_files_of_a_kind_are_refused(place: Project, tmp_path: Path) -> None:
    folder = tmp_path / "emnist"
    folder.mkdir()
    for name in ("digits-train-labels", "letters-train-labels"):
        (folder / name).write_bytes(idx_bytes(np.arange(4)))
    with pytest.raises(UserError) as caught:
        add_dataset.main([str(folder / "digits-train-labels"), "--name", "new"])
    found = "found digits-train-labels and letters-train-labels"
    assert f"emnist: expected one file of train labels, {found}." in str(caught.value)


def test_idx_files_beside_their_packed_copies_are_one_data_set(
    place: Project, tmp_path: Path
) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    images = np.arange(16).reshape(4, 2, 2)
    for split in ("train", "t10k"):
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(4) % 2)):
            (folder / f"{split}-{name}-ubyte").write_bytes(idx_bytes(array))
            (folder / f"{split}-{name}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(array)))
    add_dataset.main([str(folder), "--name", "new"])
    assert "new:" in Path("datasets.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_was_there_stays_whatever_ends_a_replacement(
    place: Project, leaves: Path, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    own = Path("data/own")

    def all_of_it() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in own.iterdir()}

    def track(paths: Any) -> None:
        for path in paths:
            path.with_name(f"{path.name}.dvc").write_text(str(path.stat()))
        (own / ".gitignore").write_text(str(paths))

    monkeypatch.setattr(own_files, "track", track)
    add_dataset.main([str(leaves), "--name", "leaves"])
    before, catalogue = all_of_it(), Path("datasets.yaml").read_bytes()

    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(catalogue_entry, "write", fails)
    (leaves / "oak/new.png").write_bytes(image(77))
    for arguments in (["--name", "leaves", "--replace"], ["--name", "other"]):
        with pytest.raises(BaseException, match=r"space|^$"):
            add_dataset.main([str(leaves), *arguments])
        assert all_of_it() == before
        assert Path("datasets.yaml").read_bytes() == catalogue


def test_what_was_there_stays_where_dvc_refuses_its_replacement(
    repository: Repository, leaves: Path
) -> None:
    command = ("python", "-m", "tools.add_dataset", str(leaves), "--name", "leaves")
    assert repository.run(*command).code == 0
    before = {path.name: path.read_bytes() for path in (repository.path / "data/own").iterdir()}
    catalogue = (repository.path / "datasets.yaml").read_bytes()
    (leaves / "oak/new.png").write_bytes(image(77))
    (repository.path / ".dvc/config").write_text("[nonsense", encoding="utf-8")
    message = repository.run(*command, "--replace").message
    assert message.startswith("dvc add data/own/leaves.zip: ")
    after = {path.name: path.read_bytes() for path in (repository.path / "data/own").iterdir()}
    assert after == before
    assert (repository.path / "datasets.yaml").read_bytes() == catalogue


@pytest.mark.parametrize("tool", ["add_dataset", "add_weights"])
def test_interrupted_it_says_so_without_a_traceback(place: Project, tool: str) -> None:
    code = (
        "import runpy\nfrom tools.lib import own_files\n"
        "def stop(*_): raise KeyboardInterrupt\n"
        "own_files.arrive = stop\n"
        f"runpy.run_module('tools.{tool}', run_name='__main__', alter_sys=True)\n"
    )
    command = [sys.executable, "-c", code, "x", "--name", "new"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")


def test_a_terminated_or_killed_process_leaves_nothing_for_long(place: Project) -> None:
    code = (
        "import os, signal\nfrom tools.lib import own_files\n"
        "with own_files.workplace() as folder:\n"
        "    (folder / 'packed.tmp').write_bytes(b'x')\n"
        "    os.kill(os.getpid(), signal.SIGNAL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def end(name: str) -> int:
        command = [sys.executable, "-c", code.replace("SIGNAL", name)]
        return subprocess.run(command, env=environment, check=False).returncode

    assert end("SIGTERM") == 128 + signal.SIGTERM
    assert list(Path("data/own").iterdir()) == []
    assert end("SIGKILL") == -signal.SIGKILL
    (left,) = Path("data/own").iterdir()
    os.utime(left, (0, 0))
    with own_files.workplace() as folder:
        assert [path.name for path in Path("data/own").iterdir()] == [folder.name]
    assert list(Path("data/own").iterdir()) == []


@pytest.mark.slow
def test_an_image_that_is_added_runs_what_reads_it_and_moves_no_other(
    repository: Repository, tmp_path: Path
) -> None:
    """A thousand images, then one more to train on, then one more to test on."""
    random = np.random.default_rng(3)

    def drawn(in_test: bool) -> bytes:
        while True:
            stream = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (6, 6), np.uint8)).save(stream, "PNG")
            first, second = splits.draws(decoding.decode(stream.getvalue()).digest, seed=1)
            if (first < 0.2 * 2**64, second < 0.1 * 2**64) == (in_test, False):
                return stream.getvalue()

    def placed() -> dict[str, str]:
        """The split of each image."""
        found: dict[str, str] = {}
        for split in ("train", "validation", "test"):
            with np.load(repository.path / f"data/normalized/{split}.npz") as arrays:
                found |= dict.fromkeys(arrays["names"].tolist(), split)
        return found

    def repro() -> list[str]:
        done = repository.run("dvc", "repro")
        assert done.code == 0, done.err
        return re.findall(r"^Running stage '(\w+)'", done.out, re.MULTILINE)

    folder = tmp_path / "spots"
    for label in ("few", "many"):
        (folder / label).mkdir(parents=True)
        for number in range(500):
            (folder / label / f"{number}.png").write_bytes(drawn(in_test=number % 5 == 0))
    command = ("python", "-m", "tools.add_dataset", str(folder))
    assert repository.run(*command).code == 0
    repository.edit("params.yaml", "dataset: digits", "dataset: spots")
    repository.edit("params.yaml", "epochs: 60", "epochs: 1")
    assert repro() == ["download", "normalize", "train", "evaluate", "plot"]
    for name, in_test, ran in (
        ("to_train", False, ["download", "normalize", "train", "evaluate", "plot"]),
        ("to_test", True, ["download", "normalize", "evaluate", "plot"]),
    ):
        before = placed()
        (folder / f"few/{name}.png").write_bytes(drawn(in_test))
        assert repository.run(*command, "--replace").code == 0
        assert repro() == ran
        after = placed()
        assert after.pop(f"few/{name}.png") == name.removeprefix("to_")
        assert after == before
