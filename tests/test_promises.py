"""What docs/promises.md says: its tests are there, and its faults strike."""

import os
import re
import sys

import pytest

from tests.conftest import ROOT
from tests.faults import counts
from tests.faults.prepared import STAGES

PAGE = (ROOT / "docs/promises.md").read_text(encoding="utf-8")


def test_every_promise_has_its_test() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 15
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), (path, name)


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(os, "fork"), reason="other systems copy by other calls"
)
@pytest.mark.parametrize(
    "stage",
    [
        "download",
        "normalize",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("train", "evaluate", "plot")),
    ],
)
def test_the_faults_are_as_many_as_are_listed(stage: str) -> None:
    (listed,) = re.findall(rf"^\| {stage} \| \d.*$", PAGE, re.MULTILINE)
    assert listed == counts.row(stage)


def test_the_faults_of_every_stage_are_listed() -> None:
    stages = re.findall(r"^\| (\w+) \| \d", PAGE, re.MULTILINE)
    assert stages == list(STAGES)
