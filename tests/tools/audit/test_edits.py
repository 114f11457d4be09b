"""Every way to depend on something undeclared is caught, by the run or by the hermetic run."""

import gzip
import importlib
import os
import pickle
import shutil
import socket
import sqlite3
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, execute, unprivileged
from tests.tools.audit.edits import EDITS, TENSORFLOW
from tools.audit import hermetic

STAGE = """
from pathlib import Path
import numpy as np
from stages.lib.core import config, files, stage
{top}

def read_settings():
    return [config.value("params.yaml", "small.scale", int)]

def main(settings):
    settings = list(settings)
    numbers = np.loadtxt("data/n.txt")
    sorted(Path("data/folder").iterdir())
    {main}
    files.write_text(Path("out.txt"), repr((settings, numbers.tolist())))

if __name__ == "__main__":
    stage.run(read_settings, main, [Path("data/n.txt")])
"""
MODEL = """
import keras
model = keras.Sequential([keras.layers.Input([1]), keras.layers.Dense(1)])
model.save("assets/x.h5")
import tensorflow as tf
with tf.io.TFRecordWriter("assets/x.tfrecord") as writer:
    writer.write(b"1")
"""
IDLE = "data/folder/.idle"
DEEP = "data/folder/deep"
BARE = "data/folder/bare"
# Where the refusal does not stop what writes the result
MADE = {
    *("swallowed", "swallowed whole", "thread", "pool of threads", "thread that goes on"),
    *("thread at import", "__del__", "atexit", "finalize", "once accepted", "pool of processes"),
}
DVC = """
stages:
  small:
    cmd: python -m stages.small
    deps: [data/n.txt, data/folder, stages/__init__.py, stages/small.py, stages/lib/core]
    params: [small.scale, environment.yaml: [msgspec, numpy, pyyaml]]
    outs: [out.txt]
"""


@pytest.fixture(scope="module")
def _furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of one stage, with files that it does not declare."""
    path = tmp_path_factory.mktemp("furnished") / "a path with spaces"
    for folder in (
        "stages/lib",
        "data/folder",
        "assets",
        ".git",
        "recipes",
        "other",
        IDLE,
        DEEP,
        BARE,
    ):
        (path / folder).mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "stages/lib/core", path / "stages/lib/core", ignore=ignore)
    shutil.copyfile(ROOT / "stages/__init__.py", path / "stages/__init__.py")
    texts = {
        "dvc.yaml": DVC,
        "params.yaml": "small:\n  scale: 2\n  one: 1\n",
        "environment.yaml": "keras: '1'\n"
        + "".join(
            f"{name}: '{metadata.version(name)}'\n" for name in ("msgspec", "numpy", "pyyaml")
        ),
        "dvc.lock": "schema: '2.0'\nstages: {}\n",
        "recipes/r.yaml": "a: 1\n",
        "other/out.csv": "1\n",
        ".checkpoints/x": "1",
        **{f"data/folder/{name}": name for name in "cabd"},
        "../outside.txt": "1",
        "../outside.py": "x = 1\n",
        "data/n.txt": "1 2",
        "stages/lib/extra.py": "x = 1\n",
        "stages/small.py": STAGE.format(top="", main="pass"),
        ".dvcignore": "*.log\n.idle\n",
        "data/folder/x.log": "1",
        "data/folder/.idle/x": "1",
        "data/.dvcignore": "/folder/deep/x.tmp\n",
        "data/folder/deep/x.tmp": "1",
        "assets/plugin.py": "x = 1\n",
        "assets/x.csv": "1,2\n",
        "assets/x.json": "{}",
        "assets/x.toml": "[a]\nb = 1\n",
        "assets/x.xml": "<a/>",
        ".git/HEAD": "ref: refs/heads/main\n",
    }
    (path / ".checkpoints").mkdir()
    for name, text in texts.items():
        (path / name).write_text(text, encoding="utf-8")
    h5py = pytest.importorskip("h5py")
    image = pytest.importorskip("PIL.Image")
    assets = path / "assets"
    with h5py.File(assets / "x.h5", "w") as stream:
        stream["a"] = 1
    image.new("L", (2, 2)).save(assets / "x.png")
    np.save(assets / "x.npy", np.arange(3.0))
    np.savez(assets / "x.npz", np.arange(3.0))
    (assets / "x.gz").write_bytes(gzip.compress(b"1"))
    (assets / "x.pickle").write_bytes(pickle.dumps(1))
    for place in (assets, path.parent):
        with sqlite3.connect(place / "x.db") as connection:
            connection.execute("create table a (b)")
        connection.close()
    tarfile.open(assets / "x.tar", "w").close()
    with zipfile.ZipFile(assets / "x.zip", "w") as stream:
        stream.writestr("inzip.py", "x = 1\n")
    matplotlib = pytest.importorskip("matplotlib")
    shutil.copyfile(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), assets / "x.ttf")
    (path / "data/link.csv").symlink_to("../assets/x.csv")
    (path / "data/folder/linked").symlink_to("../../assets")
    return path


@pytest.fixture
def small(_furnished: Path, tmp_path: Path) -> Path:
    path = tmp_path / "a path with spaces"
    shutil.copytree(_furnished, path, symlinks=True)
    for name in ("outside.txt", "outside.py", "x.db"):
        shutil.copyfile(_furnished.parent / name, tmp_path / name)
    (path / "data/hard.csv").hardlink_to(path / "assets/x.csv")
    (tmp_path / "link.csv").symlink_to(path / "assets/x.csv")
    return path


def write(path: Path, main: str, top: str = "") -> None:
    body = main.replace("\n", "\n    ").replace("OUTSIDE", repr(str(path.parent)))
    (path / "stages/small.py").write_text(STAGE.format(top=top, main=body), encoding="utf-8")


def run(path: Path, **environment: str) -> Any:
    command = [sys.executable, "-m", "stages.small"]
    return execute(command, path, **{"PWD": str(path), "LANG": "de_DE.UTF-8", **environment})


def by_catcher(caught: str) -> list[Any]:
    """The names of edits; seven of eight wait for the slow tests."""
    names = [name for name, edit in EDITS.items() if edit.caught == caught]
    return [
        pytest.param(name, marks=pytest.mark.slow if number % 8 else ())
        for number, name in enumerate(names)
    ]


@pytest.fixture
def piped(tmp_path: Path) -> Iterator[None]:
    """Standard input that holds something, as pytest's does not."""
    before = os.dup(0)
    (tmp_path / "input").write_text("typed", encoding="utf-8")
    with (tmp_path / "input").open() as stream:
        os.dup2(stream.fileno(), 0)
        yield
    os.dup2(before, 0)
    os.close(before)


@pytest.mark.parametrize("name", by_catcher("run"))
def test_the_run_refuses_it_and_names_file_and_line(small: Path, name: str) -> None:
    edit = EDITS[name]
    write(small, edit.main, edit.top)
    done = run(small)
    assert edit.word in done.message, done.message
    assert "in dvc.yaml." in done.message or edit.word not in ("assets/x.", "assets")
    assert not (small / "out.txt").exists() or name in MADE


@pytest.mark.slow
@pytest.mark.parametrize("name", by_catcher("hermetic"))
@pytest.mark.usefixtures("piped")
def test_the_hermetic_run_fails_or_differs(
    small: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = EDITS[name]
    write(small, edit.main, edit.top)
    (small / "out.txt").write_text("of the last run", encoding="utf-8")
    monkeypatch.setenv("COLOUR", "red")
    done = run(small)
    assert (done.code, done.err) == (0, "")
    findings, _ = hermetic.check(small)
    assert {finding.subject for finding in findings} == {"small"}
    words = (edit.word,) if edit.word != "assets/x." else ("fails with", "makes another")
    assert any(word in finding.what for word in words for finding in findings), findings


def test_a_dep_that_c_code_changes_fails_the_run(small: Path) -> None:
    write(small, "import h5py; h5py.File('data/folder/made.h5', 'w').close()")
    done = run(small)
    assert done.code == 1
    assert "An input file of this stage was changed while it ran" in done.err


@pytest.mark.parametrize("name", by_catcher("none"))
def test_what_is_documented_as_caught_by_none_is_not(small: Path, name: str) -> None:
    write(small, EDITS[name].main)
    assert run(small).code == 0
    assert hermetic.check(small) == ([], [])


@pytest.fixture(scope="module")
def of_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``assets`` with files in the forms of TensorFlow."""
    folder = tmp_path_factory.mktemp("tensorflow")
    (folder / "assets").mkdir()
    done = execute([sys.executable, "-c", MODEL], folder, TF_CPP_MIN_LOG_LEVEL="3")
    assert done.code == 0, done.err
    return folder / "assets"


@pytest.mark.slow
@pytest.mark.parametrize("name", TENSORFLOW)
def test_what_tensorflow_reads_fails_or_differs(
    small: Path, of_tensorflow: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    shutil.copytree(of_tensorflow, small / "assets", dirs_exist_ok=True)
    write(small, f"import tensorflow as tf; settings.append(str({TENSORFLOW[name]}))")
    done = run(small)
    assert done.code == 0, done.err
    findings = [finding.what for finding in hermetic.check(small)[0]]
    assert any(what.startswith(("fails with", "makes another")) for what in findings), findings


def test_without_an_edit_nothing_is_found(small: Path) -> None:
    done = run(small)
    assert (done.code, done.err) == (0, "")
    assert hermetic.check(small) == ([], [])


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"PYTHONDONTWRITEBYTECODE": "1"},
        {"PYTHONDONTWRITEBYTECODE": ""},
        {"PYTHONOPTIMIZE": "1"},
        {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": ".compiled"},
    ],
)
def test_compiled_code_is_no_false_alarm(small: Path, environment: dict[str, str]) -> None:
    for _ in range(2):  # the second time it is read
        done = run(small, **environment)
        assert (done.code, done.err) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["pdb", "-c", "c", "-c", "q", "-m"],
        ["cProfile", "-o", "profile", "-m"],
        ["trace", "--count", "-C", "counts", "--module"],
        ["coverage", "run", "-m"],
    ],
    ids=lambda words: words[0],
)
def test_debuggers_and_profilers_are_no_false_alarm(small: Path, words: list[str]) -> None:
    pytest.importorskip(words[0])
    command = [sys.executable, "-m", *words, "stages.small"]
    done = execute(command, small)
    assert "ERROR" not in done.out + done.err
    assert (small / "out.txt").is_file()
    # and are no way round
    write(small, "open('assets/x.csv').read()")
    (small / "out.txt").unlink()
    done = execute(command, small)
    assert "ERROR: stages/small.py:14: opens assets/x.csv" in done.err
    assert not (small / "out.txt").exists()


def test_a_home_within_the_repository_is_no_false_alarm_and_no_way_round(small: Path) -> None:
    for folder, code in ((".keras", 0), (".cache/matplotlib", 0), (".cache/other", 1)):
        make = "path.parent.mkdir(parents=True, exist_ok=True); path.write_text('1')"
        write(small, f"path = Path('home/{folder}/kept.json'); {make}; path.read_text()")
        done = run(small, HOME=str(small / "home"))
        assert (done.code, "kept.json" in done.err) == (code, bool(code)), done.err


def test_the_host_keeps_its_name(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = socket.gethostname()
    assert run(small).code == 0
    monkeypatch.setattr(hermetic, "_apart", lambda _: [])  # as where `unshare` is not allowed
    assert hermetic.check(small) == ([], [])
    assert socket.gethostname() == name


def test_a_folder_of_python_called_as_a_debugger_is_no_way_round(
    small: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environment = tmp_path_factory.mktemp("environments") / "pdb"
    environment.symlink_to(sys.prefix, target_is_directory=True)
    write(small, "np.loadtxt('assets/x.csv', delimiter=',')", "import numpy as np")
    done = execute([str(environment / "bin/python"), "-m", "stages.small"], small)
    assert "opens assets/x.csv" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("name", [".venv", "env"])
def test_an_environment_in_the_clone_is_no_false_alarm(small: Path, name: str) -> None:
    place = small / name
    assert execute([sys.executable, "-m", "venv", "--without-pip", name], small).code == 0
    (packages,) = place.rglob("site-packages")
    yaml, msgspec = (
        Path(str(importlib.import_module(each).__file__)) for each in ("yaml", "msgspec")
    )
    for module in (yaml, msgspec):  # some lie inside, the others behind them
        shutil.copytree(module.parent, packages / module.parent.name)
    (packages / "others.pth").write_text(str(yaml.parents[1]), encoding="utf-8")
    (python,) = place.glob("[Bb]*/python")
    for _ in range(2):
        done = execute([str(python), "-m", "stages.small"], small)
        assert (done.code, done.err) == (0, "")


@pytest.mark.slow
def test_a_user_whom_permissions_stop_is_no_false_alarm(small: Path) -> None:
    for _ in range(2):
        done = execute([*unprivileged(), sys.executable, "-m", "stages.small"], small)
        assert (done.code, done.err) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("options", [["repro"], ["exp", "run"], ["exp", "run", "--temp"]])
@pytest.mark.parametrize("bytecode", ["", "1"])
def test_dvc_is_no_false_alarm(small: Path, options: list[str], bytecode: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    shutil.rmtree(small / ".git")
    (small / "data/folder/linked").unlink()
    for name in ("data/link.csv", "data/hard.csv", "dvc.lock"):
        (small / name).unlink()
    (small / ".gitignore").write_text("__pycache__\n.checkpoints\n", encoding="utf-8")
    environment = {
        "DVC_SITE_CACHE_DIR": str(small.parent / "site"),
        "PYTHONDONTWRITEBYTECODE": bytecode,
    }
    dvc = [sys.executable, "-m", "dvc"]
    for command in (
        ["git", "init", "-q"],
        [*dvc, "init", "-q"],
        ["git", "add", "-A"],
        ["git", *identity, "commit", "-qm", "All"],
    ):
        assert execute(command, small, **environment).code == 0
    change = ["-S", "small.scale=3"] if "exp" in options else []
    done = execute([*dvc, *options, *change], small, **environment)
    assert done.code == 0, done.out + done.err
    assert "ERROR" not in done.err
    write(small, "open('assets/x.csv').read()")  # and here too it is refused
    done = execute([*dvc, *options, *change], small, **environment)
    assert "opens assets/x.csv, which small does not declare" in done.out + done.err


def test_a_link_to_the_repository_is_no_false_alarm(small: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(small)
    done = run(tmp_path / "link")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("module", ["stages.deep.small", "prep.small"])
def test_a_stage_in_another_folder_is_watched_too(small: Path, module: str) -> None:
    write(small, "open('assets/x.csv').read()")
    file = small / f"{module.replace('.', '/')}.py"
    file.parent.mkdir()
    shutil.copyfile(small / "stages/small.py", file)  # the section of params.yaml is small's
    text = (small / "dvc.yaml").read_text(encoding="utf-8").replace("stages.small", module)
    text = text.replace("stages/small.py", file.relative_to(small).as_posix())
    (small / "dvc.yaml").write_text(text, encoding="utf-8")
    done = execute([sys.executable, "-m", module], small)
    assert f"{file.relative_to(small).as_posix()}:14: opens assets/x.csv" in done.message
    file.write_text(STAGE.format(top="", main="pass"), encoding="utf-8")
    done = execute([sys.executable, "-m", module], small)
    assert (done.code, done.err) == (0, "")


def test_a_stage_whose_command_hides_it_is_known_by_the_name_that_dvc_gives_it(small: Path) -> None:
    text = (small / "dvc.yaml").read_text(encoding="utf-8")
    hidden = text.replace("python -m", "nice python -m")
    (small / "dvc.yaml").write_text(hidden, encoding="utf-8")
    write(small, "open('assets/x.csv').read()")
    assert "opens assets/x.csv" in run(small, DVC_STAGE="dvc.yaml:small").message


@pytest.mark.parametrize(
    ("named", "text", "said"),
    [
        ("small@x", "foreach: [x]\n    do:\n      cmd", "dvc.yaml: stages.small.foreach: "),
        ("other/dvc.yaml:small", "cmd", "other/dvc.yaml: stages.small: expected in the dvc.yaml"),
        ("dvc.yaml:other", "cmd: python -m stages.x #", "dvc.yaml: stages.other: expected in"),
    ],
    ids=["foreach", "another dvc.yaml", "another name"],
)
def test_a_stage_whose_declaration_is_not_known_does_not_run_unwatched(
    small: Path, named: str, text: str, said: str
) -> None:
    declared = (small / "dvc.yaml").read_text(encoding="utf-8").replace("cmd", text)
    (small / "dvc.yaml").write_text(declared, encoding="utf-8")
    done = run(small, DVC_STAGE=named)
    assert (done.code, done.message[: len(said)]) == (1, said)
    assert not (small / "out.txt").exists()


@pytest.mark.parametrize(
    "named", ["../../dvc.yaml:small", "small", "a path with spaces/dvc.yaml:small"]
)
def test_dvc_may_be_called_in_another_folder(small: Path, named: str) -> None:
    done = run(small, DVC_STAGE=named)
    assert (done.code, done.err) == (0, "")


def test_of_two_stages_of_a_module_the_words_after_it_choose(small: Path) -> None:
    other = DVC.replace("stages:\n", "").replace("small:\n", "other:\n", 1)
    other = other.replace("stages.small", "stages.small ${small.scale}")
    other = other.replace("data/n.txt", "data/n.txt, assets/x.csv").replace("out.txt", "other.txt")
    (small / "dvc.yaml").write_text(DVC + other, encoding="utf-8")
    opened = "import sys\nif sys.argv[1:]: settings.append(open('assets/x.csv').read())"
    writes = "files.write_text(Path('other.txt' if sys.argv[1:] else 'out.txt'), '1'); return"
    write(small, f"{opened}\n{writes}")
    for words in ([], ["2"]):
        done = execute([sys.executable, "-m", "stages.small", *words], small)
        assert (done.code, done.err) == (0, "")
    assert hermetic.check(small) == ([], [])


def test_only_what_compares_its_sha256_may_read_own_data(small: Path) -> None:
    text = DVC.replace("outs:", "meta: {network: true}\n    outs:")
    (small / "dvc.yaml").write_text(text, encoding="utf-8")
    (small / "data/own").mkdir()
    (small / "data/own/x.csv").write_text("1", encoding="utf-8")
    write(small, "open('data/own/x.csv').read()")
    assert "opens data/own/x.csv, which small does not declare" in run(small).message
    text = text.replace("stages.small", "stages.download").replace("small.py", "download.py")
    (small / "dvc.yaml").write_text(text, encoding="utf-8")
    write(small, "files.sha256(Path('data/own/x.csv'))")
    (small / "stages/small.py").rename(small / "stages/download.py")
    (small / "stages/small.py").touch()  # for the section of params.yaml
    done = execute([sys.executable, "-m", "stages.download"], small)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("before", "after", "main"),
    [
        ("data/n.txt", "./data/n.txt", "pass"),
        (
            "small.scale,",
            "small.scale, other.one,",
            "config.value('params.yaml', 'other.one', int)",
        ),
        (
            "data/n.txt",
            "data/n.txt, params.yaml",
            "settings.append(Path('params.yaml').read_text())",
        ),
        ("data/n.txt", "data/n.txt, ../outside.txt", "Path('../outside.txt').read_text()"),
        (
            "data/n.txt",
            "data/n.txt, OUTSIDE/outside.txt",
            "Path(OUTSIDE, 'outside.txt').read_text()",
        ),
        ("small.scale,", "small.scale, own.yaml: [a],", "config.value('own.yaml', 'a', int)"),
        ("small.scale,", "small.scale, own.yaml: ,", "open('own.yaml').read()"),
        ("", "", "import datetime as d; d.datetime.now().astimezone()"),
        ("data/n.txt", "data/n.txt, data/folder/x.log", "open('data/folder/x.log').read()"),
    ],
    ids=[
        *("dot", "another section", "all of params.yaml", "a dep above", "a dep elsewhere"),
        *("another file's key", "another file", "an aware time", "an ignored file"),
    ],
)
def test_what_is_declared_is_no_false_alarm(
    small: Path, before: str, after: str, main: str
) -> None:
    after = after.replace("OUTSIDE", str(small.parent))
    (small / "dvc.yaml").write_text(DVC.replace(before, after, 1), encoding="utf-8")
    (small / "own.yaml").write_text("a: 1\n", encoding="utf-8")
    with (small / "params.yaml").open("a", encoding="utf-8") as stream:
        stream.write("other:\n  one: 1\n" if "other" in after else "")
    (small / "stages/other.py").write_text("", encoding="utf-8")
    write(small, main)
    done = run(small)
    assert (done.code, done.err) == (0, "")
    assert hermetic.check(small) == ([], [])


def test_a_link_that_leads_nowhere_does_not_stop_the_hermetic_run(small: Path) -> None:
    (small / "data/folder/gone").symlink_to("nowhere")
    assert run(small).code == 0
    assert hermetic.check(small) == ([], [])


@pytest.mark.slow
def test_the_words_of_the_command_reach_the_hermetic_run(small: Path) -> None:
    text = (small / "dvc.yaml").read_text(encoding="utf-8")
    text = text.replace("python -m stages.small", "python -O -m stages.small -x 3")
    (small / "dvc.yaml").write_text(text, "utf-8")
    write(small, "import sys; settings.append([sys.flags.optimize, *sys.argv[1:]])")
    command = [sys.executable, "-O", "-m", "stages.small", "-x", "3"]
    assert execute(command, small).code == 0
    assert "1, '-x', '3'" in (small / "out.txt").read_text(encoding="utf-8")
    assert hermetic.check(small) == ([], [])


def test_a_thread_is_watched_while_the_core_reads_for_itself(small: Path) -> None:
    code = (
        "import threading; from pathlib import Path\n"
        "from stages.lib.core import enforcement\n"
        "enforcement.start(Path.cwd())\n"
        "def read(): open('assets/x.csv').read()\n"
        "with enforcement.unwatched():\n"
        "    open('dvc.yaml').read()\n"
        "    thread = threading.Thread(target=read); thread.start(); thread.join()\n"
        "print([touch.name for touch in enforcement._watch.notes])"
    )
    done = execute([sys.executable, "-c", code], small)
    assert done.out.strip() == "['assets/x.csv']"


def test_a_folder_whose_name_begins_as_a_systems_is_outside_all_the_same(tmp_path: Path) -> None:
    for name in ("room", "system", "systematic"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    code = (
        "import sys; from tools.audit import room\n"
        "room.SYSTEM = (sys.argv[1], *room.SYSTEM)\n"
        "outside = room.watch()\n"
        "for name in sys.argv[1:]: open(name + '/x').close()\n"
        "print(*outside)"
    )
    folders = [str(tmp_path / "system"), str(tmp_path / "systematic")]
    command = [sys.executable, "-c", code, *folders]
    done = execute(command, tmp_path / "room", PYTHONPATH=str(ROOT))
    assert done.out.strip() == f"{folders[1]}{os.sep}x", done.err


@pytest.mark.parametrize("declared", ["crop.yaml: ", "crop.json: "])
def test_a_whole_file_with_a_key_that_dvc_passes_over_is_refused(
    small: Path, declared: str
) -> None:
    name = declared.partition(":")[0]
    (small / name).write_text('{"crop": {"size": 28}}', encoding="utf-8")
    text = (small / "dvc.yaml").read_text(encoding="utf-8")
    whole = text.replace("params: [", f"params: [{declared}, ")
    (small / "dvc.yaml").write_text(whole, encoding="utf-8")
    done = run(small)
    assert f"ERROR: {name}: crop.size: expected another name, or {name} as a dep" in done.err
    assert not (small / "out.txt").exists()
    moved = text.replace("deps: [", f"deps: [{name}, ")
    (small / "dvc.yaml").write_text(moved, encoding="utf-8")
    write(small, f"settings.append(Path({name!r}).read_text())")
    assert run(small).code == 0


def test_a_section_that_dvc_yaml_declares_is_known(small: Path) -> None:
    with (small / "params.yaml").open("a", encoding="utf-8") as stream:
        stream.write("calibration: {bins: 3}\n")
    write(small, "settings.append(config.value('params.yaml', 'calibration.bins', int))")
    assert "params.yaml: calibration: unknown key" in run(small).err
    text = (small / "dvc.yaml").read_text(encoding="utf-8")
    text = text.replace("params: [", "params: [calibration.bins, ")
    (small / "dvc.yaml").write_text(text, encoding="utf-8")
    done = run(small)
    assert (done.code, done.err) == (0, "")


def test_an_out_whose_name_ends_with_a_slash_is_compared(small: Path) -> None:
    (small / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  first:\n    cmd: a\n    outs:\n"
        "    - path: data/folder/\n      md5: 0123.dir\n",
        encoding="utf-8",
    )
    assert "data/folder: not the one that dvc.lock has of first" in run(small).err


@pytest.mark.parametrize("ahead", [0, 9, -8, 14, -12])
def test_it_is_another_day_in_the_room_at_every_hour(
    monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    for half in range(48):
        now = 1_700_000_000 + 1800 * half
        here = time.gmtime(now + 3600 * ahead)
        monkeypatch.setattr(time, "time", lambda now=now: now)
        monkeypatch.setattr(time, "localtime", lambda here=here: here)
        shift = {"ROOM+22:30": -81_000, "ROOM-22:30": 81_000}[hermetic._zone()]  # as POSIX has it
        there = time.gmtime(now + shift)
        assert there.tm_yday != here.tm_yday


@pytest.mark.parametrize(
    "main",
    [
        (
            "import tempfile\nwith tempfile.TemporaryDirectory() as made:\n"
            "    Path(made, 'data').mkdir(); Path(made, 'data', 'n.txt').touch()"
        ),
        (
            "import os, tempfile\nmade = tempfile.mkdtemp(); Path(made, 'assets').mkdir()\n"
            "list(os.fwalk(made))"
        ),
        "Path('gone.tmp').unlink(missing_ok=True)",
        "import os; os.truncate('out.txt', 0) if Path('out.txt').exists() else None",
        "import os; open('out.txt', 'w').close(); os.replace('out.txt', 'out.txt')",
    ],
    ids=["removed", "walked", "not there", "truncated out", "moved onto itself"],
)
def test_temporary_files_and_own_outs_are_no_false_alarm(small: Path, main: str) -> None:
    write(small, main)
    for _ in range(2):
        done = run(small)
        assert (done.code, done.err) == (0, "")


def test_a_folder_for_temporary_files_in_the_repository_is_left_free(small: Path) -> None:
    (small / "tmp").mkdir()
    write(small, "import tempfile; tempfile.NamedTemporaryFile().write(b'1')")
    done = run(small, TMPDIR=str(small / "tmp"))
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("e.json", '{"name": "\\ud83d\\ude00"}', ""),
        ("e.toml", "a = 1", ""),
        ("e.toml", "size = 1", "e.toml: size: expected another name, or e.toml as a dep"),
        ("e.toml", "a = ", "e.toml: Invalid value"),
        ("e.py", "a = 1", "e.py: expected YAML, JSON or TOML as a whole file of parameters"),
    ],
)
def test_whole_files_of_parameters_of_other_kinds(
    small: Path, name: str, text: str, said: str
) -> None:
    (small / name).write_text(text, encoding="utf-8")
    declared = (small / "dvc.yaml").read_text(encoding="utf-8")
    declared = declared.replace("params: [", f"params: [{name}: , ")
    (small / "dvc.yaml").write_text(declared, encoding="utf-8")
    write(small, f"settings.append(Path({name!r}).read_text())")
    done = run(small)
    assert (said in done.err) if said else (done.code, done.err) == (0, "")
    if not said:
        assert hermetic.check(small) == ([], [])


def test_there_are_enough_edits() -> None:
    assert len(EDITS) >= 180
