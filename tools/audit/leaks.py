"""Leaks and conflicts of the data set, as normalize counted them."""

from pathlib import Path

import msgspec

from stages.lib import flaws
from stages.lib.core import files
from stages.lib.core.errors import UserError
from tools.audit.finding import Finding

METRICS = "reports/data/metrics.json"
TABLE = "reports/data/tables/duplicates.csv"


def check(root: Path) -> list[Finding]:
    """A finding for each kind of leak or conflict.

    Raises:
        UserError: normalize has not run, or what it wrote was edited.
    """
    path = root / METRICS
    if not path.is_file():
        raise files.missing(Path(METRICS))
    try:
        metrics = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
        sentences = flaws.flaws(metrics)
    except (msgspec.MsgspecError, KeyError) as error:
        raise UserError(
            f"{METRICS}: expected counts as normalize writes them, found: {error}.\n"
            "Delete it and run `dvc repro`."
        ) from None
    step = "take the images in that table out of one split, or correct their labels"
    return [Finding(TABLE, sentence.rstrip("."), step) for sentence in sentences]
