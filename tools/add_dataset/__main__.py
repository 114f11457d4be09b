"""Adds a data set of your own: a folder or archive of images, an .npz, IDX files, or an address.

    python -m tools.add_dataset PATH_OR_URL [--name NAME] [--replace]

It says what it finds, keeps the data as data/own/NAME.* by `dvc add` (what comes from an address is
fetched from there again), and writes the entry into datasets.yaml. docs/own-images.md says how
images are laid out.
"""

import argparse
import re
import sys
import urllib.parse
from collections.abc import Sequence

from stages.download import OWN
from stages.lib.core import config
from tools.add_dataset import catalogue_entry, contents
from tools.add_dataset.contents import Contents
from tools.lib import command, own_files


def name_for(source: str) -> str:
    """A name for a data set, from the last part of its path or address."""
    stem = urllib.parse.unquote(source.rstrip("/\\").replace("\\", "/").rpartition("/")[2])
    stem = re.sub(r"\.(zip|npz|tar|tar\.gz|tgz)$", "", stem.partition("?")[0], flags=re.IGNORECASE)
    return re.sub(r"\W+", "_", stem).strip("_").lower() or "own"


def add(source: str, name: str) -> Contents:
    """Brings a data set in and returns what it is.

    Raises:
        UserError: It cannot be used.
    """
    with own_files.workplace() as temporary:
        path, urls = own_files.arrive(source, name, temporary)
        found = contents.look_at(path, temporary / f"packed{own_files.MADE}")
        for line in found.lines:
            print(line)
        paths = dict(found.files)
        if not urls:
            paths = {
                part: OWN / (f"{name}{found.suffix}" if found.suffix else f"{name}-{file.name}")
                for part, file in found.files.items()
            }
        own_files.refuse_taken(paths.values())
        before = own_files.kept(config.DATASETS, name)
        if not urls:
            with own_files.put_back_on_failure(paths.values(), temporary):
                for part, path in paths.items():
                    own_files.keep(found.files[part], path)
                own_files.track(list(paths.values()))
                catalogue_entry.write(name, found, paths, urls)
        else:
            catalogue_entry.write(name, found, paths, urls)
    own_files.refresh_schemas()
    own_files.tell_unused(before - set(paths.values()))
    return found


def advice(name: str, found: Contents) -> str:
    """What to set in params.yaml to train on the data set."""
    lines = ["To train on it, set in params.yaml", f"  dataset: {own_files.as_text(name)}"]
    if found.settings:
        lines += ["  normalize:", *(f"    {key}: {value}" for key, value in found.settings.items())]
    lines += ["and run `dvc repro`."]
    if found.format == "images":
        lines += ["For photos, docs/own-images.md names a network to begin with."]
    return "\n".join(lines)


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
    name = own_files.checked_name(
        options.name or name_for(options.source), config.DATASETS, options.replace
    )
    found = add(options.source, name)
    print(f"{config.DATASETS} has the entry {name}; fill in its title, licence and citation.")
    print(advice(name, found))


if __name__ == "__main__":
    sys.exit(command.ended(main))
