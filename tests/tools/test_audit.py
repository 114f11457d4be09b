import copy
import importlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from stages.lib.core import pipeline, yaml_file
from stages.lib.core.enforcement import CATALOGUES
from stages.lib.core.errors import UserError
from tools.audit import (
    configuration,
    hermetic,
    history,
    lock,
    mend,
    observed,
    repair,
    rules,
    sources,
)
from tools.audit.finding import Change, Finding

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
CONTENT: dict[str, Any] = yaml.safe_load(TEXT)
VARIANTS = configuration.params_files(ROOT)
STAGES = pipeline.parse(TEXT)
MAIN = importlib.import_module("tools.audit.__main__").main

STAGE = """
from pathlib import Path

from stages.lib.core import config, files, stage, versions

NUMBERS = Path("data/numbers")
RESULT = Path("reports/scaled.txt")


class Params(config.Schema, frozen=True):
    factor: int
    offset: int


def read_settings() -> Params:
    versions.require("msgspec", "pyyaml")
    return config.section(config.PARAMS, "scale", Params)


def main(params: Params) -> None:
    numbers = [int(path.read_text()) for path in sorted(NUMBERS.glob("*.txt"))]
    files.write_text(RESULT, f"{[params.factor * n + params.offset for n in numbers]}")


if __name__ == "__main__":
    stage.run(read_settings, main, [NUMBERS])
"""

COUNT = """
from pathlib import Path

from stages.lib.core import files, stage, versions

SCALED = Path("reports/scaled.txt")
METRICS = Path("reports/metrics.json")


def main(settings: dict[str, str]) -> None:
    files.write_json(METRICS, {"characters": len(SCALED.read_text())})


if __name__ == "__main__":
    stage.run(lambda: versions.require("msgspec", "pyyaml"), main, [SCALED])
"""

DVC = """\
# The stages
stages:
  scale:
    desc: Scale the numbers
    cmd: python -m stages.scale
    deps:
      - data/numbers  # three of them
      - stages/__init__.py
      - stages/lib/core
      # the stage itself
      - stages/scale.py
    params:
      - scale
      - environment.yaml:
          - msgspec
          - pyyaml
    outs:
      - reports/scaled.txt

  count:
    cmd: python -m stages.count
    deps: [reports/scaled.txt, stages/__init__.py, stages/count.py, stages/lib/core]
    params:
      - environment.yaml:
          - msgspec
          - pyyaml
    metrics:
      - reports/metrics.json:
          cache: false
"""


@dataclass
class Small:
    """A small repository in the working folder, and the audit run over it."""

    path: Path
    capsys: pytest.CaptureFixture[str]

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.path / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new, 1))

    def audit(self, *arguments: str) -> tuple[int, str]:
        """The exit status and what was printed."""
        self.capsys.readouterr()
        status = MAIN(list(arguments))
        printed = self.capsys.readouterr()
        assert "Traceback" not in printed.err
        return status, printed.out + printed.err

    def fails(self, *parts: str, option: tuple[str, ...] = ()) -> None:
        """Some line of a failing audit holds all of ``parts``."""
        status, printed = self.audit(*option)
        assert status == 1, printed
        assert any(all(part in line for part in parts) for line in printed.splitlines()), printed

    def passes(self, *option: str) -> str:
        status, printed = self.audit(*option)
        assert status == 0, printed
        return printed


def fill(path: Path) -> None:
    contents = {
        "stages/scale.py": STAGE,
        "stages/count.py": COUNT,
        "dvc.yaml": DVC,
        "params.yaml": "scale:\n  factor: 2\n  offset: 1\n",
        "environment.yaml": "".join(
            f'{name}: "{metadata.version(name)}"\n' for name in ("msgspec", "pyyaml")
        ),
        "requirements.txt": "".join(
            f"{name}=={metadata.version(name)}\n" for name in ("msgspec", "pyyaml")
        ),
        ".gitignore": "/reports/scaled.txt\n__pycache__/\n",
        ".dvcignore": "*.swp\n",
        "data/numbers/one.txt": "1",
        "data/numbers/deep/two.swp": "2",
    }
    for name, text in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text, encoding="utf-8")
    core = "stages/lib/core"
    shutil.copyfile(ROOT / "stages/__init__.py", path / "stages/__init__.py")
    shutil.copytree(ROOT / core, path / core, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture
def small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Small:
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Small(tmp_path, capsys)


# This repository


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return rules.inspect(sources.Sources(ROOT), STAGES, VARIANTS)


@pytest.fixture(scope="module")
def as_declared(found: dict[str, Any]) -> set[Change | None]:
    """The changes that this repository's declarations ask for as they are."""
    return {f.change for f in rules.declarations(STAGES, found, VARIANTS)}


def test_this_repository_declares_what_its_code_reads() -> None:
    findings, _, _ = rules.check(ROOT)
    assert [str(finding) for finding in findings] == []


def test_an_environment_inside_the_repository_is_no_part_of_it(tmp_path: Path) -> None:
    names = {
        "ours": tmp_path / "stages" / "ours.py",
        "theirs": tmp_path / "any" / "lib" / "site-packages" / "theirs.so",
        "python": tmp_path / "env" / "lib" / "json" / "__init__.py",
    }
    modules = {name: types.SimpleNamespace(__file__=str(path)) for name, path in names.items()}
    with (
        mock.patch.dict(sys.modules, modules),
        mock.patch.object(sys, "prefix", str(tmp_path / "env")),
    ):
        assert observed._files(names, tmp_path) == ["stages/ours.py"]


DECLARED = [
    *(
        (name, "deps", "", dep)
        for name, stage in STAGES.items()
        for dep in stage.deps
        if dep.endswith(".py")  # what else is read, the run finds; a folder is missed by file
    ),
    *((name, "params", file, key) for name, stage in STAGES.items() for file, key in stage.params),
]


def without(stage: str, section: str, file: str, entry: str) -> dict[str, Any]:
    """dvc.yaml without one entry, taken out by PyYAML."""
    content = copy.deepcopy(CONTENT)
    entries = content["stages"][stage][section]
    if file in ("", "params.yaml"):
        entries.remove(entry)
    else:
        inner = next(item for item in entries if isinstance(item, dict) and file in item)
        inner[file].remove(entry)
        if not inner[file]:
            entries.remove(inner)
    return content


@pytest.mark.parametrize(
    ("stage", "section", "file", "entry"),
    [
        pytest.param(*entry, marks=pytest.mark.slow if number % 4 else ())
        for number, entry in enumerate(DECLARED)
    ],
)
def test_each_dep_and_param_that_is_removed_is_missed_and_mended(
    stage: str,
    section: str,
    file: str,
    entry: str,
    found: dict[str, Any],
    as_declared: set[Change | None],
) -> None:
    less = pipeline.parse(json.dumps(without(stage, section, file, entry)))
    missing = Change(stage, True, section, file, entry)
    changes = {f.change for f in rules.declarations(less, found, VARIANTS)} - as_declared
    assert changes == {missing}

    text = repair.repaired(TEXT, [Change(stage, False, section, file, entry)])
    assert pipeline.parse(text) == less
    mended = repair.repaired(text, [missing])
    assert mended == TEXT  # of which the declarations are judged as before


def keys(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{name}.")


def candidates(stage: str) -> Iterator[tuple[str, str, str]]:
    """Everything that might be declared for a stage and is not: files, outs, keys."""
    declared = STAGES[stage]
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "stages").rglob("*.py")}
    files |= {"requirements.txt", "stages", "stages/lib", "nothing.txt"}
    if stage == "train":  # reads the one that params.yaml or a recipe names
        files -= {"stages/models/cnn.py", "stages/models/mlp.py"}
    idle = {
        path
        for path in files - set(declared.deps)
        if not any(pipeline.within(path, folder) for folder in declared.deps)
    }
    yield from (("deps", "", path) for path in sorted(idle))
    params = {param for other in STAGES.values() for param in other.params}
    for file in ("params.yaml", *CATALOGUES, "environment.yaml"):
        content = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
        params |= {(file, key) for key in keys(content)}
    active = set(declared.resolved(VARIANTS["params.yaml"]).params)
    active |= set(declared.resolved(VARIANTS["recipes/mnist-cnn.yaml"]).params)
    active |= {(file, key) for file, key in params if file in CATALOGUES and "$" not in key}
    yield from (("params", *param) for param in sorted(params - set(declared.params) - active))


@pytest.mark.parametrize("stage", STAGES)
def test_each_dep_or_param_that_is_not_read_is_reported(stage: str, found: dict[str, Any]) -> None:
    declared = STAGES[stage]
    for section, file, entry in candidates(stage):
        more = (
            replace(declared, params=(*declared.params, (file, entry)))
            if file
            else replace(declared, deps=(*declared.deps, entry))
        )
        reported = list(rules.declarations({stage: more}, {stage: found[stage]}, VARIANTS))
        if entry.endswith(".txt"):  # no code: --fix leaves it to a person, who knows what it is
            what = f"declares {entry}, which no text of its code names"
            assert (what, None) in [(finding.what, finding.change) for finding in reported]
        elif entry in found[stage].keys:  # main may read it: the same
            what = f"declares {entry} of {file} and does not read just that in its settings"
            assert (what, None) in [(finding.what, finding.change) for finding in reported]
        else:
            needless = Change(stage, False, section, file, entry)
            assert needless in [finding.change for finding in reported], needless


def test_it_imports_neither_tensorflow_nor_dvc(run: Callable[..., Any], repository: Any) -> None:
    done = run([sys.executable, "-X", "importtime", "-m", "tools.audit"], repository.path)
    assert done.code == 0, done.out
    modules = set(re.findall(r"\| +(\w+)", done.err))
    assert "yaml" in modules
    assert not modules & {"tensorflow", "keras", "dvc", "numpy", "stages.train"}


def test_a_new_helper_of_train_is_caught(repository: Any) -> None:
    helper = repository.path / "stages/lib/bravado.py"
    helper.write_text("import requests\n", encoding="utf-8")
    optimizers = repository.path / "stages/lib/training/optimizers.py"
    text = optimizers.read_text(encoding="utf-8")
    optimizers.write_text(f"{text}\n\ndef late():\n    from .. import bravado\n", encoding="utf-8")
    lines = [str(finding) for finding in rules.check(repository.path)[0]]
    place = f"stages/lib/training/optimizers.py:{len(text.splitlines()) + 4}"
    assert any(
        line.startswith("train: imports stages/lib/bravado.py")
        and place in line
        and "add `- stages/lib/bravado.py` to its deps" in line
        for line in lines
    )
    assert any(line.startswith("train: imports requests") and "unchecked" in line for line in lines)


def test_a_helper_of_the_chosen_network_is_a_right_dep(
    repository: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = repository.path / "stages/models"
    (models / "_head.py").write_text("def head(x, k): return x\n", encoding="utf-8")
    code = "import keras\nfrom stages.models._head import head\n\n"
    build = "def build(input_shape, num_classes):\n    return keras.Model(head(input_shape, 1))\n"
    (models / "own.py").write_text(code + build, encoding="utf-8")
    params = repository.path / "params.yaml"
    text = params.read_text(encoding="utf-8")
    text = text.replace("architecture: mlp", "architecture: own")
    text = text.replace("  mlp:", "  own: {}\n  mlp:")
    params.write_text(text, encoding="utf-8")
    monkeypatch.chdir(repository.path)
    assert MAIN(["--fix"]) == 0
    assert "train: added stages/models/_head.py" in capsys.readouterr().out
    assert MAIN([]) == 0


# A small one


def test_the_small_repository_passes(small: Small) -> None:
    assert "ok: 2 stages, 8 deps and 5 params" in small.passes()


@pytest.mark.parametrize(
    "statement",
    [
        "from stages.lib import rounding",
        "import stages.lib.rounding",
        "import stages.lib.rounding as r",
        "from stages.lib.rounding import half",
        "from .lib import rounding",
        "from .lib.rounding import half",
        "def main(_):\n    from stages.lib import rounding",
        "try:\n    from stages.lib import rounding\nexcept ImportError:\n    pass",
        "import importlib\nimportlib.import_module('stages.lib.rounding')",
        "from importlib import import_module\nimport_module(f'stages.lib.{\"rounding\"}')",
    ],
)
def test_a_module_is_found_however_it_is_imported(small: Small, statement: str) -> None:
    small.write("stages/lib/rounding.py", "from stages.lib import halves\nhalf = 1\n")
    small.write("stages/lib/halves.py", "")
    small.edit("stages/scale.py", "\n", f"\n{statement}\n")
    status, printed = small.audit()
    assert status == 1
    for parts in (
        ("scale", "stages/lib/rounding.py", "undeclared", "stages/scale.py:"),
        ("scale", "stages/lib/halves.py", "stages/lib/rounding.py:1"),
    ):
        assert any(all(part in line for part in parts) for line in printed.splitlines()), printed


def test_a_module_that_is_found_is_declared_by_fix(small: Small) -> None:
    small.write("stages/lib/rounding.py", "half = 1\n")
    small.edit("stages/scale.py", "\n", "\nfrom .lib import rounding\n")
    small.audit("--fix")
    assert "      - stages/lib/rounding.py\n" in Path("dvc.yaml").read_text()


def test_what_is_imported_for_type_checkers_alone_is_no_dependency(small: Small) -> None:
    small.write("stages/lib/rounding.py", "import requests\n")
    code = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from stages.lib import rounding\n"
    )
    small.edit("stages/scale.py", "\n", code)
    small.passes()


def test_a_package_file_is_imported_too(small: Small) -> None:
    small.write("stages/lib/__init__.py", "")
    small.fails("scale", "stages/lib/__init__.py", "undeclared")


def test_an_import_of_nothing_is_reported(small: Small) -> None:
    small.edit("stages/scale.py", "files, stage", "files, stage, rounding")
    small.fails("scale", "stages.lib.core.rounding", "not there")


def test_a_section_is_declared_as_a_section(small: Small) -> None:
    small.edit("dvc.yaml", "- scale\n", "- scale.factor\n      - scale.offset\n")
    small.fails("scale", "add `- scale`")
    small.audit("--fix")
    assert Path("dvc.yaml").read_text() == DVC


@pytest.mark.parametrize("name", ["size", "nfiles"])
def test_what_the_run_cache_passes_over_in_a_section_is_declared_by_name(
    small: Small, name: str
) -> None:
    small.edit("params.yaml", "factor", name)
    small.edit("stages/scale.py", "factor: int", f"{name}: int")
    small.edit("stages/scale.py", "params.factor", f"params.{name}")
    small.fails("scale", f"reads scale.{name} of params.yaml, undeclared: add `- scale.{name}`")
    small.audit("--fix")
    assert f"      - scale\n      - scale.{name}\n" in Path("dvc.yaml").read_text()
    small.passes()


def test_a_field_that_nothing_uses_is_reported(small: Small) -> None:
    small.edit("stages/scale.py", " + params.offset", "")
    small.fails("scale", "Params.offset", "stages/scale.py:12")


def test_fields_are_used_when_the_record_is_handed_on(small: Small) -> None:
    small.edit("stages/scale.py", "+ params.offset", "+ sum(vars(params).values())")
    small.edit("stages/scale.py", "params.factor", "len(json.dumps(asdict(params)))")
    small.edit("stages/scale.py", "\n", "\nimport json\nfrom dataclasses import asdict\n")
    small.passes()


@pytest.mark.parametrize(
    "use",
    [
        "match params:\n        case Params(offset=found): print(found)",
        "print(repr(params))",
        "print(config.recorded(params))",
        "print([getattr(params, name) for name in params.__struct_fields__])",
    ],
    ids=["match", "repr", "recorded", "all names"],
)
def test_other_ways_to_use_a_field(small: Small, use: str) -> None:
    small.edit("stages/scale.py", " + params.offset", "")
    small.edit("stages/scale.py", "    numbers = ", f"    {use}\n    numbers = ")
    small.passes()


def test_settings_are_read_with_the_words_of_the_command(small: Small) -> None:
    reads = "sys.argv[1] == '3' and config.value('params.yaml', 'scale.factor', int)"
    small.edit("stages/count.py", "files, stage", "config, files, stage")
    small.edit("stages/count.py", "from pathlib", "import sys\nfrom pathlib")
    small.edit("stages/count.py", "lambda: versions", f"lambda: {reads} and versions")
    small.edit("stages/count.py", "stage.run(", "stage.run(read=")
    small.edit("stages/count.py", ", main, [SCALED])", ", main=main, inputs=[SCALED])")
    small.edit("dvc.yaml", "stages.count", "stages.count ${scale.factor}")
    small.edit("params.yaml", "factor: 2", "factor: 3")
    small.fails("count: reads scale.factor of params.yaml, undeclared")
    small.audit("--fix")
    small.passes()


def test_after_an_error_of_the_settings_nothing_else_is_concluded(small: Small) -> None:
    small.edit("stages/scale.py", 'versions.require("msgspec", "pyyaml")', "raise OSError('no')")
    small.write("stages/idle.py", "")
    status, printed = small.audit()
    assert status == 1
    assert "its settings cannot be read with params.yaml: OSError: no" in printed
    assert "unchecked" not in printed
    assert "no stage reads it" not in printed


@pytest.mark.parametrize(
    "code",
    [
        "open('data/numbers/one.txt')",
        "Path('data') / 'numbers' / f'{1}.txt'",
    ],
)
def test_a_dep_that_is_named_in_parts_is_not_called_unread(small: Small, code: str) -> None:
    small.edit("stages/scale.py", 'Path("data/numbers")', f"Path('x', str({code}))")
    small.edit("stages/scale.py", "NUMBERS.glob", "Path('x').glob")
    assert "data/numbers" not in small.audit()[1]


def test_a_file_that_dvc_leaves_out_of_a_folder_is_a_dep_of_its_own(small: Small) -> None:
    small.edit(
        "stages/scale.py", "NUMBERS = ", "MORE = Path('data/numbers/deep/two.swp')\nNUMBERS = "
    )
    small.edit(
        "dvc.yaml",
        "      - stages/__init__.py",
        "      - data/numbers/deep/two.swp\n      - stages/__init__.py",
    )
    small.passes()


def test_a_list_that_stages_share_is_not_mended_for_one_of_them(small: Small) -> None:
    small.edit("dvc.yaml", "    deps:\n", "    deps: &shared\n")
    small.edit("dvc.yaml", "      - stages/scale.py\n", "")
    before = Path("dvc.yaml").read_text()
    status, printed = small.audit("--fix")
    assert status == 1
    assert "ERROR: dvc.yaml: stages.scale.deps: expected a list of its own, found one" in printed
    assert Path("dvc.yaml").read_text() == before


def test_a_misspelt_key_names_the_right_one(small: Small) -> None:
    small.edit("params.yaml", "factor", "factr")
    small.fails("params.yaml", "scale.factr", "unknown key", "Did you mean 'factor'?")


def test_a_key_that_no_stage_reads_is_reported_also_in_a_recipe(small: Small) -> None:
    small.write("recipes/large.yaml", "scale: {factor: 9, offset: 1, depth: 3}\n")
    small.fails("recipes/large.yaml", "scale.depth", "unknown key")
    small.write("recipes/large.yaml", "scale: {factor: 9, offset: 1}\ncount: {depth: 3}\n")
    small.fails("recipes/large.yaml", "count", "no stage reads")


def test_a_library_is_checked_and_declared(small: Small) -> None:
    small.edit("stages/count.py", "\n", "\ntry:\n    import requests\nexcept ImportError: ...\n")
    small.fails("count", "requests", "unchecked", "versions.require")
    before = (small.path / "dvc.yaml").read_bytes()
    small.fails(
        "count: imports requests at", "which environment.yaml does not have", option=("--fix",)
    )
    assert (small.path / "dvc.yaml").read_bytes() == before  # DVC would stop at such a parameter
    path = small.path / "environment.yaml"
    small.write("environment.yaml", path.read_text(encoding="utf-8") + "requests: 2.34.2\n")
    small.fails("count", "requests", "add `- requests` to its params, under environment.yaml")


def test_versions_do_not_drift_apart(small: Small) -> None:
    version = metadata.version("pyyaml")
    small.write("requirements.txt", "PyYAML==1.0 ; python_version > '3'\n")
    small.fails("environment.yaml", f"pyyaml is {version} here and 1.0 in requirements.txt")
    small.write("environment.yaml", 'pyyaml: "1.0"\n')
    small.fails("environment.yaml", f"pyyaml is 1.0 here and {version} is installed")
    small.write("requirements.txt", "numpy==2\n")
    small.fails("environment.yaml", "pyyaml is 1.0 here and none in requirements.txt")


# Bad input


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("stages:\n\tscale: 1\n", ["dvc.yaml: line 2", "not valid YAML"]),
        ("- a\n", ["dvc.yaml: expected a section"]),
        ("stages:\n  scale: 3\n", ["dvc.yaml: stages.scale: expected a section"]),
        ("stages:\n  scale: {cmd: x, deps: a}\n", ["stages.scale.deps: expected a list"]),
    ],
)
def test_a_broken_dvc_yaml_is_an_error_of_the_users(
    small: Small, text: str, parts: list[str]
) -> None:
    small.write("dvc.yaml", text)
    small.fails("ERROR: ", *parts)


def test_without_dvc_yaml_it_says_where_to_go(small: Small) -> None:
    Path("dvc.yaml").unlink()
    small.fails("ERROR: dvc.yaml: not found")


def test_code_that_is_no_python_is_an_error_of_the_users(small: Small) -> None:
    small.edit("stages/scale.py", "def main(", "def main((")
    small.fails("ERROR: stages/scale.py line 20: not valid Python")


def test_a_stage_that_it_cannot_judge_is_said(small: Small) -> None:
    small.edit("dvc.yaml", "python -m stages.count", "python -m stages.cuont")
    small.fails("count", "stages/cuont.py, which is not there", "did you mean count?")
    small.edit("dvc.yaml", "python -m stages.cuont", "wc reports/scaled.txt")
    small.fails("count: its cmd `wc reports/scaled.txt` cannot be followed")
    small.edit("dvc.yaml", "    cmd: wc", "    wdir: data\n    cmd: wc")
    small.fails("count", "`wdir` is not understood")


# Repair

COMMENTED = """\
# On top of the file

# and once more
stages:  # all of them

  # before the first
  scale:  # its name
    desc: 'quoted'   # a description
    # before cmd
    cmd: >-
      python -m
      stages.scale

    # before deps
    deps:  # what it reads
      # before the first dep
      - a.py  # beside the first

      # before the second
      - c.py
      # after the last dep
    # before params
    params:
      - scale   # all of it
      # before a file
      - environment.yaml:  # versions
          # before the first version
          - msgspec  # beside it
          - pyyaml
          # after the last version
    outs: [out.txt, "other.txt"]  # in one line

  # before the second stage
  count:
    cmd: python -m stages.count  # no more than that
    deps: [a.py,   b.py]   # a list in one line
    outs:
      - x:
          cache: false  # in Git
# before the plots
plots:
  - x:
      y: {a: b}
# at the end
"""


@pytest.mark.parametrize(
    ("section", "file", "entry", "line", "after"),
    [
        ("deps", "", "0.py", "      - 0.py\n", "# before the first dep\n"),
        ("deps", "", "b.py", "      - b.py\n", "- a.py  # beside the first\n"),
        ("deps", "", "z.py", "      - z.py\n", "- c.py\n"),
        ("params", "params.yaml", "z", "      - z\n", "- scale   # all of it\n"),
        ("params", "environment.yaml", "numpy", "          - numpy\n", "- msgspec  # beside it\n"),
        ("params", "environment.yaml", "zlib", "          - zlib\n", "- pyyaml\n"),
        ("deps", "", "a: b # c", '      - "a: b # c"\n', "- a.py  # beside the first\n"),
    ],
)
def test_an_entry_is_a_line_that_comes_and_goes_among_comments(
    section: str, file: str, entry: str, line: str, after: str
) -> None:
    more = repair.repaired(COMMENTED, [Change("scale", True, section, file, entry)])
    assert more == COMMENTED.replace(after, after + line, 1)
    assert repair.repaired(more, [Change("scale", False, section, file, entry)]) == COMMENTED


@pytest.mark.parametrize(
    ("section", "file", "entry", "line"),
    [
        ("deps", "", "a.py", "      - a.py  # beside the first\n"),
        ("deps", "", "c.py", "      - c.py\n"),
        ("params", "params.yaml", "scale", "      - scale   # all of it\n"),
        ("params", "environment.yaml", "msgspec", "          - msgspec  # beside it\n"),
        ("params", "environment.yaml", "pyyaml", "          - pyyaml\n"),
    ],
)
def test_what_is_removed_takes_no_other_comment_with_it(
    section: str, file: str, entry: str, line: str
) -> None:
    less = repair.repaired(COMMENTED, [Change("scale", False, section, file, entry)])
    assert less == COMMENTED.replace(line, "", 1)


@pytest.mark.parametrize(
    "change",
    [
        Change("count", True, "deps", "", "aa.py"),
        Change("count", True, "params", "environment.yaml", "numpy"),
        Change("scale", True, "params", "datasets.yaml", "x"),
    ],
)
def test_a_list_that_begins_or_stands_in_one_line_keeps_every_comment(change: Change) -> None:
    more = repair.repaired(COMMENTED, [change])
    assert re.findall("#.*", more) == re.findall("#.*", COMMENTED)
    assert change.entry in more


# The lock


def git(path: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=path, check=True)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small repository after a real ``dvc repro``, committed."""
    path = tmp_path_factory.mktemp("reproduced")
    fill(path)
    git(path, "init", "-q")
    dvc(path, "init", "-q")
    (path / ".dvc/config").write_text("[core]\n    analytics = false\n", encoding="utf-8")
    dvc(path, "repro")
    git(path, "add", "-A")
    git(path, "commit", "-qm", "Run")
    return path


def dvc(path: Path, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("dvc")), *arguments]
    python = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": python, "DVC_SITE_CACHE_DIR": str(path / ".dvc/site"), "HOME": str(path)}
    done = subprocess.run(
        command, cwd=path, check=True, env=environment, capture_output=True, encoding="utf-8"
    )
    return done.stdout


@pytest.fixture
def locked(
    reproduced: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Small:
    path = tmp_path / "locked"
    shutil.copytree(reproduced, path)
    monkeypatch.chdir(path)
    return Small(path, capsys)


def test_a_fresh_lock_passes_without_any_data(locked: Small) -> None:
    assert "up to date" in locked.passes("--lock")
    shutil.rmtree(locked.path / ".dvc")
    (locked.path / "reports/scaled.txt").unlink()
    locked.passes("--lock")


@pytest.mark.parametrize(
    ("name", "old", "new", "parts"),
    [
        ("stages/scale.py", "* n", "* n * 1", ["scale: stages/scale.py changed"]),
        ("params.yaml", "factor: 2", "factor: 3", ["scale:", "scale.factor is 3, it ran with 2"]),
        ("environment.yaml", 'pyyaml: "', 'pyyaml: "1', ["scale:", "environment.yaml: pyyaml"]),
        ("reports/metrics.json", ":", ": ", ["count: reports/metrics.json is not the one"]),
        ("data/numbers/one.txt", "1", "2", ["scale: data/numbers changed"]),
        ("dvc.yaml", "stages.count\n", "stages.count -v\n", ["count: its cmd is"]),
        ("dvc.yaml", "  count:", "  recount:", ["recount: is not in dvc.lock"]),
        ("dvc.yaml", "  count:", "  recount:", ["count: is in dvc.lock and not in dvc.yaml"]),
        (
            "dvc.yaml",
            "- scale\n",
            "- scale.factor\n",
            ["scale:", "scale.factor is not in dvc.lock"],
        ),
    ],
)
def test_what_is_stale_is_named(
    locked: Small, name: str, old: str, new: str, parts: list[str]
) -> None:
    locked.edit(name, old, new)
    locked.fails(*parts, "run `dvc repro` and commit dvc.lock", option=("--lock",))


def test_an_input_made_anew_is_stale(locked: Small) -> None:
    digest = pipeline.load_lock(locked.path)["scale"].outs["reports/scaled.txt"]
    text = Path("dvc.lock").read_text()
    first = text.index(digest)
    second = text.index(digest, first + 1)
    at = second if "  scale:" in text[first:second] else first
    Path("dvc.lock").write_text(text[:at] + "a" * 32 + text[at + 32 :])
    locked.fails("count: reports/scaled.txt was made anew", option=("--lock",))


def test_a_frozen_stage_is_not_sent_to_repro(locked: Small) -> None:
    locked.edit("params.yaml", "factor: 2", "factor: 3")
    locked.edit("dvc.yaml", "    desc: Scale", "    frozen: true\n    desc: Scale")
    locked.fails("scale: ", "take out its `frozen`, then run `dvc repro`", option=("--lock",))


def test_a_dep_that_dvc_keeps_is_known_by_its_file(locked: Small) -> None:
    path = locked.path / "data/numbers"
    digest = lock.digest(locked.path, "data/numbers")
    shutil.rmtree(path)
    locked.write("data/numbers.dvc", f"outs:\n- md5: {digest}\n  path: numbers\n")
    locked.passes("--lock")
    locked.write("data/numbers.dvc", "outs:\n- md5: 0.dir\n  path: numbers\n")
    locked.fails("scale: data/numbers changed since it ran", option=("--lock",))


def test_what_dvc_writes_for_a_truth_value_or_a_section_is_no_change(locked: Small) -> None:
    locked.edit("params.yaml", "scale:", "flag: true\nscale:")
    locked.edit("dvc.yaml", "stages.scale\n", "stages.scale ${flag}\n")
    locked.edit("dvc.lock", "cmd: python -m stages.scale", "cmd: python -m stages.scale true")
    locked.passes("--lock")
    locked.edit("dvc.yaml", "${flag}", "${scale}")
    locked.passes("--lock")


def test_files_that_dvc_ignores_are_not_hashed(locked: Small) -> None:
    locked.write("data/numbers/deep/three.swp", "3")
    locked.passes("--lock")
    locked.write("data/numbers/deep/three.txt", "3")
    locked.fails("data/numbers changed", option=("--lock",))


def test_a_comment_is_accepted_without_running(locked: Small) -> None:
    git(locked.path, "commit", "-qm", "More", "--allow-empty")
    locked.edit("stages/scale.py", "    numbers = [", '    """Another."""\n    numbers  =  [')
    git(locked.path, "add", "-A")
    git(locked.path, "commit", "-qm", "Comment")
    locked.edit("stages/scale.py", "Another", "One more")
    advice = "scale: stages/scale.py changed in comments"
    assert advice in locked.passes()
    locked.fails(advice, "dvc checkout scale && dvc commit -f scale", option=("--lock",))

    dvc(locked.path, "checkout", "scale", "count")
    dvc(locked.path, "commit", "-f", "scale", "count")
    locked.passes("--lock")
    assert "comments" not in locked.passes()
    assert "Running stage" not in dvc(locked.path, "repro")


def test_a_comment_is_no_advice_when_more_than_that_changed(locked: Small) -> None:
    locked.edit("stages/scale.py", "\n", "\n# a comment\n")
    locked.edit("params.yaml", "factor: 2", "factor: 3")
    assert "comments" not in locked.passes()


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("a = 1  # one", "a=1", True),
        ("def f():\n    'one'\n    return 1", "def f():\n    return 1", True),
        ("a = 'one'", 'a = "one"', True),
        ("a = 1", "a = 2", False),
        ("def f(x: int): pass", "def f(x: float): pass", False),
        ("'one'\nprint(__doc__)", "'two'\nprint(__doc__)", False),
        ("a = 1", "a = (", False),
    ],
)
def test_what_has_an_effect(one: str, other: str, equal: bool) -> None:
    assert history.equal(one.encode(), other.encode()) is equal


def test_without_a_lock_it_says_how_to_make_one(small: Small) -> None:
    small.fails("ERROR: dvc.lock: not found", option=("--lock",))
    small.write("dvc.lock", "stages:\n  scale:\n    deps: [1]\n")
    small.fails("ERROR: dvc.lock: not as DVC writes it", option=("--lock",))


def test_bad_yaml_names_the_file() -> None:
    with pytest.raises(UserError, match=r"params\.yaml: line 2"):
        yaml_file.parse("a: 1\n\tb: 2\n", "params.yaml")


def test_findings_read_as_one_line() -> None:
    assert str(Finding("train", "does it", "do that")) == "train: does it: do that"


def test_an_output_and_a_dep_overlap_where_one_holds_the_other() -> None:
    assert lock._overlap("data/raw/a.csv", "data/raw")
    assert lock._overlap("data", "data/raw")
    assert not lock._overlap("data/raw2", "data/raw")
    assert not lock._overlap("a", "b")


# Code of other shapes


@pytest.mark.parametrize(
    ("made", "words", "value"),
    [
        ('name = "table"; Path(f"assets/{name}.csv").read_text()', "", "x"),
        ('Path("assets/" + "table.csv").read_text()', "", "x"),
        ('Path("assets", "table" + ".csv").read_text()', "", "x"),
        ("import sys; Path(sys.argv[1]).read_text()", " assets/table.csv", "x"),
        ("Path(params.table).read_text()", "", "assets/table.csv"),
    ],
)
def test_a_dep_whose_path_is_made_at_run_time_is_no_finding(
    small: Small, made: str, words: str, value: str
) -> None:
    small.write("assets/table.csv", "1")
    small.write("params.yaml", f"scale:\n  factor: 2\n  offset: 1\n  table: {value}\n")
    small.edit("stages/scale.py", "    offset: int\n", "    offset: int\n    table: str\n")
    small.edit("stages/scale.py", "    numbers =", f"    {made}; str(params.table)\n    numbers =")
    small.edit("dvc.yaml", "stages.scale\n", f"stages.scale{words}\n")
    small.edit("dvc.yaml", "      - data/numbers", "      - assets/table.csv\n      - data/numbers")
    small.passes()


def test_fix_leaves_a_dep_alone_that_is_no_code(small: Small) -> None:
    small.write("assets/idle.csv", "1")
    small.edit("dvc.yaml", "      - data/numbers", "      - assets/idle.csv\n      - data/numbers")
    before = (small.path / "dvc.yaml").read_text(encoding="utf-8")
    small.fails("declares assets/idle.csv, which no text of its code names", option=("--fix",))
    assert (small.path / "dvc.yaml").read_text(encoding="utf-8") == before


def test_a_command_of_two_lines_in_one_text_is_not_followed(small: Small) -> None:
    small.edit(
        "dvc.yaml",
        "cmd: python -m stages.scale",
        "cmd: |\n      python -m stages.scale\n      cp a b",
    )
    small.fails("scale: its cmd `python -m stages.scale cp a b", "cannot be followed")


def test_code_outside_of_the_stages_is_read(small: Small) -> None:
    small.write("common/helper.py", "NUMBER = 1\n")
    small.edit("stages/count.py", "from pathlib", "from common.helper import NUMBER\nfrom pathlib")
    small.fails("count: imports common/helper.py at stages/count.py:2, undeclared")
    assert "added common/helper.py" in small.passes("--fix")
    small.passes()


@pytest.mark.parametrize("files", [["__main__"], ["__init__", "__main__"]])
def test_a_stage_may_be_a_package(small: Small, files: list[str]) -> None:
    text = (small.path / "stages/count.py").read_text(encoding="utf-8")
    (small.path / "stages/count.py").unlink()
    for name in files:
        small.write(f"stages/count/{name}.py", text if name == "__main__" else "")
    small.edit("dvc.yaml", "stages/count.py", "stages/count")
    small.passes()


def test_settings_may_be_read_out_of_other_files(small: Small) -> None:
    small.write("configs/count.yaml", "count: {most: 3}\n")
    small.write("assets/classes.csv", "a\n")
    small.edit(
        "stages/count.py",
        "stage.run(lambda: versions",
        'stage.run(lambda: (config.value("configs/count.yaml", "count.most", int), '
        'Path("assets/classes.csv").read_text()) and versions',
    )
    small.edit("stages/count.py", "import files", "import config, files")
    small.edit("dvc.yaml", "deps: [", "deps: [assets/classes.csv, ")
    small.edit(
        "dvc.yaml",
        "    metrics:",
        "      - configs/count.yaml:\n          - count.most\n    metrics:",
    )
    small.passes()


def test_a_mixin_before_a_layer_and_a_version_are_understood(small: Small) -> None:
    small.edit(
        "stages/count.py",
        "from pathlib",
        "import abc\nimport keras\nfrom pathlib",
    )
    small.edit(
        "stages/count.py",
        "def main",
        "class Named(abc.ABC):\n    pass\n\n\n"
        "class Noise(Named, keras.layers.Layer):\n    pass\n\n\n"
        'MAJOR = int(keras.__version__.split(".")[0])\nassert isinstance(keras.Model, type)\n'
        "LAYER = keras.layers.Dense(3)(keras.Input((2,)))\n\n\ndef main",
    )
    status, printed = small.audit()
    assert status == 1
    assert "settings cannot be read" not in printed
    assert "imports keras" in printed


@pytest.mark.parametrize(
    "line",
    [
        "AREA = tf.TensorShape([8, 8])[0] * 8",
        "HALF = keras.Input((8,)) / 255 + 2 * keras.Variable(1.0)",
        "NUMBER = int(keras.Variable(3)) + len(tf.TensorShape([2]))",
        "with tf.GradientTape() as TAPE:\n    pass",
        (
            "class Noise(keras.layers.Layer):\n    def get_config(self):\n        "
            "return {**super().get_config(), 'a': 1}\n\n\nCONFIG = Noise().get_config()"
        ),
        "class Named(Protocol):\n    pass\n\n\nclass Noise(Named, keras.layers.Layer):\n    pass",
    ],
)
def test_what_a_network_makes_at_import_is_understood(small: Small, line: str) -> None:
    head = "import keras\nimport tensorflow as tf\nfrom typing import Protocol\nfrom pathlib"
    small.edit("stages/count.py", "from pathlib", head)
    small.edit("stages/count.py", "def main", f"{line}\n\n\ndef main")
    printed = small.audit()[1]
    assert "settings cannot be read" not in printed
    assert "imports keras" in printed


def test_a_file_in_a_folder_that_is_a_dep_too_hides_nothing(small: Small) -> None:
    small.write("cfg/a.json", "{}")
    small.write("cfg/b/d.txt", "1")
    small.write("stages/set.json", "{}")
    read = 'stage.run(lambda: [Path(p).read_text() for p in ("cfg/a.json", "stages/set.json")] and '
    small.edit("stages/count.py", "stage.run(lambda: ", read)
    small.edit("dvc.yaml", "deps: [", "deps: [cfg, stages/set.json, ../up.csv, ")
    small.edit("dvc.yaml", "- data/numbers", "- cfg/b/d.txt\n      - data/numbers")
    small.edit("stages/scale.py", "NUMBERS =", 'CFG = "cfg/b/d.txt"\nNUMBERS =')
    (small.path.parent / "up.csv").write_text("1", encoding="utf-8")
    printed = small.audit()[1]
    assert "settings cannot be read" not in printed
    assert not list(Path(tempfile.gettempdir()).glob("up.csv"))


def test_a_section_that_some_file_lacks_a_key_of_is_declared_whole(small: Small) -> None:
    scale = "scale:\n  factor: 2\n  offset: 1\n"
    small.write("params.yaml", f"{scale}count:\n  least: 1\n")
    small.write("recipes/more.yaml", f"{scale}count:\n  least: 1\n  most: 3\n")
    small.edit(
        "stages/count.py",
        "stage.run(lambda: versions",
        'stage.run(lambda: (config.value("params.yaml", "count.least", int), '
        'config.value("params.yaml", "count.most", int | None)) and versions',
    )
    small.edit("stages/count.py", "import files", "import config, files")
    small.fails("count: reads count of params.yaml, undeclared")
    small.passes("--fix")
    text = (small.path / "dvc.yaml").read_text(encoding="utf-8")
    assert "count.most" not in text


def test_fix_leaves_a_whole_file_alone_that_is_opened_by_hand(small: Small) -> None:
    small.write("cfg/t.json", "{}")
    small.edit(
        "stages/count.py",
        "stage.run(lambda: ",
        'stage.run(lambda: Path("cfg/t.json").read_text() and ',
    )
    small.edit("dvc.yaml", "    metrics:", "      - cfg/t.json:\n    metrics:")
    small.passes()


def test_fix_comes_to_an_end_where_a_library_is_not_required(small: Small) -> None:
    small.edit("stages/count.py", 'versions.require("msgspec", "pyyaml")', "None")
    for _ in range(2):
        small.fails("count: imports pyyaml at", "unchecked", option=("--fix",))
    text = (small.path / "dvc.yaml").read_text(encoding="utf-8")
    assert text.count("- pyyaml") == 2


def test_settings_that_cannot_be_read_take_no_dep_away(small: Small) -> None:
    small.write("stages/plug.py", "")  # which is loaded by its name, were it not for the error
    read = "stage.run(lambda: 1 / 0 and __import__('stages.' + 'plug') and "
    small.edit("stages/count.py", "stage.run(lambda: ", read)
    small.edit("dvc.yaml", "stages/lib/core]", "stages/lib/core, stages/plug.py]")
    before = (small.path / "dvc.yaml").read_text(encoding="utf-8")
    small.fails("count: its settings cannot be read", option=("--fix",))
    assert (small.path / "dvc.yaml").read_text(encoding="utf-8") == before


def test_a_key_that_is_not_there_is_declared_by_its_section(small: Small) -> None:
    small.edit(
        "stages/count.py",
        "stage.run(lambda: versions",
        'stage.run(lambda: config.value("params.yaml", "scale.most", int | None) or versions',
    )
    small.edit("stages/count.py", "import files", "import config, files")
    small.fails("count: reads scale of params.yaml, undeclared")
    small.passes("--fix")


def test_a_recipe_that_lacks_a_key_is_named(small: Small) -> None:
    small.write("recipes/other.yaml", "scale:\n  factor: 2\n")
    small.edit("dvc.yaml", "- data/numbers", "- ${scale.offset}\n      - data/numbers")
    small.fails("dvc.yaml: ${scale.offset}: recipes/other.yaml has no such key")


def test_what_a_stage_prints_at_its_end_does_no_harm(small: Small) -> None:
    small.edit(
        "stages/count.py", "def main", 'import atexit\natexit.register(print, "done")\n\n\ndef main'
    )
    small.passes()


def test_fix_finds_an_entry_however_it_is_written(small: Small) -> None:
    small.write("stages/idle.py", "")
    small.edit(
        "dvc.yaml", "      - stages/scale.py", "      - ./stages/idle.py\n      - stages/scale.py"
    )
    assert "removed stages/idle.py" in small.passes("--fix")


def test_a_package_may_be_written_in_each_of_its_ways(small: Small) -> None:
    small.write(
        "environment.yaml",
        f'msgspec: "{metadata.version("msgspec")}"\nPyYAML: "{metadata.version("pyyaml")}"\n',
    )
    for name in ("scale", "count"):
        small.edit(f"stages/{name}.py", '"pyyaml"', '"PyYAML"')
    text = (small.path / "dvc.yaml").read_text(encoding="utf-8")
    small.write("dvc.yaml", text.replace("- pyyaml", "- PyYAML"))
    small.passes()


def test_code_with_the_line_ends_of_windows_is_told(small: Small) -> None:
    path = small.path / "stages/count.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    small.fails("stages/count.py: its lines end in CRLF", "git checkout stages/count.py")


def test_line_ends_of_windows_are_no_change_without_effect(locked: Small) -> None:
    path = locked.path / "stages/scale.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    locked.fails("stages/scale.py changed", option=("--lock",))
    assert "without effect" not in locked.audit("--lock")[1]


def test_the_markers_of_a_merge_are_named(locked: Small) -> None:
    locked.edit("dvc.lock", "stages:", "<<<<<<< HEAD\nstages:")
    locked.fails("git checkout --ours dvc.lock reports && dvc repro", option=("--lock",))


@pytest.mark.parametrize(
    ("file", "option"),
    [
        ("dvc.yaml", ()),
        ("dvc.yaml", ("--lock",)),
        ("dvc.lock", ("--lock",)),
        ("dvc.lock", ("--mend",)),
        ("params.yaml", ()),
        ("requirements.txt", ()),
        ("environment.yaml", ()),
    ],
)
def test_a_file_that_is_not_utf_8_is_named(
    locked: Small, file: str, option: tuple[str, ...]
) -> None:
    with (locked.path / file).open("ab") as stream:
        stream.write(b"# caf\xe9\n")
    locked.fails(f"ERROR: {file}: not UTF-8 text", option=option)


def test_fix_leaves_a_parameter_alone_that_main_reads(small: Small) -> None:
    small.edit("stages/count.py", "import files", "import config, files")
    small.edit(
        "stages/count.py",
        "    files.write_json",
        '    config.value("params.yaml", "count.most", int)\n    files.write_json',
    )
    small.edit("params.yaml", "scale:", "count: {most: 1}\nscale:")
    small.edit("dvc.yaml", "    metrics:", "      - count.most\n    metrics:")
    before = (small.path / "dvc.yaml").read_text(encoding="utf-8")
    said = "declares count.most of params.yaml and does not read just that in its settings: read it"
    small.fails(said, option=("--fix",))
    assert (small.path / "dvc.yaml").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("stages/lib/feat/a.py", 'importlib.import_module(f"stages.lib.feat.{len(settings)}")'),
        ("stages/lib/feat/a.py", 'importlib.import_module("stages.lib.feat.a")'),
        ("scripts/snippet.py", 'Path("scripts/snippet.py").read_text()'),
        ("stages/conf.py", 'runpy.run_path("stages/conf.py")'),
    ],
)
def test_fix_leaves_code_alone_that_main_loads(small: Small, file: str, code: str) -> None:
    small.write(file, "x = 1\n")
    small.edit("stages/count.py", "    files.write_json", f"    {code}\n    files.write_json")
    small.edit("stages/count.py", "from pathlib", "import importlib\nimport runpy\nfrom pathlib")
    small.edit("dvc.yaml", "deps: [", f"deps: [{file}, ")
    small.passes("--fix")
    assert file in (small.path / "dvc.yaml").read_text(encoding="utf-8")


def test_a_folder_of_code_outside_of_the_stages_is_a_right_dep(small: Small) -> None:
    small.write("common/helper.py", "NUMBER = 1\n")
    small.edit("stages/count.py", "from pathlib", "from common.helper import NUMBER\nfrom pathlib")
    small.edit("dvc.yaml", "deps: [", "deps: [common, ")
    small.passes()


def test_a_parameter_may_be_there_for_dvc_yaml_alone(small: Small) -> None:
    small.edit("params.yaml", "scale:", "paths: {made: reports/metrics.json}\nscale:")
    small.edit("dvc.yaml", "      - reports/metrics.json:", "      - ${paths.made}:")
    small.passes()


@pytest.mark.parametrize(
    ("old", "new"), [("  count:", "  count: &all"), ("  scale:", "  scale: &s")]
)
def test_stages_that_share_keys_are_not_mended_for_one_of_them(
    small: Small, old: str, new: str
) -> None:
    small.edit("dvc.yaml", f"{old}\n", f"{new}\n")
    if "scale" in new:
        merged = "    <<: *s\n    cmd: python -m stages.count\n"
        small.edit("dvc.yaml", "    cmd: python -m stages.count\n", merged)
    small.edit("stages/count.py", "from pathlib", "import stages.lib.extra\nfrom pathlib")
    small.write("stages/lib/extra.py", "")
    before = (small.path / "dvc.yaml").read_text(encoding="utf-8")
    small.fails("stages.count: expected a stage of its own, found one that", option=("--fix",))
    assert (small.path / "dvc.yaml").read_text(encoding="utf-8") == before


def test_an_out_may_be_numbered_by_the_code(small: Small) -> None:
    code = '    Path("reports") / f"fold_{len(settings)}"\n    files.write_json'
    small.edit("stages/count.py", "    files.write_json", code)
    small.edit(
        "dvc.yaml", "    metrics:", "    outs: [reports/fold_0, reports/fold_1]\n    metrics:"
    )
    small.passes()
    small.edit("dvc.yaml", "reports/fold_1", "reports/other_1")
    small.fails("declares the out reports/other_1 and does not name it")


def test_parameters_in_toml_are_read_as_such(locked: Small) -> None:
    locked.write("cfg/count.toml", "[count]\nmost = 3\n")
    locked.edit(
        "stages/count.py",
        "stage.run(lambda: ",
        'stage.run(lambda: Path("cfg/count.toml").read_text() and ',
    )
    locked.edit("dvc.yaml", "    metrics:", "      - cfg/count.toml:\n    metrics:")
    locked.passes()
    locked.write("cfg/count.toml", "[count\n")
    locked.fails("cfg/count.toml: Expected ']' at the end of a table", option=("--lock",))


def test_parameters_in_python_are_named_with_what_to_do(locked: Small) -> None:
    locked.write("cfg/count.py", "MOST = 3\n")
    locked.edit("dvc.yaml", "    metrics:", "      - cfg/count.py:\n          - MOST\n    metrics:")
    status, printed = locked.audit("--lock")
    assert status == 1
    assert "cfg/count.py: expected keys and values in YAML, JSON or TOML, found MOST" in printed


def test_a_file_in_a_folder_that_dvc_keeps_is_pulled(locked: Small) -> None:
    locked.write("data/numbers.dvc", "outs:\n- md5: 0.dir\n  path: numbers\n")
    locked.edit("dvc.yaml", "- data/numbers  # three", "- data/numbers/one.txt  # three")
    locked.edit("dvc.lock", "path: data/numbers\n", "path: data/numbers/one.txt\n")
    shutil.rmtree(locked.path / "data/numbers")
    locked.fails("data/numbers/one.txt is missing: run `dvc checkout`", option=("--lock",))


def test_mend_removes_a_changed_file_of_a_folder_with_the_cache_elsewhere(
    small: Small, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(mend, "_cache", lambda _: cache)
    for name in ("one", "two"):
        small.write(f"made/{name}.txt", name)
    digest = lock.digest(small.path, "made")
    sums = {name: lock.digest(small.path, f"made/{name}.txt") for name in ("one", "two")}
    listing = [{"md5": md5, "relpath": f"{name}.txt"} for name, md5 in sums.items()]
    (cache / digest[:2]).mkdir()
    (cache / digest[:2] / digest[2:]).write_text(json.dumps(listing, sort_keys=True))
    outs = f"outs: [{{path: made, md5: {digest}}}]"
    small.write("dvc.lock", f"schema: '2.0'\nstages:\n  scale: {{cmd: none, {outs}}}\n")
    small.write("made/two.txt", "changed")
    assert "made/two.txt: removed" in small.passes("--mend")
    assert (small.path / "made/one.txt").is_file()
    assert not (small.path / "made/two.txt").exists()


def test_mend_removes_a_changed_folder_of_which_no_cache_has_the_list(
    small: Small, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(mend, "_cache", lambda _: tmp_path_factory.mktemp("cache"))
    small.write("made/one.txt", "changed")
    outs = f"outs: [{{path: made, md5: {'0' * 32}.dir}}]"
    small.write("dvc.lock", f"schema: '2.0'\nstages:\n  scale: {{cmd: none, {outs}}}\n")
    assert "made: removed" in small.passes("--mend")
    assert not (small.path / "made").exists()


@pytest.mark.parametrize("option", [(), ("--lock",)])
def test_a_stage_that_is_not_understood_ends_no_audit(
    locked: Small, option: tuple[str, ...]
) -> None:
    text = "  each:\n    matrix: {x: [a]}\n    cmd: echo ${item.x}\n"
    locked.edit("dvc.yaml", "  scale:\n", f"{text}  scale:\n")
    locked.fails("each: `matrix` is not understood by the audit", option=option)


def test_a_key_that_is_gone_from_a_whole_file_of_parameters_is_stale() -> None:
    params = {("environment.yaml", "gone"): "1"}
    stage = pipeline.Stage("a", "", "", (), (("environment.yaml", ""),), ())
    entry = pipeline.Entry("", params=params)
    found = [stale.why for stale in lock._params(ROOT, stage, entry, {})]
    assert "parameter environment.yaml: gone is gone" in found


def test_a_stage_may_write_bytes_that_are_no_utf_8(small: Small) -> None:
    words = "import sys\nsys.stderr.buffer.write(b'caf\\xe9\\n')\n"
    small.edit("stages/count.py", "\n", f"\n{words}")
    small.passes()


def test_the_python_path_of_the_user_is_kept(
    small: Small, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "theirs_alone.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    small.edit("stages/count.py", "\n", "\nimport theirs_alone\n")
    assert "No module named" not in small.audit()[1]


def test_files_that_dvc_passes_over_are_no_difference(small: Small) -> None:
    small.write(".dvcignore", ".DS_Store\n")
    for side in ("real", "room"):
        small.write(f"{side}/made/one.txt", side)
    shutil.copyfile(small.path / ".dvcignore", small.path / "real/.dvcignore")
    small.write("real/made/.DS_Store", "of the system")
    found = hermetic._differing(small.path / "real", small.path / "room", "made")
    assert list(found) == ["one.txt"]


def test_files_of_editors_are_passed_over() -> None:
    passed_over = pipeline.ignored(ROOT)
    for name in (".#a.py", "#a.py#", ".a.py.swo", ".a.py.swp", "a.py~"):
        assert passed_over(f"stages/lib/core/{name}"), name
    assert not passed_over("stages/lib/core/stage.py")
