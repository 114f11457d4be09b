"""The Python files of the repository, and what their import statements reach."""

import ast
import functools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stages.lib.core.errors import UserError


@dataclass
class Imports:
    """What one or several files import, each with the place of an import.

    Attributes:
        files: Files of the repository.
        libraries: Top-level names that are neither Python's nor the repository's.
        missing: Names in folders of the repository that hold no such module.
    """

    files: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def merge(self, other: "Imports") -> None:
        """Adds what ``other`` has and this one has not."""
        for mine, others in (
            (self.files, other.files),
            (self.libraries, other.libraries),
            (self.missing, other.missing),
        ):
            mine.update({name: where for name, where in others.items() if name not in mine})


class Sources:
    """The Python files below a folder, each read and parsed once.

    Args:
        root: The top folder of the repository.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = functools.cache(self._tree)
        self.imports = functools.cache(self._imports)
        self.texts = functools.cache(self._texts)
        self.file = functools.cache(self._file)

    def closure(self, files: Iterable[str]) -> Imports:
        """Everything that ``files`` import, and what that imports, and so on."""
        found, waiting = Imports(), list(files)
        done = set(waiting)
        while waiting:
            found.merge(self.imports(waiting.pop()))
            fresh = [file for file in found.files if file not in done]
            done.update(fresh)
            waiting += fresh
        return found

    def ours(self, module: str) -> bool:
        """Whether the repository has such a module, or a folder that holds modules."""
        folder = self.root / module
        if not module:
            return False
        return bool(self.file(module)) or (folder.is_dir() and any(folder.rglob("*.py")))

    def _file(self, module: str) -> str | None:
        """Its file; of a package, ``__init__``, or ``__main__`` where there is no other."""
        for path in (f"{module}.py", f"{module}/__init__.py", f"{module}/__main__.py"):
            if (self.root / path).is_file():
                return path
        return None

    def _tree(self, file: str) -> ast.Module:
        try:
            return _parsed((self.root / file).read_bytes(), file)
        except SyntaxError as error:
            raise UserError(
                f"{file} line {error.lineno}: not valid Python: {error.msg}.\n"
                "Mend it and run again."
            ) from None

    def _texts(self, file: str) -> set[str]:
        """All texts in a file, and the parts of those that are paths."""
        return parts(
            node.value
            for node in every(self.tree(file))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )

    def _imports(self, file: str) -> Imports:
        found = Imports()
        module = file.removesuffix(".py")
        for node in executed(self.tree(file)):
            where = f"{file}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._add(found, alias.name.replace(".", "/"), where)
            elif isinstance(node, ast.ImportFrom):
                base = _base(node, module)
                for alias in node.names:
                    inner = f"{base}/{alias.name}"
                    self._add(
                        found, base if self.file(base) and not self.file(inner) else inner, where
                    )
        return found

    def _add(self, found: Imports, path: str, where: str) -> None:
        """Sorts one imported module into files, libraries and missing ones."""
        parts = path.split("/")
        packages = ["/".join(parts[: at + 1]) + "/__init__.py" for at in range(len(parts))]
        files = [*filter(self._exists, packages)]
        file = self.file(path)
        if file:
            files.append(file)
        found.files.update({file: where for file in files if file not in found.files})
        if not file and self.ours(parts[0]) and not (self.root / path).is_dir():
            found.missing.setdefault(path.replace("/", "."), where)
        elif not files and parts[0] not in sys.stdlib_module_names:
            found.libraries.setdefault(parts[0], where)

    def _exists(self, path: str) -> bool:
        return (self.root / path).is_file()


@functools.cache
def _parsed(content: bytes, file: str) -> ast.Module:
    return ast.parse(content, file)


@functools.cache
def every(tree: ast.Module) -> tuple[ast.AST, ...]:
    """All nodes of a file; walking through them takes far longer than looking at each."""
    return tuple(ast.walk(tree))


def parts(texts: Iterable[str]) -> set[str]:
    """Texts, and what stands between their slashes."""
    whole = set(texts)
    return whole | {part for text in whole if "/" in text for part in text.split("/") if part}


@functools.cache
def executed(tree: ast.Module) -> tuple[ast.AST, ...]:
    """All nodes of a file but those that are there for type checkers only."""
    return tuple(_executed(tree))


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        yield node
        if isinstance(node, ast.If) and for_type_checkers(node.test):
            for other in node.orelse:
                yield other
                yield from _executed(other)
        else:
            yield from _executed(node)


def for_type_checkers(test: ast.expr) -> bool:
    """Whether a condition is TYPE_CHECKING."""
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def _base(node: ast.ImportFrom, module: str) -> str:
    """The module that ``from ... import`` names, relative ones from ``module``."""
    parts = (node.module or "").split(".") if node.module else []
    above = module.split("/")[: -node.level] if node.level else []
    return "/".join([*above, *parts])
