"""Which of an archive's files are images, of which class and in which split: by folders or a table.

    CLASS/FILE                          class folders
    train/CLASS/FILE, val/..., test/... class folders for each split
    labels.csv                          a table of path, label and, where there is one, split

Folders that hold everything else are looked through: ``leaves/train/oak/1.png`` is in the second
layout. Folders below a class belong to it.
"""

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.lib.core.errors import UserError
from stages.lib.data import catalogue

TABLE = "labels.csv"
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image", "name"),
    "label": ("label", "class", "category"),
    "split": ("split", "set"),
}
# What systems leave in folders
_LITTER = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")


@dataclass(frozen=True, slots=True)
class Entry:
    """An image file.

    Attributes:
        member: Its path in the archive.
        name: Its path without the folders that hold everything.
        label: The name of its class.
        split: train, validation or test; empty where the archive does not say.
    """

    member: str
    name: str
    label: str
    split: str


@dataclass(frozen=True)
class Layout:
    """How an archive is laid out.

    Attributes:
        kind: In words.
        entries: The image files, in the order of their names.
        unused: Files that belong to no class, by their paths in the archive.
        table: The path of labels.csv in the archive; empty where there is none.
    """

    kind: str
    entries: list[Entry]
    unused: list[str]
    table: str = ""

    @property
    def class_names(self) -> list[str]:
        """The names of the classes in their order: by letters, or by value if all are numbers."""
        labels = {entry.label for entry in self.entries}
        numbers = all(label.isascii() and label.isdigit() for label in labels)
        return sorted(labels, key=lambda label: (int(label) if numbers else 0, label))


def find(path: Path, names: Iterable[str], table: Callable[[str], bytes]) -> Layout:
    """The layout of an archive, or of a folder.

    Args:
        path: What messages call it.
        names: The paths of its files, with slashes.
        table: Gives the content of labels.csv, by its path.

    Raises:
        UserError: There are no class folders, or the table is not as described.
    """
    tidy = [name for name in names if not is_litter(name)]
    top = _top(tidy)
    short = {name[len(top) :]: name for name in sorted(tidy) if name.startswith(top)}
    beside = [name for name in sorted(tidy) if not name.startswith(top)]
    if TABLE in short:
        return _by_table(path, short, table(short[TABLE]), beside)
    folders = {name.partition("/")[0] for name in short if "/" in name}
    splits = {folder for folder in folders if folder.casefold() in SPLITS}
    roles = Counter(SPLITS[folder.casefold()] for folder in splits)
    if roles["train"] and (len(roles) > 1 or folders == splits):
        if twice := [role for role, count in roles.items() if count > 1]:
            raise _refusal(path, f"one folder of {twice[0]} images", ", ".join(sorted(splits)))
        return _by_folders(path, short, splits, beside)
    if splits and folders == splits:
        raise _refusal(path, "a folder train", ", ".join(sorted(splits)))
    return _by_folders(path, short, set(), beside)


def _by_folders(path: Path, short: dict[str, str], splits: set[str], unused: list[str]) -> Layout:
    entries = []
    for name, member in short.items():
        parts = name.split("/")
        split = SPLITS[parts.pop(0).casefold()] if parts[0] in splits else ""
        if len(parts) < 2 or (splits and not split):
            unused.append(member)
        elif len(parts[0]) > catalogue.LONGEST_NAME:
            wanted = f"names of classes of at most {catalogue.LONGEST_NAME} letters"
            raise _refusal(path, wanted, f"{len(parts[0])} in {parts[0][:60]}...")
        else:
            entries.append(Entry(member, name, parts[0], split))
    if not entries:
        place = " and ".join(f"{split}/" for split in sorted(splits)) or "it"
        wanted = f"class folders in {place}, or a {TABLE} beside the images"
        raise _refusal(path, wanted, f"{len(short):,} files in no class folder")
    kind = f"class folders in {', '.join(sorted(splits))}" if splits else "class folders"
    return Layout(kind, entries, unused)


def _by_table(path: Path, short: dict[str, str], content: bytes, unused: list[str]) -> Layout:
    where = Path(path, TABLE)
    rows, columns = _rows(where, content)
    entries: dict[str, Entry] = {}
    for number, row in rows:
        name = "/".join(part for part in row[0].replace("\\", "/").split("/") if part != ".")
        place = f"line {number}: "
        if name not in short:
            raise _refusal(where, f"{place}the path of a file", repr(row[0][:200]))
        if name in entries:
            raise _refusal(where, f"{place}each file once", f"{name} again")
        if not row[1]:
            raise _refusal(where, f"{place}a label", "none")
        if not catalogue.is_name(row[1]):
            wanted = f"{place}a label of at most {catalogue.LONGEST_NAME} printable letters"
            raise _refusal(where, wanted, repr(row[1][:60]))
        split = SPLITS.get(row[2].casefold(), "") if len(row) > 2 else ""
        if len(row) > 2 and not split:
            raise _refusal(where, f"{place}train, validation or test", repr(row[2][:200]))
        entries[name] = Entry(short[name], name, row[1], split)
    if not entries:
        raise _refusal(where, "a row for each image", "none")
    given = sorted({entry.split for entry in entries.values()})
    if given != [""] and "train" not in given:
        raise _refusal(where, "rows of train images", f"{' and '.join(given)} alone")
    unused += [member for name, member in short.items() if name not in entries and name != TABLE]
    kind = f"{TABLE} of {', '.join(columns)}"
    return Layout(kind, [entries[name] for name in sorted(entries)], unused, short[TABLE])


def _rows(where: Path, content: bytes) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """The line, path, label and split of every row, and the names of these columns."""
    try:
        text = unicodedata.normalize("NFC", content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(where, f"line {line}: a CSV table in UTF-8", str(error)) from None
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        table = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise _refusal(where, f"line {reader.line_num}: a CSV table", str(error)) from None
    titles = [title.strip().casefold() for title in table[0][1]] if table else []
    columns: dict[str, int] = {}
    for role, synonyms in _COLUMNS.items():
        chosen = [titles.index(word) for word in synonyms if word in titles]
        if chosen:
            columns[role] = chosen[0]
    if "path" not in columns or "label" not in columns:
        raise _refusal(
            where, "the columns path, label and, if known, split", ", ".join(titles) or "none"
        )
    rows = []
    for number, row in table[1:]:
        if any(field.strip() for field in row):
            if len(row) != len(titles):
                wanted = f"line {number}: {len(titles)} columns"
                raise _refusal(where, wanted, str(len(row)))
            rows.append((number, [row[at].strip() for at in columns.values()]))
    return rows, [titles[at] for at in columns.values()]


def _top(names: Sequence[str]) -> str:
    """The folders that hold everything, with a slash at the end; empty where there are none."""
    top = ""
    while True:
        here = [name[len(top) :] for name in names if name.startswith(top)]
        folders = {name.partition("/")[0] for name in here if "/" in name}
        if TABLE in here or len(folders) != 1:
            return top
        (folder,) = folders
        inner = [name.partition("/")[2] for name in here if name.startswith(f"{folder}/")]
        if TABLE not in inner and not any("/" in name for name in inner):
            return top  # a folder of files alone is a class, and not what holds the classes
        top += f"{folder}/"


def is_litter(name: str) -> bool:
    """Whether a system left a file, and no person."""
    return any(part.startswith(".") or part.casefold() in _LITTER for part in name.split("/"))


def _refusal(path: Path, expected: str, found: str) -> UserError:
    return UserError(
        f"{path.as_posix()}: expected {expected}, found {found}.\n"
        "Lay the images out as docs/own-images.md says."
    )
