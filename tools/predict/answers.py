"""What the model says of each image, as a table, CSV or JSON."""

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What the model says of one image; K classes.

    Attributes:
        file: Its name.
        class_names: K names.
        probabilities: K values.
        typicality: The fraction of training images that are as far from their mean, or farther.
        difference: How it differs from all of them, in words; empty if it does not.
    """

    file: str
    class_names: Sequence[str]
    probabilities: Sequence[float]
    typicality: float
    difference: str

    def ranked(self, count: int) -> list[tuple[str, float]]:
        """The most probable classes, first ones first among equals."""
        order = sorted(range(len(self.probabilities)), key=lambda label: -self.probabilities[label])
        return [(self.class_names[label], self.probabilities[label]) for label in order[:count]]


def table(answers: Sequence[Answer], top: int) -> str:
    """The answers in columns."""
    rows = [["file", *(["class", "probability"] * _shown(answers, top)), "typical", ""]]
    for answer in answers:
        ranked = [
            text for name, value in answer.ranked(top) for text in (name, f"{100 * value:.2f} %")
        ]
        note = f"unlike the training images: {answer.difference}" if answer.difference else ""
        rows.append([answer.file, *ranked, f"{100 * answer.typicality:.0f} %", note])
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(_padded, row, widths)).rstrip() for row in rows]
    return "".join(f"{line}\n" for line in lines)


def comma_separated(answers: Sequence[Answer], top: int) -> str:
    """The answers as CSV; the classes after the first have numbers."""
    numbers = ["", *(f"_{at}" for at in range(2, _shown(answers, top) + 1))]
    ranks = [text for number in numbers for text in (f"class{number}", f"probability{number}")]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["file", *ranks, "typicality", "difference"])
    for answer in answers:
        ranked = [text for name, value in answer.ranked(top) for text in (name, f"{value:.6f}")]
        writer.writerow([answer.file, *ranked, f"{answer.typicality:.4f}", answer.difference])
    return stream.getvalue()


def as_json(answers: Sequence[Answer], top: int) -> str:
    """The answers as a JSON list."""
    content = [
        {
            "file": answer.file,
            "classes": [
                {"class": name, "probability": round(value, 6)}
                for name, value in answer.ranked(top)
            ],
            "typicality": round(answer.typicality, 4),
            "difference": answer.difference,
        }
        for answer in answers
    ]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Sequence[Answer], int], str]] = {
    "table": table,
    "csv": comma_separated,
    "json": as_json,
}


def _shown(answers: Sequence[Answer], top: int) -> int:
    return min(top, len(answers[0].class_names) if answers else 1)


def _width(text: str) -> int:
    """The columns of a terminal that a text takes."""
    return sum(2 if unicodedata.east_asian_width(letter) in "FW" else 1 for letter in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
