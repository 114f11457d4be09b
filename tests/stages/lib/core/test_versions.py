import re
from importlib import metadata
from pathlib import Path

import pytest

from stages.lib.core import config, versions
from stages.lib.core.errors import UserError

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(content: str) -> None:
    Path("environment.yaml").write_text(content, encoding="utf-8")


def test_installed_versions_are_given_back() -> None:
    numpy, yaml = metadata.version("numpy"), metadata.version("pyyaml")
    write(f'numpy: "{numpy}"\npyyaml: "{yaml}"\nkeras: "0.0"\n')
    assert versions.require("numpy", "pyyaml") == {"numpy": numpy, "pyyaml": yaml}


def test_another_version_says_both_and_what_to_install() -> None:
    write('numpy: "1.0.0"\n')
    with pytest.raises(UserError) as caught:
        versions.require("numpy")
    assert str(caught.value) == (
        "environment.yaml: numpy: expected version 1.0.0, "
        f"installed is {metadata.version('numpy')}.\n"
        "Run `pip install -r requirements.txt`; to move to another version, change it in "
        "environment.yaml and requirements.in. `dvc checkout` brings the former outputs back."
    )


def test_a_package_that_is_not_installed_is_named() -> None:
    write('no-such-package: "1.0"\n')
    with pytest.raises(UserError, match=r"no-such-package: expected .* 1.0, installed is none"):
        versions.require("no-such-package")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("numpy: 2.4\n", r"numpy: expected a text, found 2\.4\.\nWrite it in quotes"),
        ("nunpy: '2.4.6'\n", "numpy: this key is missing; found nunpy.\nRename 'nunpy' if"),
        ("", "expected keys and values, found an empty file"),
    ],
)
def test_a_wrong_file_is_named(content: str, message: str) -> None:
    write(content)
    with pytest.raises(UserError, match=f"^environment.yaml: {message}"):
        versions.require("numpy")


def test_requirements_and_environment_state_the_same_versions() -> None:
    pins = dict(
        re.findall(
            r"(?m)^([\w.-]+)(?:\[[\w,-]+\])?==([\w.]+)", (ROOT / "requirements.txt").read_text()
        )
    )
    pinned = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    stated = config.read(str(ROOT / "environment.yaml"))
    assert stated == {name: pinned.get(name) for name in stated}


def test_progress_bars_have_what_they_need() -> None:
    # pooch asks for it only when a bar is to be drawn, on a terminal
    assert "tqdm" in (ROOT / "requirements.txt").read_text()
    assert metadata.version("tqdm")
