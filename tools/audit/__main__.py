"""``python -m tools.audit``: whether dvc.yaml declares exactly what the stages depend on.

Without an option it takes imports from the code, and parameters from what reading the settings
reads, for params.yaml and every recipe; it tells of edits that are without effect. ``--fix`` writes
what is missing into dvc.yaml and takes out what is not read. ``--hermetic`` runs every stage in a
folder that holds its deps alone and compares the outputs. ``--lock`` tells which stages are stale,
without data and without DVC. ``--mend`` removes outputs that are not what dvc.lock recorded, from
DVC's cache too. ``--data`` fails if the data set has leaks or conflicts, as normalize counted them.
Exit status 1 if anything is found.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.lib.core import files, pipeline
from tools.audit import hermetic, leaks, lock, mend, repair, rules
from tools.audit.finding import Finding
from tools.lib import command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the audit in the current folder; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.audit",
        description=__doc__,
        epilog="Example: python -m tools.audit --fix",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--fix", action="store_true", help="mend dvc.yaml")
    choice.add_argument("--hermetic", action="store_true", help="run the stages with deps alone")
    choice.add_argument("--mend", action="store_true", help="remove damaged outputs")
    choice.add_argument("--lock", action="store_true", help="is dvc.lock up to date?")
    choice.add_argument("--data", action="store_true", help="are there leaks or conflicts?")
    options = parser.parse_args(arguments)
    return command.ended(lambda: _run(Path.cwd(), options))


def _run(root: Path, options: argparse.Namespace) -> int:
    if options.hermetic:
        findings, notes = hermetic.check(root)
        return _report(findings, "every stage makes the same of its deps alone", notes)
    if options.mend:
        return mend.run(root)
    if options.data:
        findings, advice = leaks.check(root)
        fine = "no leak between the splits and no conflict of labels"
        return _report(findings, fine, advice)
    if options.lock:
        findings, advice = lock.check(root)
        return _report(findings, f"{pipeline.LOCK} and what is in Git are up to date", advice)
    return _report(*_declared(root, options.fix))


def _declared(root: Path, fix: bool) -> tuple[list[Finding], str, list[str]]:
    """The findings, the summary when there are none, and advice."""
    findings, stages, needs = rules.check(root)
    changes = {finding.change for finding in findings if finding.change}
    if fix and changes:
        path = root / pipeline.FILE
        files.write_text(path, repair.repaired(path.read_text(encoding="utf-8"), changes))
        for change in sorted(changes):
            word = "added" if change.add else "removed"
            print(f"{change.stage}: {word} {change.file} {change.entry}".replace("  ", " "))
        findings, stages, needs = rules.check(root)
    params = sum(len(stage.params) for stage in stages.values())
    deps = sum(len(stage.deps) for stage in stages.values())
    advice: list[str] = []
    if (root / pipeline.LOCK).is_file():
        advice += lock.advice(root, lock.compare(root))
    return findings, f"{len(needs)} stages, {deps} deps and {params} params as in the code", advice


def _report(findings: Sequence[Finding], fine: str, advice: Sequence[str] = ()) -> int:
    for line in (*findings, *advice):
        print(line, flush=True)  # before the count, which goes to the other stream
    if not findings:
        print(f"ok: {fine}")
        return 0
    fixable = sum(1 for finding in findings if finding.change)
    hint = f"; `python -m tools.audit --fix` mends {fixable}" if fixable else ""
    print(f"{len(findings)} found{hint}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
