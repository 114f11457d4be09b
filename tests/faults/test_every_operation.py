"""Each write, rename, unlink, fsync, mkdir of each stage fails, or the process dies there."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, Finished, Repository, execute
from tests.faults.counts import modes
from tests.faults.injection import KINDS
from tests.faults.prepared import ENVIRONMENT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

# Faults of each mode, at the least: fewer, and the harness sees no longer what a stage does
LEAST = {"download": 40, "normalize": 20, "train": 30, "evaluate": 8, "plot": 25}


def strike_everywhere(stage: str, folder: Path, modes: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tests.faults.harness", stage, str(folder), *modes]
    done = execute(command, ROOT, **ENVIRONMENT)
    assert done.code == 0, done.err
    result = json.loads(done.out.splitlines()[-1])
    assert result["problems"] == []
    struck = {mode: sum(result["struck"][kind][mode] for kind in KINDS) for mode in modes}
    assert all(count >= LEAST[stage] for count in struck.values()), struck


@pytest.mark.parametrize("stage", ["download"])
def test_old_or_new_is_whole_and_the_next_run_leaves_nothing(stage: str, tmp_path: Path) -> None:
    strike_everywhere(stage, tmp_path, ("dies",))


@pytest.mark.slow
@pytest.mark.parametrize("stage", list(LEAST))
def test_so_it_is_for_each_stage_in_each_mode(stage: str, tmp_path: Path) -> None:
    strike_everywhere(stage, tmp_path, modes(stage))


THROUGH_DVC = [
    "download:write:1:fails",
    "download:rename:1:dies",
    "normalize:write:9:dies",
    "normalize:open:3:keeps failing",
    "train:write:20:dies",
    "train:fsync:2:dies",
    "train:rename:4:fails",
    "evaluate:write:3:fails",
    "evaluate:rename:4:dies",
    "plot:write:5:dies",
    "plot:open:2:keeps failing",
]


def results(folder: Path) -> dict[str, bytes]:
    """Everything that the pipeline made, and what it left."""
    made = [folder / "dvc.lock", *(folder / ".checkpoints").rglob("*")]
    for name in ("data", "models", "reports"):
        made += (folder / name).rglob("*")
    return {str(path.relative_to(folder)): path.read_bytes() for path in made if path.is_file()}


@pytest.mark.slow
def test_dvc_records_nothing_of_a_failed_run_and_the_next_one_is_right(
    repository: Repository,
) -> None:
    path = repository.path / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["train"] |= {"epochs": 3}
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    site = os.pathsep.join([str(ROOT / "tests/faults/site"), str(ROOT)])
    repro: Callable[..., Finished] = repository.run
    assert repro("dvc", "repro").code == 0
    whole = results(repository.path)
    for fault in THROUGH_DVC:
        stage = fault.partition(":")[0]
        done = repro("dvc", "repro", "-f", "-s", stage, STAGES_FAULT=fault, PYTHONPATH=site)
        assert done.code != 0, fault
        assert "Traceback" not in done.err, done.err
        assert results(repository.path)["dvc.lock"] == whole["dvc.lock"], fault
        done = repro("dvc", "repro", "-f", "-s", stage)
        assert done.code == 0, (fault, done.err)
        assert results(repository.path) == whole, fault
