"""The parts of a report, each a block of Markdown, empty where there is nothing to say."""

import itertools
import json
from collections.abc import Collection, Sequence

import numpy as np

from stages.lib.core import config
from stages.lib.wording import counted, percent
from tools.compare import dvc_state, evidence, markdown, revisions, scores, sides
from tools.compare.accuracy import ClassTest
from tools.compare.comparison import ABSENT, Comparison, class_name, matrices
from tools.compare.declared import Declared, Plot, names
from tools.compare.sides import Measure, Unknown

_ROWS = 30  # of a table; the rest is counted
_FEW = 4  # changes of data or versions that need no fold
_WIDE = 40  # letters of a list that is shown as one
_INDICES = 40
_LONG = 80  # letters of a name

CURVES, CONFUSION, IMAGES = "curves.png", "confusion.png", "images.png"


_TRAINING_MEASURES = [
    Measure("epochs", "Epochs", "images"),
    Measure("train_loss", "Training loss", "nats"),
    Measure("train_accuracy", "Training accuracy", "proportion"),
    Measure("val_loss", "Validation loss", "nats"),
    Measure("val_accuracy", "Validation accuracy", "proportion"),
    Measure("untrained_loss", "Loss before the training", "nats"),
    Measure("temperature", "Temperature"),
    Measure("temperature_low", "Temperature: lower limit of the 95 % interval"),
    Measure("temperature_high", "Temperature: upper limit of the 95 % interval"),
]
_KINDS = {"accuracy": "proportion", "images": "images"}  # where no table says
_LIMITS = ("accuracy_low", "accuracy_high")  # shown beside the accuracy
_MODEL_KEYS = ("parameters",)  # shown as the size of the model
MARKS = {"better": "🟢", "worse": "🔴", "no difference": "⚪", "unknown": "🟡"}
MARKED = ("better", "worse")  # in a table
_STATES = {
    "unchanged": "nothing to do",
    "ran": "ran",
    "pending": "**still has to run**",
    "added": "new",
    "removed": "removed",
    "other result": "other result from the same inputs",
}


def test_metrics(of: Comparison) -> str:
    """The metrics of the test split, and what the trainings say of them."""
    return _metrics_table("Test", of.after.measures or of.before.measures, of, "metrics")


def _metrics_table(title: str, measures: Sequence[Measure], of: Comparison, part: str) -> str:
    """A row for each metric of ``metrics`` or ``training``."""
    before, after = getattr(of.before, part), getattr(of.after, part)
    known = [side for side in (before, after) if not isinstance(side, Unknown)]
    if not known:
        return f"{title} metrics: not known before ({_why(before)}) or after ({_why(after)})."
    present = {name for side in known for name in side} - {*_LIMITS, *_MODEL_KEYS}
    shown = [measure for measure in measures if measure.metric in present]
    named = {measure.metric for measure in shown}
    rest = [name for side in reversed(known) for name in side if name in present - named]
    shown += [
        Measure(name, markdown.code(name), _KINDS.get(name, "")) for name in dict.fromkeys(rest)
    ]
    rows = []
    for measure in shown:
        name, unit = measure.metric, measure.unit
        cells = [_cell(side, name, unit) for side in (before, after)]
        if name == scores.ACCURACY and part == "metrics":
            cells = [f"{c}{_limits(side)}" for c, side in zip(cells, (before, after), strict=True)]
        label = (
            measure.label if measure.label.startswith("<code>") else markdown.escape(measure.label)
        )
        row = [label, *cells, _difference(before, after, name, unit, of.comparable)]
        rows.append([*row, _says(of, name)] if part == "metrics" else row)
    header = [title, "Before", after_title(of), "Difference"]
    header += ["By all trainings"] if part == "metrics" else []
    table = markdown.table(header, rows, "lrrrl"[: len(header)])
    missing = [
        f"{when}: not known, {_why(side)}."
        for when, side in (("Before", before), ("After", after))
        if isinstance(side, Unknown)
    ]
    if part == "metrics" and max(len(of.before.trainings), len(of.after.trainings)) > 1:
        missing.append(
            "Before and after are of the training that dvc.lock names; the last column is of all, "
            "with the 95 % interval of the difference of their means."
        )
    elif part == "metrics" and of.evidence:
        missing.append(
            "The last column has the 95 % interval of Student's t over the test images, which is "
            "nearly that of other methods."
        )
    return "\n\n".join([table, *missing])


def history(entries: Sequence[revisions.Entry]) -> str:
    """The accuracy of the last commits that changed the metrics, the newest first."""
    if not entries:
        return ""
    rows = []
    for entry in entries:
        metrics: dict[str, float] = entry.metrics
        accuracy = f"{percent(metrics[scores.ACCURACY])}{_limits(metrics)}"
        rows.append(
            [
                markdown.code(entry.commit[:7]),
                entry.date,
                markdown.escape(entry.subject[:100]),
                accuracy,
            ]
        )
    return markdown.details(
        f"Accuracy in the history: the last {counted(len(rows), 'result')}",
        markdown.table(["Commit", "Date", "Subject", "Test accuracy"], rows, "lllr"),
        "From the metrics that Git holds, one training each; the interval is that of the test "
        "images alone. Data sets may differ.",
    )


def declared(of: Comparison, found: Declared, figures: Collection[str]) -> str:
    """The metrics and plots that dvc.yaml declares beside the pipeline's own."""
    reason = markdown.escape(found.unknown)
    if found.unknown and not found.metrics:
        return f"Other metrics and plots that dvc.yaml declares: not known, {reason}."
    blocks = [f"Plots: not known, {reason}."] if found.unknown else []
    rows = [
        [markdown.code(each.path), markdown.code(key), *_numbers(each.before, each.after, key)]
        for each in found.metrics
        for key in dict.fromkeys([*each.after, *each.before])
    ]
    if rows:
        header = ["File", "Metric", "Before", after_title(of), "Difference"]
        blocks.append(markdown.table(header, rows[:_ROWS], "llrrr"))
    if len(rows) > _ROWS:
        blocks.append(f"And {len(rows) - _ROWS} more.")
    for at, plot in enumerate(found.plots, start=1):
        title = f"**{markdown.escape(plot.title[:_LONG])}**"
        shown = [name for name in names(at, plot) if name in figures]
        if plot.missing:
            how = markdown.code("dvc plots diff")
            blocks.append(f"{title}: not drawn, {markdown.escape(plot.missing)}; {how} may.")
        elif shown:
            blocks.append(title)
            blocks += [markdown.image(name, _seen(plot, name)) for name in shown]
    if found.more:
        blocks.append(f"And {counted(found.more, 'more plot')}: {markdown.code('dvc plots diff')}.")
    if not blocks:
        return ""
    return markdown.details("Declared in dvc.yaml: other metrics and plots", *blocks)


def _numbers(before: dict[str, float], after: dict[str, float], key: str) -> list[str]:
    cells = [f"{side[key]:.6g}" if key in side else "–" for side in (before, after)]
    if key in before and key in after:
        return [*map(_minus, cells), _minus(f"{after[key] - before[key]:+.6g}")]
    return [*map(_minus, cells), "new" if key in after else "gone"]


def _seen(plot: Plot, name: str) -> str:
    """What a declared plot shows, in words."""
    title = plot.title[:_LONG]
    if plot.suffix:
        return f"{title}, {'before' if '-before' in name else 'after'}"
    ends = [f"{label[:_LONG]} last {after[-1][1]:.6g}" for label, (_, after) in plot.lines.items()]
    return f"{title}, before and after, by {plot.x_label[:_LONG]}: {', '.join(ends[:_FEW])}"


def spread(of: Comparison) -> str:
    """The accuracies of the trainings of each side that has several, by seed."""
    rows = []
    for title, side in (("Before", of.before), (after_title(of), of.after)):
        if len(side.trainings) < 2:
            continue
        table = scores.correct(list(side.trainings.values()))
        accuracies = table.mean(axis=1)
        low, high = evidence.mean_interval(table)
        by_seed = [
            f"{seed}: {percent(a)}" for seed, a in zip(side.trainings, accuracies, strict=True)
        ]
        mean = percent(float(accuracies.mean()))
        rows.append(
            [
                title,
                str(len(accuracies)),
                f"{mean}<br><sub>{percent(low)} to {percent(high)}</sub>",
                f"{100 * accuracies.std(ddof=1):.2f} points",
                ", ".join(by_seed[:_ROWS]) + (" and more" if len(by_seed) > _ROWS else ""),
            ]
        )
    if not rows:
        return ""
    header = ["Accuracy", "Trainings", "Mean", "Standard deviation", "By seed"]
    return markdown.details(
        "Spread over seeds",
        markdown.table(header, rows, "lrrrl"),
        "The interval of the mean holds both chances, the seeds' and the test images'.",
    )


def after_title(of: Comparison, word: str = "After") -> str:
    """The title of a column of the later side."""
    return f"{word}, **out of date**" if of.outdated else word


def _says(of: Comparison, name: str) -> str:
    """The word that the test of a metric earns, with the interval of the difference."""
    weighed = of.evidence.get(name)
    if weighed is None:
        return "not tested"
    proportion = name != scores.LOSS
    low, high = (
        signed(limit) if proportion else _minus(f"{limit:+.4f}")
        for limit in (weighed.low, weighed.high)
    )
    word = {"no difference": "within noise", "unknown": "beyond the test images' noise"}.get(
        verdict := weighed.verdict(), verdict
    )
    mark = "" if of.outdated or verdict not in MARKED else f"{MARKS[verdict]} "
    count = " and ".join(map(str, weighed.trainings))
    return f"{mark}{word}<br><sub>{low} to {high}; {count} trainings</sub>"


def _cell(side: dict[str, float] | Unknown, name: str, unit: str) -> str:
    if isinstance(side, Unknown):
        return "not known"
    return _value(side[name], unit) if name in side else "–"


def _difference(
    before: dict[str, float] | Unknown,
    after: dict[str, float] | Unknown,
    name: str,
    unit: str,
    comparable: bool,
) -> str:
    if isinstance(before, Unknown) or isinstance(after, Unknown):
        return "not known"
    if name not in before:
        return "new"
    if name not in after:
        return "gone"
    return _delta(before[name], after[name], unit, comparable)


def _why(side: object) -> str:
    return markdown.escape(side.reason) if isinstance(side, Unknown) else ""


def _value(value: float | None, kind: str) -> str:
    if value is None:
        return "not known"
    return {"proportion": percent(value), "images": f"{value:,.0f}"}.get(kind, f"{value:.4f}")


def _limits(side: dict[str, float] | Unknown) -> str:
    if isinstance(side, Unknown) or not all(name in side for name in _LIMITS):
        return ""
    low, high = (side[name] for name in _LIMITS)
    return f"<br><sub>{percent(low)} to {percent(high)}</sub>"


def _delta(before: float | None, after: float | None, kind: str, comparable: bool) -> str:
    if before is None or after is None:
        return "not known"
    if not comparable and kind != "images":
        return "other images"
    change = after - before
    if not change:
        return "0"
    if kind == "proportion":
        return f"{signed(change)} points"
    return _minus(f"{change:+,.0f}" if kind == "images" else f"{change:+.4f}")


def changes(of: Comparison) -> list[str]:
    """What a person changed: parameters first, then data and versions, which may be long."""
    shown: list[list[str]] = []
    hidden: list[list[str]] = []
    unknown: list[str] = []
    for file, values in of.changed.items():
        if isinstance(values, Unknown):
            unknown.append(f"Changes of {markdown.code(file)}: not known, {_why(values)}.")
            continue
        rows = [
            [markdown.code(file), markdown.code(key), *(_setting(value) for value in pair)]
            for name, change in values.items()
            for key, pair in _entries(name, change)
        ]
        (shown if file == config.PARAMS or len(rows) <= _FEW else hidden).extend(rows)
    blocks = [
        *_settings(shown),
        *(
            [markdown.details("Data and versions that changed", *_settings(hidden))]
            if hidden
            else []
        ),
        *unknown,
    ]
    return blocks or ["Parameters, data set and library versions: unchanged."]


def _entries(key: str, pair: tuple[object, object]) -> list[tuple[str, tuple[object, object]]]:
    """A change, or one an entry where lists are too long to see in them what changed."""
    before, after = pair
    if not isinstance(before, list) or not isinstance(after, list) or len(str(after)) <= _WIDE:
        return [(key, pair)]
    entries = itertools.zip_longest(before, after, fillvalue=ABSENT)
    return [(f"{key}[{at}]", each) for at, each in enumerate(entries) if each[0] != each[1]]


def _settings(rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    table = markdown.table(["Changed in", "Key", "Before", "After"], rows[:_ROWS])
    return [table, f"And {len(rows) - _ROWS} more."] if len(rows) > _ROWS else [table]


def _setting(value: object) -> str:
    if value is ABSENT:
        return "–"
    if value is None or isinstance(value, bool):
        return markdown.code(json.dumps(value))
    return markdown.code(value)


def classes(of: Comparison) -> str:
    """The accuracy by class."""
    if of.same_predictions:
        return ""
    if isinstance(of.classes, Unknown):
        return "" if isinstance(of.test, Unknown) else f"By class: not known, {_why(of.classes)}."
    ranked = sorted(of.classes, key=lambda each: (each.corrected, each.p_value))
    shown = sorted(ranked[:_ROWS], key=lambda each: each.label)
    real = [each for each in of.classes if each.verdict in MARKED]
    both = any(each.evidence.both_chances for each in of.classes)
    beyond = [each for each in of.classes if each.verdict == "unknown"]
    words = _named(of, real) if real else "no class is shown to be better or worse"
    if beyond:
        words = f"{len(beyond)} differ by more than the choice of test images explains"
    header = ["Class", "Images", "Correct before", after_title(of, "Correct after")]
    header += ["Difference", "p", "corrected p", "Verdict"]
    note = (
        "over the trainings and the test images"
        if both
        else "over the test images alone, which does not tell whether a second training would agree"
    )
    return markdown.details(
        f"By class: {words}",
        markdown.table(header, [_class_row(of, each) for each in shown], "lrrrrrrl"),
        *(
            [f"And {len(of.classes) - _ROWS} more classes, none with a smaller p."]
            if len(of.classes) > _ROWS
            else []
        ),
        f"p is {note}. The corrected p (Holm's method) allows for looking at so many classes; the "
        "last column goes by it.",
    )


def _named(of: Comparison, tests: Sequence[ClassTest]) -> str:
    parts = []
    for word in MARKED:
        names = [
            markdown.escape(class_name(of, each.label)) for each in tests if each.verdict == word
        ]
        if names:
            parts.append(
                f"{word} at {', '.join(names[:5])}{' and others' if len(names) > 5 else ''}"
            )
    return "; ".join(parts)


def _class_row(of: Comparison, each: ClassTest) -> list[str]:
    words = {"no difference": "within noise", "unknown": "beyond the test images' noise"}
    verdict = each.verdict
    mark = f"{MARKS[verdict]} " if verdict in MARKED and not of.outdated else ""
    return [
        markdown.escape(class_name(of, each.label)),
        f"{each.test.images[1]:,}",
        *(percent(mean) for mean in each.evidence.means),
        f"{signed(each.evidence.difference)} points",
        probability(each.p_value),
        probability(each.corrected),
        f"{mark}{words.get(verdict, verdict)}",
    ]


def confusions(of: Comparison, drawn: bool) -> str:
    """The confusions that changed most, under their figure if it was drawn."""
    if (found := matrices(of)) is None:
        return ""
    change = found[1] - found[0]
    confused = change - np.diag(np.diag(change))
    order = np.argsort(-np.abs(confused), axis=None, kind="stable")[:10]
    pairs = [divmod(int(cell), len(change)) for cell in order if confused.flat[cell]]
    if not pairs:
        return ""
    rows = [
        [
            markdown.escape(class_name(of, actual)),
            markdown.escape(class_name(of, predicted)),
            *(str(matrix[actual, predicted]) for matrix in found),
            _minus(f"{confused[actual, predicted]:+d}"),
        ]
        for actual, predicted in pairs
    ]
    header = ["Actual", "Predicted", "Before", after_title(of), "Change"]
    alt = (
        f"Change of the confusion matrix of {len(change)} classes: "
        f"{_minus(f'{np.trace(change):+d}')} correct images; the largest changes are in the table."
    )
    return markdown.details(
        "Confusions that changed most",
        *([markdown.image(CONFUSION, alt)] if drawn else []),
        markdown.table(header, rows, "llrrr"),
    )


def images(of: Comparison, drawn: bool) -> str:
    """The images that changed sides, under their figure if it was drawn."""
    test = of.test
    if isinstance(test, Unknown) or test.fixed is None or test.broken is None:
        return ""
    if not test.fixed and not test.broken:
        return ""
    alt = (
        "The first test images that were fixed and that were broken, each with its index, its "
        "actual class and the incorrect class that was or is predicted."
    )
    return markdown.details(
        f"Images that changed sides: {len(test.fixed):,} fixed, {len(test.broken):,} broken",
        *([markdown.image(IMAGES, alt)] if drawn else []),
        f"Fixed, by index in the test set: {_indices(test.fixed)}.",
        f"Broken: {_indices(test.broken)}.",
    )


def _indices(found: Sequence[int]) -> str:
    if not found:
        return "none"
    more = f" and {len(found) - _INDICES:,} more" if len(found) > _INDICES else ""
    return ", ".join(map(str, found[:_INDICES])) + more


def training(of: Comparison, drawn: bool) -> str:
    """The metrics of the training, under its curves if they were drawn."""
    known = [isinstance(side.history, Unknown) for side in (of.before, of.after)]
    notes = [
        f"Curves {when}: not known, {_why(side.history)}."
        for when, side, unknown in zip(
            ("before", "after"), (of.before, of.after), known, strict=True
        )
        if unknown
    ]
    return markdown.details(
        "Training",
        *([markdown.image(CURVES, _course(of))] if drawn else []),
        _metrics_table("Training", _TRAINING_MEASURES, of, "training"),
        *notes,
    )


def _course(of: Comparison) -> str:
    """What the curves show, in words."""
    last = [
        f"{side.history['loss'][-1]:.4f} {when} (epoch {len(side.history['loss'])})"
        for when, side in (("before", of.before), ("after", of.after))
        if not isinstance(side.history, Unknown)
    ]
    return f"Loss and accuracy by epoch of both runs; last training loss {' and '.join(last)}."


def stages(found: list[dvc_state.Change] | Unknown) -> str:
    """What became of each stage."""
    if isinstance(found, Unknown):
        return f"Stages that ran: not known, {_why(found)}."
    ran = [change.stage for change in found if change.state == "ran"]
    waiting = [change.stage for change in found if change.state == "pending"]
    parts = [f"{', '.join(ran)} ran" if ran else "none ran"]
    if waiting:
        parts.append(f"{', '.join(waiting)} still to run")
    rows = [
        [markdown.code(change.stage), _STATES[change.state], _because(change.causes)]
        for change in found
    ]
    return markdown.details(
        f"Stages: {markdown.escape('; '.join(parts))}",
        markdown.table(["Stage", "What became of it", "Because of"], rows),
        "A stage that ran may have come out of DVC's run cache: dvc.lock does not tell.",
    )


def _because(causes: Sequence[str]) -> str:
    more = f" and {len(causes) - 6} more" if len(causes) > 6 else ""
    return ", ".join(markdown.code(cause) for cause in causes[:6]) + more or "–"


def model(of: Comparison) -> str:
    """The size of the model."""
    sizes = [
        None if isinstance(side.lock, Unknown) else dvc_state.size(side.lock, sides.MODEL)
        for side in (of.before, of.after)
    ]
    counts = [
        None if isinstance(side.training, Unknown) else side.training.get("parameters")
        for side in (of.before, of.after)
    ]
    rows = [
        [
            title,
            *(_value(value, "images") for value in pair),
            _delta(pair[0], pair[1], "images", True),
        ]
        for title, pair in (("Parameters", counts), ("File (bytes)", sizes))
    ]
    return markdown.details(
        f"Model: {_value(counts[1], 'images')} parameters",
        markdown.table(["Model", "Before", after_title(of), "Difference"], rows, "lrrr"),
        "How long the training took is not among the results, which are the same bytes on every "
        "run; the log of `dvc repro` shows it.",
    )


def signed(difference: float) -> str:
    """A difference of proportions in points, with its sign."""
    return _minus(f"{100 * difference:+.2f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def probability(value: float) -> str:
    """A p-value."""
    return f"{value:.3f}" if value >= 0.001 else "below 0.001"
