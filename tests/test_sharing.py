"""Two clones with one remote: what one has made, the other does not run again."""

import dataclasses
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.conftest import ROOT
from tests.documents import blocks

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of an S3-compatible server with one bucket, and the settings to reach it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(100):
        try:
            urlopen(Request(f"{url}/storage", method="PUT"), timeout=5).close()  # makes the bucket
            break
        except (URLError, ConnectionError):
            time.sleep(0.2)
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    yield url, {**keys, "AWS_DEFAULT_REGION": "us-east-1"}
    server.terminate()
    server.wait()


def stages_run(done: Any) -> list[str]:
    assert done.code == 0, done.out + done.err
    return re.findall(r"^Running stage '(\w+)'", done.out, re.MULTILINE)


def share(first: Any, *settings: str, **environment: str) -> None:
    """Runs the pipeline in one clone, pushes, and reproduces in another without running.

    Args:
        first: The one clone.
        settings: What follows `dvc remote`, to set the remote up.
        environment: What reaching the remote needs.
    """
    for setting in settings:
        assert first.run("dvc", "remote", *setting.split()).code == 0
    assert len(stages_run(first.run("dvc", "repro"))) == 5
    first.run("git", "add", "-A")
    first.run("git", "commit", "-qm", "results")
    assert first.run("dvc", "push", **environment).code == 0
    first.edit("params.yaml", "predictions: 15", "predictions: 4")
    assert stages_run(first.run("dvc", "repro")) == ["plot"]
    assert first.run("dvc", "push", "--run-cache", **environment).code == 0
    first.run("git", "checkout", "-q", "--", ".")

    second = dataclasses.replace(first, path=first.path.parent / "second")
    assert first.run("git", "clone", "-q", str(first.path), str(second.path)).code == 0
    # Only what a changed stage needs is fetched: images and tables, neither raw files nor model
    second.edit("params.yaml", "predictions: 15", "predictions: 5")
    done = second.run("dvc", "repro", "--pull", "--allow-missing", **environment)
    assert stages_run(done) == ["plot"]
    assert not (second.path / "data/raw").exists()
    assert not (second.path / "models").exists()
    # A state that no commit holds comes out of the run cache
    second.edit("params.yaml", "predictions: 5", "predictions: 4")
    assert second.run("dvc", "pull", "--run-cache", **environment).code == 0
    done = second.run("dvc", "repro", "--pull", "--allow-missing", **environment)
    assert stages_run(done) == []
    second.run("git", "checkout", "-q", "--", ".")
    assert second.run("dvc", "pull", **environment).code == 0
    assert stages_run(second.run("dvc", "repro")) == []
    assert second.run("git", "status", "--porcelain").out == ""


def test_a_folder_as_remote(repository: Any, tmp_path: Path) -> None:
    share(repository, f"add -d storage {tmp_path / 'remote'}")


def test_an_s3_compatible_server_as_remote(
    repository: Any, bucket: tuple[str, dict[str, str]]
) -> None:
    url, environment = bucket
    settings = ("add -d storage s3://storage/data", f"modify storage endpointurl {url}")
    share(repository, *settings, **environment)


def console(document: str) -> dict[str, list[str]]:
    """The commands of a document's consoles, and what each is shown to print."""
    shown = "".join(blocks(ROOT / document, "console"))
    parts = re.split(r"^\$ ", shown, flags=re.MULTILINE)
    told = [part.splitlines() for part in parts if part]
    return {command: lines for command, *lines in told}


def test_a_promoted_model_is_fetched_by_its_stage(repository: Any, tmp_path: Path) -> None:
    store, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert stages_run(repository.run("dvc", "repro", "train"))[-1] == "train"
    promoted = (repository.path / "models/model.keras").read_bytes()
    origin = tmp_path / "origin"
    for command in (
        f"dvc remote add -d store {store}",
        "git add -A",
        "git commit -qm results",
        f"git clone -q --bare . {origin}",
        f"git remote add origin {origin}",
    ):
        assert repository.run(*command.split()).code == 0, command
    shown = console("docs/using-the-model.md")
    fetched = shown.pop("dvc artifacts get REPOSITORY classifier --stage prod")
    for text, lines in shown.items():
        done = repository.run(*shlex.split(text))
        assert done.code == 0, done.out + done.err
        said = (done.out + done.err).splitlines()
        assert [line for line in lines if line not in said] == [], text
    tags = repository.run("git", "ls-remote", "--tags", "origin").out
    assert {"refs/tags/classifier@v0.0.1", "refs/tags/classifier#prod#1"} <= set(tags.split())
    repository.edit("params.yaml", "epochs: 60", "epochs: 1")
    assert stages_run(repository.run("dvc", "repro", "train")) == ["train"]
    repository.run("git", "commit", "-qam", "another model")
    bare = tmp_path / "bare"  # without a cache, so that the file comes from the remote
    assert repository.run("git", "clone", "-q", "--bare", ".", str(bare)).code == 0
    get = ["dvc", "artifacts", "get", str(bare), "classifier", "--stage", "prod"]
    done = dataclasses.replace(repository, path=elsewhere).run(*get)
    assert done.code == 0, done.out + done.err
    assert (done.out + done.err).splitlines()[-1:] == fetched
    assert (elsewhere / "model.keras").read_bytes() == promoted
    assert (repository.path / "models/model.keras").read_bytes() != promoted
