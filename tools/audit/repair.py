"""Changes to the text of dvc.yaml that leave its comments and layout as they are."""

import io
from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML

from stages.lib.core import config
from tools.audit.finding import Change


def repaired(text: str, changes: Iterable[Change]) -> str:
    """``text`` with the entries added and removed.

    Args:
        text: The content of dvc.yaml.
        changes: What to add and to remove.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(text)
    for change in sorted(set(changes)):
        stage = content["stages"][change.stage]
        if change.section not in stage:
            before = [name for name in ("cmd", "deps", "params") if name in stage]
            stage.insert(list(stage).index(before[-1]) + 1, change.section, [])
        entries = stage[change.section]
        if change.file in ("", config.PARAMS) and change.entry:
            _apply(entries, change)
        else:
            _apply_to_file(entries, change)
        if not entries:
            del stage[change.section]
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def _apply(entries: Any, change: Change) -> None:
    if not change.add:
        for at, entry in reversed(list(enumerate(entries))):
            if _plain(entry) == _plain(change.entry):
                _delete(entries, at)
                return
        return
    names = [entry if isinstance(entry, str) else "~" for entry in entries]
    plain = [name for name in names if name != "~"]
    at = len(plain)
    if plain == sorted(plain):
        at = sum(name < change.entry for name in plain)
    entries.insert(at, change.entry)


def _apply_to_file(entries: Any, change: Change) -> None:
    """The same in the list of one file's keys, which comes and goes with them."""
    for at, entry in enumerate(entries):
        if isinstance(entry, dict) and change.file in entry:
            keys = entry[change.file]
            if keys is not None and change.entry:
                _apply(keys, change)
            if not change.add and not (keys and change.entry):
                del entry[change.file]
                if not entry:
                    _delete(entries, at)
            return
    if change.add:
        entries.append({change.file: [change.entry] if change.entry else None})


def _delete(entries: Any, at: int) -> None:
    """Deletes an item and leaves the comments of the one before it where they are."""
    del entries[at]


def _plain(text: object) -> str:
    return str(text).replace("${ ", "${").replace(" }", "}").rstrip("/")
