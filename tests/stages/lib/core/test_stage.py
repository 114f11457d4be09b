import copy
import errno
import hashlib
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib.core import enforcement, files, recorded, stage
from stages.lib.core.enforcement import Declared
from stages.lib.core.errors import UserError
from tests.conftest import ROOT, Finished, Repository, execute

PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from stages.lib.core import files, stage
from stages.lib.data.formats import idx
from stages.lib.core.errors import UserError
out = Path("out")
"""


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def refused(
    capsys: pytest.CaptureFixture[str],
    main: Callable[[int], None],
    read: Callable[[], int] = lambda: 1,
    inputs: tuple[Path, ...] = (),
) -> str:
    with pytest.raises(SystemExit) as ended:
        stage.run(read, main, inputs)
    out, err = capsys.readouterr()
    return Finished(int(ended.value.code or 0), out, err).message


def raising(error: BaseException) -> Callable[[int], None]:
    def main(_: int) -> None:
        raise error

    return main


def script(folder: Path, body: str, **environment: str) -> Finished:
    """Runs a stage whose ``main`` is ``body``, in a process of its own."""
    lines = "\n    ".join(body.strip().splitlines())
    text = f"{PRELUDE}\ndef main(settings):\n    {lines}\n\nstage.run(lambda: 1, main)\n"
    (folder / "made.py").write_text(text, encoding="utf-8")
    return execute(
        [sys.executable, str(folder / "made.py")], folder, PYTHONPATH=str(ROOT), **environment
    )


def test_main_gets_the_settings() -> None:
    seen: list[int] = []
    stage.run(lambda: 7, seen.append)
    assert seen == [7]


def test_a_users_error_is_printed_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, raising(UserError("a: b.\nDo c."))) == "a: b.\nDo c."


def test_an_error_of_the_programs_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        stage.run(lambda: 1, raising(ZeroDivisionError()))


def test_a_full_disk_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "data/raw/x")
    assert refused(capsys, raising(full)) == (
        "data/raw/x: No space left on device.\nFree some space and run again."
    )
    unnamed = OSError(errno.ENOSPC, "No space left on device")
    assert refused(capsys, raising(unnamed)).startswith("No space left on device.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_really_full_leaves_nothing_behind(tmp_path: Path) -> None:
    done = script(
        tmp_path,
        """
with files.replacing(out) as temporary:
    temporary.symlink_to("/dev/full")
    temporary.write_bytes(b"x" * 100_000)
""",
    )
    assert done.message == "out: No space left on device.\nFree some space and run again."
    assert [path.name for path in tmp_path.iterdir()] == ["made.py"]


def test_what_the_system_refuses_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def main(_: int) -> None:
        (tmp_path / "none" / "x").write_text("")

    message = refused(capsys, main)
    assert message.startswith(f"{tmp_path / 'none' / 'x'}: No such file or directory.\n")


def test_too_little_memory_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, raising(MemoryError("Unable to allocate 9 TiB")))
    assert message.startswith("out of memory: Unable to allocate 9 TiB.\n")


def test_settings_that_changed_meanwhile_fail_the_stage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [1]
    message = refused(capsys, lambda _: now.append(2), read=lambda: now[-1])
    assert message == (
        "The configuration of this stage was changed while it ran; its result belongs to neither.\n"
        "Run `dvc repro` again."
    )


@pytest.mark.parametrize("change", ["write", "delete", "create", "in a folder"])
def test_inputs_that_changed_meanwhile_fail_the_stage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, change: str
) -> None:
    path = tmp_path / "raw" / "input"
    path.parent.mkdir()
    if change != "create":
        path.write_bytes(b"1")

    def main(_: int) -> None:
        if change == "delete":
            path.unlink()
        else:
            path.write_bytes(b"22")

    given = path.parent if change == "in a folder" else path
    message = refused(capsys, main, inputs=(given,))
    assert message.startswith("An input file of this stage was changed while it ran")


def test_inputs_that_stay_are_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "input").touch()
    stage.run(lambda: 1, lambda _: None, [tmp_path, tmp_path / "input", tmp_path / "none"])


EDITS = {
    "a module that it uses": 'Path("stages/lib/data/formats/idx.py").open("a").write("# edited")',
    "a module that is gone": 'Path("stages/lib/data/formats/idx.py").unlink()',
    "itself": 'Path("stages/made.py").open("a").write("# edited")',
    "a module read after its edit": (
        'Path("stages/lib/data/fetch.py").open("a").write("# edited")\n'
        "    from stages.lib.data import fetch"
    ),
    "a module that it does not use": 'Path("stages/lib/data/fetch.py").open("a").write("# edited")',
}


@pytest.mark.parametrize("edited", EDITS)
def test_code_that_changed_meanwhile_fails_the_stage(repository: Repository, edited: str) -> None:
    body = f"{PRELUDE}\ndef main(settings):\n    {EDITS[edited]}\n\nstage.run(lambda: 1, main)\n"
    (repository.path / "stages/made.py").write_text(body, encoding="utf-8")
    (repository.path / "stages/.#made.py").symlink_to("emacs@here")  # an editor's lock
    done = repository.run("python", "-W", "ignore", "-m", "stages.made")
    if edited == "a module that it does not use":
        assert (done.code, done.err) == (0, "")
    else:
        assert done.message.startswith("The code of this stage was changed while it ran")


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_an_interrupted_stage_cleans_up_and_ends_with_130(tmp_path: Path, sent: str) -> None:
    done = script(
        tmp_path,
        f"""
out.write_text("old")
print("before")
if signal.{sent} == signal.SIGINT:  # a shell's job in the background is born deaf to it
    signal.signal(signal.SIGINT, signal.default_int_handler)
with files.replacing(out) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.{sent})
    time.sleep(10)
""",
    )
    assert done == Finished(130, "before\n", "\nInterrupted; nothing half-made was left behind.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.py", "out"]
    assert (tmp_path / "out").read_text() == "old"


SWALLOWED = """
from stages.lib.core import launch
signal.signal(signal.SIGINT, launch.ask_to_end)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
except KeyboardInterrupt:
    pass  # as an extension's import does, which then does without
"""


@pytest.mark.parametrize(
    ("at_import", "in_main", "printed"),
    [(SWALLOWED, "", ""), ("", SWALLOWED, "the work is done\n")],
)
def test_ctrl_c_that_a_library_took_for_another_error_ends_the_stage(
    tmp_path: Path, at_import: str, in_main: str, printed: str
) -> None:
    lines = "\n    ".join([*in_main.strip().splitlines(), "print('the work is done')"])
    text = f"{PRELUDE}\n{at_import}\ndef main(_):\n    {lines}\n\nstage.run(lambda: 1, main)\n"
    (tmp_path / "made.py").write_text(text, encoding="utf-8")
    done = execute([sys.executable, "made.py"], tmp_path, PYTHONPATH=str(ROOT))
    said = "\nInterrupted; nothing half-made was left behind.\n"
    assert done == Finished(130, printed, said)


def test_no_collection_walks_over_what_was_imported(tmp_path: Path) -> None:
    done = script(tmp_path, "import gc\nprint(gc.get_freeze_count() > 1000)")
    assert (done.code, done.out) == (0, "True\n")


def test_names_that_a_terminal_cannot_show_stop_nothing(tmp_path: Path) -> None:
    done = script(tmp_path, 'print("短靴")', PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (done.code, done.out) == (0, "??\n")


def test_key_depends_on_settings_inputs_and_code(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    files.write_text(first, "1")
    files.write_text(second, "2")
    key = stage.key("settings", [first])
    assert key == stage.key("settings", [first])
    assert key != stage.key("others", [first])
    assert key != stage.key("settings", [second])
    assert key != stage.key("settings", [])


def test_code_saved_while_the_stage_was_still_importing_fails_it(repository: Repository) -> None:
    body = (
        f"{PRELUDE}\n"
        "import time; time.sleep(0.05)\n"  # a file's time lags behind by the tick of a clock
        'Path("stages/lib/data/formats/idx.py").open("a").write("# edited")\n'
        "stage.run(lambda: 1, lambda settings: None)\n"
    )
    (repository.path / "stages/made.py").write_text(body, encoding="utf-8")
    done = repository.run("python", "-W", "ignore", "-m", "stages.made")
    assert "idx.py: expected a time stamp before the start of this stage" in done.message


def test_code_with_a_later_time_stamp_is_refused_before_the_work(repository: Repository) -> None:
    body = f'{PRELUDE}\nstage.run(lambda: 1, lambda settings: print("work"))\n'
    (repository.path / "stages/made.py").write_text(body, encoding="utf-8")
    an_hour_later = time.time() + 3600
    os.utime(repository.path / "stages/lib/data/formats/idx.py", (an_hour_later, an_hour_later))
    done = repository.run("python", "-m", "stages.made")
    assert done.out == ""
    assert "idx.py: expected a time stamp before the start of this stage, found " in done.message
    assert "`touch` it" in done.message


def test_what_main_returns_is_called_once_the_result_is_accepted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[str] = []

    def main(_: int) -> Callable[[], None]:
        calls.append("work")
        return lambda: calls.append("accepted")

    stage.run(lambda: 1, main)
    assert calls == ["work", "accepted"]
    calls.clear()
    with pytest.raises(SystemExit):
        stage.run(lambda: len(calls), main)
    assert calls == ["work"]
    assert "The configuration of this stage was changed" in capsys.readouterr().err


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose dvc.yaml declares data, two parameters and a helper of a stage."""
    declared = Declared(
        "own",
        ("data", "helper.py", "gone"),
        (),
        (("params.yaml", "own.scale"), ("params.yaml", "own.absent"), ("own.toml", "own.rate")),
        False,
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(recorded, "declared", lambda: declared)
    monkeypatch.setattr(enforcement, "judge", lambda _: None)
    monkeypatch.setattr(stage, "_declared", declared)
    for name, text in OWN.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
        os.utime(name, (1e9, 1e9))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    monkeypatch.setitem(sys.modules, "helper", importlib.import_module("helper"))
    return tmp_path


OWN = {
    "data/numbers.txt": "1 2",
    "params.yaml": "own: {scale: 1}\nother: {epochs: 3}\n",
    "own.toml": "[own]\nrate = 1\n[other]\nrate = 1\n",
    "helper.py": "FACTOR = 1\n",
}


@pytest.mark.parametrize(
    ("file", "text", "what"),
    [
        ("data/numbers.txt", "1 3", "An input file"),
        ("gone", "it came", "An input file"),
        ("params.yaml", "own: {scale: 1.0}\nother: {epochs: 3}\n", "The configuration"),
        ("params.yaml", "own: {scale: 1, absent: 2}\n", "The configuration"),
        ("own.toml", "[own]\nrate = 2\n", "The configuration"),
        ("helper.py", "FACTOR = 2\n", "The code"),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_is_declared_counts_wherever_the_stage_reads_it(
    capsys: pytest.CaptureFixture[str], file: str, text: str, what: str
) -> None:
    key = stage.key("settings", [])
    if file == "helper.py":
        what = "An input file"  # it is a dep as well
    message = refused(capsys, lambda _: files.write_text(Path(file), text))
    assert message.startswith(f"{what} of this stage was changed while it ran")
    assert stage.key("settings", []) != key  # a checkpoint of the one is none of the other


@pytest.mark.usefixtures("own")
def test_what_dvc_passes_over_in_a_folder_changes_neither_inputs_nor_key() -> None:
    Path(".dvcignore").write_text(".*.swp\ngone\n", encoding="utf-8")
    key = stage.key("settings", [])
    stage.run(lambda: 1, lambda _: files.write_text(Path("data/.numbers.swp"), "an editor's"))
    assert stage.key("settings", []) == key
    Path("gone").write_text("named in .dvcignore, and a dep by its name", encoding="utf-8")
    assert stage.key("settings", []) != key


@pytest.mark.usefixtures("own")
def test_a_file_that_dvc_passes_over_is_no_damage() -> None:
    Path(".dvcignore").write_text(".DS_Store\n", encoding="utf-8")
    digest = hashlib.md5(b"1 2").hexdigest()
    listing = f'[{{"md5": "{digest}", "relpath": "numbers.txt"}}]'.encode()
    folder = f"{hashlib.md5(listing).hexdigest()}.dir"
    Path("data/.DS_Store").touch()
    assert [*recorded.differences(Path("data"), folder)] == []
    Path("data/other").touch()
    assert [*recorded.differences(Path("data"), folder)] != []


@pytest.mark.usefixtures("own")
def test_of_a_folder_the_file_is_named_where_the_cache_has_a_sound_list() -> None:
    listing = b'[{"md5": "0", "relpath": "numbers.txt"}]'
    digest = f"{hashlib.md5(listing).hexdigest()}.dir"
    path = Path("cache", digest[:2], digest[2:])
    path.parent.mkdir(parents=True)

    def differing() -> list[str]:
        found = recorded.differences(Path("data"), digest, Path("cache"))
        return [path.as_posix() for path, *_ in found]

    assert differing() == ["data"]
    path.write_bytes(listing)
    assert differing() == ["data/numbers.txt"]
    path.write_bytes(listing.replace(b"numbers", b"letters"))
    assert differing() == ["data"]


@pytest.mark.usefixtures("own")
def test_declared_code_outside_of_stages_is_refused_if_it_was_saved_meanwhile(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files.write_text(Path("helper.py"), "FACTOR = 2\n")  # after this process started
    message = refused(capsys, lambda _: None)
    assert message.startswith("helper.py: expected a time stamp before the start of this stage")


@pytest.mark.usefixtures("own")
def test_parameters_of_other_stages_may_change_meanwhile() -> None:
    key = stage.key("settings", [])

    def edit(_: object) -> None:
        for name, text in (
            ("params.yaml", "other: {epochs: 4}\nown: {scale: 1} # a comment\n"),
            ("own.toml", "[other]\nrate = 2\n[own]\nrate = 1 # a comment\n"),
        ):
            files.write_text(Path(name), text)

    stage.run(lambda: 1, edit)
    assert stage.key("settings", []) == key


@pytest.mark.parametrize("file", ["params.yaml", "own.toml", "own.json"])
def test_a_mark_of_byte_order_changes_no_parameter(file: str) -> None:
    text = b"[own]\nrate = 1\n" if file.endswith(".toml") else b'{"own": {"rate": 1}}'
    declared = Declared("own", (), (), ((file, "own.rate"),), False)
    for content in (text, b"\xef\xbb\xbf" + text):
        assert recorded.parameters(declared, {file: content}) == {f"{file}: own.rate": "1"}


class Plain:
    """Settings that do not say when they are equal."""

    def __init__(self, value: object) -> None:
        self.value = value


@pytest.mark.parametrize(
    "value", [[3, 1, 2], {"a": [1]}, np.arange(3), Plain([1]), {"x": np.zeros(2)}, Plain(min)]
)
def test_settings_of_any_kind_are_compared_and_may_be_changed_by_main(value: Any) -> None:
    def main(settings: Any) -> dict[str, float]:
        inner = getattr(settings, "value", settings)
        if isinstance(inner, list):
            inner.pop()
        elif isinstance(inner, dict):
            inner.clear()
        return {"accuracy": 1.0}  # which nobody asked for

    stage.run(lambda: copy.deepcopy(value), main)  # type: ignore[arg-type]


@pytest.mark.parametrize(("first", "second"), [(np.arange(3), np.ones(3)), (Plain(1), Plain(2))])
def test_settings_of_any_kind_that_changed_are_seen(
    capsys: pytest.CaptureFixture[str], first: Any, second: Any
) -> None:
    given = iter([first, second])
    message = refused(capsys, lambda _: None, read=lambda: next(given))
    assert message.startswith("The configuration of this stage was changed")
