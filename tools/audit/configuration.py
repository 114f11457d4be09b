"""Keys of the configuration files against those that stages read."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.lib.core import config
from stages.lib.core.errors import UserError
from tools.audit import pipeline, sources
from tools.audit.finding import Finding
from tools.audit.values import Read

RECIPES = "recipes"


def load(root: Path, file: str) -> dict[str, Any]:
    """The content of a YAML file of keys and values; an absent one has none.

    Raises:
        UserError: It is not such a file.
    """
    path = root / file
    content = pipeline.parse_yaml(path.read_text(encoding="utf-8"), file) if path.is_file() else {}
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected keys and values, found {str(content)[:60]}.")
    return content


def check(code: sources.Sources, reads: Iterable[Read]) -> Iterator[Finding]:
    """Keys that no stage reads, and keys that stages read and that are not there."""
    reads = sorted(set(reads), key=lambda read: (read.file, read.key))
    recipes = sorted((code.root / RECIPES).glob("*.yaml"))
    for file in sorted({read.file for read in reads} | {config.PARAMS}):
        mine = [read for read in reads if read.file == file]
        others = recipes if file == config.PARAMS else []
        for name in (file, *(path.relative_to(code.root).as_posix() for path in others)):
            content = load(code.root, name)
            params = content if file == config.PARAMS else load(code.root, config.PARAMS)
            keys = Keys(code, content, params)
            for read in mine:
                keys.add(read)
            yield from _unused(name, content, keys)
            yield from _undefined(name, content, keys)


class Keys:
    """The keys that stages read of one file, for every value of the parameters they depend on.

    Attributes:
        known: Keys that some stage reads.
        needed: Those that have to be there, with a place in the code.
    """

    def __init__(
        self, code: sources.Sources, content: Mapping[str, Any], params: Mapping[str, Any]
    ) -> None:
        self.known: set[str] = set()
        self.needed: dict[str, str] = {}
        self._code, self._content, self._params = code, content, params

    def add(self, read: Read) -> None:
        """Adds the keys of one read."""
        for key, owner, needed in self._alternatives(read):
            fields = [f for f in read.fields if not owner or f.owner.module == owner]
            keys = {f"{key}.{field.key}": field for field in fields}
            self.known |= {name for name, field in keys.items() if field.whole} or {key}
            if needed:
                self.needed.setdefault(key, read.where)
                self.needed |= {
                    name: field.where for name, field in keys.items() if not field.optional
                }

    def _alternatives(self, read: Read) -> Iterator[tuple[str, str, bool]]:
        """What a key with ``${...}`` may become: the key, whose arguments, whether it is needed."""
        found = re.search(r"\$\{([^}]*)\}", read.key)
        if not found:
            yield read.key, "", True
            return
        if not has(self._params, found[1]):  # which is found missing where it is read itself
            return
        active = str(pipeline.lookup(self._params, found[1]))
        modules = sorted({field.owner.module for field in read.fields if field.keyword})
        owners = {module.rpartition("/")[2]: module for module in modules}
        if not owners and found.start() == 0:  # an entry of the file, and any may become active
            owners = dict.fromkeys(map(str, self._content), "")
        for name in {active: "", **owners}:
            key = read.key.replace(found[0], name)
            needed = not modules or name == active or has(self._content, key)
            yield key, owners.get(name, ""), needed


def has(content: Mapping[str, Any], key: str) -> bool:
    """Whether there is a value at a dotted key."""
    node: Any = content
    for part in key.split(".") if key else ():
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _unused(file: str, content: Mapping[str, Any], keys: Keys) -> Iterator[Finding]:
    for key in _strangers(content, "", keys.known):
        near = difflib.get_close_matches(key, keys.known - _all(content, ""), n=1, cutoff=0.6)
        yield Finding(
            file,
            f"{key} is defined and no stage reads it",
            f"did you mean {near[0]}?" if near else "remove it, or read it",
        )


def _undefined(file: str, content: Mapping[str, Any], keys: Keys) -> Iterator[Finding]:
    missing = [key for key in keys.needed if key and not has(content, key)]
    for key in missing:
        if not any(key.startswith(f"{other}.") for other in missing):
            siblings = _all(content, "") - keys.known
            near = difflib.get_close_matches(key, siblings, n=1, cutoff=0.6)
            yield Finding(
                file,
                f"{key} is read at {keys.needed[key]} and not defined",
                f"did you mean {near[0]}?" if near else "add it",
            )


def _strangers(node: Mapping[str, Any], prefix: str, known: set[str]) -> Iterator[str]:
    """The outermost keys that are neither read nor hold anything that is."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in known or "" in known:
            continue
        inside = any(other.startswith(f"{key}.") for other in known)
        if inside and isinstance(value, Mapping):
            yield from _strangers(value, f"{key}.", known)
        else:
            yield key


def _all(node: Mapping[str, Any], prefix: str) -> set[str]:
    found: set[str] = set()
    for name, value in node.items():
        found.add(f"{prefix}{name}")
        if isinstance(value, Mapping):
            found |= _all(value, f"{prefix}{name}.")
    return found
