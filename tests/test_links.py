"""What an earlier stage made, overwritten or damaged in DVC's cache, with each type of link.

The next stage ends with an error or makes the same as of the whole file; and the commands that the
error names bring all of it back.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stages.lib.core import pipeline, yaml_file
from tests.conftest import ROOT, Finished, execute, unprivileged

pytestmark = pytest.mark.slow

MAKE = """
from pathlib import Path
from typing import Any
from stages.lib.core import config, files, stage

def main(scale):
    files.write_text(Path("made/one.txt"), f"one {scale}")
    with files.replacing(Path("made/many")) as folder:
        folder.mkdir()
        for name in "ab":
            (folder / name).write_text(f"{name} {scale}")

if __name__ == "__main__":
    stage.run(lambda: config.value("params.yaml", "make.scale", int), main)
"""
USE = """
from pathlib import Path
from typing import Any
from stages.lib.core import config, files, stage

INPUTS = [Path("made/one.txt"), Path("made/many")]

def main(times):
    texts = [path.read_text() for path in (INPUTS[0], *sorted(INPUTS[1].iterdir()))]
    files.write_text(Path("used.txt"), repr(texts * times))

if __name__ == "__main__":
    stage.run(lambda: config.value("params.yaml", "use.times", int), main, INPUTS)
"""
DVC = """
stages:
  make:
    cmd: '"{python}" -m stages.make'
    deps: [stages/__init__.py, stages/lib/core, stages/make.py]
    params: [make.scale]
    outs: [made/one.txt, made/many]
  use:
    cmd: '"{python}" -m stages.use'
    deps: [made/one.txt, made/many, stages/__init__.py, stages/lib/core, stages/use.py]
    params: [use.times]
    outs: [used.txt]
"""
CONTENTS = {"made/one.txt": "one 2", "made/many/a": "a 2", "made/many/b": "b 2"}
LINKS = ("copy", "hardlink", "symlink", "reflink")


@dataclass
class Repository:
    """A small repository, and the words that run a command in it as somebody."""

    path: Path
    words: tuple[str, ...]

    def run(self, *command: str) -> Finished:
        environment = {"DVC_SITE_CACHE_DIR": str(self.path / ".dvc/site"), "HOME": str(self.path)}
        environment |= {"DVC_NO_ANALYTICS": "1"}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": ""}
        known = {"python": [sys.executable], "dvc": [sys.executable, "-m", "dvc"]}
        program = known.get(command[0], [command[0]])
        return execute([*self.words, *program, *command[1:]], self.path, **environment)

    def fine(self, *command: str) -> str:
        done = self.run(*command)
        assert done.code == 0, done.out + done.err
        return done.out

    def stored(self, name: str) -> Path:
        """The object of DVC's cache that holds one of the contents."""
        text = CONTENTS[name].encode()
        (path,) = [
            path
            for path in (self.path / ".dvc/cache/files/md5").rglob("*")
            if path.is_file() and path.read_bytes() == text
        ]
        return path

    def whole(self, times: int) -> bool:
        """Whether everything is there as the stages make it."""
        made = {name: (self.path / name).read_text() for name in CONTENTS}
        used = (self.path / "used.txt").read_text()
        return made == CONTENTS and used == repr(list(CONTENTS.values()) * times)


def _overwritten(repository: Repository, name: str) -> Path:
    return (repository.path / name).resolve()


def _damaged_in_the_cache(repository: Repository, name: str) -> Path:
    return repository.stored(name)


@pytest.fixture(params=["as root", "as a user whom permissions stop"])
def somebody(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    """An empty folder and the user who works in it."""
    if request.param != "as root":
        return Repository(tmp_path, unprivileged())
    if sys.platform == "win32" or os.geteuid() != 0:
        pytest.skip("the tests are run by another user than root")
    return Repository(tmp_path, ())


def furnish(repository: Repository, link: str) -> None:
    path = repository.path
    texts = {
        "dvc.yaml": DVC.format(python=sys.executable),
        "params.yaml": "make:\n  scale: 2\nuse:\n  times: 1\n",
        "stages/make.py": MAKE,
        "stages/use.py": USE,
        ".gitignore": "__pycache__/\n",
    }
    lib = "stages/lib"  # all of it, as tools.audit imports more of it than the stages do
    shutil.copytree(ROOT / lib, path / lib, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "stages/__init__.py", path / "stages/__init__.py")
    for name, text in texts.items():
        (path / name).write_text(text, encoding="utf-8")
    repository.fine("git", "init", "-q")
    repository.fine("dvc", "init", "-q")
    repository.fine("dvc", "config", "core.analytics", "false")
    repository.fine("dvc", "config", "cache.type", link)
    done = repository.run("dvc", "repro")
    if link == "reflink" and "cache-types" in done.err:
        pytest.skip("this file system has no reflinks")
    assert done.code == 0, done.err


@pytest.mark.parametrize("link", LINKS)
def test_damage_ends_in_an_error_or_has_no_effect_and_the_advice_mends_it(
    somebody: Repository, link: str
) -> None:
    furnish(somebody, link)
    times = 1
    assert somebody.whole(times)
    for place, one_keeps_its_time in ((_overwritten, False), (_damaged_in_the_cache, True)):
        for name in ("made/one.txt", "made/many/b"):
            kept = (name == "made/one.txt") == one_keeps_its_time
            times += 1
            case = f"{link}: {place.__name__}: {name}, time kept: {kept}"
            path = place(somebody, name)
            before = path.stat()
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[::-1])  # in place, of the same size
            if kept:
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
                path.chmod(before.st_mode)
            (somebody.path / "params.yaml").write_text(
                f"make:\n  scale: 2\nuse:\n  times: {times}\n", encoding="utf-8"
            )
            done = somebody.run("dvc", "repro")
            if done.code != 0:
                assert "`python -m tools.audit --mend`" in done.err, f"{case}: {done.err}"
                assert "Traceback" not in done.err, f"{case}: {done.err}"
                mended = somebody.fine("python", "-m", "tools.audit", "--mend")
                assert "Run `dvc repro`" in mended, case
                somebody.fine("dvc", "repro")
                assert somebody.whole(times), case
            used = (somebody.path / "used.txt").read_text()
            assert used == repr(list(CONTENTS.values()) * times), case
            # whatever is left in the cache comes to light too
            somebody.fine("python", "-m", "tools.audit", "--mend")
            somebody.fine("dvc", "repro")
            assert somebody.whole(times), case
            assert "nothing is damaged" in somebody.fine("python", "-m", "tools.audit", "--mend")


def made_for(path: Path) -> Iterator[tuple[str, Path]]:
    """Each stage with each file that it reads and that an earlier stage makes."""
    params = yaml_file.parse((path / "params.yaml").read_text(encoding="utf-8"), "params.yaml")
    stages = [stage.resolved(params) for stage in pipeline.load(path).values()]
    outs = [out.path for stage in stages for out in stage.outs]
    for stage in stages:
        for dep in stage.deps:
            if any(pipeline.within(dep, out) for out in outs):
                whole = path / dep
                files = sorted(whole.rglob("*")) if whole.is_dir() else [whole]
                yield from ((stage.module, file) for file in files if file.is_file())


def test_each_file_that_a_stage_reads_of_an_earlier_one_is_compared(repository: Any) -> None:
    assert repository.run("dvc", "repro", "-q").code == 0
    assert repository.run("git", "commit", "-qam", "Run", "--allow-empty").code == 0
    pairs = list(made_for(repository.path))
    assert len(pairs) >= 14
    for module, file in pairs:
        name, content = file.relative_to(repository.path).as_posix(), file.read_bytes()
        file.chmod(0o644)
        file.write_bytes(content[::-1] or b"damaged")
        words = ("python", "-m", module.replace("/", "."))
        done = repository.run(*words, DVC_ROOT=str(repository.path))
        assert name in done.message, (module, name)
        assert "`python -m tools.audit --mend`" in done.message
        file.write_bytes(content)
    for _, file in pairs:
        file.write_bytes(b"damaged")
    done = repository.run("python", "-m", "tools.audit", "--mend")
    assert done.out.count("removed, not what was recorded") == len({file for _, file in pairs})
    done = repository.run("dvc", "repro", "-q")
    assert done.code == 0, done.err
    assert repository.run("git", "status", "--porcelain").out == ""
    assert "nothing is damaged" in repository.run("python", "-m", "tools.audit", "--mend").out
