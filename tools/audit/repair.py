"""Changes to the text of dvc.yaml that leave its comments and layout as they are.

An item of a list is one line, which comes or goes, a comment at its end with it. Only where a list
begins or ends to exist, or stands in one line, is the text written anew by ruamel.yaml.
"""

import io
import json
import re
from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML

from stages.lib.core import config, pipeline
from stages.lib.core.errors import UserError
from tools.audit.finding import Change

_PLAIN = re.compile(r"[\w.$][\w./${}-]*")  # needs no quotes


def repaired(text: str, changes: Iterable[Change]) -> str:
    """``text`` with the entries added and removed.

    Args:
        text: The content of dvc.yaml.
        changes: What to add and to remove.
    """
    for change in sorted(set(changes)):
        stage = YAML().load(text)["stages"][change.stage]
        if stage.anchor.value or stage.merge:
            raise UserError(
                f"dvc.yaml: stages.{change.stage}: expected a stage of its own, found one that "
                "shares keys with another by `&` or `<<`.\nWrite it out, then run this again."
            )
        entries = _list(stage, change)
        if entries is not None and entries.anchor.value:
            raise UserError(
                f"dvc.yaml: stages.{change.stage}.{change.section}: expected a list of its own, "
                f"found one that `&{entries.anchor.value}` shares.\n"
                "Write it out for each stage, then run this again."
            )
        if entries and (change.add or len(entries) > 1) and not entries.fa.flow_style():
            text = _by_line(text, entries, change)
        else:
            text = _written_anew(text, change)
    return text


def _list(stage: Any, change: Change) -> Any:
    """The list that holds an entry, or would; None if there is none."""
    entries = stage.get(change.section)
    if entries is None or (change.file in ("", config.PARAMS) and change.entry):
        return entries
    if not change.entry:
        return None
    return next((each[change.file] for each in entries if _is_of(each, change.file)), None)


def _is_of(entry: object, file: str) -> bool:
    return isinstance(entry, dict) and file in entry


def _by_line(text: str, entries: Any, change: Change) -> str:
    lines = text.splitlines(keepends=True)
    if change.add:
        at = _place(entries, change.entry)
        line, column = entries.lc.item(max(at - 1, 0))
        column = lines[line].rindex("-", 0, column) if "-" in lines[line][:column] else column
        written = change.entry if _PLAIN.fullmatch(change.entry) else json.dumps(change.entry)
        lines.insert(line + (at > 0), f"{' ' * column}- {written}\n")
    else:
        names = [pipeline.plain(entry) for entry in entries]
        del lines[entries.lc.item(names.index(pipeline.plain(change.entry)))[0]]
    return "".join(lines)


def _place(entries: Any, entry: str) -> int:
    """Where an entry is put: after a text that sorts before it, where they are sorted."""
    names = [each for each in entries if isinstance(each, str)]
    count = sum(name < entry for name in names) if names == sorted(names) else len(names)
    return list(entries).index(names[count - 1]) + 1 if count else 0


def _written_anew(text: str, change: Change) -> str:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(text)
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
    if change.add:
        entries.insert(_place(entries, change.entry), change.entry)
        return
    for at, entry in reversed(list(enumerate(entries))):
        if pipeline.plain(entry) == pipeline.plain(change.entry):
            del entries[at]
            return


def _apply_to_file(entries: Any, change: Change) -> None:
    """The same in the list of one file's keys, which comes and goes with them."""
    for at, entry in enumerate(entries):
        if _is_of(entry, change.file):
            keys = entry[change.file]
            if keys is not None and change.entry:
                _apply(keys, change)
            if not change.add and not (keys and change.entry):
                del entry[change.file]
                if not entry:
                    del entries[at]
            return
    if change.add:
        entries.append({change.file: [change.entry] if change.entry else None})
