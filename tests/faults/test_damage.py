"""Each file that a stage reads, damaged: an error that names it, or the result of the whole one."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, execute
from tests.faults.damage import EVERY, OTHER_TYPES
from tests.faults.prepared import ENVIRONMENT, STAGES

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

# Bits of each file that flip: plot reads many files, TensorFlow takes its time
FLIPS = {"plot": 6, "train": 12, "evaluate": 12}


def strike(stage: str, folder: Path, flips: int) -> None:
    command = [sys.executable, "-m", "tests.faults.damage", stage, str(folder), str(flips)]
    done = execute(command, ROOT, **ENVIRONMENT)
    assert done.code == 0, done.err
    result = json.loads(done.out.splitlines()[-1])
    assert result["problems"] == []
    every = EVERY.get(stage, 1)
    assert min(result["struck"].values()) > len(OTHER_TYPES) / every  # a short file's every byte
    assert max(result["struck"].values()) > flips / every


@pytest.mark.parametrize("stage", ["download"])
def test_damage_is_named(stage: str, tmp_path: Path) -> None:
    strike(stage, tmp_path, 6)


@pytest.mark.slow
@pytest.mark.parametrize("stage", list(STAGES))
def test_damage_anywhere_is_named(stage: str, tmp_path: Path) -> None:
    strike(stage, tmp_path, FLIPS.get(stage, 50))
