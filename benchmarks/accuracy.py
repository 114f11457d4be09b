"""The test accuracy of every recipe over several seeds, through the real stages.

    python -m benchmarks.accuracy --seeds 3

Every finished run is a row of benchmarks/accuracy.csv; an interrupted benchmark goes on after the
last of them. Rows of recipes that --recipes leaves out stay as they are. The table is written to
benchmarks/accuracy.md. DATASET_MIRROR and DATASET_CACHE work as they do for the download stage.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import yaml

from benchmarks import machine
from stages.lib.core import files

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "benchmarks/accuracy.csv"
TABLE = ROOT / "benchmarks/accuracy.md"
PUBLISHED = """\
R2 and R3 print no test accuracy: 0.883 is of Fashion-MNIST's own README. 0.9921 was measured on
images that R5 watches while it trains ([docs/recipes.md](../docs/recipes.md))."""
STAGES = ("download", "normalize", "train", "evaluate")
HEADER = ["recipe", "seed", "key", "accuracy", "loss", "parameters", "seconds", "machine"]

# The tutorials that a recipe stands for, and the accuracy that they publish (R1 and R4 are one
# set-up; R5 watches the test set while it trains, where this project holds out training images)
TUTORIALS = {
    "mnist-mlp-logits": ("R1, R4", "0.9749, 0.9791"),
    "fashion-mlp-softmax": ("R2, R3", "0.883"),
    "mnist-mlp-softmax": ("R5", "0.9921"),
}

Row = dict[str, str]


def key(recipe: str, folder: Path = ROOT) -> str:
    """A digest of the recipe, the catalogue, the versions and the code that dvc.yaml declares."""
    path = folder / "recipes" / f"{recipe}.yaml"
    architecture = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["architecture"]
    stages = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    declared = {dep for name in STAGES for dep in stages[name]["deps"] if dep.startswith("stages/")}
    paths = [path, folder / "datasets.yaml", folder / "environment.yaml"]
    for name in sorted(declared):
        code = folder / name.replace("${model.architecture}", architecture)
        paths += sorted(code.rglob("*.py")) if code.is_dir() else [code]
    digests = [files.sha256(path) for path in paths]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def prepare(folder: Path) -> None:
    """Copies the pipeline's files to a folder of its own, with a DVC cache shared by all runs."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            files.write_bytes(folder / name, (ROOT / name).read_bytes())
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)


def run(recipe: str, seed: int, folder: Path) -> Row:
    """Runs one recipe with one training seed up to evaluate, and returns its row."""
    params = yaml.safe_load((ROOT / "recipes" / f"{recipe}.yaml").read_text(encoding="utf-8"))
    params["train"]["seed"] = seed
    files.write_text(folder / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", "repro", "-q"]
    for stage in STAGES:
        started = time.perf_counter()
        subprocess.run(
            [*command, stage], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        if stage == "train":
            seconds = time.perf_counter() - started
    tested = json.loads((folder / "reports/evaluate/metrics.json").read_text(encoding="utf-8"))
    trained = json.loads((folder / "reports/train/metrics.json").read_text(encoding="utf-8"))
    values = [recipe, seed, key(recipe, folder), tested["accuracy"], tested["loss"]]
    values += [trained["parameters"], f"{seconds:.1f}", machine.describe()]
    return dict(zip(HEADER, map(str, values), strict=True))


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, one line a recipe."""
    lines = [
        "| recipe | tutorial | published | test accuracy | seeds | loss | parameters | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        own = [row for row in rows if row["recipe"] == recipe]
        accuracy = [float(row["accuracy"]) for row in own]
        spread = f" ± {stdev(accuracy):.4f}" if len(own) > 1 else ""
        tutorial, published = TUTORIALS.get(recipe, ("", ""))
        lines.append(
            f"| {recipe} | {tutorial} | {published} | {mean(accuracy):.4f}{spread} | {len(own)} "
            f"| {mean(float(row['loss']) for row in own):.4f} | {int(own[0]['parameters']):,} "
            f"| {mean(float(row['seconds']) for row in own):.0f} |"
        )
    return "\n".join(lines)


def machines(rows: Sequence[Row]) -> str:
    """On what the rows were measured; with several machines a line for each, with its recipes."""
    recipes: dict[str, dict[str, None]] = {}
    for row in rows:
        recipes.setdefault(row["machine"], {})[row["recipe"]] = None
    if len(recipes) == 1:
        return next(iter(recipes))
    return "\n\n".join(f"{', '.join(names)}: {where}" for where, names in recipes.items())


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and writes the table."""
    recipes = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="training seeds 1 to this number")
    parser.add_argument("--recipes", nargs="*", choices=recipes, default=recipes, metavar="NAME")
    options = parser.parse_args(arguments)
    rows: list[Row] = [dict(row) for row in files.read_csv(ROWS)] if ROWS.exists() else []
    asked = options.recipes
    rows = [row for row in rows if row["recipe"] in recipes]
    rows = [row for row in rows if row["recipe"] not in asked or row["key"] == key(row["recipe"])]
    done = {(row["recipe"], row["seed"]) for row in rows}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        for recipe in asked:
            for seed in range(1, options.seeds + 1):
                if (recipe, str(seed)) not in done:
                    rows.append(run(recipe, seed, folder))
                    rows.sort(key=lambda row: (row["recipe"], int(row["seed"])))
                    files.write_csv(ROWS, HEADER, [[row[name] for name in HEADER] for row in rows])
                    print(f"{recipe}, seed {seed}: done", flush=True)
    text = f"{table(rows)}\n\n{PUBLISHED}\n\n{machines(rows)}\n"
    files.write_text(TABLE, text)
    print(text)


if __name__ == "__main__":
    main()
