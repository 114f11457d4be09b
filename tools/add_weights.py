"""Adds weights that a training can start from: a model of this project, or of keras.applications.

    python -m tools.add_weights PATH_OR_URL [--name NAME] [--replace]

It keeps the file as data/own/NAME.* by `dvc add` (what comes from an address is fetched from there
again), and writes the entry into weights.yaml. docs/transfer-learning.md says how it is used.
"""

import argparse
import re
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from stages.download import OWN
from stages.lib import model_file
from stages.lib.core import config
from stages.lib.core.errors import UserError
from stages.lib.data import catalogue
from tools.lib import command, own_files

_HDF5 = b"\x89HDF\r\n\x1a\n"


def name_for(source: str) -> str:
    """A name for weights, from the last part of their path or address."""
    last = urllib.parse.unquote(source.rstrip("/\\").replace("\\", "/").rpartition("/")[2])
    stem = re.sub(
        r"\.(keras|(weights\.)?h5|hdf5)$", "", last.partition("?")[0], flags=re.IGNORECASE
    )
    return re.sub(r"\W+", "_", stem).strip("_").lower() or "own"


def look_at(path: Path, source: str) -> str:
    """The suffix for a file of weights, and a line about it on the standard output.

    Raises:
        UserError: It is none.
    """
    if not path.is_file():
        raise UserError(f"{source}: expected a .keras or .h5 file, found a folder.\nName the file.")
    with path.open("rb") as stream:
        start = stream.read(len(_HDF5))
    if start == _HDF5:
        print(f"Weights in HDF5, {path.stat().st_size:,} bytes; train says whether they fit.")
        own = source.partition("?")[0].lower().endswith(".weights.h5")  # Keras knows it by the name
        return ".weights.h5" if own else ".h5"
    try:
        names = model_file.read_metadata(path).class_names
    except UserError as error:
        found = str(error).partition("found: ")[2].partition(".\n")[0]
        raise UserError(
            f"{source}: expected a model that train wrote, or weights in HDF5, found: {found}.\n"
            "Give models/model.keras of a training, or a file that keras.applications publishes."
        ) from None
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    print(f"A model of this project for {len(names)} classes: {shown}")
    return ".keras"


def add(source: str, name: str) -> str:
    """Brings weights in and returns the suffix of their file.

    Raises:
        UserError: They cannot be used.
    """
    with own_files.workplace() as temporary:
        given, urls = own_files.arrive(source, "weights", temporary)
        suffix = look_at(given, source)
        path = given if urls else OWN / f"{name}{suffix}"
        if not path.name.endswith(suffix):
            raise UserError(
                f"{source}: expected the ending {suffix} of such a file, found {path.name}.\n"
                "Fetch it by hand, and give its path."
            )
        own_files.refuse_taken([path])
        before = own_files.kept(config.WEIGHTS, name)
        with own_files.put_back_on_failure([] if urls else [path], temporary):
            if not urls:
                own_files.keep(given, path)
                own_files.track([path])
            with own_files.edited(config.WEIGHTS, name) as entry:
                entry["urls"] = own_files.in_line(urls)
                entry["files"] = {"values": own_files.published(path)}
    own_files.refresh_schemas()
    own_files.tell_unused(before - {path})
    return suffix


def main(arguments: Sequence[str] | None = None) -> None:
    """Adds the weights and says how to start from them."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.add_weights",
        description=(__doc__ or "").splitlines()[0],
        epilog="Example: python -m tools.add_weights models/model.keras --name leaves",
    )
    parser.add_argument(
        "source", help="a .keras or .h5 file, or an address with http:// or https://"
    )
    parser.add_argument("--name", help="of the weights; by default from the source")
    parser.add_argument("--replace", action="store_true", help="an entry of that name")
    options = parser.parse_args(arguments)
    name = options.name or name_for(options.source)
    own_files.checked_name(name, config.WEIGHTS, options.replace and name != catalogue.NO_WEIGHTS)
    suffix = add(options.source, name)
    print(f"{config.WEIGHTS} has the entry {name}; fill in its title, licence and citation.")
    print("To start from it, set in params.yaml\n  model:")
    if suffix != ".keras":
        print("    architecture: pretrained\n    pretrained:\n      backbone: ITS_NAME_IN_KERAS")
    print(f"    weights: {own_files.as_text(name)}\nand run `dvc repro`.")


if __name__ == "__main__":
    sys.exit(command.ended(main))
