import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.lib.core import files
from stages.lib.core.errors import UserError
from tests.conftest import ROOT, execute


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


@pytest.mark.parametrize("swaps", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_rename_that_fails_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: bool, step: int
) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    if not swaps:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    elif sys.platform != "linux":
        pytest.skip("only Linux swaps two folders in one step")
    steps: list[object] = []

    def failing(event: str, _: object) -> None:
        if event == "os.rename" and monitored:
            steps.append(event)
            if len(steps) == step:
                raise OSError(errno.EIO, "Input/output error")

    monitored = True
    sys.addaudithook(failing)
    try:
        with files.replacing(path) as temporary:
            temporary.mkdir()
            (temporary / "new").touch()
        outcome = "new"
    except OSError as error:
        outcome = "old" if error.filename == path.as_posix() else "error without its file"
    monitored = False
    assert outcome == ("new" if step > (1 if swaps else 2) else "old")
    assert names(tmp_path) == ["folder", f"folder/{outcome}"]


KILLED = """
import os, sys
from pathlib import Path
from stages.lib.core import files
path, event, step, swaps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "True"
if not swaps:
    files._exchange = lambda *_: False
steps = []
def killing(name, _):
    if name == event:
        steps.append(name)
        if len(steps) == step:
            os._exit(9)
with files.replacing(path) as temporary:
    temporary.mkdir()
    (temporary / "new").touch()
    sys.addaudithook(killing)
"""


@pytest.mark.parametrize(
    ("event", "step", "swaps", "at_once", "at_last"),
    [
        ("os.rename", 1, True, ["old"], ["old"]),
        ("os.remove", 1, True, ["new"], ["new"]),
        ("os.rmdir", 1, True, ["new"], ["new"]),
        ("os.rename", 1, False, ["old"], ["old"]),
        ("os.rename", 2, False, [], ["old"]),  # between its two renames
        ("os.remove", 1, False, ["new"], ["new"]),
    ],
)
def test_what_a_killed_process_left_is_put_in_order_by_the_next_one(
    tmp_path: Path, event: str, step: int, swaps: bool, at_once: list[str], at_last: list[str]
) -> None:
    if swaps and sys.platform != "linux":
        pytest.skip("only Linux swaps two folders in one step")
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    done = execute([sys.executable, "-c", KILLED, str(path), event, str(step), str(swaps)], ROOT)
    assert done.code == 9, done
    assert names(path) == at_once
    files.write_text(tmp_path / "another", "")  # the next start of whatever writes there
    assert names(tmp_path) == ["another", "folder", *(f"folder/{name}" for name in at_last)]


def test_a_half_written_file_of_a_killed_process_goes_and_one_of_a_running_process_stays(
    tmp_path: Path,
) -> None:
    script = """
import os, sys, time
from pathlib import Path
from stages.lib.core import files
with files.replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    temporary.with_suffix(".keras").write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""
    path = tmp_path / "model.keras"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline().strip() == b"half"
        files.write_text(path, "mine")
        assert len(names(tmp_path)) == 3
        running.kill()
    files.write_text(path, "mine")
    assert names(tmp_path) == ["model.keras"]


def test_where_no_folder_can_be_locked_leftovers_go_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "fcntl", None)  # as on Windows
    for name, hours in ((".x.0123abcd.tmp", 23), (".y.0123abcd.tmp", 25), ("x.0123abcd.tmp", 25)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, time.time() - 3600 * hours))
    files.write_text(tmp_path / "x", "")
    assert names(tmp_path) == [".x.0123abcd.tmp", "x", "x.0123abcd.tmp"]


def test_an_old_folder_that_cannot_be_removed_fails_nothing_and_goes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refused)
        with files.replacing(path) as temporary:
            temporary.mkdir()
            (temporary / "new").touch()
    assert names(path) == ["new"]
    assert len(list(tmp_path.iterdir())) == 2
    files.write_text(tmp_path / "x", "")
    assert names(tmp_path) == ["folder", "folder/new", "x"]


def test_a_folder_takes_the_place_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("file")
    with files.replacing(path) as temporary:
        temporary.mkdir()
    assert path.is_dir()
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("write", ["a stream", "a copy", "a file in a folder"])
def test_a_failing_write_names_what_could_not_be_written(tmp_path: Path, write: str) -> None:
    source, path = tmp_path / "source", tmp_path / "out"
    source.write_bytes(b"x" * 100_000)

    def fill() -> None:
        with files.replacing(path) as temporary:
            if write == "a file in a folder":
                temporary.mkdir()
                (temporary / "none/x").touch()
            temporary.symlink_to("/dev/full")
            if write == "a copy":
                shutil.copyfile(source, temporary)
            else:
                temporary.write_bytes(b"x" * 100_000)

    with pytest.raises(OSError, match="No s") as caught:
        fill()
    assert (caught.value.filename, caught.value.filename2) == (path.as_posix(), None)
    assert names(tmp_path) == ["source"]


def test_a_source_that_cannot_be_read_is_named_itself(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError) as caught,
        files.replacing(tmp_path / "out") as temporary,
    ):
        shutil.copyfile(tmp_path / "none", temporary)
    assert caught.value.filename == str(tmp_path / "none")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_is_never_written_with_what_is_no_json(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "metrics.json", {"loss": value})
    assert names(tmp_path) == []
