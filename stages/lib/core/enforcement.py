"""What a stage does not declare, it cannot read: Python's audit events against dvc.yaml.

The watch begins with the package ``stages``, before the first line of a stage. Until the stage has
called ``stage.run`` it takes notes; then they are judged, and from there on it refuses at once. A
refusal is remembered, so that code that swallows the exception ends in the error all the same.

It sees what passes through Python: opening, listing, importing, parameters, programs, connections.
What C code opens by itself, the environment's variables and whether a file is there it does not
see; ``python -m tools.audit --hermetic`` does.
"""

# ruff: noqa: PTH100, PTH112, PTH115, PTH117, PTH120
import contextlib
import functools
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from stages.lib.core import pipeline
from stages.lib.core.errors import UserError

CORE = "stages/lib/core/"
CONFIG = f"{CORE}config.py"
READER = f"{CORE}yaml_file.py"  # which config reads its files by
FILES = f"{CORE}files.py"  # moves folders of outs into place, and removes the old ones
CATALOGUE = "stages/lib/data/catalogue.py"  # reads the names of all entries, for its messages
TAKER = "stages/download.py"  # by the SHA-256 of the catalogue
# These list names of modules, which only an error message shows
LISTED = {
    CONFIG: ("stages", "stages/models"),
    "stages/lib/architectures.py": ("stages/models",),
}
# DVC's run cache passes over keys of these names, at any depth: it takes them for sizes of files.
# In a section such a key has to be declared by its own name too, or a wrong result is restored.
PASSED_OVER = ("size", "nfiles")
CATALOGUES = ("datasets.yaml", "weights.yaml")
CONFIGURATION = ("params.yaml", *CATALOGUES, "environment.yaml")  # read key by key
OWN = (".checkpoints", ".dvc/cache")  # what training keeps; content under the name of its hash
PINNED = "data/own"  # for TAKER, where it may connect
FOLDERS = (
    "DATASET_CACHE",
    "DATASET_MIRROR",
    "KERAS_HOME",
    "MPLCONFIGDIR",
    "TMPDIR",
)  # of the surroundings

_TEMPORARY = re.compile(r"(^|/)\.([^/]+?)\.[0-9a-f]{8}(?:\.old)?\.\w+(?=/|$)")  # of core.files
_COMPILED = re.compile(r"(^|/)__pycache__/([^/]+?)\.[^/]*\.pyc(\.\d+)?$")
_WATCHERS = re.compile(r"[/\\](coverage|pydevd|debugpy|_pydev\w*|bdb|pdb)([/\\]|\.py$)")
_PYTHONS = tuple({folder.rstrip(os.sep) + os.sep for folder in (sys.prefix, sys.base_prefix)})
_PROCESS = re.compile(r"/proc/[^/]+/(cwd|root|fd|task)\b|/dev/fd/")  # other names of any file
# Modules that start a Python which is not watched; no audit event tells of the start itself
_STARTERS = re.compile(r"multiprocessing\.popen_(spawn|forkserver)|_(xxsub)?interpreters")
_PROFILERS = tuple(
    str(Path(os.__file__).with_name(f"{name}.py"))
    for name in ("cProfile", "profile", "pstats", "trace")
)
# They open folders by names in an open one, which is judged itself
_WALKERS = {
    (shutil.__file__, "_rmtree_safe_fd"),
    (shutil.__file__, "_rmtree_safe_fd_step"),
    ("<frozen os>", "_fwalk"),
    (os.__file__, "_fwalk"),
}
_ACCESS = os.O_WRONLY | os.O_RDWR


class Refused(UserError):  # noqa: N818 a verdict
    """The stage reached for something that dvc.yaml does not declare."""


@dataclass(frozen=True)
class Declared:
    """What a stage may touch.

    Attributes:
        stage: Its name.
        deps: Files and folders that it reads.
        outs: Files and folders that it makes.
        params: Pairs of a file and a key; an empty key is the whole file.
        network: Whether it may connect.
    """

    stage: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[tuple[str, str], ...]
    network: bool


@dataclass(frozen=True)
class Touch:
    """One thing that was reached for.

    Attributes:
        kind: ``read``, ``take`` from ``PINNED``, ``list``, ``write``, ``import``, ``param``,
            ``start`` or ``connect``.
        name: The path relative to the top folder, the key, the program or the address.
        file: The file of a parameter.
        place: The line of code, as ``FILE:LINE``.
    """

    kind: str
    name: str
    file: str
    place: str


class _Watch:
    """The state of the one watch of a process."""

    def __init__(self, root: Path, active: bool) -> None:
        self.root = os.path.realpath(root) + os.sep
        self.declared: Declared | None = None
        self.notes: list[Touch] = []
        self.touched: dict[Touch, None] = {}
        self.refusals: list[str] = []
        self.active = active
        self.resting = 0  # the thread in which the core reads for itself
        self.told = False  # somebody asked for what was refused
        outside = [sys.prefix, sys.base_prefix, str(Path(os.__file__).parent)]
        outside += ["/proc", "/dev", "/sys"]
        outside += [folder for name in FOLDERS if (folder := os.environ.get(name))]
        outside += _kept_by_libraries()
        outside += [sys.pycache_prefix] if sys.pycache_prefix else []
        roots = {os.path.realpath(path) + os.sep for path in outside} | {
            os.path.abspath(path) + os.sep for path in outside
        }
        self.outside = tuple(path for path in roots if not self.root.startswith(path))


def _kept_by_libraries() -> list[str]:
    """Where Keras, Matplotlib and the downloads keep what is theirs, if the user's folder is here.

    A container or a runner may have its home, or its caches, within the repository.
    """
    home = os.path.expanduser("~")  # noqa: PTH111 pathlib takes longer
    cache = os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache"
    settings = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    data = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    kept = [f"{cache}/{name}" for name in ("matplotlib", "image-classification-datasets")]
    kept += [f"{settings}/matplotlib", f"{home}/.keras"]
    return [*kept, f"{data}/fonts", f"{home}/.fonts"]


_watch = _Watch(Path(), active=False)
_hooked = False


def start(root: Path) -> None:
    """Begins to take notes of what this process touches below a folder."""
    global _watch, _hooked
    _watch = _Watch(root, active=True)
    if not _hooked:  # a hook stays for good
        sys.addaudithook(_hook)
        _hooked = True


def judge(declared: Declared) -> None:
    """Judges the notes, and from here on refuses what is not declared.

    A stage that lies elsewhere than in the package ``stages`` is watched from here on alone.

    Raises:
        Refused: Something was touched already.
    """
    if not _watch.active:
        start(Path.cwd())
    _watch.declared = declared
    with unwatched():
        _ignored(_watch.root)
    for touch in [*_watch.notes, *_imported()]:
        _judge(touch)
    _raise()


def end() -> None:
    """Judges what was imported, when the work is done; the watch goes on until the process ends.

    Raises:
        Refused: Something was refused, in whichever thread, and the code went on all the same.
    """
    if _watch.active and _watch.declared:
        for touch in _imported():
            _judge(touch)
    _raise()


def close() -> tuple[str, bool]:
    """Ends the watch; what was refused first, or nothing, and whether that was told already."""
    _watch.active = False
    told = _watch.told
    return refusal(), told


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """The block in which the core itself reads dvc.yaml, dvc.lock and what they name."""
    before, _watch.resting = _watch.resting, threading.get_ident()
    try:
        yield
    finally:
        _watch.resting = before


def refusal() -> str:
    """The message of what was refused first, to be told; empty when nothing was."""
    _watch.told = bool(_watch.refusals)
    return _watch.refusals[0] if _watch.refusals else ""


def touched() -> Iterable[Touch]:
    """All that was touched and allowed, each once."""
    return tuple(_watch.touched)


def _raise() -> None:
    if message := refusal():
        raise Refused(message)


def _judge(touch: Touch) -> str:
    """Why the stage may not touch something, remembered; empty when it may."""
    message = complaint(touch, _watch.declared) if _watch.declared else ""
    if message:
        if message not in _watch.refusals:
            _watch.refusals.append(message)
    else:
        _watch.touched[touch] = None
    return message


def complaint(touch: Touch, declared: Declared) -> str:
    """Why a stage may not touch something; empty when it may."""
    rule, step = RULES[touch.kind]
    if rule(touch, declared):
        return ""
    what = f"{touch.file}: {touch.name or 'all of it'}" if touch.kind == "param" else touch.name
    entry = step.format(name=touch.name, file=touch.file, stage=declared.stage)
    if step == _DEP and _passed_over(touch):  # DVC hashes it in no folder
        entry += (
            f", and take it out of {pipeline.IGNORE}"
            if touch.kind == "list"
            else f", itself: {pipeline.IGNORE} keeps it out of its folder"
        )
    if touch.kind == "param" and not touch.name:
        entry = f"Add `- {touch.file}:`, or the keys, to the params of {declared.stage} in dvc.yaml"
    elif touch.kind == "param" and touch.file == "params.yaml":
        entry = f"Add `- {touch.name}` to the params of {declared.stage} in dvc.yaml"
    why = f"{WORDS[touch.kind].format(what)}, which {declared.stage} does not declare"
    return f"{touch.place}: {why}.\n{entry}."


def _within(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _hashed(touch: Touch, declared: Declared) -> bool:
    """Whether DVC hashes it as a dep.

    Of a folder that is all files but those behind linked folders and those of .dvcignore.
    """
    if touch.kind != "list" and touch.name in declared.deps:
        return True
    folder = touch.name if touch.kind == "list" else os.path.dirname(touch.name)
    return any(
        _within(touch.name, [dep]) and _real(folder) == _real(dep) + folder[len(dep) :]
        for dep in declared.deps
    ) and not _passed_over(touch)


def _passed_over(touch: Touch) -> bool:
    """Whether .dvcignore keeps it from DVC, by its name or that of a folder that it lies in."""
    name = f"{touch.name}/" if touch.kind == "list" else touch.name
    with unwatched():
        return _ignored(_watch.root)(name)


@functools.cache
def _ignored(root: str) -> Callable[[str], bool]:
    return pipeline.ignored(Path(root))


@functools.cache
def _real(folder: str) -> str:
    return os.path.realpath(_watch.root + folder).replace(os.sep, "/")


def _may_read(touch: Touch, declared: Declared) -> bool:
    whole = (touch.name, "") in declared.params
    return whole or _within(touch.name, (*declared.outs, *OWN)) or _hashed(touch, declared)


def _may_write(touch: Touch, declared: Declared) -> bool:
    return _within(touch.name, (*declared.outs, *OWN))


def _may_take(touch: Touch, declared: Declared) -> bool:
    return any(
        touch.file == file and covers(key, touch.file, touch.name) for file, key in declared.params
    ) or _within(touch.file, declared.deps)


def covers(key: str, file: str, name: str) -> bool:
    """Whether a parameter that is declared, by its key or none for all of a file, covers another.

    Args:
        key: What is declared of ``file``.
        file: A file of parameters.
        name: A key in it.
    """
    if name == key:
        return True
    inside = not key or name.startswith(f"{key}.")
    # The sizes of the catalogues' files stand beside a SHA-256, by which each is known
    pinned = file in CATALOGUES and ".files." in name
    return inside and (pinned or name.rpartition(".")[2] not in PASSED_OVER)


Rule = Callable[[Touch, Declared], bool]
_DEP = "Add `- {name}` to the deps of {stage} in dvc.yaml"
RULES: dict[str, tuple[Rule, str]] = {
    "read": (_may_read, _DEP),
    "take": (lambda touch, declared: declared.network or _may_read(touch, declared), _DEP),
    "list": (_may_read, _DEP),
    "import": (_hashed, _DEP),
    "write": (_may_write, "Add `- {name}` to the outs of {stage} in dvc.yaml"),
    "param": (
        _may_take,
        "Add `- {file}: [{name}]` to the params of {stage} in dvc.yaml",
    ),
    "start": (
        lambda _, __: False,
        "Do it in Python, or beforehand, and add what it makes as a dep",
    ),
    "connect": (
        lambda _, declared: declared.network,
        "Fetch it in download, or add `meta: {{network: true}}` to {stage} in dvc.yaml",
    ),
}
WORDS = {
    "read": "opens {}",
    "take": "opens {}",
    "list": "lists the folder {}",
    "import": "imports {}",
    "write": "writes {}",
    "param": "reads {}",
    "start": "starts {}",
    "connect": "connects to {}",
}


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    handlers = HANDLERS.get(event)
    if handlers is None or not _watch.active or _watch.resting == threading.get_ident():
        return
    for handle in handlers:
        touch = handle(arguments, sys._getframe(1))
        if touch is None:
            continue
        if _watch.declared is None:
            _watch.notes.append(touch)
        elif message := _judge(touch):
            raise Refused(message)


def _open(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    path = None if isinstance(arguments[0], int) else inside(arguments[0])
    if path is None:
        return None
    mode, flags = str(arguments[1] or ""), int(arguments[2] or 0)
    write = bool(set(mode) & set("wxa+") or flags & _ACCESS)
    bare = arguments[1] is None and not os.path.isabs(arguments[0])
    if bare and not write and not os.path.lexists(arguments[0]):
        return None  # a name relative to an open folder, which was judged itself
    caller = frame.f_code.co_filename
    if not os.path.isabs(arguments[0]) and (caller, frame.f_code.co_name) in _WALKERS:
        return None  # likewise, though something here has that name
    if caller.startswith("<frozen importlib"):
        source = _COMPILED.sub(r"\1\2.py", path)
        if write:
            return None  # compiled code
        if source.endswith((".py", ".so", ".pyd")):
            return Touch("import", source, "", _place(frame))
    innermost = _innermost(frame)
    if not write and (path in CONFIGURATION or innermost == READER):
        return _configuration(path, frame)
    if _harmless(frame):
        return None
    if not write and os.path.isdir(arguments[0]):
        return _list(arguments, frame)
    place = _place(frame)
    pinned = place.startswith(TAKER) and _within(path, [PINNED])
    return Touch("write" if write else "take" if pinned else "read", path, "", place)


def _configuration(path: str, frame: FrameType | None) -> Touch | None:
    """Single keys are announced one by one; whoever reads all of the file needs all of it."""
    entry = caller = ""
    for name, found in _repository(frame):
        if name == READER:
            continue
        if name != CONFIG:
            caller = name
            break
        entry = found.f_code.co_name
    if entry and (entry not in ("read", "checked") or caller == CATALOGUE):
        return None
    if not entry and _harmless(frame):
        return None
    return Touch("param", "", path, _place(frame))


def _list(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    path = inside(arguments[0] if arguments[0] is not None else ".")
    if frame.f_code.co_filename.endswith("room.py") and frame.f_back:
        frame = frame.f_back  # the hermetic run lists backwards
    caller = frame.f_code.co_filename.replace("\\", "/")
    if path is None or caller.startswith("<frozen importlib") or "importlib/metadata" in caller:
        return None  # Python looks for modules, and for installed libraries
    innermost = _innermost(frame)
    if innermost == FILES or path in LISTED.get(innermost, ()) or _harmless(frame):
        return None
    return Touch("list", path or ".", "", _place(frame))


def _source(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    """The old name of what is linked or moved."""
    return _named("read", _at(arguments[0], arguments[2]), frame)


def _pointed_at(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    """What a symbolic link leads to, which is named from its own folder."""
    name, link = (os.fsdecode(argument) for argument in arguments[:2])
    return _named("read", _at(Path(link).parent / name, arguments[2]), frame)


def _target(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    """The new name of what is linked or moved."""
    return _named("write", _at(arguments[1], arguments[-1]), frame)


def _removed(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    """The old name of what is removed or moved, if it is there."""
    folder = arguments[1] if len(arguments) == 2 else arguments[2]
    name = _at(arguments[0], folder)
    return _named("write", name, frame) if name is not None and os.path.lexists(name) else None


def _truncated(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    return _named("write", arguments[0], frame)


def _at(name: Any, folder: int) -> Any:
    """A name as seen from here, which may be given from an open folder."""
    if folder == -1 or os.path.isabs(name):
        return name
    try:
        return Path(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(name))
    except OSError:
        return None  # where the system does not tell


def _named(kind: str, name: object, frame: FrameType) -> Touch | None:
    path = inside(name)
    if frame.f_code.co_filename.startswith("<frozen importlib"):
        return None  # compiled code is moved into place
    if path is None or _innermost(frame) == FILES or _harmless(frame):
        return None
    return Touch(kind, path, "", _place(frame))


def _database(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    name = os.fsdecode(arguments[0])
    if name in ("", ":memory:"):
        return None
    if name.startswith("file:"):
        from urllib import parse  # seldom wanted

        name = parse.unquote(parse.urlsplit(name).path)
    path = inside(name)
    if path is None or _harmless(frame):
        return None
    return Touch("read", path, "", _place(frame))


def _extension(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    if _STARTERS.match(str(arguments[0])):
        return None if _importing(frame) else _start(arguments[:1], frame)
    name = arguments[1] if len(arguments) > 1 else arguments[0]
    path = inside(name) if name else None
    return Touch("import", path, "", _place(frame)) if path else None


def _library(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    path = inside(arguments[0]) if arguments[0] and os.sep in str(arguments[0]) else None
    return Touch("read", path, "", _place(frame)) if path else None


def _param(arguments: tuple[Any, ...], frame: FrameType) -> Touch:
    return Touch("param", str(arguments[1]), str(arguments[0]), _place(frame))


def _start(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    if _harmless(frame) or _importing(frame):
        return None
    name = arguments[0] if arguments else ""
    if name is None and len(arguments) > 1:
        name = arguments[1]
    if isinstance(name, list | tuple):
        name = name[0] if name else ""
    program = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""
    return Touch("start", Path(program).name or "a process", "", _place(frame))


def _shell(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    return _start((os.fsdecode(arguments[0]).split(maxsplit=1)[:1],), frame)


def _connect(arguments: tuple[Any, ...], frame: FrameType) -> Touch | None:
    if _harmless(frame) or _importing(frame):
        return None
    address = arguments[-1] if len(arguments) == 2 else arguments[0]
    host = address[0] if isinstance(address, tuple) and address else address
    return Touch("connect", str(host or "a socket"), "", _place(frame))


Handler = Callable[[tuple[Any, ...], FrameType], Touch | None]
HANDLERS: dict[str, tuple[Handler, ...]] = {
    "open": (_open,),
    "os.listdir": (_list,),
    "os.scandir": (_list,),
    "os.link": (_source, _target),
    "os.symlink": (_pointed_at, _target),
    "os.rename": (_source, _target, _removed),
    "os.remove": (_removed,),
    "os.truncate": (_truncated,),
    "sqlite3.connect": (_database,),
    "import": (_extension,),
    "ctypes.dlopen": (_library,),
    "stages.param": (_param,),
    "subprocess.Popen": (_start,),
    "os.system": (_shell,),
    "os.exec": (_start,),
    "os.posix_spawn": (_start,),
    "os.spawn": (_start,),
    "os.startfile": (_start,),
    "os.fork": (_start,),
    "os.forkpty": (_start,),
    "socket.bind": (_connect,),
    "socket.connect": (_connect,),
    "socket.getaddrinfo": (_connect,),
    "socket.gethostbyname": (_connect,),
    "socket.gethostbyaddr": (_connect,),
    "socket.sendto": (_connect,),
}


def inside(path: object) -> str | None:
    """The path relative to the top folder, as dvc.yaml names it; None if it lies elsewhere."""
    root = _watch.root
    if isinstance(path, str) and _PROCESS.match(path):
        path = os.path.realpath(path)
    if isinstance(path, str) and path.startswith(_watch.outside) and ".." not in path:
        return None  # most of all that Python opens
    if isinstance(path, int):
        try:
            path = os.readlink(f"/proc/self/fd/{path}")
        except OSError:
            return None
        if not os.path.isabs(path):
            return None  # a pipe
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    text = os.fsdecode(path)
    full = os.path.abspath(text)
    if f"{full}{os.sep}".startswith(_watch.outside):
        return None
    if not full.startswith(root) or ".." in text:
        if full + os.sep != root:
            full = os.path.realpath(text)
        if full + os.sep == root:
            return ""
        if not full.startswith(root):
            return None
    if "site-packages" in full[len(root) :]:
        return None
    return _TEMPORARY.sub(r"\1\2", full[len(root) :].replace(os.sep, "/"))


def _repository(frame: FrameType | None) -> Iterable[tuple[str, FrameType]]:
    """The frames of the repository's own code, innermost first, with their files."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_watch.root) and not name.startswith(_watch.outside):
            yield name[len(_watch.root) :].replace(os.sep, "/"), frame
        elif name[:1] not in ("/", "<", "\\") and name[1:2] != ":" and Path(name).is_file():
            yield name.replace(os.sep, "/"), frame
        frame = frame.f_back


def _innermost(frame: FrameType | None) -> str:
    return next((name for name, _ in _repository(frame)), "")


def _place(frame: FrameType | None) -> str:
    """The innermost line of the repository's code that is none of the core's."""
    place = ""
    for name, found in _repository(frame):
        place = place or f"{name}:{found.f_lineno}"
        if not name.startswith(CORE) and name != "stages/__init__.py":
            return f"{name}:{found.f_lineno}"
    return place or "another thread"


def _harmless(frame: FrameType | None) -> bool:
    """Whether a debugger, a profiler or coverage does it for itself."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_watch.root) and not name.startswith(_watch.outside):
            return False
        home = next((folder for folder in _PYTHONS if name.startswith(folder)), os.sep)
        if name in _PROFILERS or _WATCHERS.search(name, len(home) - 1):
            return True  # whatever the folders are called that Python itself lies in
        frame = frame.f_back
    return False


def _importing(frame: FrameType | None) -> bool:
    """Whether a library does it while it is being imported."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_watch.root) and not name.startswith(_watch.outside):
            return False
        if name.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _imported() -> Iterable[Touch]:
    """The modules of the repository that are loaded."""
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        path = inside(name) if isinstance(name, str) else None
        if path and path.endswith((".py", ".so", ".pyd")):
            yield Touch("import", path, "", path)
