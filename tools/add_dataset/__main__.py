"""Adds a data set of your own: a folder or archive of images, an .npz, IDX files, or an address.

    python -m tools.add_dataset PATH_OR_URL [--name NAME] [--replace]

It says what it finds, keeps the data as data/own/NAME.* by `dvc add` (what comes from an address is
fetched from there again), and writes the entry into datasets.yaml. docs/own-images.md says how
images are laid out.
"""

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from stages.download import EMBEDDED, OWN
from stages.lib.core import config, errors, files, yaml_file
from stages.lib.core.errors import UserError
from stages.lib.data import fetch
from tools.add_dataset import catalogue_entry, contents
from tools.add_dataset.contents import Contents

MADE = ".tmp"  # ends the names of files that are made here


def name_for(source: str) -> str:
    """A name for a data set, from the last part of its path or address."""
    stem = urllib.parse.unquote(source.rstrip("/\\").replace("\\", "/").rpartition("/")[2])
    stem = re.sub(r"\.(zip|npz|tar|tar\.gz|tgz)$", "", stem.partition("?")[0], flags=re.IGNORECASE)
    return re.sub(r"\W+", "_", stem).strip("_").lower() or "own"


def checked_name(name: str, replace: bool) -> str:
    """The name itself.

    Raises:
        UserError: It cannot be one, or is taken.
    """
    if not re.fullmatch(r"\w[\w-]*", name):
        raise UserError(
            f"--name: expected letters, digits, _ and -, found '{name}'.\nGive another name."
        )
    if name in config.read(config.DATASETS) and not replace:
        raise UserError(
            f"{config.DATASETS}: expected a new name, found an entry {name}.\n"
            "Give another by --name, or --replace it."
        )
    return name


def arrive(source: str, name: str, folder: Path) -> tuple[Path, list[str]]:
    """The path of a source, and the addresses under which it is published.

    Args:
        source: A path, or an address, which is fetched.
        name: The data set.
        folder: For what is fetched and cannot be fetched again by prefix and name.

    Raises:
        UserError: There is none.
    """
    if not re.match(r"https?://", source):
        path = Path(source).expanduser()
        if not path.exists():
            raise UserError(
                f"{source}: expected a folder, a file or an address, found nothing there.\n"
                "Correct the path."
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


def refresh_schemas() -> None:
    """Lets editors know the new name; where they cannot, nothing is lost."""
    run("tools.schema")


def run(*command: str) -> str:
    """Runs a module and returns why it failed; empty when it did not."""
    done = subprocess.run(  # noqa: S603 commands of this file
        [sys.executable, "-m", *command], capture_output=True, encoding="utf-8", check=False
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


def add(source: str, name: str) -> Contents:
    """Brings a data set in and returns what it is.

    Raises:
        UserError: It cannot be used.
    """
    OWN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", suffix=MADE, dir=OWN) as temporary:
        path, urls = arrive(source, name, Path(temporary))
        found = contents.look_at(path, Path(temporary, f"packed{MADE}"))
        for line in found.lines:
            print(line)
        paths = dict(found.files)
        if not urls:
            paths = {
                part: OWN / (f"{name}{found.suffix}" if found.suffix else f"{name}-{file.name}")
                for part, file in found.files.items()
            }
        refuse_taken(paths.values())
        if not urls:
            with put_back_on_failure(paths.values(), Path(temporary)):
                for part, path in paths.items():
                    keep(found.files[part], path)
                track(list(paths.values()))
                catalogue_entry.write(name, found, paths, urls)
        else:
            catalogue_entry.write(name, found, paths, urls)
    refresh_schemas()
    return found


def advice(name: str, found: Contents) -> str:
    """What to set in params.yaml to train on the data set."""
    lines = ["To train on it, set in params.yaml", f"  dataset: {_as_text(name)}"]
    if found.settings:
        lines += ["  normalize:", *(f"    {key}: {value}" for key, value in found.settings.items())]
    return "\n".join([*lines, "and run `dvc repro`."])


def _as_text(name: str) -> str:
    """A name as YAML wants it to be read as a text, such as that of a year."""
    try:
        plain = yaml_file.parse(f"name: {name}", config.PARAMS) == {"name": name}
    except UserError:
        plain = False
    return name if plain else f'"{name}"'


def main(arguments: Sequence[str] | None = None) -> None:
    """Adds the data set and says how to train on it."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.add_dataset",
        description=(__doc__ or "").splitlines()[0],
        epilog="Example: python -m tools.add_dataset photos/leaves --name leaves",
    )
    parser.add_argument("source", help="a folder, a file, or an address with http:// or https://")
    parser.add_argument("--name", help="of the data set; by default from the source")
    parser.add_argument("--replace", action="store_true", help="an entry of that name")
    options = parser.parse_args(arguments)
    name = checked_name(options.name or name_for(options.source), options.replace)
    found = add(options.source, name)
    print(f"{config.DATASETS} has the entry {name}; fill in its title, licence and citation.")
    print(advice(name, found))


if __name__ == "__main__":
    try:
        main()
    except (UserError, OSError, MemoryError) as error:
        sys.exit(f"ERROR: {errors.message(error)}")
