"""Classifies image files, and prints class and probability: ``python -m tools.predict FILE...``.

A FILE is an image, a folder of images, a zip or tar archive of images, or - for an image on the
standard input. Each is decoded by the function that normalize uses, and fitted as the model's file
says. The column "typical" is the percentage of training images that differ from their mean as much
as this one or more; what lies outside of all of them is told in words. It does not tell an unknown
class that is drawn alike. Exit status: 0, 1 where a file could not be read, 2 on a wrong option.
"""

import argparse
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from stages.lib import model_file
from stages.lib.core.errors import UserError
from stages.lib.training import typicality
from tools.lib import classifier, command
from tools.predict import answers, image_files
from tools.predict.answers import Answer
from tools.predict.image_files import Source

_BATCH = 1000  # as evaluate.batch_size has it
_BATCH_BYTES = 1 << 28


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the answers; gives the exit status."""
    options = _parser().parse_args(arguments)
    return command.ended(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    failures: dict[str, None] = {}  # each once: all behind a damaged place say the same
    listed = list(_listed(options.files, failures))
    if not listed:  # TensorFlow need not start
        return _tell(failures)
    trained = classifier.load(options.model, threads=1)
    prepare = image_files.preparation(options.model, trained.metadata, options.invert, options.raw)
    found = list(_classify(_with_bar(listed), prepare, trained, failures))
    status = _tell(failures)  # before the answers, of which a reader may have had enough
    if found or not failures:
        if options.format != "table" and isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # for programs, whatever the console has
        print(answers.FORMATS[options.format](found, options.top), end="", flush=True)
    return status


def _tell(failures: Iterable[str]) -> int:
    """Names what could not be read; gives the exit status."""
    for failure in failures:
        print(f"ERROR: {failure}", file=sys.stderr)
    return int(bool(failures))


def _listed(names: Sequence[str], failures: dict[str, None]) -> Iterator[Source]:
    """The images that each word names; what it names not, or damaged, is added to ``failures``."""
    for name in names:
        try:
            yield from image_files.find(name)
        except UserError as error:
            failures[str(error)] = None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict",
        description="Classifies image files by the trained model.",
        epilog="Example: python -m tools.predict --top 3 photo.jpg scans/",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="an image, a folder, a zip or tar archive, or -"
    )
    parser.add_argument(
        "--top", type=_count, default=1, metavar="K", help="classes shown (default: 1)"
    )
    shown = parser.add_mutually_exclusive_group()
    for name in ("json", "csv"):
        shown.add_argument(
            f"--{name}", dest="format", action="store_const", const=name, default="table"
        )
    parser.add_argument(
        "--invert", action="store_true", help="for dark on light, where the model knows the reverse"
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="pixels hold the data set's raw values, to its pixel_max",
    )
    parser.add_argument(
        "--model", type=Path, default=classifier.MODEL, help=f"default: {classifier.MODEL}"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {text}")
    return int(text)


def _with_bar(listed: Sequence[Source]) -> Iterable[Source]:
    """The sources, counted on a terminal."""
    if not sys.stderr.isatty() or len(listed) < 2:
        return listed
    from tqdm import tqdm  # type: ignore[import-untyped]

    bar: Iterable[Source] = tqdm(listed, unit=" images", leave=False)
    return bar


def _classify(
    listed: Iterable[Source],
    prepare: image_files.Prepare,
    trained: classifier.Classifier,
    failures: dict[str, None],
) -> Iterator[Answer]:
    """The answers, batch by batch; what could not be read is added to ``failures``."""
    metadata = trained.metadata
    size = max(1, min(_BATCH, _BATCH_BYTES // (4 * int(np.prod(metadata.input_shape)))))

    def readable() -> Iterator[tuple[str, image_files.Prepared]]:
        for source in listed:
            try:
                yield source.name, prepare(source)
            except UserError as error:
                failures[str(error)] = None

    for part in _batches(readable(), size):
        images = np.stack([prepared.image for _, prepared in part])
        probabilities = trained.probabilities(images)
        values = typicality.properties(images)
        fractions = typicality.typicality(values, metadata.typical)
        for at, (name, prepared) in enumerate(part):
            note = _difference(prepared.inverse, values[at].tolist(), metadata)
            yield Answer(
                name, metadata.class_names, probabilities[at].tolist(), float(fractions[at]), note
            )


def _batches(
    items: Iterator[tuple[str, image_files.Prepared]], size: int
) -> Iterator[list[tuple[str, image_files.Prepared]]]:
    part: list[tuple[str, image_files.Prepared]] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _difference(
    inverse: image_files.Image, values: Sequence[float], metadata: model_file.Metadata
) -> str:
    """How an image differs from all training images, and whether its inverse would less."""
    told = typicality.difference(values, metadata.typical)
    if not told:
        return ""
    others = typicality.properties(inverse[None])[0].tolist()
    if not typicality.difference(others, metadata.typical):
        return f"{told}; inverted it resembles them: --invert"
    both = np.array([others, values])
    nearer, distance = typicality.distances(both, metadata.typical).tolist()
    if nearer < distance / 2:  # a digit on paper that is not quite white, say
        return f"{told}; inverted it comes nearer to them: --invert"
    return told


if __name__ == "__main__":
    sys.exit(main())
