"""Download: the published files of the configured data set, verified, in data/raw/."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from stages.lib.core import config, files, stage, versions
from stages.lib.core.errors import UserError
from stages.lib.data import catalogue, fetch

EMBEDDED = Path("data/embedded")
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


def main(settings: Settings) -> None:
    """Writes data/raw/ whole or not at all."""
    in_git = {path.name for path in EMBEDDED.iterdir()}
    with files.replacing(RAW) as temporary:
        temporary.mkdir()
        for file in settings.entry.files.values():
            remote = fetch.RemoteFile(
                settings.dataset, file.name, file.sha256, settings.entry.urls, file.size
            )
            source = embedded(file) if file.name in in_git else fetch.fetch(remote)
            shutil.copyfile(source, temporary / file.name)
            print(f"{file.name}: {source.stat().st_size:,} bytes, SHA-256 as published")
    print(f"{settings.dataset}: {len(settings.entry.files)} files in {RAW.as_posix()}/")


if __name__ == "__main__":
    stage.run(read_settings, main)
