"""An entry of datasets.yaml, written so that the rest of the file stays as it is."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from stages.lib.core import config, files, yaml_file
from tools.add_dataset.contents import Contents


def write(name: str, found: Contents, paths: Mapping[str, Path], urls: Sequence[str]) -> None:
    """Adds an entry, or brings an older one of that name up to date.

    Args:
        name: The data set.
        found: What it is.
        paths: Its files by their parts.
        urls: The folders that publish them.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = Path(config.DATASETS).read_text(encoding="utf-8")
    content = yaml.load(text)
    entry = content.get(name)
    if entry is None:
        content.yaml_set_comment_before_after_key(name, before="\n")
        entry = content[name] = CommentedMap(title=name, licence="unknown", citation="unknown")
    entry["format"] = found.format
    entry["urls"] = _in_line(urls)
    entry["files"] = {
        part: {"name": path.name, "sha256": files.sha256(path), "size": path.stat().st_size}
        for part, path in paths.items()
    }
    pixel_max = found.pixel_max
    entry["pixel_max"] = int(pixel_max) if pixel_max == int(pixel_max) else pixel_max
    english: Any = [DoubleQuotedScalarString(each) for each in found.class_names]
    if sum(len(each) + 4 for each in english) < 80:  # else a line each
        english = _in_line(english)
    if not _names(entry.get("class_names"), found.class_names):
        entry["class_names"] = english
    stream = io.StringIO()
    yaml.dump(content, stream)
    yaml_file.parse(stream.getvalue(), config.DATASETS)  # what could not be read is not written
    files.write_text(Path(config.DATASETS), stream.getvalue())


def _in_line(items: Any) -> CommentedSeq:
    sequence = CommentedSeq(items)
    sequence.fa.set_flow_style()
    return sequence


def _names(class_names: Any, english: list[str]) -> bool:
    """Whether an entry has these names already, perhaps with those of another language."""
    if isinstance(class_names, dict):
        class_names = class_names.get("en")
    return list(class_names or []) == english
