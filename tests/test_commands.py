"""Every command of README, docs and CONTRIBUTING: run as it is written, or named with who runs it.

The stories run slowly, in one copy of the repository each, in the order in which a reader would
come to the commands. What needs a cluster, a published address or hours is listed with the reason.
"""

import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, Repository, copied
from tests.documents import DOCUMENTS, blocks, prose

PROGRAMS = "dvc|git|cp|python3?|pip|pytest|ruff|mypy|nice|sed|curl|gto|mlflow|cml"

DIGITS = [
    "dvc repro",
    "dvc params diff",
    "dvc metrics show",
    "dvc metrics diff",
    "dvc plots show",
    "dvc dag",
    "dvc repro normalize",
    "dvc repro -f -s train",
    "dvc repro -f -s evaluate",
    "dvc repro --force",
    "python -m stages.download",
    "python -m stages.train",
    "python -m stages.evaluate",
    "python -m tools",
    "python -m tools.schema",
    "python -m tools.audit",
    "python -m tools.audit --data",
    "python -m tools.audit --fix",
    "python -m tools.audit --lock",
    "python -m tools.audit --mend",
    "python -m tools.audit && dvc repro",
    "git diff params.yaml",
    "git checkout params.yaml",
    "git checkout datasets.yaml",
    "git checkout environment.yaml",
    "git checkout dvc.lock",
    "git checkout dvc.lock && dvc repro",
    "dvc checkout",
    "dvc checkout --force",
    "dvc checkout --relink",
    "git checkout HEAD -- dvc.lock reports && dvc checkout",
    "cp params.yaml recipes/MINE.yaml",
    "python -m tools.export",
    "python -m tools.export litert onnx",
    "python -m tools.predict FILE...",
    "python -m tools.predict photo.jpg scans/ more.zip",
    "python -m tools.predict --top 3 --csv scans/ > answers.csv",
]
COLUMNS = "'reports/[^:]*$|models/|data/|stages/|environment|Created'"
EXPERIMENTS = [
    "dvc exp run -S train.epochs=3",
    "dvc metrics diff",
    "git checkout HEAD -- params.yaml dvc.lock reports && dvc checkout",
    "dvc exp run -S train.epochs=3 -n three",
    f"dvc exp show --only-changed --drop {COLUMNS}",
    "dvc exp show",
    "git checkout HEAD -- params.yaml dvc.lock reports && dvc checkout",
    "dvc exp apply three",
    "git add params.yaml dvc.lock reports && git commit",
    "dvc exp remove three",
]
PULL_REQUEST = [
    "python -m tools.seeds 3 && python -m tools.seeds 3 HEAD",
    "python -m tools.compare HEAD",
    "python -m tools.seeds 3 && python -m tools.seeds 3 HEAD && python -m tools.compare HEAD",
    "python -m tools.seeds 3 && python -m tools.seeds 3 $(git merge-base HEAD origin/main)",
    "python -m tools.compare",
    "python -m tools.compare --no-images",
    "python -m tools.compare --fail-if-worse",
    "python -m tools.compare origin/main",
]
CONFLICT = [
    "git checkout --ours dvc.lock reports && dvc repro",
    "git checkout --ours dvc.lock reports && dvc repro && git add dvc.lock reports && git commit",
]
OWN_IMAGES = [
    "python -m tools.add_dataset FOLDER",
    "python -m tools.add_dataset path/to/leaves",
    "dvc repro",
    "dvc exp run -S normalize.size=48",
    "cp recipes/fashion-cnn.yaml params.yaml",
    "python -m tools.add_dataset path/to/leaves --replace",
    "dvc remove --outs data/own/leaves.zip.dvc && python -m tools.schema",
]
OWN_WEIGHTS = [
    "python -m tools.add_weights models/model.keras --name fashion",
    "dvc repro",
    "python -m tools.audit --hermetic",
]
REAL_DATA = [
    "cp recipes/mnist-mlp-logits.yaml params.yaml && dvc repro",
    "git add params.yaml dvc.lock reports && git commit -m MNIST",
    "sed -i.bak 's/dropout: 0.2/dropout: 0.3/' params.yaml && dvc params diff && dvc repro",
    "dvc metrics diff",
]
STORIES = [DIGITS, EXPERIMENTS, PULL_REQUEST, CONFLICT, OWN_IMAGES, OWN_WEIGHTS, REAL_DATA]

BY_CI = "run by .ci/run: "
BY_TEST = "run by "
ELSEWHERE = {
    "python3 -m venv .venv && . .venv/bin/activate && pip install -q -r requirements.txt && dvc "
    "repro": BY_CI + "readme",
    "python3 -m venv .venv && . .venv/bin/activate && pip install -q -r requirements-dev.txt && "
    "pytest": BY_CI + "readme",
    "ruff check . && ruff format --check . && mypy && python -m tools.audit": BY_CI + "mypy",
    "ruff check . && ruff format --check . && mypy && python -m tools.audit && python -m "
    "tools.audit --lock && dvc repro && python -m tools.audit --hermetic && pytest": BY_CI + "mypy",
    "python -m tools.add_weights https://storage.googleapis.com/tensorflow/keras-applications/"
    "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5 "
    "--name mobilenet_v2": BY_TEST + "test_what_comes_from_an_address_is_fetched_from_there_again",
    'git init && git add -A && git commit -m "As downloaded"': BY_TEST
    + "test_a_downloaded_zip_becomes_a_repository_by_the_documented_line",
    "dvc remote add -d storage /path/or/s3://bucket": BY_TEST + "test_a_folder_as_remote",
    "dvc push --run-cache": BY_TEST + "test_a_folder_as_remote",
    "dvc pull": BY_TEST + "test_a_folder_as_remote",
    "dvc pull --run-cache": BY_TEST + "test_a_folder_as_remote",
    "dvc repro --pull --allow-missing": BY_TEST + "test_a_folder_as_remote",
    "dvc push models/model.keras": BY_TEST + "test_a_promoted_model_is_fetched_by_its_stage",
    "gto register classifier": BY_TEST + "test_a_promoted_model_is_fetched_by_its_stage",
    "gto assign classifier --version v0.0.1 --stage prod": BY_TEST
    + "test_a_promoted_model_is_fetched_by_its_stage",
    "gto show": BY_TEST + "test_a_promoted_model_is_fetched_by_its_stage",
    "git push origin classifier@v0.0.1 'classifier#prod#1'": BY_TEST
    + "test_a_promoted_model_is_fetched_by_its_stage",
    "dvc artifacts get REPOSITORY classifier --stage prod": BY_TEST
    + "test_a_promoted_model_is_fetched_by_its_stage",
    "pytest tests/faults/test_fuzz.py -m slow -n0 -s": BY_CI + 'pytest -m "slow or real_data"',
    "pytest tests/test_workflows.py": BY_CI + "readme",
    "pytest tests/tools/compare/test_evidence.py": BY_CI + "readme",
    "pytest tests/test_workflows.py -m real_data -k this_project -n0 -s": BY_CI
    + 'pytest -m "slow or real_data"',
    "dvc exp run --queue -S train.seed=1": BY_TEST
    + "test_a_queue_of_two_workers_with_kills_and_what_dvc_gc_frees",
    "dvc exp run --queue -S 'model.mlp.dropout=0.0,0.2,0.4' && dvc queue start": BY_TEST
    + "test_a_queue_of_two_workers_with_kills_and_what_dvc_gc_frees",
    "dvc queue status": BY_TEST + "test_a_queue_of_two_workers_with_kills_and_what_dvc_gc_frees",
    "dvc queue start --jobs 4": BY_TEST
    + "test_a_queue_of_two_workers_with_kills_and_what_dvc_gc_frees",
    "python -m tests.faults.counts": BY_TEST + "test_the_faults_of_every_stage_are_listed",
}
CLUSTER = (
    """TF_CONFIG='{"cluster": {"worker": ["host1:12345", "host2:12345"]}, """
    """"task": {"type": "worker", "index":"""
)
SAVE = "import mlflow.onnx, onnx; mlflow.onnx.save_model(onnx.load('exports/onnx/model.onnx'), "
REASONS = {  # why nobody runs it here
    "takes minutes to hours": [
        "cp recipes/fashion-cnn.yaml params.yaml && dvc repro",
        (
            "dvc exp run -S normalize.validation_fraction=0.33333 -S +train.precision=bfloat16 "
            "-S train.epochs=24"
        ),
        "dvc exp run -S +train.precision=bfloat16 -S train.epochs=32 -S train.seed=2",
        "python -m benchmarks.mutants",
        "python -m benchmarks.accuracy --seeds 3",
        "python -m benchmarks.soak",
        "nice -n 10 python -m benchmarks.verdicts pool FOLDER",
        "python -m benchmarks.verdicts table FOLDER --pairs 200",
    ],
    "a benchmark, for an idle machine": [
        "python -m benchmarks.images MIRROR --rounds 1",
        "python -m benchmarks.convolutions --rounds 3 --peers PYTHON",
        "python -m benchmarks.photos",
        "python -m benchmarks.scale MIRROR",
        "python -m benchmarks.speed MIRROR --peers PYTHON",
        "python -m benchmarks.start",
        "python -m benchmarks.starting MIRROR --seeds 3",
    ],
    "needs several machines; test_distributed.py has two processes": [
        f"{CLUSTER} 0}}}}' dvc repro",
        f"{CLUSTER} 1}}}}' python -m stages.train",
    ],
    "for a GPU, and takes gigabytes": ["pip install -r requirements-gpu.txt"],
    "for a GPU": ["pytest -m gpu"],
    "needs addresses of the world": [
        "curl -s https://example.org/7.png | python -m tools.predict -",
        "pip install pre-commit && pre-commit install",
    ],
    "needs packages that are not required; a test runs it where they are": [
        "pip install mlflow onnx onnxruntime",
        "pip install tf2onnx onnx onnxruntime",
        "pip install openvino scipy",
        f"python -c \"{SAVE}'exports/mlflow')\"",
        "mlflow models serve -m exports/mlflow --env-manager local --port 5001",
    ],
    "the tests themselves": [
        "pytest -m slow",
        "pytest -m real_data",
        "coverage run --rcfile=tests/coverage.ini -m pytest",
        (
            "coverage combine -q --rcfile=tests/coverage.ini && "
            "coverage report --rcfile=tests/coverage.ini"
        ),
    ],
    "a pattern, of which another line has a case": [
        "cp recipes/NAME.yaml params.yaml && dvc repro",
        "dvc remote add -d NAME URL",
        "dvc checkout STAGE && dvc commit -f STAGE",
        "dvc add data/own/new.zip: …",
        "git clone",
        "git init",
        "git checkout",
        "pip install",
        "pip install -r requirements.txt",
        "python -m",
        "python -m tools.add_dataset",
        "python -m tools.add_weights",
        "python -m tools.seeds",
        "python -m tools.seeds 5",
        "python -m tools.seeds 5 origin/main",
        "dvc add",
        "dvc push",
        "dvc plots",
        "dvc exp run",
        "dvc exp run --temp",
        "dvc gc",
        "gto assign",
        "cml comment update",
    ],
}


def documented() -> set[str]:
    """The commands of all documents: lines of their blocks, and code within their text."""
    found = set()
    for path in set(DOCUMENTS) - {ROOT / "CHANGELOG.md"}:
        scripts = [block for block in blocks(path, "sh") if "srun" not in block]  # is Slurm's
        lines = [line for block in scripts for line in block.splitlines()]
        shown = [line for block in blocks(path, "console") for line in block.splitlines()]
        lines += [line[2:] for line in shown if line.startswith("$ ")]
        found |= {re.sub(r"(^|\s+)#\s.*$", "", line).strip() for line in lines} - {""}
        codes = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(path))
        found |= {code for code in codes if re.match(rf"(?:{PROGRAMS})\s", code)}
    return found


def test_every_documented_command_is_run_or_has_a_reason() -> None:
    listed = [command for story in STORIES for command in dict.fromkeys(story)]
    excused = [command for commands in REASONS.values() for command in commands]
    assert documented() == {*listed, *ELSEWHERE, *excused}
    assert not set(listed) & {*ELSEWHERE, *excused}
    assert not set(ELSEWHERE) & set(excused)


def test_who_runs_the_others_is_there() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for runner in ELSEWHERE.values():
        by_ci = runner.startswith(BY_CI)
        name = runner.removeprefix(BY_CI if by_ci else BY_TEST)
        assert name in ci if by_ci else f"def {name}(" in tests, runner


def tell(repository: Any, story: list[str], **environment: str) -> dict[str, str]:
    """Runs the commands of a story; what each printed."""
    printed = {}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    editor = "sh -c 'echo Said in an editor > \"$1\"' --"
    for command in story:
        done = repository.run("bash", "-c", command, PATH=path, GIT_EDITOR=editor, **environment)
        assert done.code == 0, f"{command}\n{done.out}\n{done.err}"
        printed[command] = done.out
    return printed


@pytest.fixture(scope="module")
def _shortened(_committed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository whose training is one of two epochs, committed as main."""
    folder = tmp_path_factory.mktemp("shortened")
    made = copied(_committed, folder)
    made.edit("params.yaml", "  epochs: 60\n", "  epochs: 2\n")
    tell(made, ["git branch -M main", "dvc repro -q", "git add -A", "git commit -qm Shorter"])
    return made.path


@pytest.fixture
def short(_shortened: Path, tmp_path: Path) -> Repository:
    """A fresh copy of that repository."""
    return copied(_shortened, tmp_path)


def draw(folder: Path, count: int) -> None:
    """Images of two classes."""
    random = np.random.default_rng(1)
    for label in ("beech", "oak"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = random.integers(0, 255, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the lines are for a POSIX shell")


@pytest.mark.slow
def test_the_digits(short: Repository) -> None:
    scans = short.path / "scans"
    scans.mkdir()
    image = Image.fromarray(np.eye(8, dtype=np.uint8) * 200)
    for path in (short.path / "photo.jpg", short.path / "FILE...", scans / "1.png"):
        image.save(path, "JPEG" if path.suffix == ".jpg" else "PNG")
    with zipfile.ZipFile(short.path / "more.zip", "w") as archive:
        archive.write(scans / "1.png", "1.png")
    tell(short, ["git add -A", "git commit -qm Scans"])
    installed = [command for command in DIGITS if "onnx" not in command]
    printed = tell(short, installed)
    assert "accuracy" in printed["dvc metrics show"]
    assert "photo.jpg" in printed["python -m tools.predict photo.jpg scans/ more.zip"]
    answers = (short.path / "answers.csv").read_text(encoding="utf-8").splitlines()
    assert len(answers) == 1 + 1


@pytest.mark.slow
def test_the_experiments(short: Repository) -> None:
    printed = tell(short, EXPERIMENTS)
    assert "three" in printed["dvc exp show"]
    assert "2" in short.run("git", "show", "HEAD~1:params.yaml").out
    assert "  epochs: 3\n" in short.run("git", "show", "HEAD:params.yaml").out
    assert short.run("git", "log", "-1", "--format=%s").out == "Said in an editor\n"


@pytest.mark.slow
def test_the_pull_request(short: Repository, tmp_path: Path) -> None:
    tell(short, [f"git clone -q --bare . {tmp_path}/origin", "git switch -qc change"])
    tell(short, [f"git remote add origin {tmp_path}/origin", "git fetch -q origin"])
    short.edit("params.yaml", "  epochs: 2\n", "  epochs: 4\n")
    tell(short, ["dvc repro -q", "git add -A", "git commit -qm Longer"])
    printed = tell(short, PULL_REQUEST)
    assert "reports/comparison" in printed["python -m tools.compare"]


@pytest.mark.slow
def test_the_conflict(short: Repository) -> None:
    for branch, old, new in (
        ("one", "    dropout: 0.4\n", "    dropout: 0.3\n"),
        ("two", "  batch_size: 32\n", "  batch_size: 16\n"),
    ):
        tell(short, [f"git switch -qc {branch} main"])
        short.edit("params.yaml", old, new)
        tell(short, ["dvc repro -q", "git add -A", f"git commit -qm {branch}"])
    for command in CONFLICT:
        assert short.run("git", "merge", "one").code == 1, command
        tell(short, [command])
        assert short.run("dvc", "status", "-q").code == 0, command
        tell(short, ["git reset -q --hard two"])


@pytest.mark.slow
def test_own_images(short: Repository) -> None:
    add_other, add, repro, sweep, recipe, replace, remove = OWN_IMAGES
    draw(short.path / "FOLDER", 12)
    draw(short.path / "path/to/leaves", 12)
    tell(short, ["git add -A", "git commit -qm Leaves"])
    tell(short, [add_other, add])
    short.edit("params.yaml", "dataset: digits\n", "dataset: leaves\n")
    short.edit("params.yaml", "  size: # pixels", "  size: 16 # pixels")
    tell(short, [repro, sweep])
    with np.load(short.path / "data/normalized/train.npz") as arrays:
        assert arrays["images"].shape[1:] == (48, 48, 3)
    tell(short, [recipe])
    draw(short.path / "path/to/leaves", 14)
    tell(short, [replace])
    text = (short.path / "datasets.yaml").read_text(encoding="utf-8")
    (short.path / "datasets.yaml").write_text(
        re.sub(r"^leaves:\n(?:[ #\n].*\n?)*", "", text, flags=re.MULTILINE), encoding="utf-8"
    )
    tell(short, [remove])
    assert not (short.path / "data/own/leaves.zip").exists()


@pytest.mark.slow
def test_own_weights(short: Repository) -> None:
    add, repro, hermetic = OWN_WEIGHTS
    tell(short, [add])
    short.edit("params.yaml", "  weights: none", "  weights: fashion")
    short.edit("params.yaml", "  epochs: 2\n", "  epochs: 2\n  frozen_epochs: 1\n")
    assert (
        "Starts from fashion; layers below the last that have its values: 1"
        in tell(short, [repro])[repro]
    )
    tell(short, [hermetic])  # which sees that the file of data/own is taken for what it is


@pytest.mark.real_data
def test_the_tutorial(repository: Any, mirror: Path) -> None:
    printed = tell(repository, REAL_DATA, DATASET_MIRROR=str(mirror))
    assert "model.mlp.dropout" in printed[REAL_DATA[2]]
    assert "images" not in printed["dvc metrics diff"]  # those of the same test split
