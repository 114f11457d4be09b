"""What dvc.yaml declares beside the pipeline's own: metrics and plots of a user's, on both sides.

DVC itself says what is declared and reads it, from Git, its cache or its remote, as for ``dvc
metrics diff`` and ``dvc plots diff``.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from stages.lib.core.errors import UserError
from tools.compare import dvc_state, sides

_OWN_METRICS = (sides.METRICS, sides.TRAINING)
_OWN_TEMPLATES = ("epochs", "confusion")  # of .dvc/plots; the report draws these itself
_OWN_TABLES = frozenset({sides.HISTORY, "reports/evaluate/confusion.csv"})
_OWN_FIGURES = "reports/figures/"
_PICTURES = (".png", ".jpg", ".svg")  # that a comment can carry
_MOST = 12  # plots, as a comment is a comment

Row = Mapping[str, object]


@dataclass(frozen=True)
class Metrics:
    """The numbers of a file, by dotted key, before and after; none of a side that lacks it."""

    path: str
    before: dict[str, float]
    after: dict[str, float]


@dataclass(frozen=True)
class Plot:
    """A plot, drawn of values or an image file.

    Attributes:
        title: As dvc.yaml has it, or its file.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis.
        lines: By name, points before and after: pairs of x and y; x is a number or a word.
        images: The content of the file, before and after, if it is an image.
        suffix: Of that file.
        missing: Why it cannot be shown.
    """

    title: str
    x_label: str = ""
    y_label: str = ""
    lines: dict[str, tuple[list[tuple[Any, float]], list[tuple[Any, float]]]] = field(
        default_factory=dict
    )
    images: tuple[bytes, bytes] = (b"", b"")
    suffix: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Declared:
    """What a user declares: metrics by file, plots, how many more, and why none is known."""

    metrics: list[Metrics] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    more: int = 0
    unknown: str = ""


def names(at: int, plot: Plot) -> list[str]:
    """The files beside the report that show a plot: before and after, or both in one."""
    if plot.missing:
        return []
    if not plot.suffix:
        return [f"declared-{at}.png"]
    pairs = zip(("before", "after"), plot.images, strict=True)
    return [f"declared-{at}-{when}{plot.suffix.lower()}" for when, image in pairs if image]


def read(commit: str, plots: bool = True) -> Declared:
    """The declared metrics and plots of a commit and of the work tree.

    Args:
        commit: The earlier side.
        plots: Whether to read the plots as well.
    """
    from dvc.repo import Repo  # type: ignore[import-untyped] # half a second

    numbers: dict[str, Any] = {}
    drawn: dict[str, Any] = {}
    unknown = ""
    try:
        with Repo(".") as repo:
            numbers = repo.metrics.show(revs=[commit])
            if plots:
                for side in repo.plots.collect(revs=[commit, "workspace"], onerror=_raise):
                    drawn |= {rev: _read(content) for rev, content in side.items()}
    except Exception as error:  # whatever DVC says
        unknown, drawn = dvc_state.reason(error), {}
    before, after = (_numbers(numbers.get(rev, {})) for rev in (commit, "workspace"))
    changed = list(_plots(drawn.get(commit, _NOTHING), drawn.get("workspace", _NOTHING)))
    return Declared(
        [
            Metrics(path, before.get(path, {}), after.get(path, {}))
            for path in dict.fromkeys([*after, *before])
            if path not in _OWN_METRICS
        ],
        changed[:_MOST],
        more=max(0, len(changed) - _MOST),
        unknown=unknown,
    )


def _raise(_: object, error: Exception, *__: object, **___: object) -> None:
    raise error


@dataclass(frozen=True)
class _Plots:
    """The plots of a side: what each is like by its name, and the content of files by path."""

    definitions: dict[str, dict[str, Any]]
    contents: dict[str, object]


_NOTHING = _Plots({}, {})


def _read(side: Mapping[str, Any]) -> _Plots:
    """The plots that are a user's own; DVC collects them and says how to read their files."""
    definitions = {
        str(name): props if isinstance(props, dict) else {}
        for each in side["definitions"].get("data", {}).values()
        for name, props in each.get("data", {}).items()
        if not str(name).startswith(_OWN_FIGURES)
    }
    definitions = {
        name: props
        for name, props in definitions.items()
        if props.get("template") not in _OWN_TEMPLATES
        or not _OWN_TABLES.issuperset(_files(name, props))
    }
    wanted = {file for name, props in definitions.items() for file in _files(name, props)}
    sources = side["sources"].get("data", {})
    contents = {}
    for file in sorted(wanted & sources.keys()):
        with contextlib.suppress(Exception):  # whatever DVC says of a file that is not as it thinks
            contents[file] = sources[file]["data_source"]().get("data")
    return _Plots(definitions, contents)


def _numbers(side: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The numbers of each file of metrics that could be read."""
    return {
        path: {
            key: float(value)
            for key, value in dvc_state.flatten(content["data"]).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        for path, content in side.get("data", {}).items()
        if isinstance(content.get("data"), dict)
    }


def _plots(before: _Plots, after: _Plots) -> Iterator[Plot]:
    """Those of the later side that are not the same on both."""
    sources = before.contents, after.contents
    for name, props in after.definitions.items():
        title = str(props.get("title") or name)
        if PurePosixPath(name).suffix.lower() in _PICTURES:
            plot = _image(name, sources)
            if plot.missing or plot.images[0] != plot.images[1]:
                yield plot
            continue
        if isinstance(after.contents.get(name), bytes):  # a picture of another kind
            if before.contents.get(name) != after.contents[name]:
                kinds = ", ".join(_PICTURES)
                yield Plot(title, missing=f"pictures end in {kinds} to be shown here")
            continue
        try:
            lines = _lines(name, props, sources)
        except UserError as error:
            yield Plot(title, missing=str(error))
            continue
        if all(was == now for was, now in lines.values()):
            continue
        yield Plot(
            title=title,
            x_label=str(props.get("x_label") or _column(props.get("x")) or "row"),
            y_label=str(props.get("y_label") or (next(iter(lines)) if len(lines) == 1 else "")),
            lines=lines,
        )


def _files(name: str, props: Mapping[str, Any]) -> dict[str, list[str]]:
    """The columns to draw, by file; an empty list for the last one."""
    y = props.get("y")
    if isinstance(y, dict):
        return {str(file): _words(columns) for file, columns in y.items()}
    return {name: _words(y)}


def _words(columns: object) -> list[str]:
    return [
        str(column) for column in (columns if isinstance(columns, list) else [columns]) if column
    ]


def _column(x: object, file: str = "") -> str:
    """The column of the horizontal axis, of one file or the first."""
    if isinstance(x, dict):
        return str(x.get(file) or next(iter(x.values()), ""))
    return str(x or "")


def _image(name: str, sources: Sequence[Mapping[str, object]]) -> Plot:
    contents = [source.get(name) for source in sources]
    before, after = (each if isinstance(each, bytes) else b"" for each in contents)
    missing = "" if after else "the work tree does not have it"
    return Plot(name, images=(before, after), suffix=PurePosixPath(name).suffix, missing=missing)


def _lines(
    name: str,
    props: Mapping[str, Any],
    sources: Sequence[Mapping[str, object]],
) -> dict[str, tuple[list[tuple[Any, float]], list[tuple[Any, float]]]]:
    """Points before and after by column."""
    lines = {}
    files = _files(name, props)
    for file, columns in files.items():
        tables = [_rows(source.get(file)) for source in sources]
        if not tables[1]:
            raise UserError(f"the work tree has no table {file}")
        for column in columns or [str(list(tables[1][0])[-1])]:
            across = _column(props.get("x"), file)
            points = [_points(table, across, column) for table in tables]
            if not points[1]:
                raise UserError(f"{file} has no numbers in {column}")
            label = column if len(files) == 1 else f"{PurePosixPath(file).name}: {column}"
            lines[label] = (points[0], points[1])
    if not lines:
        raise UserError(f"{name} names no data")
    return lines


def _rows(data: object) -> list[Row]:
    """The rows of a file's data; JSON may hold them below a key."""
    if isinstance(data, dict):
        data = next((value for value in data.values() if isinstance(value, list)), [])
    return [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []


def _points(rows: Sequence[Row], across: str, column: str) -> list[tuple[Any, float]]:
    """Pairs of x and y where y is a number; x is a number where all are."""
    pairs = []
    for at, row in enumerate(rows):
        y = _number(row.get(column))
        if y is not None:
            pairs.append((row.get(across, at) if across else at, y))
    numbers = [_number(x) for x, _ in pairs]
    if None in numbers:
        return [(str(x), y) for x, y in pairs]
    return [(x, y) for x, (_, y) in zip(numbers, pairs, strict=True)]


def _number(value: object) -> float | None:
    try:
        return None if value is None or value == "" else float(str(value))
    except ValueError:
        return None
