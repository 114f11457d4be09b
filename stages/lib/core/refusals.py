"""What a user is told of a value that is not as its reader wants it: expected, found, next step."""

import difflib
import math
import re
import types
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta

from stages.lib.core import yaml_file
from stages.lib.core.errors import UserError

_NOUNS = {
    int: "an integer",
    float: "a number",
    str: "a text",
    bool: "true or false",
    Any: "any value",
    list: "a list",
    dict: "a section of keys and values",
}


def of_value(found: object, hint: Any, where: str, path: str) -> UserError:
    """The error about the value at a path such as ``.files[...].size`` below ``found``."""
    for step in re.findall(r"\.([^.\[]+)|\[(\d+)\]|\[(\.\.\.)\]", path):
        name, index, _ = step
        if name:
            hint = next(
                f.type for f in msgspec.structs.fields(_option(hint, found)) if f.name == name
            )
            found, where = cast(dict[str, Any], found)[name], f"{where}.{name}"
        elif index:
            hint = get_args(_option(_option(hint, found), found))[0]
            found, where = cast(list[Any], found)[int(index)], f"{where}[{index}]"
        else:
            hint = get_args(_option(hint, found))[1]
            key, found = next(
                (k, v) for k, v in cast(dict[str, Any], found).items() if not _fits(v, hint)
            )
            where = f"{where}.{key}"
    hint = _option(hint, found)
    file = where.partition(": ")[0]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        if not isinstance(found, dict):
            return no_section(found, where, file)
        names = {field.name: field.required for field in msgspec.structs.fields(hint)}
        for name in found:
            if name not in names:
                return _unknown(str(name), list(names), where)
        name = next(name for name, required in names.items() if required and name not in found)
        return missing(name, found, f"{where}.{name}", file, known=names)
    if get_origin(hint) is dict and not isinstance(found, dict):
        return no_section(found, where, file)
    if get_origin(hint) is Literal and isinstance(found, str):
        words = [str(word) for word in get_args(hint)]
        expected = f"{where}: expected {_wanted(hint)}"
        return UserError(f"{expected}; found '{short(found)}'.\n{suggest(found, words)}")
    return _mistyped(found, hint, where)


def _fits(found: object, hint: Any) -> bool:
    try:
        msgspec.convert(found, hint)
    except msgspec.ValidationError:
        return False
    return True


def _option(hint: Any, found: object) -> Any:
    """Of a type with alternatives the one that a value seems to be meant for."""
    if get_origin(hint) is Annotated and get_args(hint)[0] not in _NOUNS:
        return _option(get_args(hint)[0], found)
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    options = [option for option in get_args(hint) if option is not type(None)]
    kind = type(found) if isinstance(found, (dict, list)) else object
    fitting = [option for option in options if _kind(option) is kind]
    return (fitting or options)[0]


def _kind(option: Any) -> type:
    """What a type is a kind of: dict for sections, list for lists, object for single values."""
    plain = get_args(option)[0] if get_origin(option) is Annotated else option
    if get_origin(plain) is dict or hasattr(plain, "__struct_fields__"):
        return dict
    return list if get_origin(plain) is list else object


def no_section(found: object, where: str, file: str) -> UserError:
    """The error about a value where a section should be."""
    return UserError(
        f"{where}: expected a section of keys and values, found {yaml_file.show(found)}.\n"
        f"Indent its keys below it; `git diff {file}` shows what changed."
    )


def missing(
    name: str, mapping: Mapping[str, Any], where: str, file: str, known: Iterable[str] = ()
) -> UserError:
    """The error about a key that ``mapping`` lacks; it may hold a misspelt one beside ``known``."""
    names = [short(str(other)) for other in mapping]
    near = _nearest(name, set(names) - set(known))
    step = f"Rename '{near}' if it is meant, or add" if near else "Add"
    return UserError(
        f"{where}: this key is missing; found {', '.join(names) or 'no keys'}.\n"
        f"{step} '{name}' and run again; `git diff {file}` shows what changed."
    )


def refuse_unknown(mapping: Mapping[str, Any], allowed: Collection[str], where: str) -> None:
    """Refuses keys of ``mapping`` other than those allowed.

    Raises:
        UserError: There is one.
    """
    for name in mapping:
        if name not in allowed:
            raise _unknown(str(name), allowed, where)


def _unknown(name: str, allowed: Collection[str], where: str) -> UserError:
    key = f"{where}{'.' if ': ' in where else ': '}{short(name)}"
    return UserError(
        f"{key}: unknown key; allowed are {', '.join(allowed) or 'none'}.\n"
        f"{suggest(name, allowed) if allowed else 'Delete it and run again.'}"
    )


def _mistyped(found: object, hint: Any, where: str) -> UserError:
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    step = "Set it to an allowed value"
    if isinstance(found, str) and plain in (int, float) and _is_number(found):
        step = "Write the number without quotes"
    elif plain is str and isinstance(found, (int, float)):
        step = "Write it in quotes"
    elif get_origin(plain) is list and _fits([found], hint):
        step = f"Write it in brackets, as in [{found}],"
    return UserError(
        f"{where}: expected {_wanted(hint)}, found {yaml_file.show(found)}.\n{step} and run again."
    )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _wanted(hint: Any) -> str:
    """A type in words: ``a number in [0, 1)``."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if lengths := [meta.min_length for meta in inner[1:] if getattr(meta, "min_length", None)]:
            return _wanted(inner[0]).replace("a list,", f"a list of {lengths[0]},")
        interval = next(filter(None, map(_interval, inner[1:])), "")
        return f"{_wanted(inner[0])} in {interval}" if interval else _wanted(inner[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is list or (origin is tuple and inner[1:] == (...,)):
        return f"a list, each {_wanted(inner[0])}"
    if origin is tuple:
        return f"a list of {len(inner)}: {', '.join(map(_wanted, inner))}"
    if origin is dict:
        return f"a section, each key {_wanted(inner[0])} and each value {_wanted(inner[1])}"
    if origin in (Union, types.UnionType):
        return " or ".join(_wanted(option) for option in inner if option is not type(None))
    return _NOUNS.get(hint, "another kind of value")


def _interval(limits: object) -> str:
    if not isinstance(limits, Meta):
        return ""
    low = "(-inf" if limits.ge is None and limits.gt is None else ""
    high = "inf)" if limits.le is None and limits.lt is None else ""
    if low and high:
        return ""
    low = low or (f"[{limits.ge:.12g}" if limits.ge is not None else f"({limits.gt:.12g}")
    high = high or (f"{limits.le:.12g}]" if limits.le is not None else f"{limits.lt:.12g})")
    return f"{low}, {high}"


def short(text: str) -> str:
    """A text in one line of 60 characters at most."""
    line = " ".join(text.splitlines())
    return line if len(line) <= 60 else f"{line[:57]}..."


def suggest(name: str, names: Iterable[str]) -> str:
    """The next step after a name that is none of ``names``."""
    near = _nearest(name, names)
    return f"Did you mean '{near}'?" if near else "Use one of those and run again."


def _nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar name, whatever its case, or None if none is similar."""
    folded = {other.casefold(): other for other in sorted(names)}
    near = difflib.get_close_matches(name[:100].casefold(), folded, n=5, cutoff=0.65)
    swapped = [other for other in near if sorted(other) == sorted(name.casefold())]
    return folded[(swapped or near)[0]] if near else None  # adma is adam rather than adamax
