import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.lib.core import files
from stages.lib.core.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    with files.replacing(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent  # so that moving it is one step
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["file.txt"]


def test_a_folder_takes_the_place_of_all_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    (path / "deep").mkdir(parents=True)
    (path / "deep/old.txt").write_text("old")
    with files.replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "new.txt").write_text("new")
    assert names(tmp_path) == ["folder", "folder/new.txt"]


def test_a_file_takes_the_place_of_a_folder_and_a_folder_that_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    files.write_text(path, "file")
    assert path.is_file()
    path.unlink()
    path.mkdir()
    (path / "x").touch()
    files.write_text(path, "file")
    assert names(tmp_path) == ["out"]


def test_a_link_is_replaced_and_what_it_led_to_stays(tmp_path: Path) -> None:
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    path.symlink_to(elsewhere)
    with files.replacing(path) as temporary:
        temporary.mkdir()
    assert not path.is_symlink()
    assert names(tmp_path) == ["elsewhere", "elsewhere/kept", "out"]


@pytest.mark.parametrize("failure", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_a_block_that_ends_early_leaves_the_old_content(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    old_file, old_folder = tmp_path / "file", tmp_path / "folder"
    old_file.write_text("old")
    old_folder.mkdir()
    (old_folder / "inside").write_text("old")

    def write_half(path: Path, folder: bool) -> None:
        with files.replacing(path) as temporary:
            if folder:
                temporary.mkdir()
            (temporary / "inside" if folder else temporary).write_text("half")
            raise failure

    for path in (old_file, old_folder, tmp_path / "new"):
        with pytest.raises(failure):
            write_half(path, folder=path == old_folder)
    assert names(tmp_path) == ["file", "folder", "folder/inside"]
    assert old_file.read_text() == (old_folder / "inside").read_text() == "old"


def test_temporary_names_differ_and_are_ignored_by_git_and_dvc(tmp_path: Path) -> None:
    # A process number would come again: every container starts counting at 1
    with files.replacing(tmp_path / "a") as first, files.replacing(tmp_path / "a") as second:
        first.touch()
        second.touch()
        assert first != second
        assert first.suffix == second.suffix == ".tmp"
    root = Path(__file__).parents[4]
    for name in (".gitignore", ".dvcignore"):
        assert "*.tmp" in (root / name).read_text().splitlines()


def test_texts_are_utf_8_with_lf(tmp_path: Path) -> None:
    files.write_text(tmp_path / "text", "a\n短靴\n")
    assert (tmp_path / "text").read_bytes() == b"a\n\xe7\x9f\xad\xe9\x9d\xb4\n"


def test_json_is_indented_and_readable_in_every_script(tmp_path: Path) -> None:
    files.write_json(tmp_path / "x.json", {"accuracy": 0.5, "name": "包"})
    content = (tmp_path / "x.json").read_bytes()
    assert content == '{\n  "accuracy": 0.5,\n  "name": "包"\n}\n'.encode()
    assert json.loads(content) == {"accuracy": 0.5, "name": "包"}


def test_csv_tables_survive_a_round(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    files.write_csv(path, ["name", "n"], [["T-shirt, top", 1], ['a "bag"', 2], ["包", 3]])
    assert path.read_bytes() == 'name,n\n"T-shirt, top",1\n"a ""bag""",2\n包,3\n'.encode()
    assert files.read_csv(path) == [
        {"name": "T-shirt, top", "n": "1"},
        {"name": 'a "bag"', "n": "2"},
        {"name": "包", "n": "3"},
    ]


def test_a_missing_or_broken_table_is_a_users_error(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with pytest.raises(UserError, match=rf"^{re.escape(path.as_posix())}: not found.*\nRun `dvc"):
        files.read_csv(path)
    path.write_bytes(b"name\n\xff\xfe\n")
    with pytest.raises(UserError, match=r"expected a CSV table in UTF-8, found: .*\nDelete it and"):
        files.read_csv(path)


def test_sha256_is_that_of_the_standard(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")  # FIPS 180-4's example
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256(path) == digest
    path.write_bytes(b"x" * 3_000_000)
    assert files.sha256(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()


@pytest.mark.parametrize(
    "write",
    [
        lambda path: files.write_bytes(path, b"x"),
        lambda path: files.write_json(path, {"x": 1}),
        lambda path: files.write_csv(path, ["x"], [[1]]),
    ],
)
def test_every_writer_replaces_a_link_into_the_cache(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    cached, path = tmp_path / "cached", tmp_path / "out"
    cached.write_text("cached")
    path.hardlink_to(cached)  # as DVC may check out a file
    write(path)
    assert cached.read_text() == "cached"
    assert path.read_text() != "cached"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_is_never_written_with_what_is_no_json(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "metrics.json", {"loss": value})
    assert names(tmp_path) == []
