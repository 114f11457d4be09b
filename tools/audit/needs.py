"""What one stage depends on: imports from the code, parameters from reading them."""

import ast
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stages.lib.core import pipeline
from tools.audit import libraries
from tools.audit.observed import Observation, outermost
from tools.audit.sources import Imports, Sources, every, executed, parts

_BY_NAME = " by its name"


@dataclass(frozen=True)
class Needs:
    """What a stage depends on.

    Attributes:
        root: The top folder of the repository.
        imports: Files, libraries and missing modules, each with the place of an import.
        libraries: The distributions that it imports, each with the place.
        observed: What reading its settings showed, by params file.
        texts: Every text in its code: a path that it uses is named there, or a part of it.
        beyond_core: Those that are not of stages/lib/core alone, which names modules in messages.
        keys: Keys that its code hands to the functions of stages/lib/core/config.py.
        unused: Fields of its settings that nothing uses, each with the place.
        present: All source files of the pipeline.
    """

    root: Path
    imports: Imports
    libraries: dict[str, str]
    observed: dict[str, Observation]
    texts: set[str] = field(default_factory=set)
    beyond_core: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    unused: dict[str, str] = field(default_factory=dict)
    present: tuple[str, ...] = ()

    @functools.cached_property
    def params(self) -> set[tuple[str, str]]:
        """The parameters that it reads with any params file, without those in a section of them."""
        return set(outermost(set().union(*(seen.params for seen in self.observed.values()))))

    @property
    def failed(self) -> bool:
        """Whether its settings could not be read with some params file."""
        return any(seen.error for seen in self.observed.values())

    @property
    def by_name(self) -> set[str]:
        """The modules that a parameter chooses by their names."""
        return {file for file, where in self.imports.files.items() if where.endswith(_BY_NAME)}

    def now_and_then(self, dep: str, file: str) -> bool:
        """Whether a plain dep is a module that only some of the params files choose by its name."""
        chosen = [file in seen.modules for seen in self.observed.values()]
        return dep == file and file in self.by_name and any(chosen) and not all(chosen)

    def names(self, path: str) -> bool:
        """Whether the code names a path, its last part, a folder that it lies in or what it holds.

        Folders and an ending, or a beginning as ``fold_``, that are named one by one may be joined.
        """
        parts = path.split("/")
        folders = {"/".join(parts[:end]) for end in range(2, len(parts))}
        wanted = {path, parts[-1]} | folders
        if any(text.rstrip("/") in wanted or text.startswith(f"{path}/") for text in self.texts):
            return True
        last = parts[-1]
        ends = any(
            text and (last.endswith(text) or (text[-1] in "_-" and last.startswith(text)))
            for text in self.texts
        )
        return ends and len(parts) > 1 and self.texts.issuperset(parts[:-1])

    def loads(self, file: str) -> bool:
        """Whether the code names a Python file, or its package with dots, to load it as it runs.

        Not of a package of which reading the settings loads modules: those are known.
        """
        folder, _, name = file.rpartition("/")
        package = folder.replace("/", ".")
        if {file, name} & self.beyond_core:
            return True
        dotted = {package, f"{package}.{name.removesuffix('.py')}"} if "." in package else set()
        chosen = any(other.rpartition("/")[0] == folder for other in self.by_name)
        return not chosen and any(text.rstrip(".") in dotted for text in self.beyond_core)

    def apart(self, path: str, folder: str) -> bool:
        """Whether DVC leaves a path out of a folder that it lies in."""
        inner = Path(path).parent.relative_to(folder)
        linked = (self.root / path).parent.resolve() != (self.root / folder).resolve() / inner
        return linked or pipeline.ignored(self.root)(path)


def find(
    code: Sources, module: str, observed: Mapping[str, Observation], words: Iterable[str]
) -> Needs:
    """What the stage that runs a module depends on.

    Args:
        code: The Python files of the repository.
        module: Its path without ``.py``.
        observed: What reading its settings showed, by params file.
        words: What it may make paths of beside the texts of its code: arguments and parameters.
    """
    start = code.file(module) or f"{module}.py"
    loaded = {name for seen in observed.values() for name in seen.modules}
    starts = [start]
    if start.endswith("/__init__.py") and (code.root / module / "__main__.py").is_file():
        starts.append(f"{module}/__main__.py")
    imports = code.closure([*starts, *sorted(loaded)])
    imports.files = {name: f"{name}:1" for name in starts} | imports.files
    package = f"{module.partition('/')[0]}/__init__.py"
    if code.file(package.removesuffix(".py")):
        imports.merge(code.closure([package]))
        imports.files.setdefault(package, f"{start}:1")
    imports.files |= {name: f"{start}:1{_BY_NAME}" for name in loaded if name not in imports.files}
    trees = {name: code.tree(name) for name in imports.files}
    return Needs(
        root=code.root,
        imports=imports,
        libraries={
            libraries.distribution(name): at
            for name, at in imports.libraries.items()
            if name not in libraries.WITHOUT_INFLUENCE
        },
        observed=dict(observed),
        texts=parts(words).union(*map(code.texts, trees)),
        beyond_core=set().union(
            *(code.texts(name) for name in trees if not pipeline.within(name, "stages/lib/core"))
        ),
        keys=set().union(*map(_keys, trees.values())),
        unused=_unused(trees),
        present=tuple(
            path.relative_to(code.root).as_posix()
            for path in sorted((code.root / "stages").rglob("*.py"))
            if not any(part.startswith(".") for part in path.relative_to(code.root).parts)
        ),
    )


@functools.cache
def _keys(tree: ast.Module) -> set[str]:
    """The texts among the arguments of ``config.value`` and its kin."""
    return {
        argument.value
        for call in every(tree)
        if isinstance(call, ast.Call)
        and getattr(call.func, "attr", "") in ("value", "section", "fields", "arguments")
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def _unused(trees: Mapping[str, ast.Module]) -> dict[str, str]:
    """The fields of a stage's own settings, and keywords of ``build``, that no code names again.

    What is handed on as a whole, by ``to_builtins`` or ``vars`` say, is used in all its fields.
    """
    named = set().union(*map(_named, trees.values()))
    whole = {"asdict", "astuple", "vars", "fields", "__dict__", "structs", "to_builtins"}
    whole |= {"recorded", "encode", "repr", "__struct_fields__"}
    unused: dict[str, str] = {}
    for file, tree in trees.items():
        if "/lib/" in file:
            continue  # its records are not a stage's settings, or other stages use them
        own = {node.id for node in every(tree) if isinstance(node, ast.Name)}
        own |= {node.attr for node in every(tree) if isinstance(node, ast.Attribute)}
        for node in every(tree):
            if isinstance(node, ast.ClassDef) and _record(node) and not own & whole:
                for item in node.body:
                    target = item.target if isinstance(item, ast.AnnAssign) else None
                    if isinstance(target, ast.Name) and target.id not in named:
                        unused[f"{node.name}.{target.id}"] = f"{file}:{item.lineno}"
            elif isinstance(node, ast.FunctionDef) and node.name == "build":
                used = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
                for argument in node.args.kwonlyargs:
                    if argument.arg not in used:
                        unused[f"build.{argument.arg}"] = f"{file}:{argument.lineno}"
    return unused


@functools.cache
def _named(tree: ast.Module) -> set[str]:
    """The attributes that are read in a file, and its texts."""
    named: set[str] = set()
    for node in executed(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            named.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named.add(node.value)
        elif isinstance(node, ast.MatchClass):
            named.update(node.kwd_attrs)
    return named


def _record(node: ast.ClassDef) -> bool:
    marks = [*node.decorator_list, *node.bases]
    words = ("dataclass", "Struct", "Schema")
    return any(word in ast.dump(mark) for mark in marks for word in words)
