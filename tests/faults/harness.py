"""Every operation on files of a stage, failing or fatal.

Run as ``python -m tests.faults.harness STAGE FOLDER [MODE...]``, the folder an empty one.

The stage's modules are imported once; each fault then strikes in a fork of this process, in a fresh
copy of a prepared folder, and an undisturbed fork runs the stage again there. The last line printed
is JSON: the operations by kind, the faults by kind and mode, and each after which something was not
as promised. Without a mode nothing is struck.

The folder holds everything that the stage reads, and the outputs of another configuration.
"""

import importlib
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.lib import runtime
from stages.lib.core import stage
from tests.faults.counts import strikes
from tests.faults.injection import KINDS, Fault, install
from tests.faults.prepared import OUTPUTS, prepare

Tree = dict[str, bytes]


def tree(folder: Path) -> Tree:
    """The content of every file in a folder, and of every folder none."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def in_fork(work: Callable[[], None], log: Path) -> int:
    """The exit status of ``work`` in a fork of this process; what it prints goes into ``log``."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 70
    try:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        work()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        for output in (sys.stdout, sys.stderr):
            output.flush()
        os._exit(code)


class Trial:
    """One stage in a prepared folder.

    Args:
        name: The stage.
        work: An empty folder to work in.
        draws: Whether plot draws its figures each time, else once for all, for it takes long; and
            whether train starts from a model.
    """

    def __init__(self, name: str, work: Path, draws: bool = False) -> None:
        self.module: Any = importlib.import_module(f"stages.{name}")
        work.mkdir(exist_ok=True)
        self.folder, self.log, self.counted = work / "folder", work / "log", work / "counts"
        self.prepared, self.outputs = work / "prepared", OUTPUTS[name]
        prepare(name, self.prepared, start=draws)
        if name in ("train", "evaluate"):
            with runtime.starting():  # once for all forks, each of which then makes its own devices
                importlib.import_module("keras")
        if name == "evaluate":
            self.train_model()
        if name == "plot" and not draws:
            self.draw_once()
        self.before = tree(self.prepared)
        self.counts = self.run(Fault())
        assert self.code == 0, self.log.read_text()
        self.after = tree(self.folder)

    def train_model(self) -> None:
        """Trains what evaluate reads, in a fork, so that TensorFlow has not started here."""

        def work() -> None:
            os.chdir(self.prepared)
            train = importlib.import_module("stages.train")
            train.main(train.read_settings())

        assert in_fork(work, self.log) == 0, self.log.read_text()

    def draw_once(self) -> None:
        """Draws the figures here, for drawing takes long and writes nothing."""
        here = Path.cwd()
        draw, drawn = self.module.draw, []

        def drawing(*arguments: Any) -> Any:
            drawn.append(draw(*arguments))
            return drawn[0]

        self.module.draw = drawing
        shutil.copytree(self.prepared, self.folder)
        os.chdir(self.folder)
        self.module.main(self.module.read_settings())
        os.chdir(here)
        self.module.draw = lambda *_: drawn[0]

    def run(self, fault: Fault | None, fresh: bool = True) -> dict[str, int]:
        """Runs the stage with a fault, and returns the operations of each kind."""
        if fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.copytree(self.prepared, self.folder)

        def work() -> None:
            os.chdir(self.folder)
            if fault:
                install(fault)
            stage.run(self.module.read_settings, self.module.main)
            if fault and not fault.number:
                counts = json.dumps(fault.counts).encode()
                os.write(os.open(self.counted, os.O_WRONLY | os.O_CREAT), counts)

        self.code = in_fork(work, self.log)
        if fault and not fault.number and self.code == 0:
            counts: dict[str, int] = json.loads(self.counted.read_text())
            return counts
        return {}

    def part(self, content: Tree, output: str) -> Tree:
        """The content of one output."""
        return {
            path: data
            for path, data in content.items()
            if path == output or path.startswith(f"{output}/")
        }

    def strike(self, kind: str, number: int, mode: str) -> list[str]:
        """What was not as promised after one fault."""
        self.run(Fault(kind, number, mode))
        log, code = self.log.read_text(errors="replace"), self.code
        now = tree(self.folder)
        problems = [
            f"{output} is neither old nor new"
            for output in self.outputs
            if self.part(now, output)
            not in (self.part(self.before, output), self.part(self.after, output))
        ]
        allowed = {"dies": (99,), "is interrupted": (130, 0)}.get(mode, (0, 1))
        if code not in allowed:
            problems.append(f"ended with {code}: {log[-1500:]}")
        if code == 1:
            message = log.partition("ERROR: ")[2].strip()
            if "Traceback" in log or not 1 <= len(message.splitlines()) <= 2:
                problems.append(f"no error of two lines: {log[-1500:]}")
            if not message.startswith(self.named()):
                problems.append(f"names no file that it could not write: {message}")
        if code == 0 and now != self.after and not self.hidden_only(now):
            problems.append("ended with 0 and other outputs")
        self.run(None, fresh=False)
        if self.code != 0:
            problems.append(f"the next run ended with {self.code}: {self.log.read_text()[-1500:]}")
        elif (again := tree(self.folder)) != self.after:
            differ = sorted(p for p in {*again, *self.after} if again.get(p) != self.after.get(p))
            problems.append(f"after the next run these differ: {', '.join(differ)}")
        return problems

    def named(self) -> tuple[str, ...]:
        """How a message may begin: an output or its folder, the checkpoint, the cache, /tmp.

        Or with ``assets``, the folder that Keras removes after it has saved a model.
        """
        folders = [str(Path(output).parent) for output in self.outputs]
        return (*folders, ".checkpoints", "assets", str(self.folder), tempfile.gettempdir())

    def hidden_only(self, now: Tree) -> bool:
        """Whether a tree differs from the one wanted by hidden files alone."""
        return {p: c for p, c in now.items() if "/." not in f"/{p}"} == {
            p: c for p, c in self.after.items() if "/." not in f"/{p}"
        }


def main(name: str, work: str, *modes: str) -> None:
    """Strikes with every fault in these modes, and prints the counts."""
    trial = Trial(name, Path(work))
    struck = {kind: dict.fromkeys(modes, 0) for kind in KINDS}
    problems = []
    for kind, number, mode in strikes(name, trial.counts, modes):
        struck[kind][mode] += 1
        where = f"{name}: {kind} {number} {mode}"
        problems += [f"{where}: {problem}" for problem in trial.strike(kind, number, mode)]
    print(json.dumps({"counts": trial.counts, "struck": struck, "problems": problems}))


if __name__ == "__main__":
    main(*sys.argv[1:])
