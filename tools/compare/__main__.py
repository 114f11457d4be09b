"""Compares the work tree with a Git revision: ``python -m tools.compare [REV]``.

Writes reports/comparison/report.md and its figures. Exit status: 0, whatever the comparison says;
1 on an error; 2 on a wrong option. With --fail-if-worse also 1 when the accuracy fell beyond
noise, and 3 when it is not known whether it did.
"""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from stages.lib.core import config, files
from stages.lib.core.errors import UserError
from tools.compare import comparison, dvc_state, markdown, markdown_report, record, revisions, sides
from tools.compare.comparison import Comparison
from tools.compare.revisions import Base
from tools.compare.sides import Unknown

FOLDER = Path("reports/comparison")
REPORT = FOLDER / "report.md"
WORSE, NOT_KNOWN = 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the report; gives the exit status."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # Windows, whose consoles lack some letters
    try:
        return _run(options.revision, options.images, options.json, options.fail_if_worse)
    except UserError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare",
        description=f"Compares the work tree with a Git revision and writes {REPORT.as_posix()}.",
        epilog="Exit status: 0; 1 on an error; with --fail-if-worse also 1 when the accuracy fell "
        "beyond noise, and 3 when that is not known.",
    )
    parser.add_argument(
        "revision",
        nargs="?",
        metavar="REV",
        help="a commit, branch or tag (default: the merge base with the main branch)",
    )
    parser.add_argument(
        "--fail-if-worse", action="store_true", help="exit 1 when worse, 3 when not known"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--no-images",
        action="store_false",
        dest="images",
        help="tables only: no figure and no test image is written",
    )
    return parser


def _run(revision: str | None, images: bool, as_json: bool, gate: bool) -> int:
    tree = revisions.work_tree()
    config.read(config.PARAMS)  # a mistake in it is better mended than reported
    base = revisions.find_base(revision)
    with tempfile.TemporaryDirectory() as temporary:
        found = comparison.compare(*_sides(base, Path(temporary)))
        drawn, note = _figures(found, Path(temporary)) if images else ({}, "")
    _write(markdown_report.write(found, base, tree, drawn, note), drawn)
    status = _status(found) if gate else 0
    _tell(found, note, as_json)
    if as_json:
        print(json.dumps(record.record(found, base, tree, status), indent=2))
    return status


def _sides(base: Base, temporary: Path) -> tuple[sides.Side, sides.Side]:
    """The revision, exported into a temporary folder, and the work tree."""
    after = sides.read("the work tree", Path(), _fetcher(Path(), None, temporary / "after"))
    earlier = temporary / "before"
    revisions.export(base.commit, earlier)
    return sides.read(base.short, earlier, _fetcher(earlier, base.commit, earlier)), after


def _fetcher(folder: Path, commit: str | None, store: Path) -> Callable[[str], Path]:
    """Gives the path of an output: in the folder itself, or fetched by DVC."""

    def fetch(path: str) -> Path:
        if (folder / path).is_file():
            return folder / path
        return dvc_state.fetch(path, commit, store)

    return fetch


def _figures(of: Comparison, temporary: Path) -> tuple[dict[str, bytes], str]:
    from tools.compare import change_figures  # Matplotlib, which --no-images does without

    return change_figures.draw(of, _fetcher(Path(), None, temporary / "after"))


def _write(text: str, drawn: dict[str, bytes]) -> None:
    """Replaces the whole folder, so that no figure of an earlier comparison stays behind."""
    if found := markdown.problems(text):
        raise UserError(f"{REPORT.as_posix()}: CML could not post this report: {'; '.join(found)}.")
    with files.replacing(FOLDER) as temporary:
        temporary.mkdir()
        for name, content in drawn.items():
            (temporary / name).write_bytes(content)
        files.write_text(temporary / REPORT.name, text)


def _status(of: Comparison) -> int:
    """The exit status of --fail-if-worse."""
    return {"worse": WORSE, "unknown": NOT_KNOWN}.get(of.verdict, 0)


def _tell(of: Comparison, note: str, as_json: bool) -> None:
    """A few lines for a person, on stderr when stdout is for a machine."""
    out = sys.stderr if as_json or of.verdict == "unknown" else sys.stdout
    print(markdown_report.headline(of), file=out)
    if (
        not isinstance(of.test, Unknown)
        and of.test.fixed is not None
        and of.test.broken is not None
    ):
        numbers = (
            f"{len(of.test.fixed)} fixed, {len(of.test.broken)} broken, p = {of.test.p_value:.3g}"
        )
        print(f"{numbers} (McNemar's exact test)", file=out)
    elif not isinstance(of.test, Unknown):
        numbers = f"By totals alone, p = {of.test.p_value:.3g} (Fisher's exact test)"
        print(f"{numbers}: {of.test.why_unpaired}", file=out)
    for warning in [*of.warnings, *([note] if note else [])]:
        print(f"WARNING: {warning}", file=sys.stderr)
    print(f"More in {REPORT.as_posix()}", file=out)


if __name__ == "__main__":
    sys.exit(main())
