"""The network that docs/own-network.md shows, as it stands there."""

import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from stages.lib import architectures
from stages.lib.core import config
from tests.conftest import ROOT

TEXT = (ROOT / "docs/own-network.md").read_text(encoding="utf-8")


def shown(language: str) -> str:
    block = re.search(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert block
    return block[1]


@pytest.fixture
def residual(tensorflow: None, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("residual")
    exec(compile(shown("python"), "residual.py", "exec"), module.__dict__)
    monkeypatch.setattr(architectures, "_module", lambda _: module)
    return module


@pytest.mark.parametrize("shape", [(28, 28), (8, 8), (33, 21, 3)])
def test_it_is_accepted_with_the_block_that_is_shown(
    residual: ModuleType, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(shown("yaml"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    block = yaml.safe_load(shown("yaml"))["model"]["residual"]
    schema = config.arguments_schema(residual.build)
    arguments = config.convert(block, schema, "params.yaml: model.residual")
    model = architectures.build(
        "residual", shape, 10, {name: getattr(arguments, name) for name in schema.__struct_fields__}
    )
    architectures.refuse_unloadable("residual", model)
    if shape == (28, 28):
        assert f"{model.count_params():,} parameters" in TEXT
