"""What dvc.yaml declares: the stages, with ``${...}`` as it stands there."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.lib.core import config
from stages.lib.core.errors import UserError

FILE = "dvc.yaml"
LOCK = "dvc.lock"
_MODULE = re.compile(r"\bpython[\d.]*\s+(?:-[^m\s]\S*\s+)*(?:-m\s+([\w.]+)|(\w[\w/]*)\.py\b)")
_REFERENCE = re.compile(r"\$\{\s*([^}\s]+)\s*\}")


@dataclass(frozen=True)
class Out:
    """A file or folder that a stage makes; one that is not cached is in Git."""

    path: str
    cached: bool


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml.

    Attributes:
        name: Its name.
        command: The command line, or several.
        module: The module that it runs, as a path without ``.py``; empty if it runs none.
        deps: Paths.
        params: Pairs of a file and a key; an empty key is the whole file.
        outs: Outs, metrics and plots.
        strange: A keyword that the audit does not understand, or nothing.
    """

    name: str
    command: str | list[str]
    module: str
    deps: tuple[str, ...]
    params: tuple[tuple[str, str], ...]
    outs: tuple[Out, ...]
    strange: str


def load(root: Path) -> dict[str, Stage]:
    """The stages of dvc.yaml.

    Raises:
        UserError: It is missing or not as DVC wants it.
    """
    path = root / FILE
    if not path.is_file():
        raise UserError(
            f"{FILE}: not found in {root}.\nRun the audit from the top folder of the repository."
        )
    return parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Stage]:
    """The stages of a text in the form of dvc.yaml.

    Raises:
        UserError: It is not of that form.
    """
    content = _mapping(parse_yaml(text, FILE), FILE)
    stages = _mapping(content.get("stages") or {}, f"{FILE}: stages")
    return {str(name): _stage(str(name), entry) for name, entry in stages.items()}


def parse_yaml(text: str, file: str) -> Any:
    """The content of a YAML text; its numbers are those that DVC reads.

    Raises:
        UserError: It is no YAML.
    """
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(
            f"{file}{place}: not valid YAML: {error.problem or error.context}.\n"
            "Mend that line and run again."
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not valid YAML: {str(error).splitlines()[0]}.") from None


def resolve(text: str, values: Mapping[str, Any]) -> str:
    """``text`` with the values of params.yaml in place of its ``${...}``.

    Raises:
        UserError: params.yaml has no such key.
    """
    return _REFERENCE.sub(lambda match: str(lookup(values, match[1])), text)


def lookup(values: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key.

    Raises:
        UserError: There is none.
    """
    node: Any = values
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            raise UserError(
                f"{FILE}: ${{{key}}}: params.yaml has no such key.\nAdd it, or correct {FILE}."
            )
        node = node[part]
    return node


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # typed as a value
    """YAML 1.2's floats, as in ``core.config``; ten times as fast where libyaml is there."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def _stage(name: str, entry: object) -> Stage:
    where = f"{FILE}: stages.{name}"
    fields = _mapping(entry, where)
    command = fields.get("cmd", "")
    found = _MODULE.search(command if isinstance(command, str) else "\n".join(map(str, command)))
    return Stage(
        name=name,
        command=command,
        module=(found[1] or found[2]).replace(".", "/") if found else "",
        deps=tuple(plain(dep) for dep in _list(fields, "deps", where)),
        params=tuple(_params(_list(fields, "params", where), where)),
        outs=tuple(
            _out(out) for kind in ("outs", "metrics", "plots") for out in _list(fields, kind, where)
        ),
        strange=next(
            (word for word in ("foreach", "matrix", "wdir", "vars") if word in fields), ""
        ),
    )


def _params(entries: list[Any], where: str) -> Iterator[tuple[str, str]]:
    for entry in entries:
        if isinstance(entry, dict):
            for file, keys in entry.items():
                if keys is not None and not isinstance(keys, list):
                    raise UserError(
                        f"{where}.params: {file}: expected a list of keys, found {keys}."
                    )
                yield from ((str(file), plain(key)) for key in keys or [""])
        else:
            yield config.PARAMS, plain(entry)


def _out(entry: object) -> Out:
    if isinstance(entry, dict):
        path, options = next(iter(entry.items()))
        return Out(plain(path), not isinstance(options, dict) or options.get("cache", True))
    return Out(plain(entry), cached=True)


def plain(text: object) -> str:
    """A path or key without a slash at its end and without spaces in its ``${...}``."""
    return _REFERENCE.sub(r"${\1}", str(text)).rstrip("/")


def _mapping(found: object, where: str) -> dict[Any, Any]:
    if isinstance(found, dict):
        return found
    raise UserError(f"{where}: expected a section of keys and values, found {str(found)[:60]}.")


def _list(fields: Mapping[str, Any], name: str, where: str) -> list[Any]:
    found = fields.get(name) or []
    if isinstance(found, list):
        return found
    raise UserError(f"{where}.{name}: expected a list, found {str(found)[:60]}.")
