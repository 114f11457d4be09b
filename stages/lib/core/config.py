"""Values from YAML files, checked against the types of those who read them.

A stage states what it reads as a ``Schema``, an architecture as the keyword-only arguments of its
``build``::

    class Params(config.Schema, frozen=True):
        epochs: Annotated[int, Meta(ge=1, le=10000, description="passes over the images")] = 5
        output: Literal["logits", "softmax"] = "logits"

    def build(input_shape, num_classes, *, channels: list[Annotated[int, "[1, 4096]"]]): ...

msgspec checks; what it refuses is said here in the words of a user. Every read raises the audit
event ``stages.param`` with the file and the key.
"""

import functools
import inspect
import json
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta

from stages.lib.core import enforcement, pipeline, refusals, yaml_file
from stages.lib.core.errors import UserError

PARAMS = "params.yaml"
DATASETS = "datasets.yaml"
WEIGHTS = "weights.yaml"

T = TypeVar("T")


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section of a YAML file; a key without a default is required, other keys are refused.

    Attributes:
        OPTIONS: Keys that a record of the section names only where they have not their default.
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset()


def value(file: str, key: str, hint: Any) -> Any:
    """The value at a dotted key, checked against one annotation.

    Raises:
        UserError: The file cannot be read, or the key is missing, mistyped or out of range.
    """
    *parents, name = key.split(".")
    section_of_key = _mapping(file, ".".join(parents))
    if name not in section_of_key and type(None) not in get_args(hint):
        raise refusals.missing(name, section_of_key, f"{file}: {key}", file)
    _announce_field(file, ".".join(parents), section_of_key, name)
    return convert(section_of_key.get(name), hint, f"{file}: {key}")


def section(file: str, key: str, schema: type[T]) -> T:
    """A whole section as an instance of ``schema``; it holds no other keys.

    Raises:
        UserError: As ``value``, or the section has a key that ``schema`` does not know.
    """
    content = _mapping(file, key)
    converted = cast(T, convert(content, schema, f"{file}: {key}"))
    _announce(file, key, content)
    return converted


def checked(file: str, key: str, schema: type[T]) -> T:
    """As ``section``, but no read: for checks of more than the result depends on."""
    return cast(T, convert(_mapping(file, key), schema, f"{file}: {key}"))


def fields(file: str, key: str, schema: type[T]) -> T:
    """The fields of ``schema`` out of a section that others read too.

    Raises:
        UserError: As ``value``.
    """
    mapping = _mapping(file, key)
    names = [field.name for field in msgspec.structs.fields(cast(Any, schema))]
    own = {name: mapping[name] for name in names if name in mapping}
    converted = cast(T, convert(own, schema, f"{file}: {key}"))
    for name in names:
        _announce_field(file, key, mapping, name)
    return converted


def recorded(content: Schema) -> dict[str, Any]:
    """The values of a section by key, as plain types; of its ``OPTIONS`` those that are in use."""
    plain: dict[str, Any] = {}
    for field in msgspec.structs.fields(content):
        value_ = getattr(content, field.name)
        factory = field.default_factory
        default = field.default if factory is msgspec.NODEFAULT else factory()
        if field.name in content.OPTIONS and value_ == default:
            continue
        is_section = isinstance(value_, Schema)
        plain[field.name] = recorded(value_) if is_section else msgspec.to_builtins(value_)
    return plain


def arguments(file: str, key: str, function: Callable[..., object]) -> dict[str, Any]:
    """A whole section as the keyword-only arguments of ``function``; defaults are its own.

    Raises:
        UserError: As ``section``, or an argument has no type or one that no YAML file can state.
    """
    schema = arguments_schema(function)
    content = _mapping(file, key)
    values = msgspec.structs.asdict(convert(content, schema, f"{file}: {key}"))
    _announce(file, key, content)
    for name, found in values.items():
        try:
            json.dumps(found, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise _no_type_of_yaml(_of(function), f"{name}: {error}") from None
    return values


def arguments_schema(function: Callable[..., object]) -> type[Schema]:
    """The keyword-only arguments of a function as a ``Schema``.

    Args:
        function: Numbers in its annotations may have an interval, as in mathematics:
            ``Annotated[float, "[0, 1)"]``.

    Raises:
        UserError: An argument has no type, or one that no YAML file can state.
    """
    place = _of(function)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise UserError(f"{place}: {error}.\nImport it, or correct the annotation.") from None
    arguments_: list[Any] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        if name in enforcement.PASSED_OVER:
            raise UserError(
                f"{place}: the argument '{name}': expected another name, as DVC's run cache passes "
                f"over keys called {name} and would give a wrong result.\n"
                f"Rename it, to image_{name} say."
            )
        if name not in hints:
            raise UserError(
                f"{place}: the argument '{name}' has no type; expected one such as "
                f'`{name}: int` or `{name}: Annotated[float, "[0, 1)"]`.\n'
                "Add it; values of params.yaml are checked against it."
            )
        default = () if parameter.default is parameter.empty else (_default(parameter.default),)
        try:
            arguments_.append((name, _with_limits(hints[name]), *default))
        except ValueError as error:
            raise UserError(
                f"{place}: the argument '{name}': expected an interval, as in \"[1, 16]\" or "
                f'"(0, inf)", found "{error}".\nCorrect it, or leave it out.'
            ) from None
        except TypeError as error:
            raise _no_type_of_yaml(place, f"{name}: {error}") from None
    try:
        schema = msgspec.defstruct("Arguments", arguments_, bases=(Schema,), kw_only=True)
        msgspec.convert({}, schema | None)  # msgspec looks at the types when it first needs them
    except msgspec.ValidationError:
        pass  # an argument is required, as is no concern here
    except (TypeError, ValueError) as error:
        raise _no_type_of_yaml(place, str(error).splitlines()[0]) from None
    return cast(type[Schema], schema)


def convert(found: object, hint: Any, where: str) -> Any:
    """A value out of a YAML file as the type ``hint``.

    Args:
        found: What the file holds.
        hint: A type that msgspec knows.
        where: ``FILE: KEY``, for messages.

    Raises:
        UserError: It is not of that type.
    """
    try:
        return msgspec.convert(_ordered(found), hint)
    except msgspec.ValidationError as error:
        path = re.search(r" - at `(?:key` in `)?\$(.*)`$", str(error))
        raise refusals.of_value(found, hint, where, path[1] if path else "") from None


def one_of(name: str, allowed: Iterable[str], where: str) -> str:
    """``name`` itself when it is allowed.

    Raises:
        UserError: It is not; the message lists the allowed names and suggests the nearest.
    """
    names = sorted(allowed)
    if name in names:
        return name
    raise UserError(
        f"{where}: expected one of {', '.join(names)}; found '{refusals.short(name)}'.\n"
        f"{refusals.suggest(name, names)}"
    )


def read(file: str) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UserError: The file is missing, empty, or no YAML mapping; or it is params.yaml and has a
            section that nothing reads.
    """
    return cast(dict[str, Any], _ordered(_read(file)))


def _read(file: str) -> dict[str, Any]:
    content = yaml_file.read(file)
    if file == PARAMS:
        _check_sections(content)
    return content


def _ordered(found: Any) -> Any:
    """A value with the keys of its sections in one order, as to DVC they have none."""
    if isinstance(found, dict):
        return {key: _ordered(found[key]) for key in sorted(found, key=str)}
    return [_ordered(item) for item in found] if isinstance(found, list) else found


def _check_sections(content: dict[str, Any]) -> None:
    """Refuses names in params.yaml that belong to no stage, and models that are not there."""
    folder = Path(__file__).parents[2]
    stages = sorted(path.stem for path in folder.glob("[!_]*.py"))
    known = ["dataset", "model", *stages]
    path = Path.cwd() / pipeline.FILE
    if not all(name in known for name in content) and path.is_file():
        declared = _declared_sections(path, path.stat().st_mtime_ns)
        known += [name for name in declared if name not in known]
    refusals.refuse_unknown(content, known, PARAMS)
    if isinstance(content.get("model"), dict):
        models = sorted(path.stem for path in folder.glob("models/[!_]*.py"))
        refusals.refuse_unknown(
            content["model"], ["architecture", "output", "weights", *models], f"{PARAMS}: model"
        )


@functools.cache
def _declared_sections(path: Path, _: int) -> list[str]:
    """The sections of params.yaml that a dvc.yaml names, for one time of its last change."""
    with enforcement.unwatched():
        stages = pipeline.load(path.parent).values()
        keys = pipeline.templates(path.parent)  # which no stage need read
    keys |= {key for stage in stages for file, key in stage.params if file == PARAMS and key}
    return sorted({key.partition(".")[0] for key in keys})


def _mapping(file: str, key: str) -> dict[str, Any]:
    node: Any = _read(file)
    done = ""
    for part in key.split(".") if key else []:
        if part not in node:
            raise refusals.missing(part, node, f"{file}: {done}{part}", file)
        node = node[part]
        if not isinstance(node, dict):
            raise refusals.no_section(node, f"{file}: {done}{part}", file)
        done = f"{done}{part}."
    return cast(dict[str, Any], node)


def _announce_field(file: str, key: str, content: dict[str, Any], name: str) -> None:
    """Tells that a key of a section is read; DVC knows none that is not there, but the section."""
    if name in content or not key:
        _announce(file, f"{key}.{name}".removeprefix("."), content.get(name))
    else:
        _announce(file, key, content)


def _announce(file: str, key: str, content: object) -> None:
    """Tells that a value is read, and what in it has to be declared by its own name."""
    sys.audit("stages.param", file, key)
    own = [key] if key in enforcement.PASSED_OVER else []
    for name in [*own, *passed_over(key, content)]:
        if "." not in name or "[" in name:  # no declaration would help
            word = name.rpartition(".")[2]
            raise UserError(
                f"{file}: {name}: expected another name, as DVC's run cache passes over keys "
                f"called {word} and would give a wrong result.\nRename it."
            )
        sys.audit("stages.param", file, name)


def passed_over(key: str, content: object) -> Iterator[str]:
    """The keys within a value that DVC's run cache passes over; in a list, with their place."""
    if isinstance(content, list):
        for place, inner in enumerate(content):
            yield from passed_over(f"{key}[{place}]", inner)
    for name, inner in content.items() if isinstance(content, dict) else ():
        path = f"{key}.{name}" if key else str(name)
        if name in enforcement.PASSED_OVER:
            yield path
        yield from passed_over(path, inner)


def _of(function: Callable[..., object]) -> str:
    return f"{_place(function)}: {getattr(function, '__name__', 'build')}"


def _no_type_of_yaml(place: str, reason: str) -> UserError:
    return UserError(
        f"{place}: an argument's type that no YAML file can state: {reason}.\n"
        "Use int, float, bool, str, Literal, lists or dicts of these."
    )


def _place(function: Callable[..., object]) -> str:
    code = getattr(function, "__code__", None)
    if code is None:
        return str(function)
    path = Path(code.co_filename)
    name = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{name.as_posix()}:{code.co_firstlineno}"


def _default(given: Any) -> Any:
    if isinstance(given, (list, dict)):
        return msgspec.field(default_factory=lambda: type(given)(given))
    return given


def _with_limits(hint: Any) -> Any:
    """A type in which each interval, a text, has become the limits that msgspec checks.

    Raises:
        TypeError: It is a class of fields, whose intervals would not be seen.
        ValueError: A text is no interval.
    """
    if isinstance(hint, type) and getattr(hint, "__annotations__", None):
        raise TypeError(f"{hint.__name__}, a class of fields")
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        extras = [_limits(extra) if isinstance(extra, str) else extra for extra in inner[1:]]
        return Annotated[(_with_limits(inner[0]), *extras)]
    if origin in (Union, types.UnionType):
        return Union[tuple(_with_limits(option) for option in inner)]  # noqa: UP007 made of a tuple
    if origin in (list, dict, tuple):
        return origin[tuple(_with_limits(option) for option in inner)]
    return hint


def _limits(interval: str) -> Meta:
    try:
        low, high = (float(end) for end in interval[1:-1].split(","))
    except ValueError:
        raise ValueError(interval) from None
    if interval[0] not in "[(" or interval[-1] not in "])" or not low <= high:
        raise ValueError(interval)
    limits: dict[str, float] = {}
    if low != -math.inf:
        limits["ge" if interval[0] == "[" else "gt"] = int(low) if low.is_integer() else low
    if high != math.inf:
        limits["le" if interval[-1] == "]" else "lt"] = int(high) if high.is_integer() else high
    return Meta(**cast(Any, limits))
