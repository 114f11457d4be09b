"""What dvc.yaml declares and what dvc.lock recorded: the one reader of both files."""

import functools
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.lib.core import yaml_file
from stages.lib.core.errors import UserError

FILE = "dvc.yaml"
LOCK = "dvc.lock"
PARAMS = "params.yaml"
IGNORE = ".dvcignore"
DVCS_OWN = (".hg/", ".git/", ".git", ".dvc/")  # which DVC passes over without being told
_REFERENCE = re.compile(r"(?<!\\)\$\{\s*([^}\s]+)\s*\}")


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
        module: The module that it runs, as a path without ``.py``; empty if that is not plain.
        deps: Paths.
        params: Pairs of a file and a key; an empty key is the whole file.
        outs: Outs, metrics and plots.
        strange: A keyword that is not understood here, or nothing.
        network: Whether ``meta: {network: true}`` allows it to connect.
        frozen: Whether DVC leaves it as it is.
    """

    name: str
    command: str | list[str]
    module: str
    deps: tuple[str, ...]
    params: tuple[tuple[str, str], ...]
    outs: tuple[Out, ...]
    strange: str = ""
    network: bool = False
    frozen: bool = False

    def resolved(self, values: Mapping[str, Any]) -> "Stage":
        """The stage with the values of params.yaml in place.

        Raises:
            UserError: params.yaml lacks a key that a ``${...}`` names.
        """
        lines = self.command if isinstance(self.command, list) else [self.command]
        words = [resolve(str(line), values) for line in lines]
        return replace(
            self,
            command=words if isinstance(self.command, list) else words[0],
            deps=tuple(resolve(dep, values) for dep in self.deps),
            params=tuple((file, resolve(key, values)) for file, key in self.params),
            outs=tuple(Out(resolve(out.path, values), out.cached) for out in self.outs),
        )


@dataclass(frozen=True)
class Entry:
    """What dvc.lock holds of a stage.

    Attributes:
        command: Its command line.
        deps: The MD5 of each dep.
        outs: The MD5 of each out.
        params: The value of each parameter, by file and key.
    """

    command: object
    deps: dict[str, str] = field(default_factory=dict)
    outs: dict[str, str] = field(default_factory=dict)
    params: dict[tuple[str, str], Any] = field(default_factory=dict)


def load(root: Path) -> dict[str, Stage]:
    """The stages of dvc.yaml, with ``${...}`` as it stands there.

    Raises:
        UserError: It is missing or not as DVC wants it.
    """
    path = root / FILE
    if not path.is_file():
        raise UserError(f"{FILE}: not found in {root}.\nRun this from the repository's top folder.")
    return parse(yaml_file.text_of(path, FILE))


def load_lock(root: Path) -> dict[str, Entry]:
    """The stages of dvc.lock.

    Raises:
        UserError: It is missing or not as DVC writes it.
    """
    path = root / LOCK
    if not path.is_file():
        raise UserError(f"{LOCK}: not found in {root}.\nRun `dvc repro` and commit it.")
    try:
        return {name: _entry(entry) for name, entry in lock_stages(path, LOCK).items()}
    except (AttributeError, KeyError, TypeError):
        raise _not_a_lock(LOCK) from None


def lock_stages(path: Path, called: str) -> dict[str, Any]:
    """The section ``stages`` of a dvc.lock, as DVC wrote it.

    Args:
        path: The file.
        called: What messages call it.

    Raises:
        UserError: It holds the markers of a merge, or is not as DVC writes it.
    """
    text = yaml_file.text_of(path, called)
    if "\n<<<<<<< " in f"\n{text}":
        raise UserError(
            f"{called}: expected hashes, found the markers of a merge.\nSettle params.yaml and the "
            f"code by hand, then run `git checkout --ours {LOCK} reports && dvc repro`."
        )
    content = yaml_file.parse(text, called, by_dvc=True)
    stages = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(stages, dict):
        raise _not_a_lock(called)
    return stages


def _not_a_lock(called: str) -> UserError:
    return UserError(
        f"{called}: not as DVC writes it.\nRestore it by `git checkout {LOCK}`, or run `dvc repro`."
    )


def parse(text: str) -> dict[str, Stage]:
    """The stages of a text in the form of dvc.yaml.

    Raises:
        UserError: It is not of that form.
    """
    content = _mapping(yaml_file.parse(text, FILE), FILE)
    stages = _mapping(content.get("stages") or {}, f"{FILE}: stages")
    elsewhere = "vars" if "vars" in content else ""  # values that ${...} may name
    return {str(name): _stage(str(name), entry, elsewhere) for name, entry in stages.items()}


def resolve(text: str, values: Mapping[str, Any]) -> str:
    r"""``text`` with the values of params.yaml in place of its ``${...}``; ``\${`` is a plain one.

    Raises:
        UserError: params.yaml has no such key.
    """

    def found(match: re.Match[str]) -> str:
        value = lookup(values, match[1])
        return str(value).lower() if isinstance(value, bool) else str(value)  # as DVC writes it

    return _REFERENCE.sub(found, text).replace(r"\${", "${")


def references(text: str) -> list[str]:
    """The keys of params.yaml that a text's ``${...}`` name, each once."""
    return list(dict.fromkeys(_REFERENCE.findall(text)))


def templates(root: Path) -> set[str]:
    """The parameters that the text of dvc.yaml names as ``${...}``."""
    path = root / FILE
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return set(re.findall(r"\$\{([\w.]+)", text))


def lookup(values: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; ``[0]`` is the first of a list.

    Raises:
        UserError: There is none.
    """
    node: Any = values
    for part in key.replace("[", ".").replace("]", "").split("."):
        if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
            continue
        if not isinstance(node, Mapping) or part not in node:
            raise UserError(
                f"{FILE}: ${{{key}}}: {PARAMS} has no such key.\n"
                f"Add it, as recipes/ have it, or correct {FILE}."
            )
        node = node[part]
    return node


def module(command: object) -> str:
    """The module that a command line runs, as a path without ``.py``.

    It is followed when it is one line of the form ``python [options] -m package.module ...`` or
    ``python [options] folder/script.py ...``; of any other the answer is empty.
    """
    return _followed(command)[1]


def arguments(command: object) -> list[str]:
    """What follows the module in a command line that can be followed."""
    return _followed(command)[2]


def options(command: object) -> list[str]:
    """What Python itself is given in a command line that can be followed, ``-O`` say."""
    return _followed(command)[0]


def _followed(command: object) -> tuple[list[str], str, list[str]]:
    nothing: tuple[list[str], str, list[str]] = [], "", []
    lines = command if isinstance(command, list) else [command]
    line = str(lines[0]).strip() if len(lines) == 1 else ""
    try:
        words = shlex.split(line)
    except ValueError:
        return nothing
    if not words or re.search(r"[;&|<>`\n]|\$\(", line):
        return nothing
    if not re.fullmatch(r"python[\d.]*(\.exe)?", words[0].replace("\\", "/").rpartition("/")[2]):
        return nothing
    given: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if word == "-m":
            return given, next(rest, "").replace(".", "/"), list(rest)
        if not word.startswith("-"):
            script = word.removesuffix(".py")
            return (given, script, list(rest)) if word.endswith(".py") else nothing
        if word == "-c" or ("m" in word.removeprefix("-") and not word.startswith(("-X", "-W"))):
            return nothing
        given.append(word)
        if word in ("-X", "-W", "--check-hash-based-pycs"):
            given.append(next(rest, ""))
    return nothing


def plain(text: object) -> str:
    """A path or key without ``./`` before it, a slash at its end and spaces in its ``${...}``."""
    return _REFERENCE.sub(r"${\1}", str(text)).rstrip("/").removeprefix("./")


def within(path: str, folder: str) -> bool:
    """Whether a path is another one, or lies in it."""
    return path == folder or path.startswith(f"{folder}/")


def ignored(root: Path) -> Callable[[str], bool]:
    """Whether DVC passes over a path when it hashes a folder, by a .dvcignore in any folder above.

    As DVC walks, a path is passed over if a folder above it is; the .dvcignore nearest to it that
    says anything of it decides, by its last line that does. The path is relative to ``root``, that
    of a folder with a slash at its end. A dep that is itself a file is hashed all the same.
    """

    @functools.cache
    def of(folder: str) -> Callable[[str], bool | None]:
        path = root / folder / IGNORE
        text = yaml_file.text_of(path, f"{folder}{IGNORE}") if path.is_file() else ""
        lines = text.splitlines()
        return _verdict(lines if folder else [*DVCS_OWN, *lines])

    @functools.cache
    def is_passed_over(folder: str) -> bool:
        return is_ignored(folder) if folder else False

    def is_ignored(name: str) -> bool:
        folders = ["", *(name[:at] for at in range(1, len(name)) if name[at - 1] == "/")]
        if is_passed_over(folders[-1]):
            return True
        verdicts = (of(folder)(name[len(folder) :]) for folder in reversed(folders))
        return next((verdict for verdict in verdicts if verdict is not None), False)

    return is_ignored


def hashed(files: Iterable[Path]) -> set[Path]:
    """Those files of folders that DVC hashes, which is all but those that .dvcignore names."""
    passed_over, here = ignored(Path()), Path.cwd()
    inner = {path: path.relative_to(here) if path.is_relative_to(here) else path for path in files}
    return {
        path
        for path, name in inner.items()
        if name.is_absolute() or not passed_over(name.as_posix())
    }


def _verdict(lines: Sequence[str]) -> Callable[[str], bool | None]:
    """Whether patterns of Git's kind take a path out, or put it back; None if they do neither."""
    # A path that holds no word of any pattern matches none; then its reader need not be imported
    chunks = [re.split(r"\[.*?\]|[*?/\\]", line.strip()) for line in lines if line.strip()]
    words = [max(parts, key=len).removeprefix("!") for parts in chunks]

    @functools.cache
    def spec(of_folders: bool) -> Any:
        import pathspec

        kept = [line for line in lines if of_folders or not line.rstrip().endswith("/")]
        return pathspec.PathSpec.from_lines("gitignore", kept)

    def verdict(name: str) -> bool | None:
        if not any(word in name for word in words):
            return None
        # A line that ends with a slash is of folders alone; what they hold is judged by them
        found: bool | None = spec(name.endswith("/")).check_file(name).include
        return found

    return verdict


def _stage(name: str, content: object, elsewhere: str) -> Stage:
    where = f"{FILE}: stages.{name}"
    entries = _mapping(content, where)
    command = entries.get("cmd", "")
    meta = entries.get("meta")
    return Stage(
        name=name,
        command=command,
        module=module(command),
        deps=tuple(plain(dep) for dep in _list(entries, "deps", where)),
        params=tuple(_params(_list(entries, "params", where), where)),
        outs=tuple(
            _out(out)
            for kind in ("outs", "metrics", "plots")
            for out in _list(entries, kind, where)
        ),
        strange=next(
            (word for word in ("foreach", "matrix", "wdir", "vars") if word in entries), elsewhere
        ),
        network=isinstance(meta, dict) and meta.get("network") is True,
        frozen=entries.get("frozen") is True,
    )


def _entry(entry: dict[str, Any]) -> Entry:
    return Entry(
        command=entry.get("cmd"),
        deps={plain(dep["path"]): dep.get("md5", "") for dep in entry.get("deps", [])},
        outs={plain(out["path"]): out.get("md5", "") for out in entry.get("outs", [])},
        params={
            (file, key): value
            for file, keys in entry.get("params", {}).items()
            for key, value in keys.items()
        },
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
            yield PARAMS, plain(entry)


def _out(entry: object) -> Out:
    if isinstance(entry, dict):
        path, options = next(iter(entry.items()))
        return Out(plain(path), not isinstance(options, dict) or options.get("cache", True))
    return Out(plain(entry), cached=True)


def _mapping(content: object, where: str) -> dict[Any, Any]:
    if isinstance(content, dict):
        return content
    raise UserError(f"{where}: expected a section of keys and values, found {str(content)[:60]}.")


def _list(entries: Mapping[str, Any], name: str, where: str) -> list[Any]:
    content = entries.get(name) or []
    if isinstance(content, list):
        return content
    raise UserError(f"{where}.{name}: expected a list, found {str(content)[:60]}.")
