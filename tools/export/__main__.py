"""Exports the trained model: ``python -m tools.export [FORMAT...]``, and checks what it wrote.

Each format is run by its own runtime on the whole test split and compared with models/model.keras;
one that does not agree is an error and leaves what was there. exports/FORMAT/ is written, and the
table of sizes and latencies as exports/formats.json and formats.md. Without FORMAT all those are
written whose packages are installed. Exit status: 0, 1 on an error, 2 on a wrong option.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.lib import split_file
from stages.lib.core import files
from stages.lib.core.errors import UserError
from tools.export import agreement, latency
from tools.export.formats import FORMATS, Format, with_probabilities
from tools.lib import classifier, command

EXPORTS = Path("exports")
TEST = Path("data/normalized/test.npz")


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the exports and their table; gives the exit status."""
    options = _parser().parse_args(arguments)
    return command.ended(lambda: _export_all(options))


def _export_all(options: argparse.Namespace) -> int:
    names = _chosen(options.formats)
    trained = classifier.load(classifier.MODEL, options.threads)
    test = _read_test(trained)
    written, failed = {}, False
    for name in names:
        try:
            written[name] = _export(name, FORMATS[name], trained, test, options.threads)
        except UserError as error:
            print(f"ERROR: {error}", file=sys.stderr)
            if (EXPORTS / name).exists():
                print(f"{(EXPORTS / name).as_posix()} is still that of an earlier export.")
            failed = True
    rows = latency.measure(trained, written, EXPORTS, test.images, options.threads)
    files.write_json(EXPORTS / "formats.json", latency.record(rows, options.threads))
    table = latency.table(rows, options.threads)
    files.write_text(EXPORTS / "formats.md", table + "\n")
    print(table)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.export",
        description="Exports the trained model and checks each export on the whole test split.",
        epilog="Example: python -m tools.export litert",
    )
    parser.add_argument(
        "formats",
        nargs="*",
        metavar="FORMAT",
        help=f"of {', '.join(FORMATS)} (default: all whose packages are installed)",
    )
    parser.add_argument(
        "--threads", type=_threads, default=1, metavar="N", help="of each runtime (default: 1)"
    )
    return parser


def _threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"expected 1 to 1024, found {text}")
    return int(text)


def _read_test(trained: classifier.Classifier) -> split_file.Split:
    """The test split.

    Raises:
        UserError: It is missing or damaged, holds no image, or is of another data set.
    """
    test, metadata = split_file.read(TEST), trained.metadata
    expected = (tuple(metadata.input_shape), metadata.class_names)
    if (test.images.shape[1:], test.class_names) != expected or not len(test.labels):
        raise UserError(
            f"{TEST.as_posix()}: expected images {expected[0]} of the model's "
            f"{len(expected[1])} classes, found {len(test.labels)} images {test.images.shape[1:]} "
            f"of {len(test.class_names)} classes, or other names.\n"
            "Run `dvc repro`, which makes both of one data set."
        )
    return test


def _chosen(asked: Sequence[str]) -> list[str]:
    """The formats to write.

    Raises:
        UserError: One is unknown, or a package for it is missing.
    """
    for name in asked:
        if name not in FORMATS:
            raise UserError(
                f"{name}: expected a format, one of {', '.join(FORMATS)}.\n"
                "Name one of those, or none for all."
            )
        if missing := FORMATS[name].missing():
            raise UserError(
                f"{name}: expected the packages {', '.join(FORMATS[name].packages)}, found no "
                f"{', '.join(missing)}.\n"
                f"Run `pip install {' '.join(missing)}`; no stage needs them."
            )
    if asked:
        return list(dict.fromkeys(asked))
    for name, kind in FORMATS.items():
        if missing := kind.missing():
            print(f"{name}: left out; it takes `pip install {' '.join(missing)}`.")
    return [name for name, kind in FORMATS.items() if not kind.missing()]


def _export(
    name: str,
    kind: Format,
    trained: classifier.Classifier,
    test: split_file.Split,
    threads: int,
) -> agreement.Agreement:
    """How far an export agrees, which is then in place."""
    with files.replacing(EXPORTS / name) as temporary:
        temporary.mkdir()
        model = with_probabilities(trained.model, trained.metadata)
        path = temporary / kind.file
        try:
            kind.write(model, trained.metadata, path)
            run = kind.open(path, threads)
            found = agreement.compare(trained.probabilities, run, test.images)
        except Exception as error:  # whatever converters and runtimes raise
            raise UserError(
                f"{EXPORTS.as_posix()}/{name}: expected a model that converts and runs, found: "
                f"{_reason(error)}.\nUse another format, or leave the layer out that it names."
            ) from None
        del run  # some systems move no file that is open
        if problem := found.problem():
            raise UserError(
                f"{EXPORTS.as_posix()}/{name}: expected {problem}.\n"
                "Nothing was written; use another format, or report it to Keras."
            )
    print(f"{name}: {found.words()}, {(EXPORTS / name / kind.file).as_posix()}")
    return found


def _reason(error: Exception) -> str:
    """What a converter says; of TensorFlow's many lines the first operation, and its layer."""
    text = str(error)
    if operation := re.search(r"'[\w.]+' op [^\n]+", text):
        layer = re.search(r'fused\["[^"]*", "([^"@]+)', text)
        text = f"{operation[0]}{f', in {layer[1]}' if layer else ''}"
    return " ".join(text.split())[:300].rstrip(".") or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
