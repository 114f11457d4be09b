"""YAML files, read as DVC reads them or refused.

DVC reads YAML 1.2, in which ``yes`` is a text, ``010`` is ten and ``1e-3`` is a number; PyYAML
reads version 1.1, in which they are true, eight and a text. Were a stage to take another value
than the one that DVC records, a result would be kept under a wrong name. So numbers and truth
values are taken in the forms that mean the same everywhere, and every other form is refused.
"""

import math
import re
from pathlib import Path
from typing import Any, ClassVar, cast

import yaml

from stages.lib.core.errors import UserError

_DEEPEST = 50  # sections within sections
_LONGEST = 100_000  # letters of one value

_NULL = re.compile(r"(~|null|Null|NULL|)$")
_BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)$")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)$")
_FLOAT = re.compile(
    r"[-+]?([0-9]+\.[0-9]*([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.[0-9]+([eE][-+][0-9]+)?)$"
)
# Other forms that some version of YAML takes for a number or a date
_AMBIGUOUS = re.compile(
    r"[-+]?(0[0-9_]+|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
    r"|[0-9]*_[0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9_]+)?|[0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9_]+)?"
    r"|\.[0-9_]+([eE][-+]?[0-9_]+)?|\.(inf|Inf|INF))$"
    r"|\.(nan|NaN|NAN)$|[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?([Tt \t].*)?$"
)
_INDENTED = re.compile(r"(?m)^[ ?:-]{20}")
_TAB = re.compile(r" *\t")
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # typed as a value
    """Null, truth values, numbers, texts, lists and sections: nothing else."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}
    yaml_constructors: ClassVar[dict[Any, Any]] = {}


def _scalar(kind: str) -> Any:
    """The function that makes a value of a kind, from a node that may be of another."""

    def construct(_: _Loader, node: yaml.ScalarNode) -> Any:
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        if kind == "null" and _NULL.match(text):
            return None
        if kind == "bool" and _BOOL.match(text):
            return text.lower() == "true"
        if kind == "int" and _INTEGER.match(text) and len(text) < 400:
            return int(text)
        if kind == "float" and _FLOAT.match(text) and math.isfinite(float(text)):
            return float(text)
        hint = "write a plain decimal number, or a text in quotes"
        raise _problem(node, f"{_short(text)} is read differently elsewhere; {hint}")

    return construct


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    if len(text) > _LONGEST:
        raise _problem(node, f"a text of {len(text):,} letters")
    if letter := UNPRINTABLE.search(text):
        raise _problem(node, f"a text with the control character {ord(letter[0]):#06x}")
    return text


def _list(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return [loader.construct_object(item, deep=True) for item in node.value]


def _section(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    """A section whose keys all differ; of a merge (``<<``) the nearer key counts."""
    names = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in names:
                raise _problem(key, f"the key '{key.value}' occurs twice")
            names.add(key.value)
    loader.flatten_mapping(node)
    content: dict[Any, Any] = {}
    for key, item in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _problem(key, "found unhashable key")
        content[loader.construct_object(key, deep=True)] = loader.construct_object(item, deep=True)
    return content


def _check_depth(text: str) -> None:
    """Refuses deep nesting, of which PyYAML's loader in C dies."""
    if text.count("[") + text.count("{") < 20 and not _INDENTED.search(text):
        return  # not deep, as a glance shows
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"nested more than {_DEEPEST} deep",
                problem_mark=cast(yaml.Mark, event.start_mark),
            )


def _problem(node: yaml.Node, what: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=node.start_mark)


for _kind, _pattern, _first in (
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INTEGER, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("ambiguous", _AMBIGUOUS, list("-+.0123456789_")),
    ("merge", re.compile(r"<<$"), ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, _first)
    if _kind != "merge":
        _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _scalar(_kind))
for _kind, _constructor in (("str", _text), ("seq", _list), ("map", _section)):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _constructor)
_Loader.add_constructor(None, yaml.SafeLoader.construct_undefined)


class _Written(_Loader):
    """What DVC wrote, which puts in quotes what it would not read back as a text itself."""


_Written.add_constructor("tag:yaml.org,2002:ambiguous", _text)


def parse(text: str, file: str, by_dvc: bool = False) -> Any:
    """The content of a YAML text: None, bool, int, float, str, lists and dicts of these.

    Args:
        text: One document.
        file: What messages call it.
        by_dvc: Whether DVC wrote it, dvc.lock say: a bare 4:3 is a text there.

    Raises:
        UserError: It is no YAML, or has a value that YAML's versions read differently.
    """
    try:
        _check_depth(text)
        loader = _Written if by_dvc else _Loader
        return yaml.load(text, Loader=loader)  # noqa: S506 it makes plain values alone
    except yaml.MarkedYAMLError as error:
        raise UserError(_syntax_message(file, text, error)) from None
    except yaml.reader.ReaderError as error:
        before = text.encode("utf-8", "surrogatepass")[: error.position]
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise UserError(
            f"{file}: line {before.count(10) + 1}: not valid YAML: control character {code}.\n"
            "Delete that character and run again."
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{file}: a value that YAML does not allow: {reason}.\n"
            f"Mend it and run again; `git diff {file}` shows what changed."
        ) from None


def text_of(path: Path, file: str) -> str:
    """The text of a file, without the mark that some editors begin it with.

    Args:
        path: The file.
        file: What messages call it.

    Raises:
        UserError: It is not in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{file}: not UTF-8 text.\nSave it as UTF-8 and run again.") from None


def read(file: str) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UserError: The file is missing, empty, or no YAML mapping.
    """
    try:
        text = text_of(Path(file), file)
    except FileNotFoundError:
        raise UserError(
            f"{file}: not found in {Path.cwd()}.\nRun stages from the top folder of the repository."
        ) from None
    content = parse(text, file)
    if not isinstance(content, dict):
        what = "an empty file" if content is None else show(content)
        raise UserError(
            f"{file}: expected keys and values, found {what}.\n"
            f"Restore the committed one with `git checkout {file}`."
        )
    return content


def show(value: object) -> str:
    """A value as messages show it, on one line and cut where it is long."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text '{_short(value)}'"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"a section with {_short(', '.join(str(name) for name in value)) or 'no keys'}"
    return _short(str(value))


def _syntax_message(file: str, text: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
    step = "Mend that line and run again."
    if (
        mark
        and text.splitlines()[mark.line : mark.line + 1] != []
        and _TAB.match(text.splitlines()[mark.line])
    ):
        step = "YAML indents by spaces: replace the tab by spaces and run again."
    problem = _short(error.problem or error.context or "", 160)
    return f"{file}:{place} not valid YAML: {problem}.\n{step}"


def _short(text: str, longest: int = 60) -> str:
    line = " ".join(text.splitlines())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."
