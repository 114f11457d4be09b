"""The active entry of datasets.yaml."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from stages.lib.core import config
from stages.lib.core.errors import UserError

T = TypeVar("T")

# The files that a format consists of, as `files` names them
ROLES = {
    "idx": ("train_images", "train_labels", "test_images", "test_labels"),
    "npz": ("arrays",),
}

PixelMax = Annotated[float, "[0.000001, 4294967295]"]  # float32 holds a pixel divided by it


ClassNames = list[str] | dict[str, list[str]]  # English names, or names by language
LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class File:
    """A published file, the SHA-256 of its content, and its size in bytes where it is stated."""

    name: str
    sha256: str
    size: Annotated[int, "[1, 1000000000000000]"] | None = None


@dataclass(frozen=True)
class Entry:
    """Everything that an entry says."""

    title: str
    licence: str
    citation: str
    format: Literal["idx", "npz"]
    urls: list[str]
    files: dict[str, File]
    pixel_max: PixelMax
    class_names: ClassNames


def active(schema: type[T]) -> tuple[str, T]:
    """The configured data set's name, and the fields of its entry that ``schema`` names.

    Raises:
        UserError: No such entry, or anything in it is not as ``Entry`` says.
    """
    dataset = config.value(config.PARAMS, "dataset", str)
    entries = [name for name in config.read(config.DATASETS) if isinstance(name, str)]
    config.one_of(dataset, entries, f"{config.PARAMS}: dataset")
    where = f"{config.DATASETS}: {dataset}"
    if not re.fullmatch(r"\w[\w-]*", dataset):  # a folder's name and a key of DVC's
        raise _unexpected(where, "a name of letters, digits, _ and -", repr(dataset))
    _check(config.checked(config.DATASETS, dataset, Entry), where)
    return dataset, config.fields(config.DATASETS, dataset, schema)


def names(class_names: ClassNames, language: str) -> list[str]:
    """The names in a language, ``en`` or ``zh``; none where the entry has none."""
    by_language = class_names if isinstance(class_names, dict) else {"en": class_names}
    return by_language.get(language, [])


def _check(entry: Entry, where: str) -> None:
    """Checks what the types of the fields do not say."""
    roles = ROLES[entry.format]
    for role in entry.files:
        config.one_of(role, roles, f"{where}.files: format {entry.format}")
    if missing := [role for role in roles if role not in entry.files]:
        raise _unexpected(
            f"{where}.files",
            f"{', '.join(roles)} for format {entry.format}",
            f"no {' and no '.join(missing)}",
        )
    for role, file in entry.files.items():
        if not re.fullmatch(r"[^./\\:*?\"<>|\x00-\x1f][^/\\:*?\"<>|\x00-\x1f]*", file.name):
            raise _unexpected(
                f"{where}.files.{role}.name", "a file name without folders", repr(file.name)
            )
        if not re.fullmatch(r"[0-9a-f]{64}", file.sha256):
            raise _unexpected(
                f"{where}.files.{role}.sha256", "64 digits of 0-9 and a-f", repr(file.sha256)
            )
    for url in entry.urls:
        if not re.match(r"https?://[^/]", url):
            raise _unexpected(f"{where}.urls", "addresses with http:// or https://", repr(url))
    _check_names(entry.class_names, f"{where}.class_names")


def _check_names(class_names: ClassNames, where: str) -> None:
    if isinstance(class_names, dict):
        for language in class_names:
            config.one_of(language, LANGUAGES, where)
    english = names(class_names, "en")
    for language in LANGUAGES:
        own = names(class_names, language)
        if twice := sorted({name for name in own if own.count(name) > 1}):
            raise _unexpected(where, "names that differ", f"{twice[0]!r} more than once")
        if own and len(own) != len(english):
            raise _unexpected(
                where,
                f"as many names in every language, {len(english)} as in English",
                f"{len(own)} in {language}",
            )
    if len(english) < 2:
        raise _unexpected(where, "two or more English names", str(len(english)))


def _unexpected(where: str, expected: str, found: str) -> UserError:
    return UserError(
        f"{where}: expected {expected}, found {found}.\nCorrect it in datasets.yaml and run again."
    )
