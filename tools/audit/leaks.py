"""What is wrong with the data set, as normalize counted it."""

from pathlib import Path

import msgspec

from stages.lib import flaws
from stages.lib.core import files, pipeline
from stages.lib.core.errors import UserError
from tools.audit import lock
from tools.audit.finding import Finding

METRICS = "reports/data/metrics.json"
TABLES = "reports/data/tables"
MADE_BY = "normalize"


def check(root: Path) -> tuple[list[Finding], list[str]]:
    """A finding for each kind of leak or conflict, and what else there is to know.

    Raises:
        UserError: normalize has not run, or what it wrote was edited.
    """
    path = root / METRICS
    if not path.is_file():
        raise files.missing(Path(METRICS))
    try:
        metrics = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
        found = flaws.flaws(metrics)
    except (msgspec.MsgspecError, KeyError) as error:
        reason = f"no {error.args[0]}" if isinstance(error, KeyError) else error
        raise UserError(
            f"{METRICS}: expected counts as normalize writes them, found: {reason}.\n"
            "Delete it and run `dvc repro`."
        ) from None
    for stale in lock.compare(root) if (root / pipeline.LOCK).is_file() else ():
        if stale.stage == MADE_BY and stale.why.startswith("parameter "):
            raise UserError(
                f"{METRICS}: expected counts of the data set that is configured, found some made "
                f"before a change: {stale.stage}: {stale.why}.\nRun `dvc repro normalize` first."
            )
    findings = [
        Finding(f"{TABLES}/{flaw.table}.csv", flaw.sentence.rstrip("."), flaw.step)
        for flaw in found
        if flaw.fails
    ]
    advice = [f"{TABLES}/{flaw.table}.csv: {flaw.sentence}" for flaw in found if not flaw.fails]
    return findings, advice
