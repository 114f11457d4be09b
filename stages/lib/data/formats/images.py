"""One archive of image files: class folders, class folders of each split, or a labels.csv.

Its images are not arrays until they are decoded: ``read`` decodes them, one pass through the
archive, into a temporary file, so that memory does not grow with their number.
"""

import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from stages.lib.core.errors import UserError
from stages.lib.data.formats import Part
from stages.lib.data.preparation import archives, layouts, splits

if TYPE_CHECKING:  # Pillow is imported where there are image files
    from stages.lib.data.preparation import decoding

FILES = ("archive",)
SPLITS = ("train", "validation", "test")

_BATCH = 64  # files decoded by one call of a thread
_BATCH_BYTES = 1 << 22
_WHOLE = 1 << 64  # beyond what splits.draws gives

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """How image files become arrays.

    Attributes:
        target: Size and colour.
        test_fraction: Of the images, where the archive has no test split.
        validation_fraction: Of the training images, where it has no validation split.
        seed: Draws them.
        skip: Whether files that cannot be read are left out.
    """

    target: "decoding.Target"
    test_fraction: float
    validation_fraction: float
    seed: int
    skip: bool


@dataclass
class Survey:
    """What was seen while decoding.

    Attributes:
        layout: How the archive is laid out.
        kinds: Files by format and mode of pixels.
        notes: Files by what was done to them beyond decoding.
        sizes: Files by height and width.
        unreadable: Files that are no image, with the reasons, in the order of their names.
    """

    layout: layouts.Layout
    kinds: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """File and class of what is unreadable, in the order of their names."""
        classes = {entry.name: entry.label for entry in self.layout.entries}
        return [(name, classes[name]) for name in self.unreadable]

    def lines(self) -> Iterator[str]:
        """What to print of it."""
        count = len(self.layout.entries) - len(self.unreadable)
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(self.kinds.items()))
        yield f"{self.layout.kind}; {count:,} images: {kinds or 'none'}"
        if self.sizes:
            by_area = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
            first, last = (f"{height} x {width}" for height, width in (by_area[0], by_area[-1]))
            more = f" to {last}, {len(by_area):,} sizes" if len(by_area) > 1 else ""
            yield f"height x width: {first}{more}"
        yield from (f"{number:,} {note}" for note, number in sorted(self.notes.items()))
        if self.layout.unused:
            others = f", such as {self.layout.unused[0]}"
            yield f"not used, as of no class: {len(self.layout.unused):,}{others}"


@dataclass(frozen=True, slots=True)
class _Record:
    """An image in the temporary file."""

    entry: layouts.Entry
    label: int
    digest: str
    start: int
    shape: tuple[int, ...]
    deep: bool
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Result:
    """What a thread made of a file."""

    digest: str = ""
    pixels: npt.NDArray[Any] | None = None
    size: tuple[int, int] = (0, 0)
    kind: str = ""
    notes: tuple[str, ...] = ()
    problem: str = ""


def read(
    paths: Mapping[str, Path], class_names: Sequence[str], options: Options, scratch: BinaryIO
) -> tuple[dict[str, Part], Survey]:
    """The images of an archive in three splits, each in an order that the pixels determine.

    Args:
        paths: The path of the archive.
        class_names: The names of the labels 0, 1, 2, ..., which are those of the class folders.
        options: How they become arrays.
        scratch: A file for the pixels, which the result reads.

    Raises:
        UserError: The archive is refused, a class has no name in ``class_names``, a file cannot be
            read, or the images differ in size and none is asked for.
    """
    path = paths["archive"]
    survey = Survey(lay_out(path))
    _check_classes(path, survey.layout, class_names)
    numbers = {name: number for number, name in enumerate(class_names)}
    records = []
    start = 0
    for entry, result in decode_all(path, survey, options.target, keep=True):
        pixels = result.pixels
        if pixels is None:
            continue
        scratch.write(np.ascontiguousarray(pixels).data)
        deep = pixels.dtype != np.uint8
        records.append(
            _Record(
                entry, numbers[entry.label], result.digest, start, pixels.shape, deep, result.size
            )
        )
        start += pixels.nbytes
    scratch.flush()
    _refuse_unreadable(path, survey, options.skip)
    shape = _common_shape(path, records, options.target)
    chosen = _split(records, options)
    _check_splits(path, chosen, options)
    return {name: _part(chosen[name], shape, scratch) for name in SPLITS}, survey


def lay_out(path: Path) -> layouts.Layout:
    """The layout of an archive.

    Raises:
        UserError: The archive is refused, or has no layout.
    """
    names = [member.name for member in archives.members(path)]

    def table(name: str) -> bytes:
        return next(content for _, content in archives.contents(path, {name}))

    return layouts.find(path, names, table)


def decode_all(
    path: Path, survey: Survey, target: "decoding.Target", keep: bool
) -> Iterator[tuple[layouts.Entry, _Result]]:
    """Each image file of an archive in the order in which they lie there, decoded by threads.

    Args:
        path: The archive.
        survey: Its layout; what is seen of the files is added.
        target: What the images are to become.
        keep: Whether their pixels are wanted.
    """
    from stages.lib.data.preparation import decoding

    entries = {entry.member: entry for entry in survey.layout.entries}

    def work(files: list[tuple[str, bytes]]) -> list[tuple[str, _Result]]:
        return [(name, _decoded(content, target, keep)) for name, content in files]

    files = _with_bar(archives.contents(path, entries), len(entries))
    unreadable = {}
    with decoding.quietly():
        for batch in _in_order(work, _batches(files)):
            for name, result in batch:
                entry = entries[name]
                if result.problem:
                    unreadable[entry.name] = result.problem
                else:
                    survey.kinds[result.kind] += 1
                    survey.sizes[result.size] += 1
                    survey.notes.update(result.notes)
                yield entry, result
    survey.unreadable = dict(sorted(unreadable.items()))


def _decoded(content: bytes, target: "decoding.Target", keep: bool) -> _Result:
    from stages.lib.data.preparation import decoding

    try:
        decoded = decoding.decode(content, target.background)
    except decoding.UnreadableError as error:
        return _Result(problem=str(error))
    return _Result(
        decoded.digest,
        decoding.array(decoded.image, target) if keep else None,
        (decoded.image.height, decoded.image.width),
        f"{decoded.kind} {decoded.mode}",
        decoded.notes,
    )


def _batches(files: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    batch: list[tuple[str, bytes]] = []
    size = 0
    for file in files:
        batch.append(file)
        size += len(file[1])
        if len(batch) == _BATCH or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def _in_order(work: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
    """The results of ``work`` by a few threads, in the order of the items; few wait at a time."""
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(count) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _with_bar(files: Iterator[T], count: int) -> Iterator[T]:
    """The files themselves, with a progress bar on a terminal."""
    if not sys.stderr.isatty():
        return files
    from tqdm import tqdm  # type: ignore[import-untyped] # it has no types

    bar: Iterator[T] = tqdm(files, "Decoding", count, unit=" images", leave=False, file=sys.stderr)
    return bar


def _check_classes(path: Path, layout: layouts.Layout, class_names: Sequence[str]) -> None:
    counts = Counter(entry.label for entry in layout.entries)
    if unknown := sorted(set(counts) - set(class_names)):
        raise UserError(
            f"{path.as_posix()}: expected the classes of class_names ({_short(class_names)}), "
            f"found {_short(unknown)} too.\nCorrect class_names in datasets.yaml."
        )


def _short(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def _refuse_unreadable(path: Path, survey: Survey, skip: bool) -> None:
    for name, reason in survey.unreadable.items():
        print(f"{name}: {reason}", file=sys.stderr)
    count = len(survey.unreadable)
    if count and not skip:
        name, reason = next(iter(survey.unreadable.items()))
        raise UserError(
            f"{path.as_posix()}: expected image files, found {count:,} that cannot be read, all "
            f"listed above, first {name}: {reason}.\n"
            "Mend or remove them, or set `normalize.unreadable: skip` in params.yaml."
        )


def _common_shape(
    path: Path, records: Sequence[_Record], target: "decoding.Target"
) -> tuple[int, ...]:
    """The shape of all images: H x W where all are grey, else H x W x 3."""
    if not records:
        raise UserError(
            f"{path.as_posix()}: expected images, found none that can be read.\n"
            "Lay the images out as docs/own-images.md says."
        )
    sizes = {record.shape[:2]: record.entry.name for record in reversed(records)}
    if len(sizes) > 1:
        low, high = min(sizes), max(sizes)
        raise UserError(
            f"{path.as_posix()}: expected images of one height and width, found {len(sizes):,}, "
            f"such as {low[0]} x {low[1]} ({sizes[low]}) and {high[0]} x {high[1]} "
            f"({sizes[high]}).\nSet normalize.size in params.yaml, such as 96 or [96, 128]."
        )
    (size,) = sizes
    grey = target.colour != "rgb" and all(len(record.shape) == 2 for record in records)
    return size if grey else (*size, 3)


def _split(records: Sequence[_Record], options: Options) -> dict[str, list[_Record]]:
    """The images of each split, in the order of what their digests draw."""
    given = {record.entry.split for record in records}
    chosen: dict[str, list[tuple[int, int, str, _Record]]] = {name: [] for name in SPLITS}
    for record in records:
        first, second = splits.draws(record.digest, options.seed)
        name = record.entry.split or "train"
        if name == "train" and "test" not in given and first < options.test_fraction * _WHOLE:
            name = "test"
        elif (
            name == "train"
            and "validation" not in given
            and second < options.validation_fraction * _WHOLE
        ):
            name = "validation"
        chosen[name].append((first, record.label, record.entry.name, record))
    return {name: [each[-1] for each in sorted(rows)] for name, rows in chosen.items()}


def _lacking(chosen: Mapping[str, Sequence[_Record]]) -> dict[str, list[str]]:
    """The classes of which the training or the test split has no image."""
    labels = {record.entry.label for records in chosen.values() for record in records}
    return {
        name: sorted(labels - {record.entry.label for record in chosen[name]})
        for name in ("train", "test")
    }


def _check_splits(path: Path, chosen: Mapping[str, Sequence[_Record]], options: Options) -> None:
    """Tells which classes have no image to train or to test on, and a seed by which they have.

    Raises:
        UserError: There is no image at all to train or to test on.
    """
    lacking = _lacking(chosen)
    if not any(lacking.values()):
        return
    records = [record for name in SPLITS for record in chosen[name]]
    images = Counter(record.entry.label for record in records)
    alone = [label for label, count in images.items() if count == 1]  # in one split at most
    given = any(record.entry.split == "test" for record in records)
    # A class of one image is in one split whatever the seed, a test split that is given as it is
    lost = {*alone, *(lacking["test"] if given else ())}

    def step(but: Collection[str] = ()) -> str:
        for seed in range(100 if lost <= set(but) else 0):
            without = _lacking(_split(records, replace(options, seed=seed)))
            if set().union(*without.values()) <= set(but):
                return f"Set normalize.seed to {seed}, which gives images to both splits."
        return "Add images, or folders train and test of them."

    for name, word in (("train", "training"), ("test", "test")):
        if not chosen[name]:
            raise UserError(
                f"{path.as_posix()}: expected {word} images, found none among the "
                f"{len(records):,} images.\n{step(alone)}"
            )
    if lacking["test"]:
        print(
            f"WARNING: without a test image: {_short(lacking['test'])}. {step()}",
            file=sys.stderr,
        )


def _part(chosen: Sequence[_Record], shape: tuple[int, ...], scratch: BinaryIO) -> Part:
    def take(indices: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        images = np.empty((len(indices), *shape), np.float32)
        for image, index in zip(images, indices.tolist(), strict=True):
            _read_pixels(chosen[index], scratch, image)
        return images

    return Part(
        shape,
        np.array([record.label for record in chosen], np.int64),
        [record.entry.name for record in chosen],
        take,
        np.array([record.size for record in chosen], np.int64).reshape(-1, 2),
    )


def _read_pixels(record: _Record, scratch: BinaryIO, image: npt.NDArray[np.float32]) -> None:
    """Fills one image, float32 from 0 to 1."""
    kind = np.dtype(np.float32 if record.deep else np.uint8)
    pixels = np.empty(record.shape, kind)
    scratch.seek(record.start)
    scratch.readinto(pixels.data.cast("B"))  # type: ignore[attr-defined] # a file has it
    channels = pixels if pixels.ndim == image.ndim else pixels[..., None]  # grey to three equal
    np.divide(channels, np.float32(255), out=image, dtype=np.float32)
