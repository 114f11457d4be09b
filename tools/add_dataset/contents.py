"""What a folder or a file holds: images, arrays or IDX files, and of which classes."""

import gzip
import math
import os
import shutil
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages import normalize
from stages.lib.core.errors import UserError
from stages.lib.data.formats import idx, images, npz
from stages.lib.data.preparation import decoding, layouts

_SIDES = (16, 24, 28, 32, 48, 64, 96)  # sizes to train on that are worth a try
_SHOWN = 30  # classes
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file can state
_RANGES = (1, 16, 255, 4095, 65535)  # the brightest raw values there are
_SPLITS = ("train", "validation", "test", "")


@dataclass
class Contents:
    """A data set as it was found.

    Attributes:
        format: A raw format, by its name.
        files: Its files by their parts.
        suffix: What the name of its one file ends in; empty where there are several.
        class_names: In the order of the labels.
        pixel_max: The raw value that becomes 1.
        lines: What to print.
        settings: Keys of normalize in params.yaml that fit, with their values.
    """

    format: str
    files: dict[str, Path]
    suffix: str
    class_names: list[str]
    pixel_max: float
    lines: list[str]
    settings: dict[str, str] = field(default_factory=dict)


def look_at(path: Path, packed: Path) -> Contents:
    """What a path holds; a folder of images is packed into the archive ``packed``.

    Raises:
        UserError: Nothing that can be a data set.
    """
    if path.is_dir():
        try:
            return _idx(path) or _image_files(packed, pack(path, packed))
        except UserError as error:
            raise UserError(str(error).replace(packed.as_posix(), path.as_posix())) from None
    if _is_npz(path):
        return _arrays(path)
    return (_idx(path.parent) if _rank(path) else None) or _image_files(path)


def pack(folder: Path, path: Path) -> list[str]:
    """Packs the images of a folder, and its labels.csv: the same bytes for the same files.

    Returns:
        The files that belong to no class, and were left out.

    Raises:
        UserError: It holds no images in classes, or names that no archive can hold.
    """
    sources: dict[str, Path] = {}
    for file in _files(folder):
        name = unicodedata.normalize("NFC", file.relative_to(folder).as_posix())
        if not _is_utf8(name):
            raise _unfit(file, "a name in UTF-8", "another")
        if "\\" in name:
            raise _unfit(file, "a name without a backslash, which parts folders", "one")
        if name in sources:
            raise _unfit(file, "each name once", "it in two spellings of Unicode")
        sources[name] = file
    layout = layouts.find(folder, sources, lambda name: sources[name].read_bytes())
    members = {entry.name: sources[entry.member] for entry in layout.entries}
    if layout.table:
        members[layouts.TABLE] = sources[layout.table]
    with zipfile.ZipFile(path, "w") as archive:
        for name, source in sorted(members.items()):
            member = zipfile.ZipInfo(name, _EPOCH)
            member.create_system = 3  # else Windows writes another byte
            member.external_attr = 0o644 << 16
            member.file_size = source.stat().st_size
            with source.open("rb") as stream, archive.open(member, "w") as target:
                shutil.copyfileobj(stream, target, 1 << 20)
    return layout.unused


def _is_npz(path: Path) -> bool:
    if path.suffix == ".npz":
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return "x_train.npy" in archive.namelist()
    except zipfile.BadZipFile:
        return False


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder and of those in it.

    Raises:
        UserError: There is a link to a folder or to nothing.
        OSError: A folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=fail):
        for found in (folders, names):
            found[:] = [name for name in found if not layouts.is_litter(name)]
        for name in sorted([*folders, *names]):
            path = Path(place, name)
            if path.is_symlink() and not path.is_file():
                what = "a link to a folder" if path.is_dir() else "a link to nothing"
                raise _unfit(path, "files and folders", what)
        yield from (Path(place, name) for name in names if Path(place, name).is_file())


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unfit(path: Path, expected: str, found: str) -> UserError:
    name = path.as_posix().encode("utf-8", "backslashreplace").decode()
    return UserError(f"{name}: expected {expected}, found {found}.\nRename or replace it.")


def _image_files(path: Path, left_out: Sequence[str] = ()) -> Contents:
    layout = images.lay_out(path)
    layout = replace(layout, unused=[*layout.unused, *left_out])
    survey = images.Survey(layout)
    for _ in images.decode_all(path, survey, decoding.Target(), keep=False):
        pass
    if len(layout.class_names) < 2:
        (only,) = layout.class_names
        raise UserError(
            f"{path.as_posix()}: expected two classes or more, found {only} alone.\n"
            "Lay the images out as docs/own-images.md says."
        )
    counts = Counter(
        (entry.label, entry.split)
        for entry in layout.entries
        if entry.name not in survey.unreadable
    )
    if not counts:
        name, reason = next(iter(survey.unreadable.items()))
        raise UserError(
            f"{path.as_posix()}: expected images, found none that can be read among "
            f"{len(layout.entries):,} files, the first {name}: {reason}.\n"
            "Lay the images out as docs/own-images.md says."
        )
    lines = [*survey.lines(), *_table(layout.class_names, counts)]
    lines += [f"{name}: {reason}" for name, reason in survey.unreadable.items()]
    if survey.unreadable:
        lines.append(f"cannot be read: {len(survey.unreadable):,}, as listed above")
    settings = _settings(survey)
    suffix = _suffix(path)
    return Contents(
        "images", {"archive": path}, suffix, layout.class_names, decoding.WHITE, lines, settings
    )


def _settings(survey: images.Survey) -> dict[str, str]:
    """The keys of normalize that a data set of image files needs, or is better off with."""
    settings = {}
    shorter = sorted(min(size) for size in survey.sizes.elements())
    if shorter:
        middle = shorter[len(shorter) // 2]
        if len(survey.sizes) > 1 or middle > _SIDES[-1]:
            side = max((side for side in _SIDES if side <= middle), default=middle)
            settings["size"] = f"{side} # height and width; or [height, width]"
    if survey.unreadable:
        settings["unreadable"] = "skip # or mend the files that are listed above"
    return settings


def _suffix(path: Path) -> str:
    with path.open("rb") as stream:
        start = stream.read(2)
    return {b"PK": ".zip", b"\x1f\x8b": ".tar.gz"}.get(start, ".tar")


def _arrays(path: Path) -> Contents:
    training, test = npz.read({"arrays": path})
    found = _of_arrays("npz", {"arrays": path}, ".npz", training, test)
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
    if others := sorted(names - {"x_train", "y_train", "x_test", "y_test"}):
        found.lines.append(f"not used: {', '.join(others[:10])}")
    return found


def _idx(folder: Path) -> Contents | None:
    """The IDX files of a folder; None where it does not hold the four of them.

    Raises:
        UserError: There are two of one kind.
    """
    parts: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        rank = _rank(file)
        if rank:
            split = "train" if "train" in file.name.lower() else "test"
            kind = "labels" if rank == 1 else "images"
            other = parts.setdefault(f"{split}_{kind}", file)
            if other.name.removesuffix(".gz") != file.name.removesuffix(".gz"):
                raise UserError(
                    f"{folder.as_posix()}: expected one file of {split} {kind}, found "
                    f"{other.name} and {file.name}.\n"
                    "Put the four files of a data set into a folder of their own."
                )
    if set(parts) != set(idx.FILES):
        return None
    training, test = idx.read(parts)
    return _of_arrays("idx", {part: parts[part] for part in idx.FILES}, "", training, test)


def _rank(path: Path) -> int:
    """The number of dimensions that an IDX file states; 0 where it is none."""
    if not path.is_file():
        return 0
    with path.open("rb") as stream:
        start = stream.read(4)
    if start[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as unpacked:
                start = unpacked.read(4)
        except (EOFError, OSError, zlib.error):
            return 0
    return start[3] if start[:3] == b"\0\0\x08" and len(start) == 4 else 0


def _of_arrays(
    kind: str,
    files: dict[str, Path],
    suffix: str,
    training: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    test: tuple[npt.NDArray[Any], npt.NDArray[Any]],
) -> Contents:
    sets = {"training": training, "test": test}
    given = next(iter(files.values())).name
    last = max(
        (int(y.max()) for _, y in sets.values() if y.dtype.kind in "iu" and y.size), default=0
    )
    present = sum(np.unique(y).size for _, y in sets.values())
    if last > 1000 + 10 * present:
        raise UserError(
            f"{given}: expected labels from 0 to the number of classes less one, found some up to "
            f"{last:,}.\nNumber the classes from 0."
        )
    names = [str(label) for label in range(max(last, 1) + 1)]
    brightest = max(
        (float(x.max()) for x, _ in sets.values() if x.dtype.kind in "iuf" and x.size), default=1.0
    )
    if not math.isfinite(brightest):
        brightest = 1.0  # as which it is refused
    pixel_max = next((top for top in _RANGES if brightest <= top), brightest)
    entry = normalize.Entry(kind, {}, pixel_max, names)
    try:
        for split, raw in sets.items():
            normalize.check(raw, split, entry)
        normalize.check_shapes(training, test)
    except UserError as error:
        problem = str(error).partition("\n")[0].replace(normalize.RAW.as_posix(), given)
        raise UserError(f"{problem}\nCorrect the file and run again.") from None
    counts = Counter(
        (names[int(label)], split)
        for split, (_, of_split) in (("train", training), ("test", test))
        for label in of_split
    )
    shapes = f"training images {training[0].shape}, test images {test[0].shape}"
    brightness = (
        f"{training[0].dtype}, the brightest pixel {brightest:g}, so pixel_max {pixel_max:g}"
    )
    lines = [f"{kind}: {shapes}, {brightness}", *_table(names, counts)]
    return Contents(kind, files, suffix, names, pixel_max, lines)


def _table(class_names: list[str], counts: Counter[tuple[str, str]]) -> Iterator[str]:
    """The classes with their numbers of images, by split where there are splits."""
    splits = [split for split in _SPLITS if any(counts[name, split] for name in class_names)]
    yield f"{len(class_names):,} classes:"
    for name in class_names[:_SHOWN]:
        each = ", ".join(f"{counts[name, split]:,} {split}".strip() for split in splits)
        yield f"  {name}: {each}"
    if len(class_names) > _SHOWN:
        totals = [sum(counts[name, split] for split in splits) for name in class_names]
        yield f"  and {len(class_names) - _SHOWN:,} more, of {min(totals):,} to {max(totals):,}"
