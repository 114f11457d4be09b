"""The recipes on real MNIST and Fashion-MNIST, through `dvc repro`."""

import csv
import gzip
import hashlib
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks import images

pytestmark = pytest.mark.real_data
SPLITS = ("train", "validation", "test")


# Test images of MNIST of which fewer than three of five people confirmed the label.
# Source: https://github.com/cleanlab/label-errors, mturk/mnist_mturk.json
UNCONFIRMED = {
    *(947, 1621, 1901, 2130, 2462, 2597, 2654, 3520),
    *(3558, 5937, 6651, 6783, 8527, 9679, 9729),
}


class Work:
    """A copy of the repository in which recipes are run on the real data."""

    def __init__(self, repository: Any, mirror: Path) -> None:
        self.repository, self.mirror = repository, mirror
        self.path: Path = repository.path

    def take(self, recipe: str, **train: object) -> None:
        """Copies a recipe to params.yaml, with other values in its section ``train``."""
        content = yaml.safe_load((self.path / f"recipes/{recipe}.yaml").read_text("utf-8"))
        content["train"] |= train
        (self.path / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")

    def repro(self, *arguments: str, prefix: tuple[str, ...] = ()) -> list[str]:
        """Runs `dvc repro` and returns the stages that ran."""
        done = self.repository.run(
            *prefix, "dvc", "repro", *arguments, DATASET_MIRROR=str(self.mirror)
        )
        assert done.code == 0, done.out + done.err
        return re.findall(r"^Running stage '(\w+)'", done.out, re.MULTILINE)

    def accuracy(self, images: int = 10_000) -> float:
        metrics = json.loads((self.path / "reports/evaluate/metrics.json").read_text("utf-8"))
        assert metrics["images"] == images
        return float(metrics["accuracy"])

    def doubted(self) -> set[int]:
        """The test images whose labels the model contradicts most."""
        path = self.path / "reports/evaluate/second_look.csv"
        with path.open(encoding="utf-8", newline="") as stream:
            return {int(row["index"]) for row in csv.DictReader(stream) if row["split"] == "test"}

    def commit(self) -> None:
        self.repository.run("git", "add", "-A")
        self.repository.run("git", "commit", "-qm", "results")

    def differences(self) -> str:
        """What Git and DVC see changed since the last commit."""
        of_git = self.repository.run("git", "status", "--porcelain").out
        of_dvc = self.repository.run("dvc", "diff", "--json").out.strip()
        nothing = json.loads(of_dvc or "{}")
        return str(of_git) + "".join(str(files) for files in nothing.values() if files)


@pytest.fixture
def work(repository: Any, mirror: Path) -> Work:
    return Work(repository, mirror)


def test_recipes_reach_their_figures_and_switching_back_runs_nothing(work: Work) -> None:
    work.take("mnist-mlp-logits")
    work.repro()
    assert work.accuracy() >= 0.975
    assert len(work.doubted()) == 100
    assert len(work.doubted() & UNCONFIRMED) >= 5  # 7 by this recipe, 11 by mnist-cnn
    assert json.loads((work.path / "reports/data/metrics.json").read_text())["leaked_test"] == 0
    work.take("fashion-mlp-softmax")
    assert work.repro() == ["download", "normalize", "train", "evaluate", "plot"]
    assert work.accuracy() >= 0.87
    work.take("mnist-mlp-logits")
    assert work.repro() == []
    assert work.accuracy() >= 0.975


def test_the_report_page_in_chinese(work: Work) -> None:
    work.take("fashion-mlp-softmax", epochs=1)
    params = (work.path / "params.yaml").read_text("utf-8")
    text = params.replace("class_names: en", "class_names: zh")
    (work.path / "params.yaml").write_text(text, "utf-8")
    work.repro()
    page = (work.path / "reports/index.html").read_text("utf-8")
    assert all(name in page for name in ("短靴", "连衣裙", "凉鞋"))


def test_running_again_by_force_changes_no_byte(work: Work) -> None:
    work.take("mnist-cnn", epochs=1)
    content = yaml.safe_load((work.path / "params.yaml").read_text("utf-8"))
    content["model"]["cnn"] |= {"channels": [4, 8], "convolutions": [1, 1]}
    (work.path / "params.yaml").write_text(yaml.safe_dump(content), "utf-8")
    work.repro()
    work.commit()
    stages = work.repro("--force")
    assert len(stages) == 5
    assert work.differences() == ""
    if shutil.which("taskset") and sys.platform == "linux":
        assert len(work.repro("--force", prefix=("taskset", "-c", "0"))) == 5
        assert work.differences() == ""


def cut(work: Work, mirror: Path, fraction: int) -> None:
    """Lets one in so many of MNIST's images, the first ones, be all of it."""
    path = work.path / "datasets.yaml"
    catalogue = yaml.safe_load(path.read_text("utf-8"))
    (mirror / "mnist").mkdir(parents=True)
    for file in catalogue["mnist"]["files"].values():
        content = gzip.decompress((work.mirror / "mnist" / file["name"]).read_bytes())
        header = content[: 4 + 4 * content[3]]  # a magic number that ends in the dimensions
        count = int.from_bytes(header[4:8], "big")
        end = len(header) + (len(content) - len(header)) // fraction
        kept = (count // fraction).to_bytes(4, "big")
        less = gzip.compress(header[:4] + kept + content[8:end], mtime=0)
        (mirror / "mnist" / file["name"]).write_bytes(less)
        file |= {"sha256": hashlib.sha256(less).hexdigest(), "size": len(less)}
    path.write_text(yaml.safe_dump(catalogue, allow_unicode=True, sort_keys=False), "utf-8")
    work.mirror = mirror


def test_mnist_as_files_gives_what_its_idx_files_give(work: Work, tmp_path: Path) -> None:
    folder = tmp_path / "mnist_files"
    for split in ("train", "test"):
        for digit in range(10):
            (folder / split / str(digit)).mkdir(parents=True)
    for name, content in images.mnist(work.mirror, 14_000):
        (folder / name).write_bytes(content)
    cut(work, tmp_path / "mirror", 5)
    work.take("mnist-mlp-softmax")
    work.repro("normalize")
    expected = {split: pixels_by_digit(work, split, drawn=False) for split in SPLITS}
    done = work.repository.run("python", "-m", "tools.add_dataset", str(folder))
    assert done.code == 0, done.err
    assert "14,000 images: 14,000 PNG L" in done.out
    params = yaml.safe_load((work.path / "params.yaml").read_text("utf-8"))
    params["dataset"] = "mnist_files"
    (work.path / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")
    work.repro("normalize")
    found = {split: pixels_by_digit(work, split, drawn=True) for split in SPLITS}
    assert found["test"] == expected["test"]
    # The validation split is another one, and the two together are the same images
    assert found["train"] + found["validation"] == expected["train"] + expected["validation"]
    work.repro()
    assert work.accuracy(images=2000) >= 0.93  # of a fifth of the images to learn from


def pixels_by_digit(work: Work, split: str, drawn: bool) -> Counter[tuple[int, bytes]]:
    """The label and a hash of the float32 pixels of each image of a split."""
    with np.load(work.path / f"data/normalized/{split}.npz") as arrays:
        assert ("names" in arrays) == drawn
        if drawn:  # the labels are those of the folders, and do not come in blocks
            names, labels = arrays["names"].tolist(), arrays["labels"].tolist()
            assert all(
                name.split("/")[1] == str(label) for name, label in zip(names, labels, strict=True)
            )
            assert np.count_nonzero(np.diff(arrays["labels"])) > len(labels) / 2
        return Counter(
            (int(label), hashlib.sha256(image.tobytes()).digest())
            for image, label in zip(arrays["images"], arrays["labels"], strict=True)
        )
