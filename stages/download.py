"""Download: the published files of data set and weights, verified, in data/raw/, data/weights/."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from stages.lib.core import config, files, stage, versions
from stages.lib.core.errors import UserError
from stages.lib.data import catalogue, fetch

EMBEDDED = Path("data/embedded")
OWN = Path("data/own")  # no dep: which of its files is taken, the SHA-256 in a catalogue says
RAW = Path("data/raw")
WEIGHTS = Path("data/weights")
SUMS = "SHA256SUMS"  # of the weights; without it DVC would warn of an empty folder


class Entry(config.Schema, frozen=True):
    """What this stage reads of an entry of datasets.yaml or weights.yaml."""

    urls: list[str]
    files: dict[str, catalogue.File]


@dataclass(frozen=True)
class Settings:
    """What the result depends on."""

    dataset: str
    entry: Entry
    weights: Entry


def read_settings() -> Settings:
    """Reads and checks the configuration."""
    versions.require("msgspec", "pooch", "pyyaml", "requests")
    _, weights = catalogue.active_weights(Entry)
    return Settings(*catalogue.active(Entry), weights)


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
            f"Restore the file with `git checkout {path.as_posix()}`, or correct its entry."
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
            "`python -m tools.add_dataset`, weights with `python -m tools.add_weights`."
        )
    return path


def fetched(folder: str, urls: list[str], file: catalogue.File, instead: str) -> Path:
    """The path of a file in the cache of downloads.

    Raises:
        UserError: It is nowhere, and cannot be fetched.
    """
    try:
        remote = fetch.RemoteFile(folder, file.name, file.sha256, urls, file.size, instead)
        return fetch.fetch(remote)
    except UserError:
        path = OWN / file.name
        if not Path(f"{path}.dvc").is_file():
            raise
        raise UserError(
            f"{path.as_posix()}: not found; Git holds what DVC knows of it, and not the file.\n"
            f"Run `dvc pull {path.as_posix()}`, or ask its owner to run `dvc push`."
        ) from None


def copy(entry: Entry, folder: str, target: Path, instead: str) -> None:
    """Copies the files of an entry into a new folder.

    Args:
        entry: Of a catalogue.
        folder: Of the files in mirrors and in the cache of downloads.
        target: The folder.
        instead: What to set in params.yaml to do without.

    Raises:
        UserError: One is nowhere, cannot be fetched, or has another content.
    """
    in_git = {path.name for path in EMBEDDED.iterdir()}
    target.mkdir()
    for file in entry.files.values():
        held = embedded(file) if file.name in in_git else own(file)
        source = held or fetched(folder, entry.urls, file, instead)
        shutil.copyfile(source, target / file.name)
        print(f"{file.name}: {source.stat().st_size:,} bytes, SHA-256 as published")


def main(settings: Settings) -> None:
    """Writes data/raw/ and data/weights/, each whole or not at all."""
    with files.replacing(RAW) as temporary:
        copy(settings.entry, settings.dataset, temporary, "dataset: digits")
    weights = settings.weights
    with files.replacing(WEIGHTS) as temporary:
        copy(weights, "weights", temporary, "model.weights: none")
        sums = catalogue.sums(weights.files)
        (temporary / SUMS).write_text(sums, encoding="utf-8", newline="\n")
    print(f"{settings.dataset}: {len(settings.entry.files)} files in {RAW.as_posix()}/")


if __name__ == "__main__":
    stage.run(read_settings, main)
