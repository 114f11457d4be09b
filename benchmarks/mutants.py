"""Which small mistakes in the code the tests do not notice.

    python -m benchmarks.mutants [--each 2] [--seed 1] [--only PART] [--jobs 2]

In a copy of the repository one operator, comparison or constant of a file under stages/lib or tools
is changed at a time, drawn at random, and the tests of that file run until one fails. Those that
pass all are listed: a line without a test, or a change that makes no difference. Constants of a
module, which are mostly limits and looks, are left alone. The table is written to
benchmarks/mutants.md.
"""

import argparse
import ast
import copy
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.side_by_side import ROOT
from stages.lib.core import files

TABLE = ROOT / "benchmarks/mutants.md"
FOLDERS = ("stages/lib", "tools")
LIMIT = 240  # seconds, after which a mutant that loops counts as noticed
OTHERS = {  # tests that are called otherwise than their files
    "stages/lib/architectures.py": ["tests/stages/test_train.py"],
    "stages/lib/core/enforcement.py": ["tests/tools/audit/test_edits.py"],
    "stages/lib/core/recorded.py": ["tests/tools/audit/test_edits.py", "tests/test_links.py"],
    "stages/lib/data/formats/npz.py": ["tests/stages/test_normalize.py"],
    "stages/lib/flaws.py": ["tests/stages/test_normalize.py", "tests/tools/test_audit.py"],
    "stages/lib/reporting": ["tests/stages/test_plot.py"],
    "stages/lib/stored_images.py": ["tests/stages/test_larger_than_memory.py"],
    "stages/lib/training/kernels.py": ["tests/stages/lib/training/test_loop.py"],
    "tools/lib": ["tests/tools/test_predict.py", "tests/tools/compare/test_compare.py"],
}
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}

SPARED = ("check", "exist_ok", "frozen", "kw_only", "missing_ok", "slots")  # arguments
KINDS = (ast.Compare, ast.BinOp, ast.BoolOp, ast.If, ast.IfExp, ast.Constant)


@dataclass(frozen=True)
class Mutant:
    """A change of a file: its line, what was done, and the text with it."""

    path: str
    line: int
    what: str
    text: str


def sites(tree: ast.Module) -> list[int]:
    """The nodes that can be changed, by number; annotations and messages are left alone."""
    spared = {id(node) for part in _spared(tree) for node in ast.walk(part)}
    return [
        at
        for at, node in enumerate(ast.walk(tree))
        if isinstance(node, KINDS) and id(node) not in spared and _mutate(copy.deepcopy(node))
    ]


def mutant(name: str, at: int) -> Mutant:
    """A file with one node changed."""
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    node = list(ast.walk(tree))[at]
    line = getattr(node, "lineno", 0)
    return Mutant(name, line, _mutate(node), ast.unparse(tree))


def _spared(tree: ast.Module) -> Iterator[ast.AST]:
    yield from (node for node in tree.body if isinstance(node, ast.Assign))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield node
        if isinstance(node, ast.keyword) and node.arg in SPARED:
            yield node
        if isinstance(node, ast.Raise | ast.JoinedStr):
            yield node
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation:
            yield node.annotation
        if isinstance(node, ast.FunctionDef) and node.returns:
            yield node.returns


def _mutate(node: ast.AST) -> str:
    """Changes a node in place; what was done, or nothing."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        before, node.ops[0] = node.ops[0], COMPARISONS[type(node.ops[0])]()
        return f"{type(before).__name__} to {type(node.ops[0]).__name__}"
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        operator, node.op = node.op, OPERATORS[type(node.op)]()
        return f"{type(operator).__name__} to {type(node.op).__name__}"
    if isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return f"to {type(node.op).__name__}"
    if isinstance(node, ast.If | ast.IfExp):
        node.test = ast.UnaryOp(ast.Not(), node.test)
        ast.fix_missing_locations(node)
        return "condition to its opposite"
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
        return f"to {node.value}"
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        node.value += 1
        return f"to {node.value}"
    return ""


def tests_of(name: str) -> list[str]:
    """The tests of a file: those that are called like it or its folder, and ``OTHERS``."""
    path = Path("tests") / name
    found = [tests for part, tests in OTHERS.items() if name.startswith(part)]
    for candidate in (
        path.parent / f"test_{path.stem}.py",
        path.parent.parent / f"test_{path.parent.name}.py",
        path.parent,
    ):
        if candidate.parts[-1] != "tests" and (ROOT / candidate).exists():
            return [candidate.as_posix(), *(test for tests in found for test in tests)]
    return [test for tests in found for test in tests]


def is_noticed(mutant: Mutant, folder: Path) -> bool:
    """Whether a test fails with it."""
    path = folder / mutant.path
    before = path.read_text(encoding="utf-8")
    path.write_text(mutant.text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider"]
    try:
        return bool(
            subprocess.run(
                [*command, *tests_of(mutant.path)],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=LIMIT,
                check=False,
            ).returncode
        )
    except subprocess.TimeoutExpired:
        return True
    finally:
        path.write_text(before, encoding="utf-8")


def drawn(each: int, seed: int, only: str) -> list[Mutant]:
    """So many mutants of each file, by chance."""
    chosen: list[Mutant] = []
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if only in name and tests_of(name):
            found = sites(ast.parse(path.read_text(encoding="utf-8")))
            places = random.Random(f"{seed} {name}").sample(found, min(each, len(found)))  # noqa: S311
            chosen += [mutant(name, at) for at in places]
    return chosen


def run(chosen: Sequence[Mutant], jobs: int) -> dict[Mutant, bool]:
    """Whether each was noticed; each job has a copy of the repository of its own."""
    noticed: dict[Mutant, bool] = {}

    def work(number: int) -> None:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "clone"
            subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
            for mutant in chosen[number::jobs]:
                noticed[mutant] = is_noticed(mutant, folder)
                files.write_text(TABLE, table(dict(noticed)))
                if not noticed[mutant]:
                    print(f"{mutant.path}:{mutant.line}: {mutant.what}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work, range(jobs)))
    return noticed


def table(noticed: dict[Mutant, bool]) -> str:
    """The score of each folder, and the survivors."""
    folders: dict[str, list[bool]] = defaultdict(list)
    for mutant, seen in noticed.items():
        folders[str(Path(mutant.path).parent.as_posix())].append(seen)
    folders["all"] = list(noticed.values())
    lines = ["| folder | mutants | noticed |", "|---|---|---|"]
    lines += [f"| {name} | {len(seen)} | {sum(seen)} |" for name, seen in sorted(folders.items())]
    lines += ["", "Not noticed:", ""]
    for mutant, seen in sorted(noticed.items(), key=lambda item: (item[0].path, item[0].line)):
        if not seen:
            source = (ROOT / mutant.path).read_text(encoding="utf-8").splitlines()
            code = source[mutant.line - 1].strip() if mutant.line else ""
            lines.append(f"- `{mutant.path}:{mutant.line}` {mutant.what}: `{code[:90]}`")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Tries the mutants and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--each", type=int, default=2, help="mutants of a file")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn")
    parser.add_argument("--only", default="", help="a part of the files' names")
    parser.add_argument("--jobs", type=int, default=2, help="mutants tried at once")
    options = parser.parse_args()
    print(table(run(drawn(options.each, options.seed, options.only), options.jobs)))


if __name__ == "__main__":
    main()
