import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, Answer, Finished, Project, Repository, Server

FILES = ["test_images.gz", "test_labels.gz", "train_images.gz", "train_labels.gz"]


def raw(project: Project) -> list[str]:
    return sorted(path.name for path in (project.path / "data/raw").glob("*"))


def test_the_files_of_the_data_set_are_put_into_data_raw(
    project: Project, run_stage: Callable[[str], Finished]
) -> None:
    done = run_stage("download")
    assert (done.code, done.err) == (0, "")
    assert raw(project) == FILES
    for name in FILES:
        content = (project.path / "data/raw" / name).read_bytes()
        assert content == (project.mirror / "tiny" / name).read_bytes()
    size = (project.mirror / "tiny/test_images.gz").stat().st_size
    assert done.out.splitlines()[0] == f"test_images.gz: {size:,} bytes, SHA-256 as published"
    assert done.out.splitlines()[-1] == "tiny: 4 files in data/raw/"


def test_what_an_earlier_data_set_left_is_gone(
    project: Project, run_stage: Callable[[str], Finished]
) -> None:
    (project.path / "data/raw/folder").mkdir(parents=True)
    (project.path / "data/raw/old.gz").touch()
    assert run_stage("download").code == 0
    assert raw(project) == FILES


def test_a_second_run_fetches_nothing(
    project: Project,
    run_stage: Callable[[str], Finished],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in FILES:
        server.answers[f"/{name}"] = [Answer((project.mirror / "tiny" / name).read_bytes())]
    monkeypatch.delenv("DATASET_MIRROR")
    project.tiny["urls"] = [f"{server.url}/none/", f"{server.url}/"]
    project.save()
    assert run_stage("download").code == 0
    assert len(server.requests) == 8
    for path in (project.path / "data/raw").iterdir():
        path.unlink()  # as DVC does with the outs of a stage before it runs
    assert run_stage("download").err == ""
    assert len(server.requests) == 8
    assert raw(project) == FILES


@pytest.mark.parametrize("old", [True, False], ids=["over an old one", "anew"])
def test_a_failure_leaves_nothing_half_made_and_the_next_run_succeeds(
    project: Project, run_stage: Callable[[str], Finished], old: bool
) -> None:
    if old:
        (project.path / "data/raw").mkdir()
        (project.path / "data/raw/old.gz").touch()
    path = project.mirror / "tiny/test_images.gz"  # three of four are fetched before the failure
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    message = run_stage("download").message
    digest = hashlib.sha256(content[:-1]).hexdigest()
    assert message.startswith(f"{path.as_posix()}: expected SHA-256 ")
    assert f"found {digest} in {len(content) - 1} bytes.\n" in message
    assert raw(project) == (["old.gz"] if old else [])
    assert project.left_over() == []
    path.write_bytes(content)
    assert run_stage("download").code == 0
    assert raw(project) == FILES
    assert project.left_over() == []


def test_files_in_git_need_neither_network_nor_cache(
    project: Project, run_stage: Callable[[str], Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FILES:
        (project.mirror / "tiny" / name).rename(project.path / "data/embedded" / name)
    monkeypatch.setenv("DATASET_CACHE", "/dev/null/none")
    assert run_stage("download").code == 0
    assert raw(project) == FILES


def test_a_file_in_git_that_was_edited_is_refused(
    project: Project, run_stage: Callable[[str], Finished]
) -> None:
    (project.path / "data/embedded/train_labels.gz").write_bytes(b"edited")
    assert run_stage("download").message == (
        "data/embedded/train_labels.gz: "
        f"expected SHA-256 {project.tiny['files']['train_labels']['sha256']}, "
        f"found {hashlib.sha256(b'edited').hexdigest()}.\n"
        "Restore the file with `git checkout data/embedded/train_labels.gz`, "
        "or correct its entry."
    )
    assert raw(project) == []
    assert project.left_over() == []


def test_the_committed_configuration_downloads_without_a_network(repository: Repository) -> None:
    nowhere = "http://127.0.0.1:9"
    done = repository.run(
        "python", "-m", "stages.download", http_proxy=nowhere, https_proxy=nowhere
    )
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("digits: 1 files in data/raw/\n")
    assert [path.name for path in (repository.path / "data/raw").iterdir()] == ["digits.npz"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("params.yaml", "dataset: digits", "dataset: mnst", "dataset: expected one of digits, "),
        (
            "datasets.yaml",
            "name: digits.npz",
            "name: ../embedded/digits.npz",
            "digits.files.arrays.name: expected a file name without folders, found '../embedded/",
        ),
        ("environment.yaml", "pooch: ", "poach: ", "pooch: this key is missing; found "),
    ],
)
def test_a_wrong_configuration_ends_a_run_by_hand(
    repository: Repository, file: str, old: str, new: str, message: str
) -> None:
    repository.edit(file, old, new)
    done = repository.run("python", "-m", "stages.download")
    assert done.message.startswith(f"{file}: {message}")
    assert not (repository.path / "data/raw").exists()


def test_an_empty_params_file_is_named(
    project: Project, run_stage: Callable[[str], Finished]
) -> None:
    (project.path / "params.yaml").write_text("")
    assert run_stage("download").message == (
        "params.yaml: expected keys and values, found an empty file.\n"
        "Restore the committed one with `git checkout params.yaml`."
    )


def test_a_stage_in_another_folder_says_where_to_run(
    project: Project, run_stage: Callable[[str], Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.path / "data")
    message = run_stage("download").message
    assert message.endswith("\nRun stages from the top folder of the repository.")


@pytest.mark.parametrize("name", ["download", "normalize"])
def test_no_tensorflow_is_imported(run: Callable[..., Finished], name: str) -> None:
    done = run([sys.executable, "-X", "importtime", "-c", f"import stages.{name}"], ROOT)
    assert done.code == 0
    imported = {line.rpartition("|")[2].strip() for line in done.err.splitlines()}
    assert f"stages.{name}" in imported
    assert not {name for name in imported if name.startswith(("tensorflow", "keras"))}


def test_real_data_come_from_the_mirror(
    project: Project,
    run_stage: Callable[[str], Finished],
    mirror: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATASET_MIRROR", str(mirror))
    project.datasets = yaml.safe_load((ROOT / "datasets.yaml").read_text(encoding="utf-8"))
    for project.params["dataset"] in ("mnist", "fashion_mnist"):
        project.save()
        done = run_stage("download")
        assert (done.code, done.err) == (0, "")
        assert raw(project) == sorted(
            file["name"] for file in project.datasets[project.params["dataset"]]["files"].values()
        )


def test_no_more_is_fetched_than_the_size_that_the_catalogue_states(
    project: Project,
    run_stage: Callable[[str], Finished],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATASET_MIRROR", server.url)
    file = project.tiny["files"]["test_images"]
    file["size"] = len((project.mirror / "tiny" / file["name"]).read_bytes())
    server.answers[f"/tiny/{file['name']}"] = [Answer(b"x" * (file["size"] + 1))]
    project.save()
    assert f"(more than the expected {file['size']:,} bytes)" in run_stage("download").message
    assert project.left_over() == []
    file["size"] = "many"
    project.save()
    message = run_stage("download").message
    assert message.startswith("datasets.yaml: tiny.files.test_images.size: expected an integer")


def test_the_sizes_in_the_catalogue_are_those_of_the_published_files(mirror: Path) -> None:
    datasets = yaml.safe_load((ROOT / "datasets.yaml").read_text(encoding="utf-8"))
    for name in ("mnist", "fashion_mnist"):
        for file in datasets[name]["files"].values():
            assert file["size"] == (mirror / name / file["name"]).stat().st_size


def weights(project: Project) -> list[str]:
    """The files of weights, which are as SHA256SUMS says."""
    folder = project.path / "data/weights"
    names = sorted(path.name for path in folder.iterdir())
    assert names.pop(0) == "SHA256SUMS"  # there is one, lest DVC warns of an empty folder
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
    sums = [f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True)]
    assert (folder / "SHA256SUMS").read_text(encoding="utf-8") == "".join(sums)
    return names


def start_from(project: Project, path: Path) -> None:
    """Makes a new file the configured weights."""
    path.parent.mkdir()
    path.write_bytes(b"weights")
    file = {"name": path.name, "sha256": hashlib.sha256(b"weights").hexdigest()}
    project.weights["own"] = {**project.weights["none"], "files": {"values": file}}
    project.params["model"]["weights"] = "own"
    project.save()


def test_weights_to_start_from_are_fetched_as_data_are(
    project: Project, run_stage: Callable[[str], Finished]
) -> None:
    assert run_stage("download").code == 0
    assert weights(project) == []
    path = project.mirror / "weights/own.h5"
    start_from(project, path)
    done = run_stage("download")
    assert (done.code, done.err) == (0, "")
    assert "own.h5: 7 bytes, SHA-256 as published" in done.out
    assert weights(project) == ["own.h5"]
    assert raw(project) == FILES
    (project.path / "cache/weights/own.h5").unlink()
    path.write_bytes(b"other weights")
    assert run_stage("download").message.startswith(f"{path.as_posix()}: expected SHA-256 ")
    assert weights(project) == ["own.h5"]
    project.params["model"]["weights"] = "none"
    project.save()
    assert run_stage("download").code == 0
    assert weights(project) == []


def test_weights_of_ones_own_are_taken_from_data_own(
    project: Project, run_stage: Callable[[str], Finished]
) -> None:
    path = project.path / "data/own/own.keras"
    start_from(project, path)
    assert run_stage("download").code == 0
    assert weights(project) == ["own.keras"]
    path.write_bytes(b"edited")
    assert "data/own/own.keras: expected SHA-256" in run_stage("download").message


def test_weights_that_cannot_be_fetched_can_be_done_without(
    project: Project, run_stage: Callable[[str], Finished]
) -> None:
    start_from(project, project.mirror / "weights/own.h5")
    (project.mirror / "weights/own.h5").unlink()
    message = run_stage("download").message
    assert message.startswith("weights/own.h5: could not be fetched; tried nothing, as no address")
    assert message.endswith("or set `model.weights: none` in params.yaml, which needs no network.")
