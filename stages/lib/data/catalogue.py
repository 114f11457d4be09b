"""The active entries of datasets.yaml and weights.yaml."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

from msgspec import Meta

from stages.lib.core import config, yaml_file
from stages.lib.core.errors import UserError

T = TypeVar("T")

LANGUAGES = ("en", "zh")
NO_WEIGHTS = "none"  # the entry of weights.yaml that has no file
LONGEST_NAME = 200  # letters of a class name
_NO_NAME = re.compile(rf"{yaml_file.UNPRINTABLE.pattern}|[\t\n]")

# float32 holds a pixel divided by it
PixelMax = Annotated[
    float, Meta(ge=0.000001, le=4294967295, description="the raw value that becomes 1.0")
]
ClassNames = list[str] | dict[str, list[str]]  # English names, or names by language


class File(config.Schema, frozen=True):
    """A published file."""

    name: Annotated[str, Meta(description="its file name, without folders")]
    sha256: Annotated[str, Meta(description="the SHA-256 of its content, 64 digits of 0-9, a-f")]
    size: (
        Annotated[
            int,
            Meta(ge=1, le=1 << 50, description="in bytes; a transfer beyond it is broken off"),
        ]
        | None
    ) = None


class Published(config.Schema, frozen=True):
    """What is published under a licence, in files."""

    title: Annotated[str, Meta(description="as its publisher names it")]
    licence: Annotated[str, Meta(description="of the content")]
    citation: Annotated[str, Meta(description="how it is to be cited")]
    urls: Annotated[list[str], Meta(description="folders that publish the files, tried in order")]
    files: Annotated[dict[str, File], Meta(description="what it consists of, by its parts")]


class Weights(Published, frozen=True):
    """Values that a training starts from."""


class Entry(Published, frozen=True):
    """A data set."""

    format: Annotated[str, Meta(description="a module of stages/lib/data/formats/")]
    pixel_max: PixelMax
    class_names: Annotated[
        ClassNames,
        Meta(description="of the labels 0, 1, 2, ... in English, or by language: en and zh"),
    ]


def active(schema: type[T]) -> tuple[str, T]:
    """The configured data set's name, and the fields of its entry that ``schema`` names.

    Raises:
        UserError: No such entry, or anything in it is not as ``Entry`` says.
    """
    name, entry = _active("dataset", config.DATASETS, Entry)
    where = f"{config.DATASETS}: {name}"
    _check_files(entry, where)
    _check_names(entry.class_names, f"{where}.class_names")
    return name, config.fields(config.DATASETS, name, schema)


def active_weights(schema: type[T]) -> tuple[str, T]:
    """As ``active``, of the weights that ``model.weights`` names.

    Raises:
        UserError: No such entry, or anything in it is not as ``Weights`` says.
    """
    name, entry = _active("model.weights", config.WEIGHTS, Weights)
    where = f"{config.WEIGHTS}: {name}"
    _check_files(entry, where)
    if name == NO_WEIGHTS:
        if entry.files:
            raise _unexpected(f"{where}.files", "no file", ", ".join(entry.files))
    else:
        check_parts(entry.files, ("values",), f"{where}.files")
        file = entry.files["values"].name
        if not file.endswith((".keras", ".h5")):
            raise _unexpected(f"{where}.files.values.name", "a .keras or .h5 file", repr(file))
    return name, config.fields(config.WEIGHTS, name, schema)


def _active(key: str, file: str, kind: type[T]) -> tuple[str, T]:
    """The name that a key of params.yaml holds, and the entry of a catalogue under it."""
    name = config.value(config.PARAMS, key, str)
    entries = [entry for entry in config.read(file) if isinstance(entry, str)]
    config.one_of(name, entries, f"{config.PARAMS}: {key}")
    where = f"{file}: {name}"
    if not re.fullmatch(r"\w[\w-]*", name):  # a folder's name and a key of DVC's
        raise _unexpected(where, "a name of letters, digits, _ and -", repr(name))
    return name, config.checked(file, name, kind)


def sums(files: Mapping[str, File]) -> str:
    """The SHA-256 and the name of each file of an entry, as sha256sum writes them."""
    return "".join(f"{file.sha256}  {file.name}\n" for file in files.values())


def check_parts(parts: Iterable[str], expected: tuple[str, ...], where: str) -> None:
    """Checks that the files of an entry are those that its format consists of.

    Raises:
        UserError: One is unknown or missing.
    """
    for part in parts:
        config.one_of(part, expected, where)
    if missing := [part for part in expected if part not in parts]:
        raise _unexpected(where, ", ".join(expected), f"no {' and no '.join(missing)}")


def names(class_names: ClassNames, language: str) -> list[str]:
    """The names in a language, ``en`` or ``zh``; none where the entry has none.

    They are in Unicode's form NFC, as those of image files are, whatever wrote the catalogue.
    """
    by_language = class_names if isinstance(class_names, dict) else {"en": class_names}
    return [unicodedata.normalize("NFC", name) for name in by_language.get(language, [])]


def _check_files(entry: Published, where: str) -> None:
    """Checks what the types of the fields do not say."""
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


def is_name(text: str) -> bool:
    """Whether a text may name a class: one line of printable letters, neither blank nor long."""
    return bool(text.strip()) and len(text) <= LONGEST_NAME and not _NO_NAME.search(text)


def _check_names(class_names: ClassNames, where: str) -> None:
    if isinstance(class_names, dict):
        for language in class_names:
            config.one_of(language, LANGUAGES, where)
    english = names(class_names, "en")
    for language in LANGUAGES:
        own = names(class_names, language)
        for name in own:
            if not is_name(name):
                expected = f"names of 1 to {LONGEST_NAME} letters, without tabs and line breaks"
                raise _unexpected(where, expected, f"{name[:40]!r} of {len(name):,}")
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
    file = where.partition(":")[0]
    return UserError(
        f"{where}: expected {expected}, found {found}.\nCorrect it in {file} and run again."
    )
