"""What the audit can know of a value without running the code, and what it notes on the way."""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Text:
    """A text; values of params.yaml stand in it as dvc.yaml writes them, ``${model.output}``."""

    text: str


@dataclass(frozen=True)
class Place:
    """A path in the repository; ``partial`` when something unknown follows."""

    path: str
    partial: bool = False


@dataclass(frozen=True)
class Module:
    """A module or a folder of modules of the repository, by its path without ``.py``."""

    path: str


@dataclass(frozen=True)
class Definition:
    """A function or a class of a module of the repository."""

    module: str
    name: str


@dataclass(frozen=True)
class Library:
    """A dotted name of Python's or another library's."""

    name: str


@dataclass(frozen=True)
class Items:
    """The items of a tuple or a list."""

    items: "tuple[Value, ...]"


@dataclass(frozen=True)
class Record:
    """An instance of a dataclass."""

    schema: Definition
    fields: "tuple[tuple[str, Value], ...]"


# None is a value of which nothing is known
Value = Text | Place | Module | Definition | Library | Items | Record | None


@dataclass(frozen=True)
class Field:
    """A field of a dataclass, or a keyword-only argument, that takes a value of a section.

    Attributes:
        owner: The class or function.
        name: Its name.
        key: The key below the section.
        where: Its place in the code.
        optional: Whether the key may be missing.
        whole: Whether it takes all that is below the key, and not a dataclass of its own.
        keyword: Whether it is an argument of a function.
    """

    owner: Definition
    name: str
    key: str
    where: str
    optional: bool
    whole: bool = True
    keyword: bool = False


@dataclass(frozen=True)
class Read:
    """A parameter that the stage reads.

    Attributes:
        file: The YAML file.
        key: The dotted key, ``${...}`` where it depends on a parameter; empty for the whole file.
        where: The place in the code.
        fields: What takes the values of a section that is read in full.
    """

    file: str
    key: str
    where: str
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True)
class Use:
    """A path of the repository that the stage uses.

    Attributes:
        path: Relative to the top folder.
        partial: Whether something in that folder is meant that is not known, or the whole folder.
        written: Whether it is known to be written.
    """

    path: str
    partial: bool
    written: bool


@dataclass
class Frame:
    """One function, or the top level of one module, while it is walked."""

    module: str
    names: dict[str, Value] = field(default_factory=dict)
    results: list[Value] = field(default_factory=list)


def join(base: Place, parts: Iterable[Value]) -> Place:
    """A path and what follows it, as far as that is known."""
    path = base.path
    for part in parts:
        if base.partial or not isinstance(part, Text | Place):
            return Place(path, partial=True)
        path = f"{path}/{part.text if isinstance(part, Text) else part.path}"
    return Place(posixpath.normpath(path.strip("/")), base.partial)
