"""Files of one's own: brought to data/own/, kept by DVC, and an entry of a catalogue about them."""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from stages.download import EMBEDDED, OWN
from stages.lib.core import config, files, yaml_file
from stages.lib.core.errors import UserError
from stages.lib.data import fetch

MADE = ".tmp"  # ends the names of files that are made here
_DAY = 24 * 60 * 60


def checked_name(name: str, catalogue: str, replace: bool) -> str:
    """The name itself, of an entry of a catalogue.

    Raises:
        UserError: It cannot be one, or is taken.
    """
    if not re.fullmatch(r"\w[\w-]*", name):
        raise UserError(
            f"--name: expected letters, digits, _ and -, found '{name}'.\nGive another name."
        )
    if name in config.read(catalogue) and not replace:
        raise UserError(
            f"{catalogue}: expected a new name, found an entry {name}.\n"
            "Give another by --name, or --replace it."
        )
    return name


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A folder in data/own for what is being made, gone afterwards; SIGTERM ends it in order too.

    What a killed process left there goes a day later.
    """
    OWN.mkdir(parents=True, exist_ok=True)
    for left in OWN.glob(f".*{MADE}"):
        if time.time() - left.stat().st_mtime > _DAY:
            shutil.rmtree(left, ignore_errors=True)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with tempfile.TemporaryDirectory(prefix=".", suffix=MADE, dir=OWN) as temporary:
            yield Path(temporary)
    finally:
        signal.signal(signal.SIGTERM, before)


def arrive(source: str, name: str, folder: Path) -> tuple[Path, list[str]]:
    """The path of a source, and the addresses under which it is published.

    Args:
        source: A path, or an address, which is fetched.
        name: Of the entry.
        folder: For what is fetched and cannot be fetched again by prefix and name.

    Raises:
        UserError: There is none.
    """
    if not re.match(r"https?://", source):
        path = Path(source).expanduser()
        if not source.strip() or not path.exists():
            raise UserError(
                f"{source or 'source'}: expected a folder, a file or an address, found nothing "
                "there.\nCorrect the path."
            )
        return path, []
    prefix, _, last = source.rpartition("/")
    plain = re.fullmatch(r"\w[\w.+-]*", last) is not None
    target = (fetch.cache_folder() / name if plain else folder) / (
        last if plain else f"fetched{MADE}"
    )
    fetch.save(source, target)
    return target, [f"{prefix}/"] if plain else []


def keep(source: Path, path: Path) -> None:
    """Puts a file into data/own: moved if it was made for that, else copied."""
    with files.replacing(path) as temporary:
        if source.suffix == MADE:
            source.replace(temporary)
        else:
            shutil.copyfile(source, temporary)


@contextlib.contextmanager
def put_back_on_failure(paths: Iterable[Path], folder: Path) -> Iterator[None]:
    """A block that replaces files of data/own, after whose failure they are as they were.

    Args:
        paths: The files.
        folder: For those that are there before.
    """
    listed = list(paths)
    notes = [OWN / ".gitignore", *(path.with_name(f"{path.name}.dvc") for path in listed)]
    before = {note: note.read_bytes() for note in notes if note.is_file()}
    aside = {path: folder / f"before-{path.name}" for path in listed if path.is_file()}
    for path, place in aside.items():
        _second_name(path, place)
    try:
        yield
    except BaseException:
        for path in {*listed, *notes} - {*aside, *before}:
            path.unlink(missing_ok=True)
        for path, place in aside.items():
            place.replace(path)
        for note, content in before.items():
            note.write_bytes(content)
        raise


def _second_name(path: Path, place: Path) -> None:
    """Gives a file a second name, under which it stays when the first one is replaced."""
    try:
        place.hardlink_to(path)
    except OSError:  # a file system without links
        shutil.copyfile(path, place)


def track(paths: Sequence[Path]) -> None:
    """Lets DVC keep files, so that `dvc push` and `dvc pull` carry them and Git does not.

    Raises:
        UserError: DVC refuses.
    """
    command = ["dvc", "add", *(path.as_posix() for path in paths)]
    if reason := run(*command):
        raise UserError(f"dvc add {paths[0].as_posix()}: {reason}.\nMend that and run again.")


def kept(catalogue: str, name: str) -> set[Path]:
    """The files of an entry that lie in data/own, and that no other entry names."""
    entries = config.read(catalogue)
    mine, others = set[str](), set[str]()
    for key, entry in entries.items():
        listed = entry.get("files") if isinstance(entry, dict) else None
        each = listed.values() if isinstance(listed, dict) else ()
        names = {str(file["name"]) for file in each if isinstance(file, dict) and "name" in file}
        (mine if key == name else others).update(names)
    paths = (OWN / each for each in mine - others)
    return {path for path in paths if path.with_name(f"{path.name}.dvc").is_file()}


def tell_unused(paths: Iterable[Path]) -> None:
    """Names files that an entry had before, each with the command that removes it."""
    for path in sorted(paths):
        print(f"{path.as_posix()} is no longer used: `dvc remove --outs {path.as_posix()}.dvc`")


def refresh_schemas() -> None:
    """Lets editors know the new name; where they cannot, nothing is lost."""
    run("tools.schema")


def run(*command: str) -> str:
    """Runs a module and returns why it failed; empty when it did not."""
    done = subprocess.run(  # noqa: S603 commands of this file
        [sys.executable, "-m", *command],
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    first = done.stderr.strip().partition("\n")[0]  # a traceback of DVC's may come behind it
    reason = " ".join(first.split()).removeprefix("ERROR: ").rstrip(".")
    return (reason[:300] or f"exit status {done.returncode}") if done.returncode else ""


def refuse_taken(paths: Iterable[Path]) -> None:
    """Refuses names under which Git holds a file, which download would take first.

    Raises:
        UserError: One is taken.
    """
    for path in paths:
        if (EMBEDDED / path.name).exists():
            raise UserError(
                f"{(EMBEDDED / path.name).as_posix()}: expected no file of that name there, as it "
                "would be taken first.\nGive another --name."
            )


@contextlib.contextmanager
def edited(catalogue: str, name: str) -> Iterator[CommentedMap]:
    """A block that changes an entry of a catalogue, and leaves the rest of the file as it is.

    Args:
        catalogue: The file.
        name: Of the entry, which is made where there is none.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(Path(catalogue).read_text(encoding="utf-8"))
    if content.get(name) is None:
        content.yaml_set_comment_before_after_key(name, before="\n")
        content[name] = CommentedMap(title=name, licence="unknown", citation="unknown")
    yield content[name]
    stream = io.StringIO()
    yaml.dump(content, stream)
    yaml_file.parse(stream.getvalue(), catalogue)  # what could not be read is not written
    files.write_text(Path(catalogue), stream.getvalue())


def in_line(items: Iterable[object]) -> CommentedSeq:
    """A list as YAML writes it on one line."""
    sequence = CommentedSeq(items)
    sequence.fa.set_flow_style()
    return sequence


def published(path: Path) -> dict[str, object]:
    """A file as a catalogue lists it: its name, its SHA-256, its size in bytes."""
    return {"name": path.name, "sha256": files.sha256(path), "size": path.stat().st_size}


def as_text(name: str) -> str:
    """A name as YAML wants it to be read as a text, such as that of a year."""
    try:
        plain = yaml_file.parse(f"name: {name}", config.PARAMS) == {"name": name}
    except UserError:
        plain = False
    return name if plain else f'"{name}"'
