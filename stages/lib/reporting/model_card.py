"""The model card: Markdown with the header in YAML that Hugging Face reads."""

import json
import re

import numpy as np

from stages.lib.flaws import flaws
from stages.lib.metrics import wilson_interval
from stages.lib.reporting import data_tables, page, report, stage_outputs
from stages.lib.wording import counted, percent

TEMPLATE = "model_card.md.jinja"
_MOST = 5  # confusions, and labels worth a second look
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$#]|&(?=#?\w+;))")


def render(dataset: report.Dataset, results: report.Results, data: data_tables.Data) -> str:
    """The card as Markdown."""
    environment = page.environment(page.TEMPLATES, of_markup=False)  # escaped by ``text``
    environment.filters |= {"quoted": _quoted, "text": _text}
    run, metrics, predictions = results.run, results.metrics, results.predictions
    architecture = str(run.parameters.get("model.architecture", "network"))
    confidence = float(predictions.confidences.mean())
    accuracy = metrics["accuracy"].value
    low, high = metrics["accuracy_low"].value, metrics["accuracy_high"].value
    return environment.get_template(TEMPLATE).render(
        dataset=dataset,
        weights=results.weights,
        name=f"{dataset.name}-{architecture}",
        architecture=architecture,
        values={name: f"{metric.value:.6g}" for name, metric in metrics.items()},
        accuracy=percent(accuracy),
        interval=f"{percent(low)} to {percent(high)}",
        macro_f1=percent(metrics["macro_f1"].value),
        loss=f"{metrics['loss'].value:.4f}",
        calibration_error=percent(metrics["expected_calibration_error"].value),
        parameter_count=counted(results.training["parameters"], "parameter"),
        counts={
            "train": f"{run.images.get('train', 0):,}",
            "validation": f"{run.images.get('validation', 0):,}",
            "test": f"{len(predictions.actual):,}",
        },
        class_list=", ".join(dataset.class_names),
        classes=_classes(dataset, results),
        shape=" x ".join(str(length) for length in dataset.image.shape),
        pixel_max=f"{dataset.pixel_max:g}",
        resize=dataset.resize,
        softmax=run.parameters.get("model.output") == "softmax",
        doubts=[flaw.sentence for flaw in flaws(data.metrics) if flaw.fails],
        gaps=[flaw.sentence for flaw in flaws(data.metrics) if not flaw.fails],
        parameters=[
            (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for name, value in run.parameters.items()
        ],
        libraries=", ".join(f"{name} {text}" for name, text in sorted(run.versions.items())),
        confidence=percent(confidence),
        calibration=_calibration(confidence, accuracy),
        temperature=report.temperature(results.training),
        bins=len(results.bins.images),
        confusions=[
            {
                "actual": dataset.class_names[pair.actual],
                "predicted": dataset.class_names[pair.predicted],
                "images": pair.images,
            }
            for pair in stage_outputs.confusions(predictions, _MOST)
        ],
        looks=_looks(dataset, data),
    )


def _classes(dataset: report.Dataset, results: report.Results) -> list[dict[str, str]]:
    scores, predictions = results.scores, results.predictions
    rows = []
    for label, name in enumerate(dataset.class_names):
        actual = predictions.actual == label
        images, correct = int(actual.sum()), int((predictions.correct & actual).sum())
        low, high = wilson_interval(correct, images) if images else (0.0, 1.0)
        rows.append(
            {
                "name": name,
                "images": f"{images:,}",
                "precision": percent(float(scores.precision[label])),
                "recall": percent(float(scores.recall[label])),
                "interval": f"{percent(low)} to {percent(high)}" if images else "–",
                "f1": percent(float(scores.f1[label])),
            }
        )
    return rows


def _looks(dataset: report.Dataset, data: data_tables.Data) -> list[dict[str, object]]:
    """The labels that the model contradicts, the surest first."""
    return [
        {
            "split": look.split,
            "index": look.index,
            "label": dataset.class_names[look.label],
            "other": dataset.class_names[look.other],
        }
        for look in data.shown[:_MOST]
        if look.margin < 0
    ]


def _calibration(confidence: float, accuracy: float) -> str:
    if np.isclose(confidence, accuracy, atol=0.005):
        return "they agree"
    return "it is too sure" if confidence > accuracy else "it is not sure enough"


def _quoted(text: str) -> str:
    """A text as YAML holds it on one line."""
    return json.dumps(" ".join(text.split()), ensure_ascii=False)


def _text(text: object) -> str:
    """A text that Markdown leaves alone, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))
