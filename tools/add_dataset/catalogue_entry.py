"""An entry of datasets.yaml, written so that the rest of the file stays as it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from stages.lib.core import config
from tools.add_dataset.contents import Contents
from tools.lib import own_files


def write(name: str, found: Contents, paths: Mapping[str, Path], urls: Sequence[str]) -> None:
    """Adds an entry, or brings an older one of that name up to date.

    Args:
        name: The data set.
        found: What it is.
        paths: Its files by their parts.
        urls: The folders that publish them.
    """
    with own_files.edited(config.DATASETS, name) as entry:
        entry["format"] = found.format
        entry["urls"] = own_files.in_line(urls)
        entry["files"] = {part: own_files.published(path) for part, path in paths.items()}
        pixel_max = found.pixel_max
        entry["pixel_max"] = int(pixel_max) if pixel_max == int(pixel_max) else pixel_max
        english: Any = [DoubleQuotedScalarString(each) for each in found.class_names]
        if sum(len(each) + 4 for each in english) < 80:  # else a line each
            english = own_files.in_line(english)
        if not _names(entry.get("class_names"), found.class_names):
            entry["class_names"] = english


def _names(class_names: Any, english: list[str]) -> bool:
    """Whether an entry has these names already, perhaps with those of another language."""
    if isinstance(class_names, dict):
        class_names = class_names.get("en")
    return list(class_names or []) == english
