"""What several tests share: made data sets, a server, copies of the repository, ways to run."""

import gzip
import hashlib
import http.server
import os
import runpy
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import yaml

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Finished:
    """What a command left: exit status, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The error as the house rules want it: status 1, one or two lines, no traceback."""
        assert self.code == 1, self
        assert "Traceback" not in self.err, self.err
        message = self.err.partition("ERROR: ")[2].rstrip("\n")
        assert 1 <= len(message.splitlines()) <= 2, self.err
        return message


def execute(command: list[str], folder: Path, **environment: str) -> Finished:
    """Runs a command with this Python first on the path; None of the caller's data settings."""
    inherited = {
        name: text
        for name, text in os.environ.items()
        if name not in ("DATASET_CACHE", "DATASET_MIRROR", "TF_CONFIG")
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**inherited, "PATH": path, "PYTHONUTF8": "1", **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def unprivileged() -> tuple[str, ...]:
    """The words before a command that is to run as a user whom permissions stop, or a skip."""
    if sys.platform == "win32":
        pytest.skip("Windows has no such permissions")
    if os.geteuid() != 0:
        return ()
    # Root stays who it is, for nobody else may be able to enter the folders of this Python
    words = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    if not shutil.which(words[0]) or execute([*words, "true"], Path("/")).code:
        pytest.skip("root cannot give up its privileges here")
    return words


@pytest.fixture(scope="session")
def run() -> Callable[..., Finished]:
    """``run(command, folder, NAME="value")`` runs a command with more environment variables."""
    return execute


@dataclass(frozen=True)
class Repository:
    """A copy of this repository's files as a Git repository of one commit, with its own cache."""

    path: Path
    environment: dict[str, str]

    def run(self, *command: str, **environment: str) -> Finished:
        """Runs a command in the copy."""
        return execute(list(command), self.path, **{**self.environment, **environment})

    def edit(self, name: str, old: str, new: str) -> None:
        """Replaces a text that occurs once in a file."""
        path = self.path / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} holds {old!r} {text.count(old)} times"
        path.write_text(text.replace(old, new), encoding="utf-8", newline="\n")


@pytest.fixture(scope="session")
def _committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that Git tracks or would track, committed."""
    folder = tmp_path_factory.mktemp("committed") / "repository"
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in set(listing.stdout.decode().split("\0")) - {""}:
        if (ROOT / name).is_file():  # and not deleted since
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "All"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def copied(repository: Path, folder: Path) -> Repository:
    """A copy of a repository in a folder, with caches of its own beside it."""
    path = folder / "repository"
    shutil.copytree(repository, path, symlinks=True)
    return Repository(
        path,
        {
            "DATASET_CACHE": str(folder / "cache"),
            "DVC_SITE_CACHE_DIR": str(folder / "dvc"),
            "GIT_AUTHOR_NAME": "Test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "Test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
        },
    )


@pytest.fixture
def repository(_committed: Path, tmp_path: Path) -> Repository:
    """A fresh copy of this repository, in which a test may do as it likes."""
    return copied(_committed, tmp_path)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder that holds the real data sets, or a skip that says where it was looked for."""
    given = os.environ.get("DATASET_MIRROR", "")
    for folder in (
        Path(given) if given and "://" not in given else None,
        ROOT / "../shared/datasets",
    ):
        if folder and (folder / "mnist").is_dir():
            return folder.resolve()
    pytest.skip("no real data: DATASET_MIRROR is no folder with mnist/, nor is ../shared/datasets")


def idx_bytes(array: npt.NDArray[Any]) -> bytes:
    """An IDX file of unsigned bytes, by the description of the format."""
    header = struct.pack(">HBB", 0, 0x08, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def write_idx() -> Callable[..., Path]:
    """``write_idx(path, array)`` writes an IDX file, gzipped where the name ends in .gz."""

    def write(path: Path, array: npt.NDArray[Any]) -> Path:
        content = idx_bytes(array)
        path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
        return path

    return write


@dataclass
class Project:
    """The configuration of a made data set, ``tiny``, in the working folder.

    Attributes:
        path: The working folder.
        mirror: A folder to serve as DATASET_MIRROR; it holds the published files.
        params: The content of params.yaml.
        datasets: The content of datasets.yaml.
        weights: The content of weights.yaml.
    """

    path: Path
    mirror: Path
    params: dict[str, Any]
    datasets: dict[str, Any]
    weights: dict[str, Any]

    @property
    def tiny(self) -> dict[str, Any]:
        """The entry of the made data set."""
        entry: dict[str, Any] = self.datasets["tiny"]
        return entry

    def publish(self, role: str, content: bytes, name: str | None = None) -> None:
        """Makes ``content`` a published file of the data set, with its right SHA-256."""
        name = name or self.tiny["files"][role]["name"]
        path = self.mirror / "tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        self.tiny["files"][role] = {"name": name, "sha256": digest}

    def save(self) -> None:
        """Writes params.yaml and the catalogues."""
        for name, content in {
            "params.yaml": self.params,
            "datasets.yaml": self.datasets,
            "weights.yaml": self.weights,
        }.items():
            text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
            (self.path / name).write_text(text, encoding="utf-8")

    def put_raw(self) -> None:
        """Puts the published files into data/raw/, as download does."""
        shutil.copytree(self.mirror / "tiny", self.path / "data/raw", dirs_exist_ok=True)

    def left_over(self) -> list[str]:
        """The temporary files that are still there."""
        return [str(path) for path in self.path.rglob("*") if ".tmp" in path.name]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A working folder with a data set of 20 training and 5 test images, 2 x 3, of 2 classes.

    Training image n has the pixels 6n to 6n + 5 and the label n % 2; test image n the same pixels,
    each row from right to left.
    """
    path = tmp_path / "project"
    (path / "data/embedded").mkdir(parents=True)
    shutil.copyfile(ROOT / "environment.yaml", path / "environment.yaml")
    monkeypatch.chdir(path)
    monkeypatch.setenv("DATASET_CACHE", str(path / "cache"))
    monkeypatch.setenv("DATASET_MIRROR", str(path / "mirror"))
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["dataset"] = "tiny"
    entry = {
        "title": "A made data set",
        "licence": "CC0",
        "citation": "Nobody (2025).",
        "format": "idx",
        "urls": [],
        "files": {},
        "pixel_max": 255,
        "class_names": {"en": ["even", "odd"], "zh": ["偶", "奇"]},
    }
    none = yaml.safe_load((ROOT / "weights.yaml").read_text(encoding="utf-8"))["none"]
    made = Project(path, path / "mirror", params, {"tiny": entry}, {"none": none})
    for role, array in {
        "train_images": np.arange(120).reshape(20, 2, 3),
        "train_labels": np.arange(20) % 2,
        "test_images": np.arange(30).reshape(5, 2, 3)[:, :, ::-1],
        "test_labels": np.array([0, 1, 1, 0, 1]),
    }.items():
        content = gzip.compress(idx_bytes(array), mtime=0)
        made.publish(role, content, f"{role}.gz")
    made.save()
    return made


@pytest.fixture
def run_stage(capfd: pytest.CaptureFixture[str]) -> Callable[[str], Finished]:
    """``run_stage("normalize")`` runs a stage as ``python -m`` would, but in this process."""

    def run(name: str) -> Finished:
        capfd.readouterr()
        code = 0
        try:
            runpy.run_path(str(ROOT / "stages" / f"{name}.py"), run_name="__main__")
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capfd.readouterr()
        return Finished(code, out, err)

    return run


@dataclass(frozen=True)
class Answer:
    """What the server says to one request: it may promise more bytes than it sends."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    promised: int | None = None


@dataclass
class Server:
    """A web server on this machine.

    Attributes:
        url: Its address, without a slash at the end.
        answers: By path, what it says to one request after another; the last one again and again.
        requests: The paths that were asked for.
    """

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    """A web server that says what a test lets it say, and 404 to everything else."""
    served = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout: ClassVar[float] = 5

        def do_GET(self) -> None:
            served.requests.append(self.path)
            known = served.answers.get(self.path) or [Answer(b"none here", 404)]
            answer = known.pop(0) if len(known) > 1 else known[0]
            self.send_response(answer.status)
            size = len(answer.body) if answer.promised is None else answer.promised
            for name, text in {"Content-Length": str(size), **answer.headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        served.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield served
        listening.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def tensorflow() -> None:
    """TensorFlow started as the stages start it, with one thread."""
    from stages.lib import runtime

    with runtime.starting():
        import tensorflow as _  # noqa: F401 starting it is the purpose
    runtime.configure(threads=1)
