"""The rooms of the house: who may import whom, and that no name means two things."""

import ast
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WINGS = ("stages/lib/data", "stages/lib/training", "stages/lib/reporting")
MODULES = {
    path.relative_to(ROOT).with_suffix("").as_posix()
    for folder in ("stages", "tools")
    for path in (ROOT / folder).rglob("*.py")
}


def imports(module: str) -> set[str]:
    """The modules of this repository that a module names in its import statements."""
    tree = ast.parse((ROOT / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):  # what only a type checker imports makes no circle
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: a relative import"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    paths = {name.replace(".", "/") for name in names}
    return {path for path in MODULES if path in paths} - {module}


GRAPH = {module: imports(module) for module in MODULES}


def floor(module: str) -> int:
    """How high a module stands: core, ground floor, wings, stages and models, tools."""
    if module.startswith("stages/lib/core/"):
        return 0
    if module.startswith("stages/lib/"):
        return 2 if module.startswith(WINGS) else 1
    return 3 if module.startswith("stages/") else 4


def test_there_is_no_circle() -> None:
    assert len(list(TopologicalSorter(GRAPH).static_order())) >= len(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_downwards(module: str) -> None:
    for imported in GRAPH[module]:
        assert floor(imported) <= floor(module), f"{module} imports {imported}, which is above it"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_wing_imports_another_and_no_stage_a_stage(module: str) -> None:
    own = next((wing for wing in WINGS if module.startswith(wing)), None)
    for imported in GRAPH[module]:
        wing = next((wing for wing in WINGS if imported.startswith(wing)), None)
        assert own is None or wing in (None, own), f"{module} imports {imported}"
        if Path(module).parent == Path("stages"):
            assert floor(imported) < 3, f"the stage {module} imports {imported}"


def test_no_two_files_have_one_name() -> None:
    count = Counter(Path(module).name for module in MODULES)
    assert {name for name, times in count.items() if times > 1} <= {"__init__", "__main__"}
