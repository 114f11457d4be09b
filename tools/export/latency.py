"""Size and latency of the exports beside the model's own, measured side by side in one run."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.lib import stored_images
from tools.compare.markdown import table as markdown_table
from tools.export.agreement import Agreement, Images
from tools.export.formats import FORMATS, Run
from tools.lib.classifier import MODEL, Classifier

BATCHES = (1, 32)  # images at once, or all that there are
_ROUNDS = 100


@dataclass(frozen=True)
class Row:
    """What was measured of the model or of one export.

    Attributes:
        name: Of the format.
        path: What a runtime loads.
        size: In bytes.
        agreement: With the model; None for the model itself.
        milliseconds: By images in a batch: the median and the 95th percentile.
    """

    name: str
    path: str
    size: int
    agreement: Agreement | None
    milliseconds: Mapping[int, tuple[float, float]]


def measure(
    trained: Classifier,
    written: Mapping[str, Agreement],
    folder: Path,
    images: stored_images.Images,
    threads: int,
) -> list[Row]:
    """One row for the model and one an export; the runs alternate, so that all meet the same load.

    The model runs as evaluate runs it, compiled by TensorFlow.
    """
    paths = {name: folder / name / FORMATS[name].file for name in written}
    runs: dict[str, Run] = {"keras": lambda batch: trained.probabilities(batch).astype("float32")}
    runs |= {name: FORMATS[name].open(path, threads) for name, path in paths.items()}
    batches = sorted({min(size, len(images)) for size in BATCHES})
    times = {size: _times(runs, images[:size]) for size in batches}
    sizes = {name: _size(folder / name) for name in written}
    return [
        Row(
            name,
            paths.get(name, MODEL).as_posix(),
            sizes.get(name) or _size(MODEL),
            written.get(name),
            {size: times[size][name] for size in batches},
        )
        for name in runs
    ]


def _times(runs: Mapping[str, Run], batch: Images) -> dict[str, tuple[float, float]]:
    """The median and the 95th percentile of each, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(10):
            run(batch)
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            began = time.perf_counter()
            run(batch)
            times[name].append(1000 * (time.perf_counter() - began))
    return {
        name: (statistics.median(values), statistics.quantiles(values, n=20)[-1])
        for name, values in times.items()
    }


def _size(path: Path) -> int:
    return sum(part.stat().st_size for part in (path, *path.rglob("*")) if part.is_file())


def record(rows: Sequence[Row], threads: int) -> dict[str, object]:
    """The rows as JSON holds them."""
    return {
        "threads": threads,
        "rounds": _ROUNDS,
        "formats": {
            row.name: {
                "path": row.path,
                "bytes": row.size,
                "images_compared": row.agreement.images if row.agreement else None,
                "labels_that_differ": row.agreement.labels if row.agreement else None,
                "largest_difference": row.agreement.difference if row.agreement else None,
                "milliseconds": {
                    str(size): {"median": round(median, 4), "p95": round(high, 4)}
                    for size, (median, high) in row.milliseconds.items()
                },
            }
            for row in rows
        },
    }


def table(rows: Sequence[Row], threads: int) -> str:
    """The rows as Markdown."""
    header = ["format", "file", "kB", "largest difference"]
    header += [f"{size} image{'s' * (size > 1)}, ms (95 %)" for size in rows[0].milliseconds]
    lines = [
        [
            FORMATS[row.name].title if row.name in FORMATS else "Keras, the model itself",
            row.path,
            f"{row.size / 1000:,.0f}",
            f"{row.agreement.difference:.1e}" if row.agreement else "",
            *(f"{median:.3f} ({high:.3f})" for median, high in row.milliseconds.values()),
        ]
        for row in rows
    ]
    note = (
        f"\n\nLatency: median and 95th percentile of {_ROUNDS} alternating runs, "
        f"{threads} thread{'s' * (threads > 1)} each. Every export gives all test images the "
        "label that the model gives them."
    )
    return markdown_table(header, lines, "llrrrr") + note
