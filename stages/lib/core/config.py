"""Values from YAML files, checked against the type annotations of those who read them.

A stage states what it reads as a frozen dataclass, an architecture as the keyword-only arguments
of its ``build``. The annotations are the schema::

    epochs: Annotated[int, "[1, 10000]"]         # an integer in an interval as in mathematics
    output: Literal["logits", "softmax"]         # one of these words
    channels: list[Annotated[int, "[1, 4096]"]]  # a list of such values

Every read raises the audit event ``stages.param`` with the file and the key, so that
``python -m tools.audit`` can compare what a stage reads with what dvc.yaml declares.
"""

import difflib
import inspect
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import yaml

from stages.lib.core.errors import UserError

PARAMS = "params.yaml"
DATASETS = "datasets.yaml"

T = TypeVar("T")

_NOUNS = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


class _Loader(yaml.SafeLoader):
    """YAML as DVC reads it: by version 1.2 ``1e-3`` is a number, and no key occurs twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping whose keys all differ."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key '{key.value}' occurs twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
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
    return checked(file, key, schema)


def checked(file: str, key: str, schema: type[T]) -> T:
    """As ``section``, but no read: for checks of more than the result depends on."""
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
        f"{where}: expected one of {', '.join(names)}; found '{_short(name)}'.\n"
        f"{_suggest(name, names)}"
    )


def read(file: str) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UserError: The file is missing, empty, or no YAML mapping; or it is params.yaml and has a
            section that nothing reads.
    """
    try:
        text = Path(file).read_text(encoding="utf-8")
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 a SafeLoader
    except FileNotFoundError:
        raise UserError(
            f"{file}: not found in {Path.cwd()}.\nRun stages from the top folder of the repository."
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: not UTF-8 text.\nSave it as UTF-8 and run again.") from None
    except yaml.MarkedYAMLError as error:
        raise UserError(_syntax_message(file, error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(
            f"{file}: line {line}: not valid YAML: control character {error.character}.\n"
            "Delete that character and run again."
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: such as the date 2025-02-30
        raise UserError(
            f"{file}: a value that YAML does not allow: {str(error).splitlines()[0]}.\n"
            f"Mend it and run again; `git diff {file}` shows what changed."
        ) from None
    if not isinstance(content, dict):
        found = "an empty file" if content is None else _show(content)
        raise UserError(
            f"{file}: expected keys and values, found {found}.\n"
            f"Restore the committed one with `git checkout {file}`."
        )
    if file == PARAMS:
        _check_sections(content)
    return content


def _check_sections(content: dict[str, Any]) -> None:
    """Refuses names in params.yaml that belong to no stage, and models that are not there."""
    folder = Path(__file__).parents[2]
    stages = sorted(path.stem for path in folder.glob("[!_]*.py"))
    _refuse_unknown(content, ["dataset", "model", *stages], PARAMS)
    if isinstance(content.get("model"), dict):
        models = sorted(path.stem for path in folder.glob("models/[!_]*.py"))
        _refuse_unknown(content["model"], ["architecture", "output", *models], f"{PARAMS}: model")


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
        if part not in node:
            raise _missing(part, node, file, f"{done}{part}")
        node = _section(node[part], file, f"{done}{part}")
        done = f"{done}{part}."
    return cast(dict[str, Any], node)


def _section(found: object, file: str, key: str) -> dict[str, Any]:
    if isinstance(found, dict):
        return found
    raise UserError(
        f"{file}: {key}: expected a section of keys and values, found {_show(found)}.\n"
        f"Indent its keys below it; `git diff {file}` shows what changed."
    )


def _pick(mapping: Mapping[str, Any], name: str, hint: Any, file: str, key: str) -> Any:
    _announce(file, key)
    if name not in mapping and not _optional(hint):
        raise _missing(name, mapping, file, key)
    return _check(mapping.get(name), hint, f"{file}: {key}")


def _missing(
    name: str, mapping: Mapping[str, Any], file: str, key: str, known: Iterable[str] = ()
) -> UserError:
    names = [_short(str(other)) for other in mapping]
    near = _nearest(name, set(names) - set(known))
    step = f"Rename '{near}' if it is meant, or add" if near else "Add"
    return UserError(
        f"{file}: {key}: this key is missing; found {', '.join(names) or 'no keys'}.\n"
        f"{step} '{name}' and run again; `git diff {file}` shows what changed."
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
    file, _, key = where.partition(": ")
    mapping = _section(found, file, key)
    _refuse_unknown(mapping, hints, where)
    for name, hint in hints.items():
        if name not in mapping and not _optional(hint):
            raise _missing(name, mapping, file, f"{key}.{name}", known=hints)
    return {
        name: _check(mapping.get(name), hint, f"{where}.{name}") for name, hint in hints.items()
    }


def _refuse_unknown(mapping: Mapping[str, Any], allowed: Collection[str], where: str) -> None:
    for name in mapping:
        if name not in allowed:
            key = f"{where}{'.' if ': ' in where else ': '}{_short(str(name))}"
            raise UserError(
                f"{key}: unknown key; allowed are {', '.join(allowed) or 'none'}.\n"
                f"{_suggest(str(name), allowed) if allowed else 'Delete it and run again.'}"
            )


def _check(found: object, hint: Any, where: str) -> Any:
    """``found`` as the annotation asks for it, or the error that says what it asks for."""
    origin, inner = get_origin(hint), get_args(hint)
    if _optional(hint):
        rest = [option for option in inner if option is not type(None)]
        return None if found is None else _check(found, rest[0], where)
    if origin in (Union, types.UnionType):
        kinds = [option for option in inner if isinstance(found, get_origin(option) or option)]
        return _check(found, (kinds or inner)[0], where)
    if origin is Literal and isinstance(found, str):
        return one_of(found, inner, where)
    if origin is list and isinstance(found, list):
        return [_check(item, inner[0], f"{where}[{at}]") for at, item in enumerate(found)]
    if origin is dict:
        names = _section(found, *where.split(": ", 1))
        return {
            str(name): _check(item, inner[1], f"{where}.{name}") for name, item in names.items()
        }
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return hint(**_check_mapping(found, _hints(hint), where))
    plain = inner[0] if origin is Annotated else hint
    typed = _float(found) if plain is float and type(found) is int else found
    if type(typed) is not plain or (origin is Annotated and not _within(typed, inner[1])):
        raise _mistyped(found, hint, where)
    return typed


def _float(number: int) -> float:
    return float(number) if abs(number) < sys.float_info.max else math.inf


def _within(number: Any, interval: str) -> bool:
    """Whether a number lies in an interval such as ``[0, 1)`` or ``(0, inf)``."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    return bool(above and below)


def _mistyped(found: object, hint: Any, where: str) -> UserError:
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    step = "Set it to an allowed value"
    if isinstance(found, str) and plain in (int, float) and _is_number(found):
        step = "Write the number without quotes"
    elif plain is str and isinstance(found, (int, float)):
        step = "Write it in quotes"
    elif get_origin(hint) is list and found is not None and not isinstance(found, dict):
        step = f"Write it in brackets, as in [{found}],"
    return UserError(
        f"{where}: expected {_wanted(hint)}, found {_show(found)}.\n{step} and run again."
    )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _wanted(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{_wanted(inner[0])} in {inner[1]}"
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin is list:
        return f"a list, each {_wanted(inner[0])}"
    return _NOUNS.get(hint, "another kind of value")


def _show(found: object) -> str:
    if found is None:
        return "nothing"
    if isinstance(found, str):
        return f"the text '{_short(found)}'"
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, dict):
        return f"a section with {_short(', '.join(str(name) for name in found)) or 'no keys'}"
    return _short(str(found))


def _short(text: str) -> str:
    line = " ".join(text.splitlines())
    return line if len(line) <= 60 else f"{line[:57]}..."


def _suggest(name: str, names: Iterable[str]) -> str:
    near = _nearest(name, names)
    return f"Did you mean '{near}'?" if near else "Use one of those and run again."


def _nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar name, whatever its case, or None if none is similar."""
    folded = {other.casefold(): other for other in sorted(names)}
    near = difflib.get_close_matches(name.casefold(), folded, n=5, cutoff=0.65)
    swapped = [other for other in near if sorted(other) == sorted(name.casefold())]
    return folded[(swapped or near)[0]] if near else None  # adma is adam rather than adamax
