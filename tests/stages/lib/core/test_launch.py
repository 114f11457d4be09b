"""A stage as a process: with streams that are closed or full, and struck while it imports."""

import itertools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, Finished, execute
from tests.faults.prepared import ENVIRONMENT, OUTPUTS, prepare

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such streams")

STAGES = [
    "normalize",  # without TensorFlow and matplotlib it starts in a moment
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("download", "train", "evaluate", "plot")
    ),
]
STRANGE_STREAMS = {
    "standard output closed": '"$@" >&-',
    "standard error closed": '"$@" 2>&-',
    "all closed": '"$@" <&- >&- 2>&-',
    "the reader of the output gone": '{ "$@"; echo $? >&3; } 3>code | true; exit $(cat code)',
    "the reader of the errors gone": (
        '{ "$@"; echo $? >&3; } 3>code 2>&1 >log | true; exit $(cat code)'
    ),
    "the reader reads one byte": '{ "$@"; echo $? >&3; } 3>code | head -c1; exit $(cat code)',
}

Tree = dict[str, bytes]


def stage(name: str, folder: Path, shell: str = '"$@"', **environment: str) -> Finished:
    """Runs a stage as DVC does, by a line of a shell that gets the command."""
    command = [sys.executable, "-m", f"stages.{name}"]
    surroundings = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), **environment}
    return execute(["sh", "-c", shell, "sh", *command], folder, **surroundings)


def outputs(name: str, folder: Path) -> Tree:
    """The content of each file that the stage makes."""
    paths = [
        path
        for output in OUTPUTS[name]
        for path in (folder / output, *(folder / output).rglob("*"))
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


Ready = Callable[[str], Path]


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """A folder in which a stage can run, made once for each."""
    made = tmp_path_factory.mktemp("prepared")

    def prepared(name: str) -> Path:
        if not (made / name).exists():
            prepare(name, made / name)
            if name == "evaluate":
                assert stage("train", made / name).code == 0
        return made / name

    return prepared


@pytest.fixture
def ready(_prepared: Ready, tmp_path: Path) -> Ready:
    """A fresh folder in which a stage can run."""
    numbers = itertools.count()

    def copied(name: str) -> Path:
        return Path(shutil.copytree(_prepared(name), tmp_path / str(next(numbers))))

    return copied


@pytest.fixture
def undisturbed(ready: Ready) -> Callable[[str], Tree]:
    """What a stage makes in peace."""

    def run(name: str) -> Tree:
        folder = ready(name)
        done = stage(name, folder)
        assert done.code == 0, done.err
        return outputs(name, folder)

    return run


@pytest.mark.parametrize("name", STAGES)
def test_whatever_the_streams_are_the_work_is_done(
    name: str, ready: Ready, undisturbed: Callable[[str], Tree]
) -> None:
    expected = undisturbed(name)
    # TensorFlow takes its time to start: the two stages that import it share the streams
    part = {"train": slice(0, None, 2), "evaluate": slice(1, None, 2)}.get(name, slice(None))
    for streams, shell in [*STRANGE_STREAMS.items()][part]:
        folder = ready(name)
        done = stage(name, folder, shell)
        assert (done.code, "Traceback" in done.err) == (0, False), (streams, done)
        assert outputs(name, folder) == expected, streams


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("name", STAGES)
def test_an_output_stream_on_a_full_disk_is_named(name: str, ready: Ready, tmp_path: Path) -> None:
    done = stage(name, ready(name), '"$@" >/dev/full')
    assert done.message == (
        "standard output: No space left on device.\nFree some space and run again."
    )
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("name", STAGES)
def test_warnings_as_errors_are_told_or_do_no_harm(
    name: str, ready: Ready, undisturbed: Callable[[str], Tree]
) -> None:
    expected, folder = undisturbed(name), ready(name)
    done = stage(name, folder, PYTHONWARNINGS="error")
    if done.code:
        assert done.message.startswith("a warning was made an error by PYTHONWARNINGS or -W: ")
    else:
        assert outputs(name, folder) == expected


def struck(name: str, folder: Path, fault: str) -> Finished:
    """Runs a stage with a fault among its imports."""
    path = os.pathsep.join([str(ROOT / "tests/faults/site"), str(ROOT)])
    return stage(name, folder, PYTHONPATH=path, IMPORT_FAULT=fault)


def imports(name: str, folder: Path) -> list[str]:
    """The modules that a stage imports, in their order."""
    listing = folder / "imports"
    assert struck(name, folder, f"list:{listing}").code == 0
    names = listing.read_text().splitlines()
    return list(dict.fromkeys(names[names.index("stages") + 1 :]))


@pytest.mark.parametrize("name", STAGES)
def test_ctrl_c_and_a_failing_disk_among_the_imports(
    name: str, ready: Ready, undisturbed: Callable[[str], Tree]
) -> None:
    modules = imports(name, ready(name))
    folder = ready(name)
    before = outputs(name, folder)
    own = [module for module in modules if module.startswith("stages.")]
    few = [own[0], own[-1], *modules[:: max(1, len(modules) // 4)]]
    swallowed = [f"swallow:{module}" for module in (own[-1], modules[-1])]
    for fault in dict.fromkeys([*(f"interrupt:{module}" for module in few), *swallowed]):
        done = struck(name, folder, fault)
        assert done.err == "\nInterrupted; nothing half-made was left behind.\n", fault
        assert done.code == 130
    # A module may be imported in the midst of the work, which was then done
    now, done_work = outputs(name, folder), undisturbed(name)
    for output in OUTPUTS[name]:
        old, new, there = (
            {path: text for path, text in tree.items() if Path(path).is_relative_to(output)}
            for tree in (before, done_work, now)
        )
        assert there in (old, new), output
    folder = ready(name)
    for module in own[:: max(1, len(own) // 3)]:
        for mode, words in (("unreadable", "Permission denied"), ("damaged", "Input/output error")):
            done = struck(name, folder, f"{mode}:{module}")
            path = module.replace(".", "/") + ".py"
            assert done.message == f"{path}: {words}.\nMend that and run again."
    assert outputs(name, folder) == before


def test_a_library_that_is_not_installed_is_named(ready: Ready) -> None:
    folder = ready("normalize")
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['msgspec'] = None\n")
    done = stage("normalize", folder, PYTHONPATH=f"{folder}{os.pathsep}{ROOT}")
    assert done.message.startswith(f"msgspec: not installed for {sys.executable}.\n")
