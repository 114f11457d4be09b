"""Inputs of the plot stage, small enough that every number on the page can be checked by hand.

Six test images of three classes, four predicted correctly:

====== ====== ========= ================= ===============
image  actual predicted probabilities     confidence
====== ====== ========= ================= ===============
0      0      0         0.90, 0.05, 0.05  0.90
1      1      1         0.20, 0.70, 0.10  0.70
2      2      2         0.10, 0.10, 0.80  0.80
3      0      1         0.30, 0.60, 0.10  0.60, incorrect
4      1      2         0.05, 0.15, 0.80  0.80, incorrect
5      2      2         0.00, 0.00, 1.00  1.00
====== ====== ========= ================= ===============
"""

import contextlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import yaml

from stages import plot
from stages.lib import split_file
from stages.lib.core import files, stage
from stages.lib.data.formats import Part
from stages.lib.data.preparation import inspection
from stages.lib.reporting.stage_outputs import Predictions

ROOT = Path(__file__).parents[2]
SMALL_PNG = bytes(16) + (16).to_bytes(4, "big") * 2  # as far as the page reads one

NAMES = ["T-shirt/top", "<script>alert(1)</script>", '"B" & a $x_ long name of two lines']
NAMES_ZH = ["T恤/上衣", "裤子", "套衫"]
PROBABILITIES = [
    [0.90, 0.05, 0.05],
    [0.20, 0.70, 0.10],
    [0.10, 0.10, 0.80],
    [0.30, 0.60, 0.10],
    [0.05, 0.15, 0.80],
    [0.00, 0.00, 1.00],
]
ACTUAL = [0, 1, 2, 0, 1, 2]
PREDICTED = [0, 1, 2, 1, 2, 2]
PREDICTIONS = Predictions(
    np.array(ACTUAL, np.int64), np.array(PREDICTED, np.int64), np.array(PROBABILITIES)
)

HISTORY = """epoch,learning_rate,loss,accuracy,val_loss,val_accuracy
1,0.001,1.0000,0.500000,0.9000,0.550000
2,0.001,0.2500,0.900000,0.5000,0.850000
"""
TRAINING = {
    "train_loss": 0.25,
    "train_accuracy": 0.9,
    "val_loss": 0.5,
    "val_accuracy": 0.85,
    "epochs": 2,
    "parameters": 51,
    "untrained_loss": 1.2345,
}
RUN = {
    "parameters": {
        "model.architecture": "mlp",
        "model.mlp.hidden_units": [],
        "train.learning_rate": 0.001,
        "train.optimizer": "<b>adam</b>",
    },
    "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
    "images": {"train": 8, "validation": 2},
    "penalties": False,
    "layers": [
        {"name": "flatten", "type": "Flatten", "output": "16", "parameters": 0},
        {"name": "dense", "type": "Dense", "output": "3", "parameters": 51},
    ],
}
TEST = {
    "loss": 0.631046,
    "accuracy": 0.666667,
    "accuracy_low": 0.299993,
    "accuracy_high": 0.903229,
    "macro_f1": 0.655556,
    "expected_calibration_error": 0.133333,
    "top2_accuracy": 1.0,
    "images": 6,
}
METRICS = """metric,label,unit,better
accuracy,Test accuracy,proportion,higher
loss,Test loss,nats,lower
macro_f1,Macro F1,proportion,higher
expected_calibration_error,Expected calibration error,proportion,lower
top2_accuracy,Top-2 accuracy,proportion,higher
accuracy_low,Lower end of the interval,proportion,higher
accuracy_high,Upper end of the interval,proportion,higher
images,Test images,images,
"""
PER_CLASS = """label,class,precision,recall,f1,support
0,T,1.000000,0.500000,0.666667,2
1,S,0.500000,0.500000,0.500000,2
2,B,0.666667,1.000000,0.800000,2
"""
CALIBRATION = """lower,upper,images,confidence,accuracy
0.000000,0.500000,0,,
0.500000,1.000000,6,0.800000,0.666667
"""
# The margins of the table above, and of two validation images
SECOND_LOOK = """split,index,name,label,class,other,other_class,probability,other_probability,margin
test,4,,1,S,2,B,0.150000,0.800000,-0.650000
test,3,,0,T,1,S,0.300000,0.600000,-0.300000
test,1,,1,S,0,T,0.700000,0.200000,0.500000
test,2,,2,B,0,T,0.800000,0.100000,0.700000
test,0,,0,T,1,S,0.900000,0.050000,0.850000
test,5,,2,B,0,T,1.000000,0.000000,1.000000
validation,1,<i>oak</i>/a long name of a camera's file.jpeg,1,S,0,T,0.400000,0.600000,-0.200000
validation,0,橡树/1.png,0,T,2,B,0.550000,0.450000,0.100000
"""


def write(folder: Path, *, names_zh: Sequence[str] = NAMES_ZH, **plot: object) -> None:
    """Writes the configuration and all inputs into a folder; ``plot`` changes its section."""
    _write_configuration(folder, plot)
    for name, count in (("train", 8), ("validation", 2), ("test", 6)):
        labels = PREDICTIONS.actual if name == "test" else np.arange(count, dtype=np.int64) % 3
        images = np.linspace(0, 1, count * 16, dtype=np.float32).reshape(count, 4, 4)
        split = split_file.Split(images, labels, NAMES, list(names_zh), 16.0)
        split_file.write(folder / f"data/normalized/{name}.npz", split)
        if name == "train":
            none = replace(split, images=images[:0], labels=labels[:0], names=[])
            split_file.write(folder / "reports/train/augmented.npz", none)
    write_data(folder)
    for name, content in {
        "train/history.csv": HISTORY,
        "train/metrics.json": json.dumps(TRAINING),
        "train/run.json": json.dumps(RUN),
        "evaluate/metrics.json": json.dumps(TEST),
        "evaluate/metrics.csv": METRICS,
        "evaluate/predictions.csv": predictions_csv(PROBABILITIES),
        "evaluate/per_class.csv": PER_CLASS,
        "evaluate/calibration.csv": CALIBRATION,
        "evaluate/second_look.csv": SECOND_LOOK,
    }.items():
        path = folder / "reports" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def write_data(folder: Path, names: Mapping[str, list[str]] | None = None) -> None:
    """Writes reports/data/ for the splits that lie in a folder, as normalize does.

    Args:
        folder: Holds data/normalized/.
        names: File names by split, or none.
    """
    splits = ("train", "validation", "test")
    read = {name: split_file.read(folder / f"data/normalized/{name}.npz") for name in splits}
    parts = {name: _part(split, (names or {}).get(name)) for name, split in read.items()}
    inspector = inspection.Inspector(parts, read["train"].class_names)
    for name in splits:
        list(inspector.watched(name))
    report = inspector.report()
    for name, table in report.tables.items():
        files.write_csv(folder / f"reports/data/tables/{name}.csv", table.header, table.rows)
    files.write_json(folder / "reports/data/metrics.json", report.metrics)


def _part(split: split_file.Split, names: list[str] | None) -> Part:
    sizes = np.broadcast_to(np.array(split.images.shape[1:3]), (len(split.labels), 2))
    return Part(split.images.shape[1:], split.labels, names, split.images.__getitem__, sizes)


def plant_leaks(folder: Path) -> None:
    """Makes test images 0 to 2 training images 0, 1 and 3, the last of which has another label."""
    train, test = (split_file.read(folder / f"data/normalized/{x}.npz") for x in ("train", "test"))
    test.images[:][:3] = train.images[[0, 1, 3]]
    split_file.write(folder / "data/normalized/test.npz", test)
    write_data(folder, {"train": [f"{at}.png" for at in range(8)]})


def write_perfect(folder: Path) -> None:
    """Replaces the test results by those of a model that classifies every image correctly."""
    reports = folder / "reports/evaluate"
    certain = np.eye(3)[ACTUAL].tolist()
    ones = dict.fromkeys(("accuracy", "accuracy_high", "macro_f1", "top2_accuracy"), 1.0)
    values = TEST | ones | {"accuracy_low": 0.609666, "loss": 0.0}
    values["expected_calibration_error"] = 0.0
    for name, content in {
        "predictions.csv": predictions_csv(certain),
        "metrics.json": json.dumps(values),
        "per_class.csv": "label,class,precision,recall,f1,support\n"
        + "".join(f"{label},{label},1.0,1.0,1.0,2\n" for label in range(3)),
        "calibration.csv": "lower,upper,images,confidence,accuracy\n0.0,1.0,6,1.0,1.0\n",
    }.items():
        (reports / name).write_text(content, encoding="utf-8")


def _write_configuration(folder: Path, plot: dict[str, object]) -> None:
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["dataset"] = "made"
    params["plot"] |= plot
    entry = {
        "title": "A <made> data set",
        "licence": "CC0 & none",
        "citation": "Nobody (2025). <i>Nothing</i>. https://example.org/a?b=1&c=2.",
        "format": "npz",
        "urls": [],
        "files": {"arrays": {"name": "made.npz", "sha256": "0" * 64}},
        "pixel_max": 16,
        "class_names": NAMES,
    }
    for name, content in {"params.yaml": params, "datasets.yaml": {"made": entry}}.items():
        text = yaml.safe_dump(content, allow_unicode=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("environment.yaml", "weights.yaml"):
        shutil.copyfile(ROOT / name, folder / name)


def predictions_csv(probabilities: Sequence[Sequence[float]]) -> str:
    """A table as evaluate writes it, for the labels above."""
    width = len(probabilities[0])
    header = ["index", "actual", "predicted", *(f"probability_{at}" for at in range(width))]
    rows = [
        [str(at), str(ACTUAL[at]), str(np.argmax(row)), *(f"{value:.6f}" for value in row)]
        for at, row in enumerate(probabilities)
    ]
    return "".join(",".join(row) + "\n" for row in [header, *rows])


def run_plot(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the stage in ``folder``: in this process, or with options or variables in its own."""
    if not options and not environment:
        script = str(ROOT / "stages/plot.py")
        return _run_here(folder, lambda: runpy.run_path(script, run_name="__main__"))
    return subprocess.run(
        [sys.executable, *options, "-m", "stages.plot"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def _run_here(folder: Path, run: Callable[[], object]) -> subprocess.CompletedProcess[str]:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess("stages.plot", code, out.getvalue(), err.getvalue())


def write_texts(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the stage in ``folder``, with a small image for each figure: drawing takes long."""
    names = "raw_image samples curves confusion per_class calibration predictions mistakes"
    figures = dict.fromkeys([*names.split(), "second_looks"], SMALL_PNG)
    with mock.patch.object(plot, "draw", return_value=figures):
        return _run_here(folder, lambda: stage.run(plot.read_settings, plot.main))


def gradient(count: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """``count`` images of the given shape, from black to white."""
    size = count * int(np.prod(shape))
    return np.linspace(0, 1, size, dtype=np.float32).reshape(count, *shape)


def made_page(folder: Path, **plot: Any) -> Path:
    """The page that the stage makes of these inputs."""
    write(folder, **plot)
    done = run_plot(folder)
    assert done.returncode == 0, done.stderr
    return folder / "reports/index.html"


def pages(folder: Path) -> tuple[str, str]:
    """The report page and the model card of a run of the stage."""
    done = run_plot(folder)
    assert done.returncode == 0, done.stderr
    page, card = folder / "reports/index.html", folder / "reports/model_card.md"
    return page.read_text(encoding="utf-8"), card.read_text(encoding="utf-8")
