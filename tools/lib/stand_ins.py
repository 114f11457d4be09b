"""Stand-ins for libraries that take seconds to import, where the code is loaded and not run."""

import contextlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType
from typing import Any, Protocol, cast
from unittest import mock


class _Types(type(Protocol)):  # type: ignore[misc] # of which ABC's is a base
    """The type of stand-ins for classes, and of what derives from them."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return mock.MagicMock(name=name)

    def __call__(cls, *given: Any, **named: Any) -> Any:
        """What a library's class makes, which does anything; or an object of one's own class."""
        if cls.__module__ == _Class.__module__:
            return mock.MagicMock()
        return super().__call__(*given, **named)


class _Class(metaclass=_Types):
    """What a stand-in for a class derives from."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(type(self), name)

    def __call__(self, *_: object, **__: object) -> Any:
        return mock.MagicMock()

    def get_config(self) -> dict[str, Any]:
        """What a subclass adds to, at import even."""
        return {}


class _Module(mock.MagicMock):
    """A stand-in for a module: its capitalized names are classes, which others derive from."""

    def __getattr__(self, name: str) -> Any:
        if not name[:1].isupper():
            return super().__getattr__(name)
        made = self.__dict__[name] = _Types(name, (_Class,), {"__module__": _Class.__module__})
        return made


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a stand-in for every module of some libraries."""

    def __init__(self, libraries: set[str]) -> None:
        self._libraries = libraries

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] in self._libraries:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = _Module(__path__=[], __spec__=spec, __name__=spec.name, __version__="0")
        with contextlib.suppress(metadata.PackageNotFoundError):
            module.__version__ = metadata.version(spec.name.partition(".")[0])
        return cast(ModuleType, module)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextlib.contextmanager
def instead_of(*libraries: str) -> Iterator[None]:
    """The block in which importing a library gives a stand-in, if it is not imported yet.

    Args:
        libraries: Importable names, without a dot.
    """
    finder = _Finder({name for name in libraries if name not in sys.modules})
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
