"""The whole pipeline by real `dvc repro`, on tiny made IDX files in a copy of the repository."""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

STAGES = ["download", "normalize", "train", "evaluate", "plot"]


class Pipeline:
    """A repository whose configured data set is a made one, ``tiny``."""

    def __init__(self, repository: Any, write_idx: Callable[..., Path]) -> None:
        self.repository = repository
        self.path: Path = repository.path
        random = np.random.default_rng(0)
        entry: dict[str, Any] = {
            "title": "Made stripes",
            "licence": "CC0",
            "citation": "Nobody (2025).",
            "format": "idx",
            "urls": [],
            "files": {},
            "pixel_max": 255,
            "class_names": ["left", "right"],
        }
        mirror = self.path.parent / "mirror"
        (mirror / "tiny").mkdir(parents=True)
        for split, count in (("train", 80), ("test", 40)):
            labels = np.arange(count) % 2
            images = random.integers(0, 60, (count, 6, 6))
            images[labels == 0, :, :3] += 150
            images[labels == 1, :, 3:] += 150
            for role, array in (("images", images), ("labels", labels)):
                path = write_idx(mirror / "tiny" / f"{split}-{role}.gz", array)
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                entry["files"][f"{split}_{role}"] = {"name": path.name, "sha256": digest}
        with (self.path / "datasets.yaml").open("a", encoding="utf-8") as stream:
            stream.write("\n" + yaml.safe_dump({"tiny": entry}))
        self.mirror = mirror
        self.set("dataset", "tiny")
        self.set("train.epochs", 2)

    def set(self, key: str, value: object) -> None:
        """Changes one key of params.yaml."""
        path = self.path / "params.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        *parents, name = key.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[name] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def repro(self, *arguments: str) -> list[str]:
        """Runs `dvc repro` and returns the stages that really ran, not those restored."""
        mirror = str(self.mirror)
        done = self.repository.run("dvc", "repro", *arguments, DATASET_MIRROR=mirror)
        assert done.code == 0, done.out + done.err
        return re.findall(r"^Running stage '(\w+)'", done.out, re.MULTILINE)


@pytest.fixture
def pipeline(repository: Any, write_idx: Callable[..., Path]) -> Pipeline:
    return Pipeline(repository, write_idx)


@pytest.mark.slow
def test_running_again_gives_the_same_bytes_and_a_change_runs_what_it_affects(
    pipeline: Pipeline,
) -> None:
    assert pipeline.repro() == STAGES
    metrics = json.loads((pipeline.path / "reports/evaluate/metrics.json").read_text())
    assert metrics["images"] == 40
    assert metrics["accuracy"] > 0.9
    assert (pipeline.path / "reports/index.html").is_file()
    lock = (pipeline.path / "dvc.lock").read_bytes()
    pipeline.repository.run("git", "add", "-A")
    pipeline.repository.run("git", "commit", "-qm", "first")
    assert pipeline.repro("--force") == STAGES
    assert pipeline.repository.run("git", "status", "--porcelain").out == ""

    assert pipeline.repro() == []
    pipeline.set("plot.predictions", 3)
    assert pipeline.repro() == ["plot"]
    datasets = pipeline.path / "datasets.yaml"
    datasets.write_text(datasets.read_text().replace("title: The MNIST database", "title: MNIST"))
    assert pipeline.repro() == []
    pipeline.set("dataset", "digits")
    assert pipeline.repro() == STAGES
    pipeline.set("dataset", "tiny")
    assert pipeline.repro() == []
    pipeline.set("plot.predictions", 15)
    assert pipeline.repro() == []
    assert (pipeline.path / "dvc.lock").read_bytes() == lock

    path = pipeline.path / "stages/train.py"
    path.write_text(path.read_text(encoding="utf-8") + "# a comment\n", encoding="utf-8")
    assert pipeline.repro() == ["train"]
    pipeline.set("train.epochs", 3)
    assert pipeline.repro() == ["train", "evaluate", "plot"]


STORED = (
    "import runpy, sys; from stages.lib import split_file; split_file.IN_MEMORY = 0; "
    "runpy.run_module(f'stages.{sys.argv[1]}', run_name='__main__', alter_sys=True)"
)


@pytest.mark.slow
def test_images_larger_than_memory_are_read_under_the_watch_too(pipeline: Pipeline) -> None:
    assert pipeline.repro() == STAGES
    for stage in ("train", "evaluate", "plot"):
        done = pipeline.repository.run(sys.executable, "-c", STORED, stage)
        assert done.code == 0, done.err
    assert pipeline.repository.run("dvc", "status", "-q").code == 0


def test_a_misspelt_key_stops_the_pipeline_with_its_name(pipeline: Pipeline) -> None:
    for key, value in (("train.optimiser", "adam"), ("train.optimizer", "adma")):
        pipeline.set(key, value)
        done = pipeline.repository.run("dvc", "repro", DATASET_MIRROR=str(pipeline.mirror))
        assert done.code != 0
        assert "Traceback" not in done.err
        expected = {"adma": "Did you mean 'adam'?", "adam": "train.optimiser: unknown key"}
        assert expected[value] in done.err
        assert (pipeline.path / "data/normalized/train.npz").is_file()
        assert not (pipeline.path / "models/model.keras").exists()
        pipeline.repository.run("git", "checkout", "params.yaml")
        pipeline.set("dataset", "tiny")


@pytest.mark.slow
def test_each_size_has_its_own_result_though_the_run_cache_passes_over_the_key(
    pipeline: Pipeline,
) -> None:
    def shape() -> tuple[int, ...]:
        with np.load(pipeline.path / "data/normalized/train.npz") as arrays:
            return tuple(arrays["images"].shape[1:])

    for size, expected, ran in (
        (None, (6, 6), ["download", "normalize"]),
        (4, (4, 4), ["normalize"]),
        ([5, 3], (5, 3), ["normalize"]),
        (4, (4, 4), []),
        (None, (6, 6), []),
    ):
        pipeline.set("normalize.size", size)
        assert pipeline.repro("normalize") == ran
        assert shape() == expected


@pytest.mark.slow
def test_an_undeclared_size_is_refused_before_dvc_records_anything(pipeline: Pipeline) -> None:
    path = pipeline.path / "dvc.yaml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if "- normalize.size" not in line]
    assert len(kept) == len(lines) - 1
    path.write_text("".join(kept), encoding="utf-8")
    lock = yaml.safe_load((pipeline.path / "dvc.lock").read_text(encoding="utf-8"))
    mirror = str(pipeline.mirror)
    done = pipeline.repository.run("dvc", "repro", "normalize", DATASET_MIRROR=mirror)
    assert done.code != 0
    assert "Add `- normalize.size` to the params of normalize in dvc.yaml" in done.err
    after = yaml.safe_load((pipeline.path / "dvc.lock").read_text(encoding="utf-8"))
    assert after["stages"]["normalize"] == lock["stages"]["normalize"]
