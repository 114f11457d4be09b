"""Values from YAML files, checked against the type annotations of those who read them.

A stage states what it reads as a frozen dataclass, an architecture as the keyword-only arguments
of its ``build``. The annotations are the schema::

    epochs: Annotated[int, "[1, 10000]"]        # an integer in an interval, as mathematics writes it
    output: Literal["logits", "softmax"]        # one of these words
    channels: list[Annotated[int, "[1, 4096]"]] # a list of such values

Every read raises the audit event ``stages.param`` with the file and the key, so that
``python -m tools.audit`` can compare what a stage reads with what dvc.yaml declares.
"""

import difflib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from stages.lib.errors import UserError

PARAMS = "params.yaml"
DATASETS = "datasets.yaml"

T = TypeVar("T")

_NOUNS = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML follows 1.1, where ``1e-3`` is a text; DVC reads a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def value(file: str, key: str, hint: Any) -> Any:
    """The value at a dotted key, checked against one annotation.

    Raises:
        UserError: The file cannot be read, or the key is missing, mistyped or out of range.
    """
    *parents, name = key.split(".")
    return _pick(_mapping(file, ".".join(parents)), name, hint, file, key)


def section(file: str, key: str, schema: type[T]) -> T:
    """A whole section as an instance of the dataclass ``schema``; it holds no other keys.

    Raises:
        UserError: As ``value``, or the section has a key that ``schema`` does not know.
    """
    _announce(file, key)
    return schema(**_check_mapping(_mapping(file, key), _hints(schema), f"{file}: {key}"))


def fields(file: str, key: str, schema: type[T]) -> T:
    """The fields of the dataclass ``schema`` out of a section that others read too.

    Raises:
        UserError: As ``value``.
    """
    mapping = _mapping(file, key)
    return schema(
        **{
            name: _pick(mapping, name, hint, file, f"{key}.{name}")
            for name, hint in _hints(schema).items()
        }
    )


def arguments(file: str, key: str, function: Callable[..., object]) -> dict[str, Any]:
    """A whole section as the keyword-only arguments of ``function``.

    Raises:
        UserError: As ``section``.
    """
    _announce(file, key)
    keywords = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    hints = _hints(function)
    return _check_mapping(
        _mapping(file, key), {name: hints[name] for name in keywords}, f"{file}: {key}"
    )


def one_of(name: str, allowed: Iterable[str], where: str) -> str:
    """``name`` itself when it is allowed.

    Raises:
        UserError: It is not; the message lists the allowed names and suggests the nearest.
    """
    names = sorted(allowed)
    if name in names:
        return name
    raise UserError(
        f"{where}: expected one of {', '.join(names)}; found '{name}'.\n{_suggest(name, names)}"
    )


def read(file: str) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UserError: The file is missing, empty, or no YAML mapping.
    """
    try:
        content = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 a SafeLoader
    except FileNotFoundError:
        raise UserError(
            f"{file}: not found in {Path.cwd()}.\nRun stages from the top folder of the repository."
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: not UTF-8 text.\nSave it as UTF-8 and run again.") from None
    except yaml.MarkedYAMLError as error:
        raise UserError(_syntax_message(file, error)) from None
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not valid YAML: {str(error).splitlines()[0]}.") from None
    if not isinstance(content, dict):
        found = "an empty file" if content is None else _show(content)
        raise UserError(
            f"{file}: expected keys and values, found {found}.\n"
            f"Restore the committed one with `git checkout {file}`."
        )
    return content


def _syntax_message(file: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
    step = "Mend that line and run again."
    if "\\t" in (error.problem or ""):
        step = "YAML indents by spaces: replace the tab by spaces and run again."
    return f"{file}:{place} not valid YAML: {error.problem or error.context}.\n{step}"


def _mapping(file: str, key: str) -> dict[str, Any]:
    node: Any = read(file)
    done = ""
    for part in key.split(".") if key else []:
        if not isinstance(node, dict) or part not in node:
            raise _missing(part, node, file, f"{done}{part}")
        node, done = node[part], f"{done}{part}."
    if not isinstance(node, dict):
        raise UserError(
            f"{file}: {key}: expected a section of keys and values, found {_show(node)}."
        )
    return node


def _pick(mapping: Mapping[str, Any], name: str, hint: Any, file: str, key: str) -> Any:
    _announce(file, key)
    if name not in mapping and not _optional(hint):
        raise _missing(name, mapping, file, key)
    return _check(mapping.get(name), hint, f"{file}: {key}")


def _missing(name: str, mapping: object, file: str, key: str) -> UserError:
    names = [str(other) for other in mapping] if isinstance(mapping, dict) else []
    return UserError(
        f"{file}: {key}: this key is missing; found {', '.join(names) or 'no keys'}.\n"
        f"{_suggest(name, names) if names else 'Add it and run again.'}"
    )


def _announce(file: str, key: str) -> None:
    sys.audit("stages.param", file, key)


def _hints(schema: Any) -> dict[str, Any]:
    return {
        name: hint
        for name, hint in typing.get_type_hints(schema, include_extras=True).items()
        if name != "return"
    }


def _optional(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)


def _check_mapping(found: object, hints: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise UserError(f"{where}: expected a section of keys and values, found {_show(found)}.")
    file, _, section_key = where.partition(": ")
    for name in found:
        if name not in hints:
            raise UserError(
                f"{where}.{name}: unknown key; allowed are {', '.join(hints) or 'none'}.\n"
                f"{_suggest(str(name), hints)}"
            )
    for name, hint in hints.items():
        if name not in found and not _optional(hint):
            raise _missing(name, found, file, f"{section_key}.{name}")
    return {name: _check(found.get(name), hint, f"{where}.{name}") for name, hint in hints.items()}


def _check(found: object, hint: Any, where: str) -> Any:
    """``found`` as the annotation asks for it, or the error that says what it asks for."""
    origin, inner = get_origin(hint), get_args(hint)
    if _optional(hint):
        rest = [option for option in inner if option is not type(None)]
        return None if found is None else _check(found, rest[0], where)
    if origin is Literal:
        if not isinstance(found, str):
            raise _mistyped(found, hint, where)
        return one_of(found, inner, where)
    if origin is list:
        if not isinstance(found, list):
            raise _mistyped(found, hint, where)
        return [_check(item, inner[0], f"{where}[{at}]") for at, item in enumerate(found)]
    if origin is dict:
        if not isinstance(found, dict):
            raise _mistyped(found, hint, where)
        return {str(name): _check(item, inner[1], f"{where}.{name}") for name, item in found.items()}
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return hint(**_check_mapping(found, _hints(hint), where))
    plain = inner[0] if origin is Annotated else hint
    accepted = (int, float) if plain is float else plain
    if not isinstance(found, accepted) or (isinstance(found, bool) and plain is not bool):
        raise _mistyped(found, hint, where)
    if origin is Annotated and not _within(found, inner[1]):
        raise _mistyped(found, hint, where)
    return float(found) if plain is float else found  # type: ignore[arg-type] # checked above


def _within(number: Any, interval: str) -> bool:
    """Whether a number lies in an interval such as ``[0, 1)`` or ``(0, inf)``."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    return bool(above and below)


def _mistyped(found: object, hint: Any, where: str) -> UserError:
    step = "Set it to an allowed value and run again."
    if isinstance(found, str) and re.fullmatch(r"[-+.\deE]+", found) and "a text" not in _wanted(hint):
        step = "Write the number without quotes and run again."
    return UserError(f"{where}: expected {_wanted(hint)}, found {_show(found)}.\n{step}")


def _wanted(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{_wanted(inner[0])} in {inner[1]}"
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin is list:
        return f"a list, each {_wanted(inner[0])}"
    if origin is dict:
        return "a section of keys and values"
    return _NOUNS.get(hint, "another kind of value")


def _show(found: object) -> str:
    if found is None:
        return "nothing"
    if isinstance(found, str):
        return f"the text '{found[:60]}'"
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, dict):
        return f"a section with {', '.join(str(name) for name in found) or 'no keys'}"
    return str(found)[:60]


def _suggest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"Did you mean '{near[0]}'?" if near else "Use one of those and run again."
