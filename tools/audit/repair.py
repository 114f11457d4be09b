"""Changes to the text of dvc.yaml that leave its comments and layout as they are."""

import re
from collections.abc import Iterable, Sequence

import yaml

from stages.lib.core import config
from tools.audit import pipeline
from tools.audit.finding import Change

_ORDER = ("cmd", "deps", "params")  # a section that is new comes after the last of these


def repaired(text: str, changes: Iterable[Change]) -> str:
    """``text`` with the entries added and removed.

    Args:
        text: The content of dvc.yaml.
        changes: What to add and to remove; an entry to remove has to be there.
    """
    for change in sorted(set(changes)):
        text = _added(text, change) if change.add else _removed(text, change)
    return text


def _added(text: str, change: Change) -> str:
    stage = _stage(text, change.stage)
    entries = _value(stage, change.section)
    if not isinstance(entries, yaml.SequenceNode):
        before = [value for name in _ORDER if (value := _value(stage, name))][-1]
        margin = " " * stage.start_mark.column
        lines = _lines(change, f"{margin}  ")
        return _insert(text, _end(text, before), f"{margin}{change.section}:\n{lines}")
    if change.file in ("", config.PARAMS):
        plain = [node for node in entries.value if isinstance(node, yaml.ScalarNode)]
        return _with_item(text, entries, plain, change.entry)
    inner = _keys(entries, change.file)
    if inner is None:
        column = (
            entries.value[0].start_mark.column - 2 if entries.value else entries.start_mark.column
        )
        return _insert(text, _end(text, entries), _lines(change, " " * column))
    return _with_item(text, inner, inner.value, change.entry)


def _removed(text: str, change: Change) -> str:
    stage = _stage(text, change.stage)
    entries = _value(stage, change.section)
    if not isinstance(entries, yaml.SequenceNode):
        return text
    nested = change.file not in ("", config.PARAMS) or not change.entry
    inner = _keys(entries, change.file) if nested else entries
    if nested and (inner is None or len(inner.value) < 2):
        found = _section(entries, change.file)
    else:
        entries = inner or entries
        found = next((item for item in entries.value if _same(item, change.entry)), None)
    if found and len(entries.value) == 1:
        start = _line_start(text, _key(stage, change.section).start_mark.index)
        return text[:start] + text[_end(text, entries) :]
    return _without_item(text, entries, found) if found else text


def _with_item(
    text: str, entries: yaml.SequenceNode, items: Sequence[yaml.Node], entry: str
) -> str:
    """The list with one more item: where it is sorted in its place, else after the others."""
    if not entry:
        return text
    names = [str(item.value) for item in items]
    before = [item for item in items if names != sorted(names) or str(item.value) < entry]
    if entries.flow_style:
        if before:
            at = before[-1].end_mark.index
            return f"{text[:at]}, {entry}{text[at:]}"
        at = entries.start_mark.index + 1
        return f"{text[:at]}{entry}{', ' if entries.value else ''}{text[at:]}"
    first = entries.value[0].start_mark
    at = _end(text, before[-1]) if before else _line_start(text, first.index)
    return _insert(text, at, f"{' ' * (first.column - 2)}- {entry}\n")


def _without_item(text: str, entries: yaml.SequenceNode, item: yaml.Node) -> str:
    start, end = item.start_mark.index, item.end_mark.index
    if entries.flow_style:
        following = re.match(r"\s*,\s*", text[end:])
        if following:
            return text[:start] + text[end + following.end() :]
        return re.sub(r",\s*$", "", text[:start]) + text[end:]
    return text[: _line_start(text, start)] + text[_end(text, item) :]


def _stage(text: str, name: str) -> yaml.Node:
    stages = _value(yaml.compose(text, Loader=pipeline.Loader), "stages")
    found = _value(stages, name)
    if found is None:
        raise KeyError(name)
    return found


def _value(node: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)


def _key(node: yaml.Node, name: str) -> yaml.Node:
    keys: list[yaml.Node] = [key for key, _ in node.value]
    return next(key for key in keys if key.value == name)


def _section(entries: yaml.SequenceNode, file: str) -> yaml.Node | None:
    return next((item for item in entries.value if _has(item, file)), None)


def _has(item: yaml.Node, file: str) -> bool:
    if not isinstance(item, yaml.MappingNode):
        return False
    return [key.value for key, _ in item.value] == [file]


def _keys(entries: yaml.SequenceNode, file: str) -> yaml.SequenceNode | None:
    """The list of the keys of a file."""
    found = _value(_section(entries, file), file)
    return found if isinstance(found, yaml.SequenceNode) else None


def _lines(change: Change, margin: str) -> str:
    """A new entry of a stage's list, over as many lines as it needs."""
    if change.file in ("", config.PARAMS) and change.entry:
        return f"{margin}- {change.entry}\n"
    keys = f"{margin}    - {change.entry}\n" if change.entry else ""
    return f"{margin}- {change.file}:\n{keys}"


def _same(item: yaml.Node, entry: str) -> bool:
    return isinstance(item, yaml.ScalarNode) and pipeline.plain(item.value) == entry


def _end(text: str, node: yaml.Node) -> int:
    """The start of the line after a node."""
    while (
        isinstance(node, yaml.SequenceNode | yaml.MappingNode)
        and not node.flow_style
        and node.value
    ):
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    end = text.find(
        "\n", node.end_mark.index - (text[node.end_mark.index - 1 : node.end_mark.index] == "\n")
    )
    return len(text) if end < 0 else end + 1


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _insert(text: str, at: int, line: str) -> str:
    if at == len(text) and not text.endswith("\n"):
        return f"{text}\n{line}"
    return text[:at] + line + text[at:]
