"""The requirements files pin all that gets installed, and state all that the code imports."""

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FOLDERS = ("stages", "tools", "benchmarks", "tests")


def read(name: str) -> list[Requirement]:
    """The requirements of a file, without comments and options."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    stripped = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in lines)
    return [Requirement(line) for line in stripped if line and not line.startswith("-")]


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def imported(folder: str) -> dict[str, str]:
    """Each third-party module that the code of a folder imports, with a file that does."""
    modules: dict[str, str] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path.is_relative_to(ROOT / "benchmarks/peers"):
            continue  # they have an environment of their own
        if path == ROOT / "tools/export/formats.py":
            continue  # each of its packages may lack: the tool says which, and how to install it
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                paths = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                paths = [node.module]
            else:
                continue
            for module in {path.partition(".")[0] for path in paths}:
                if module not in sys.stdlib_module_names and not (ROOT / module).is_dir():
                    modules[module] = str(path.relative_to(ROOT))
    # what tests share is found beside the test that imports them
    return {name: file for name, file in modules.items() if not list(ROOT.rglob(f"{name}.py"))}


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_the_code_imports_is_chosen_in_a_requirements_file(folder: str) -> None:
    chosen = names(read("requirements.in"))
    if folder in ("benchmarks", "tests"):
        chosen |= names(read("requirements-dev.in"))
    providers = metadata.packages_distributions()
    modules = imported(folder)
    assert modules
    unstated = {
        module: file
        for module, file in modules.items()
        if not {canonicalize_name(name) for name in providers.get(module, ())} & chosen
    }
    assert unstated == {}


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dev.txt", "requirements-gpu.txt"]
)
def test_every_package_has_one_exact_version_and_no_index(name: str) -> None:
    assert [
        str(each) for each in read(name) if not re.match(r"==[\w.]+$", str(each.specifier))
    ] == []
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert [line for line in text.splitlines() if line.startswith("-")] == []


@pytest.mark.parametrize("name", ["requirements", "requirements-dev", "requirements-gpu"])
def test_what_was_chosen_is_pinned_at_a_version_that_fits(name: str) -> None:
    pins = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in read(f"{name}.txt")}
    chosen = read(f"{name}.in")
    assert chosen
    for choice in chosen:
        assert choice.specifier.contains(pins[canonicalize_name(choice.name)]), choice


@pytest.mark.parametrize("name", ["requirements-dev", "requirements-gpu"])
def test_the_packages_of_the_pipeline_have_the_same_versions_everywhere(name: str) -> None:
    others = {str(pin) for pin in read(f"{name}.txt")}
    assert {str(pin) for pin in read("requirements.txt")} - others == set()


def test_what_a_gpu_needs_is_what_this_tensorflow_says() -> None:
    pins = {
        canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in read("requirements-gpu.txt")
    }
    extra = [Requirement(text) for text in metadata.requires("tensorflow") or ()]
    needed = [each for each in extra if each.marker and each.marker.evaluate({"extra": "and-cuda"})]
    assert len([each for each in needed if each.name.startswith("nvidia-")]) >= 10
    for each in needed:
        assert each.specifier.contains(pins[canonicalize_name(each.name)]), each


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_what_is_brought_along_is_pinned_too(name: str) -> None:
    pinned = names([pin for pin in read(f"{name}.txt") if not pin.marker or pin.marker.evaluate()])
    waiting = read(f"{name}.in")
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        for text in metadata.requires(requirement.name) or ():
            needed = Requirement(text)
            extras = ("", *requirement.extras)
            if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(needed)
    assert len(seen) > 100
    assert {package for package, _ in seen} - pinned == set()
