"""A pipeline whose training is a line of Python that counts its runs."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.tools.compare import comparing
from tools.compare import dvc_state, sides, trainings
from tools.seeds import __main__ as seeds

TRAIN = """
import pathlib, yaml
seed = yaml.safe_load(pathlib.Path("params.yaml").read_text())["train"]["seed"]
with open({runs!r}, "a") as stream:
    stream.write(f"{{seed}}\\n")
if seed == 13:
    raise SystemExit("This seed brings bad luck")
pathlib.Path("models").mkdir(exist_ok=True)
pathlib.Path("models/model.keras").write_text(f"model {{seed}}")
"""
EVALUATE = """
import pathlib
seed = int(pathlib.Path("models/model.keras").read_text().split()[1])
path = pathlib.Path("reports/evaluate/predictions.csv")
path.parent.mkdir(parents=True, exist_ok=True)
rows = [f"{i},0,{int(i < seed)},0.5,0.5" for i in range(100)]
path.write_text("\\n".join(["index,actual,predicted,probability_0,probability_1", *rows, ""]))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed project whose accuracy is 100 % less a point for each unit of the seed."""
    for name in comparing.environment():
        monkeypatch.delenv(name)
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n", encoding="utf-8")
    (folder / ".dvc/.gitignore").write_text("/cache\n/tmp\n/config.local\n", encoding="utf-8")
    (folder / ".gitignore").write_text("/models\n/reports\n", encoding="utf-8")
    (folder / "train.py").write_text(
        TRAIN.format(runs=(tmp_path / "runs").as_posix()), encoding="utf-8"
    )
    (folder / "evaluate.py").write_text(EVALUATE, encoding="utf-8")
    write(folder / "params.yaml", {"train": {"seed": 1, "rates": [0.1, 1e-3]}})
    python = Path(sys.executable).as_posix()
    train = {"cmd": f'"{python}" train.py', "deps": ["train.py"], "params": ["train"]}
    evaluate = {"cmd": f'"{python}" evaluate.py', "deps": ["evaluate.py", "models/model.keras"]}
    train["outs"], evaluate["outs"] = ["models/model.keras"], ["reports/evaluate/predictions.csv"]
    write(folder / "dvc.yaml", {"stages": {"train": train, "evaluate": evaluate}})
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "Start"]):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    return folder


def write(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8", newline="\n")


def change_stage(project: Path, name: str, **entries: object) -> None:
    """Changes entries of a stage of dvc.yaml, or adds one."""
    path = project / "dvc.yaml"
    pipeline = yaml.safe_load(path.read_text(encoding="utf-8"))
    pipeline["stages"].setdefault(name, {}).update(entries)
    write(path, pipeline)


def runs(project: Path) -> list[int]:
    """The seeds that were trained, in order."""
    path = project.parent / "runs"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_trains_each_seed_once_and_leaves_the_work_tree(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in project.iterdir() if path.is_file()}
    assert seeds.main(["2"]) == 0
    assert runs(project) == [1, 2]
    assert seeds.main(["3"]) == 0
    assert runs(project) == [1, 2, 3]  # 1 and 2 came out of the run cache
    out = capsys.readouterr().out
    assert "3 of 3: seed 3, accuracy 97.00\N{NO-BREAK SPACE}%, trained" in out
    assert "mean test accuracy 98.00\N{NO-BREAK SPACE}% of 3 trainings" in out
    assert "standard deviation 1.00 points" in out  # of 99, 98 and 97 %
    assert {path: path.read_bytes() for path in project.iterdir() if path.is_file()} == before
    assert not (project / "models").exists()


def test_a_revision_is_trained_as_it_was(project: Path) -> None:
    write(project / "params.yaml", {"train": {"seed": 40, "rates": []}})
    assert seeds.main(["2", "HEAD", "--jobs", "2"]) == 0
    assert sorted(runs(project)) == [1, 2]


def test_uncommitted_changes_of_the_work_tree_count(project: Path) -> None:
    write(project / "params.yaml", {"train": {"seed": 40, "rates": []}})
    assert seeds.main(["1"]) == 0
    assert runs(project) == [40]


def test_the_comparison_finds_what_was_trained(project: Path) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    assert seeds.main(["3"]) == 0
    lock = dvc_state.read_lock(project / "dvc.lock")
    cache = dvc_state.cache_folder()
    others = trainings.find(lock, sides.MODEL, sides.PREDICTIONS, cache)
    assert [each.seed for each in others] == [2, 3]
    paths = [each.predictions for each in others if each.predictions]
    correct = [sides.read_labels(path).correct.mean() for path in paths]
    assert correct == pytest.approx([0.98, 0.97])


def test_data_of_ones_own_come_out_of_the_cache(project: Path) -> None:
    (project / "data/own").mkdir(parents=True)
    (project / "data/own/toy.npz").write_bytes(b"own data")
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "data/own/toy.npz"], check=True)
    change_stage(project, "train", deps=["train.py", "data/own/toy.npz"])
    assert seeds.main(["1"]) == 0
    assert runs(project) == [1]


def test_what_was_made_here_counts_where_the_lock_has_other_bits(project: Path) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    path = project / "dvc.lock"
    outs = [
        out
        for stage in yaml.safe_load(path.read_text(encoding="utf-8"))["stages"].values()
        for out in stage["outs"]
    ]
    text = path.read_text(encoding="utf-8")
    for out in outs:
        text = text.replace(out["md5"], hashlib.md5(out["md5"].encode()).hexdigest())
    path.write_text(text, encoding="utf-8")
    assert seeds.main(["1"]) == 0
    assert runs(project) == [1]


def test_an_evaluation_may_depend_on_the_folder_of_the_model(project: Path) -> None:
    change_stage(project, "evaluate", deps=["evaluate.py", "models"])
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    assert seeds.main(["2"]) == 0
    lock = dvc_state.read_lock(project / "dvc.lock")
    found = trainings.find(lock, sides.MODEL, sides.PREDICTIONS, dvc_state.cache_folder())
    assert [(each.seed, each.predictions is not None) for each in found] == [(2, True)]


def test_an_evaluation_may_read_the_model_through_another_stage(project: Path) -> None:
    copy = "import shutil; shutil.copy('models/model.keras', 'copy')"
    python = Path(sys.executable).as_posix()
    cmd = f'"{python}" -c "{copy}"'
    change_stage(project, "copy", cmd=cmd, deps=["models/model.keras"], outs=["copy"])
    change_stage(project, "evaluate", deps=["evaluate.py", "copy"])
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    assert seeds.main(["2"]) == 0
    lock = dvc_state.read_lock(project / "dvc.lock")
    found = trainings.find(lock, sides.MODEL, sides.PREDICTIONS, dvc_state.cache_folder())
    assert found == [trainings.Training(2, None)]


@pytest.mark.slow
def test_what_dvc_gc_drops_is_known_to_be_lost_and_trained_again(project: Path) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    assert seeds.main(["2"]) == 0
    subprocess.run([sys.executable, "-m", "dvc", "gc", "-q", "-w", "-f"], check=True)
    lock = dvc_state.read_lock(project / "dvc.lock")

    def lost() -> list[int]:
        others = trainings.find(lock, sides.MODEL, sides.PREDICTIONS, dvc_state.cache_folder())
        return [each.seed for each in others if each.predictions is None]

    assert lost() == [2]
    assert seeds.main(["2"]) == 0
    assert lost() == []
    assert runs(project) == [1, 2, 2]


def test_a_full_disk_is_told_in_two_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(seeds, "_run", full)
    assert seeds.main(["1"]) == 1
    message = "ERROR: No space left on device.\nFree some space and run again.\n"
    assert capsys.readouterr().err == message


def test_a_failed_training_keeps_the_others_and_shows_its_log(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project / "params.yaml", {"train": {"seed": 12, "rates": []}})
    assert seeds.main(["2"]) == 1
    err = capsys.readouterr().err
    assert "This seed brings bad luck" in err
    assert "ERROR: train.seed 13: `dvc repro evaluate` failed" in err
    assert seeds.main(["1"]) == 0
    assert runs(project) == [12, 13]


@pytest.mark.parametrize("seed", [None, "one", -1, True])
def test_a_seed_that_is_none_is_an_error(
    project: Path, capsys: pytest.CaptureFixture[str], seed: object
) -> None:
    write(project / "params.yaml", {"train": {"seed": seed}})
    assert seeds.main(["2"]) == 1
    assert "params.yaml: train.seed: expected an integer from 0, found " in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "101", "three"])
def test_the_number_is_bounded(project: Path, count: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        seeds.main([count])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param("M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller", marks=pytest.mark.slow),
        "\u9879\u76ee",
    ],
)
def test_the_path_of_the_project_may_be_in_any_language(
    project: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (project / ".dvc/config.local").write_text("[core]\n    autostage = true\n", encoding="utf-8")
    project.rename(project.with_name(folder))
    monkeypatch.chdir(project.with_name(folder))
    assert seeds.main(["2"]) == 0
    assert runs(project) == [1, 2]


def test_a_broken_file_is_named_as_it_is_called_here(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "params.yaml").write_text("train: {seed: 1\n", encoding="utf-8")
    assert seeds.main(["1"]) == 1
    assert capsys.readouterr().err.startswith("ERROR: params.yaml: line ")
