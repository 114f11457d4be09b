"""Download: the published files of the configured data set, verified, in data/raw/."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from stages.lib.core import config, files, stage, versions
from stages.lib.core.errors import UserError
from stages.lib.data import catalogue, fetch

EMBEDDED = Path("data/embedded")
OWN = Path("data/own")  # no dep: which of its files is taken, the SHA-256 in datasets.yaml says
RAW = Path("data/raw")


class Entry(config.Schema, frozen=True):
    """What this stage reads of the catalogue's entry."""

    urls: list[str]
    files: dict[str, catalogue.File]


@dataclass(frozen=True)
class Settings:
    """What the result depends on."""

    dataset: str
    entry: Entry


def read_settings() -> Settings:
    """Reads and checks the configuration."""
    versions.require("msgspec", "pooch", "pyyaml", "requests")
    return Settings(*catalogue.active(Entry))


def embedded(file: catalogue.File) -> Path:
    """The path of a file that Git holds.

    Raises:
        UserError: Its content is not that of the catalogue.
    """
    path = EMBEDDED / file.name
    found = files.sha256(path)
    if found != file.sha256:
        raise UserError(
            f"{path.as_posix()}: expected SHA-256 {file.sha256}, found {found}.\n"
            f"Restore the file with `git checkout {path.as_posix()}`, or correct datasets.yaml."
        )
    return path


def own(file: catalogue.File) -> Path | None:
    """The path of a file that `dvc add` keeps; None where it is not there.

    Raises:
        UserError: Its content is not that of the catalogue.
    """
    path = OWN / file.name
    if not path.is_file():
        return None
    digest = files.sha256(path)
    if digest != file.sha256:
        raise UserError(
            f"{path.as_posix()}: expected SHA-256 {file.sha256}, found {digest}.\n"
            f"Restore the file with `dvc checkout {path.as_posix()}`, or add it again with "
            "`python -m tools.add_dataset`."
        )
    return path


def fetched(dataset: str, entry: Entry, file: catalogue.File) -> Path:
    """The path of a file in the cache of downloads.

    Raises:
        UserError: It is nowhere, and cannot be fetched.
    """
    try:
        return fetch.fetch(fetch.RemoteFile(dataset, file.name, file.sha256, entry.urls, file.size))
    except UserError:
        path = OWN / file.name
        if not Path(f"{path}.dvc").is_file():
            raise
        raise UserError(
            f"{path.as_posix()}: not found; Git holds what DVC knows of it, and not the file.\n"
            f"Run `dvc pull {path.as_posix()}`, or ask its owner to run `dvc push`."
        ) from None


def main(settings: Settings) -> None:
    """Writes data/raw/ whole or not at all."""
    dataset, entry = settings.dataset, settings.entry
    in_git = {path.name for path in EMBEDDED.iterdir()}
    with files.replacing(RAW) as temporary:
        temporary.mkdir()
        for file in entry.files.values():
            held = embedded(file) if file.name in in_git else own(file)
            source = held or fetched(dataset, entry, file)
            shutil.copyfile(source, temporary / file.name)
            print(f"{file.name}: {source.stat().st_size:,} bytes, SHA-256 as published")
    print(f"{dataset}: {len(entry.files)} files in {RAW.as_posix()}/")


if __name__ == "__main__":
    stage.run(read_settings, main)
