"""Compares the work tree with a Git revision: ``python -m tools.compare [REV]``.

Writes reports/comparison/report.html for a browser, report.md and its figures for a pull request,
and tables.md, the same without figures. Exit status: 0, whatever the comparison says; 1 on an
error; 2 on a wrong option. With a gate, by options or gate.yaml and --gate, also 1 when a rule
fails, and 3 when none fails and one is not known.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from stages.lib.core import config, files
from stages.lib.core.errors import UserError
from tools.compare import (
    comparison,
    declared,
    dvc_state,
    gate,
    html_report,
    markdown,
    markdown_report,
    record,
    revisions,
    scores,
    sides,
)
from tools.compare.accuracy import Test
from tools.compare.comparison import Comparison
from tools.compare.declared import Declared
from tools.compare.revisions import Base
from tools.lib import command

FOLDER = Path("reports/comparison")
REPORT = FOLDER / "report.md"
TABLES = FOLDER / "tables.md"
PAGE = FOLDER / "report.html"
FAIL, NOT_KNOWN = 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the report; gives the exit status."""
    options = _parser().parse_args(arguments)
    return command.ended(lambda: _judge(options))


def _judge(options: argparse.Namespace) -> int:
    written = gate.read() if options.gate else gate.Rules()
    if options.gate and written == gate.Rules():
        print(f"Gate: {gate.FILE} is missing or asks for nothing.", file=sys.stderr)
    return _run(options, _with_options(written, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare",
        description=f"Compares the work tree with a Git revision and writes {PAGE.as_posix()}, "
        f"{REPORT.name} and {TABLES.name}.",
        epilog="Exit status: 0; 1 on an error; with a gate (--fail-if-worse, --margin, --at-least, "
        "--at-most, --gate) also 1 when it fails, and 3 when that is not known. "
        "Example: python -m tools.compare main --at-least accuracy=0.97",
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
    parser.add_argument(
        "--margin",
        metavar="POINTS",
        help="exit 1 if the loss of accuracy is surely that many points, 3 if that is not known",
    )
    parser.add_argument(
        "--at-least",
        nargs="+",
        action="extend",
        default=[],
        metavar="METRIC=VALUE",
        help="floors, such as accuracy=0.97 recall:Shirt=0.7",
    )
    parser.add_argument(
        "--at-most",
        nargs="+",
        action="extend",
        default=[],
        metavar="METRIC=VALUE",
        help="ceilings, such as loss=0.3 expected_calibration_error=0.02",
    )
    parser.add_argument(
        "--gate", action="store_true", help=f"the rules of {gate.FILE}, beside the options"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--no-images",
        action="store_false",
        dest="images",
        help="tables only: no figure and no test image is written",
    )
    return parser


def _with_options(rules: gate.Rules, options: argparse.Namespace) -> gate.Rules:
    """The rules of gate.yaml with the options before them."""
    margin = rules.margin if options.margin is None else gate.number(options.margin, "--margin")
    return gate.Rules(
        rules.fail_if_worse or options.fail_if_worse,
        margin,
        {**rules.at_least, **_limits(options.at_least, "--at-least")},
        {**rules.at_most, **_limits(options.at_most, "--at-most")},
    )


def _limits(words: Sequence[str], option: str) -> dict[str, float]:
    limits = {}
    for word in words:
        name, equals, value = word.rpartition("=")
        if not equals:
            raise UserError(f"{option}: expected METRIC=VALUE, found {word}.")
        limits[name] = gate.number(value, f"{option} {name}")
    return limits


def _run(options: argparse.Namespace, rules: gate.Rules) -> int:
    images, as_json = options.images, options.json
    tree = revisions.work_tree()
    config.read(config.PARAMS)  # a mistake in it is better mended than reported
    base = revisions.find_base(options.revision)
    with tempfile.TemporaryDirectory() as temporary:
        found = comparison.compare(*_sides(base, Path(temporary)))
        own = declared.read(base.commit, images)
        drawn, note = _figures(found, own, Path(temporary)) if images else ({}, "")
    checks = gate.check(found, rules)
    history = revisions.history(base.commit, sides.METRICS)
    report = markdown_report.write(found, base, tree, drawn, note, checks, history, own)
    tables = markdown_report.write(found, base, tree, (), note, checks, history, own)
    _write({REPORT.name: report, TABLES.name: tables}, drawn, html_report.write(report, drawn))
    status = {"fail": FAIL, "not known": NOT_KNOWN}.get(gate.overall(checks), 0)
    _tell(found, note, as_json)
    for check in checks:
        print(f"Gate: {check.status}: {check.says}", file=sys.stderr if as_json else sys.stdout)
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


def _figures(of: Comparison, own: Declared, temporary: Path) -> tuple[dict[str, bytes], str]:
    from tools.compare import change_figures  # Matplotlib, which --no-images does without

    drawn, note = change_figures.draw(of, _fetcher(Path(), None, temporary / "after"))
    for at, plot in enumerate(own.plots, start=1):
        images = [image for image in plot.images if image] if plot.suffix else []
        contents = images or [change_figures.declared(plot)] if not plot.missing else []
        drawn |= zip(declared.names(at, plot), contents, strict=True)
    return drawn, note


def _write(texts: dict[str, str], drawn: dict[str, bytes], page: str) -> None:
    """Replaces the whole folder, so that no figure of an earlier comparison stays behind."""
    for name, text in texts.items():
        if problems := markdown.problems(text):
            raise UserError(f"{name}: CML could not post this report: {'; '.join(problems)}.")
    with files.replacing(FOLDER) as temporary:
        temporary.mkdir()
        for name, content in drawn.items():
            (temporary / name).write_bytes(content)
        for name, text in {**texts, PAGE.name: page}.items():
            files.write_text(temporary / name, text)


def _tell(of: Comparison, note: str, as_json: bool) -> None:
    """A few lines for a person, on stderr when stdout is for a machine."""
    out = sys.stderr if as_json or of.verdict == "unknown" else sys.stdout
    print(markdown_report.headline(of), file=out)
    weighed = of.evidence.get(scores.ACCURACY)
    if weighed is not None and weighed.both_chances:
        count = " and ".join(map(str, weighed.trainings))
        print(f"{count} trainings, p = {weighed.p_value:.3g} (trainings and test images)", file=out)
    elif isinstance(of.test, Test) and of.test.fixed is not None and of.test.broken is not None:
        numbers = f"{len(of.test.fixed)} fixed, {len(of.test.broken)} broken"
        print(f"{numbers}, p = {of.test.p_value:.3g} (McNemar's exact test)", file=out)
        print(f"One training on a side: {_more(of)} trains more, so that seeds count", file=out)
    elif isinstance(of.test, Test):
        numbers = f"By totals alone, p = {of.test.p_value:.3g} (Fisher's exact test)"
        print(f"{numbers}: {of.test.why_unpaired}", file=out)
    for warning in [*of.warnings, *([note] if note else [])]:
        print(f"WARNING: {warning}", file=sys.stderr)
    print(f"More in {PAGE.as_posix()}", file=out)


def _more(of: Comparison) -> str:
    """The command that trains more on the side that has one training, or both commands."""
    sides_of = ((of.after, comparison.MORE), (of.before, f"{comparison.MORE} {of.before.name}"))
    return " and ".join(f"`{more}`" for side, more in sides_of if len(side.trainings) < 2)


if __name__ == "__main__":
    sys.exit(main())
