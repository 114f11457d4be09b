"""Made-up and mutated files: a stage gives its result or an error of two lines, in bounded memory.

The stages are called as they are, so that what reads a file may move. The slow tests draw other
examples each time, and many more: FUZZ_EXAMPLES of each. With ``-s`` they print how many they were.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages import download, normalize, plot
from stages.lib import model_file, split_file
from stages.lib.core import files, yaml_file
from stages.lib.core.errors import UserError
from stages.lib.training import checkpoint
from tests.conftest import ROOT, idx_bytes
from tests.faults.prepared import prepare

HEADROOM = 3 << 30  # bytes of address space that a test may take beyond what it has
LONGEST = 5.0  # seconds of a processor that an example may take
MANY = int(os.environ.get("FUZZ_EXAMPLES", "3000"))  # of each slow test

IDX = idx_bytes(np.arange(120).reshape(20, 2, 3))
ARRAYS: dict[str, Any] = {
    "x_train": np.arange(120, dtype=np.uint8).reshape(20, 2, 3),
    "y_train": np.arange(20) % 2,
    "x_test": np.arange(30, dtype=np.uint8).reshape(5, 2, 3),
    "y_test": np.array([0, 1, 1, 0, 1]),
}


@pytest.fixture(autouse=True)
def _bounded_memory() -> Iterator[None]:
    try:
        import resource
    except ImportError:  # Windows
        yield
        return
    status = Path("/proc/self/statm")
    if not status.exists():  # macOS
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(status.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + HEADROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def fuzz(strategy: st.SearchStrategy[Any], examples: int) -> Callable[..., Any]:
    """Runs a test on the same few examples each time, and on many new ones among the slow tests."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize(
            "thorough", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "many"]
        )
        def fuzzed(thorough: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
            monkeypatch.chdir(tmp_path)

            executions = 0

            @settings(
                max_examples=MANY if thorough else examples,
                derandomize=not thorough,
                deadline=None,  # by the clock, that is: it depends on what else a machine does
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(strategy)
            def run(example: Any) -> None:
                nonlocal executions
                executions += 1
                started = time.process_time()
                test(tmp_path, example)
                assert time.process_time() - started < LONGEST

            run()
            print(f"\n{test.__name__}: {executions} executions")

        fuzzed.__name__, fuzzed.__doc__ = test.__name__, test.__doc__
        return fuzzed

    return decorate


def refused_or_read(read: Callable[[], object]) -> None:
    """Reads what may be broken; an error is one that a user can act on."""
    message = "none"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            read()
    except UserError as error:
        message = str(error)
    assert 1 <= len(message.splitlines()) <= 2, message


@st.composite
def mutated(draw: st.DrawFn, contents: list[bytes]) -> bytes:
    """A valid content with a few bytes changed, cut out or doubled, or no such content at all."""
    content = draw(st.sampled_from([*contents, b""]))
    if not content:
        return draw(st.binary(max_size=300))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        size = draw(st.integers(0, 8))
        piece = draw(st.binary(max_size=8) | st.just(content[at : at + 40]))
        content = content[:at] + piece + content[at + size :]
    return content


def archive(arrays: dict[str, Any], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An .npz archive of these members: arrays, or bytes that are none."""
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", compression) as target:
        for name, array in arrays.items():
            content = io.BytesIO()
            if isinstance(array, bytes):
                content.write(array)
            else:
                np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
            target.writestr(f"{name}.npy", content.getvalue())
    return result.getvalue()


def normalized(folder: Path, content: bytes, role: str) -> None:
    """Normalizes a data set of which one file has this content, and the SHA-256 of it."""
    folder = folder / "made"
    if not folder.exists():
        prepare("normalize", folder)
        os.chdir(folder)
    catalogue = yaml.safe_load((folder / "datasets.yaml").read_text(encoding="utf-8"))
    entry = catalogue["tiny"]
    digest = hashlib.sha256(content).hexdigest()
    if role in ("arrays", "archive"):
        made = "npz" if role == "arrays" else "images"
        entry |= {"format": made, "files": {role: {"name": "tiny.file", "sha256": digest}}}
    else:
        entry["files"][role]["sha256"] = digest
    (folder / "data/raw" / entry["files"][role]["name"]).write_bytes(content)
    (folder / "datasets.yaml").write_text(yaml.safe_dump(catalogue), encoding="utf-8")
    refused_or_read(lambda: normalize.main(normalize.read_settings()))


@fuzz(mutated([IDX, gzip.compress(IDX, mtime=0)]), 60)
def test_idx_files(folder: Path, content: bytes) -> None:
    normalized(folder, content, "train_images")


@fuzz(mutated([archive(ARRAYS), archive(ARRAYS, zipfile.ZIP_STORED)]), 60)
def test_npz_archives_of_ones_own(folder: Path, content: bytes) -> None:
    normalized(folder, content, "arrays")


def image_archives() -> list[bytes]:
    """Six image files of two classes and three kinds: a zip with a table, a tar, a tar.gz."""
    files = {}
    for number in range(6):
        pixels = Image.fromarray(np.full((4, 4), 20 * number, np.uint8))
        stream = io.BytesIO()
        kind = ("PNG", "JPEG", "BMP")[number % 3]
        pixels.save(stream, kind)
        files[f"{('even', 'odd')[number % 2]}/{number}.{kind.lower()}"] = stream.getvalue()
    table = "path,label\n" + "".join(f"{name},{name.partition('/')[0]}\n" for name in files)
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for name, content in {**files, "labels.csv": table.encode()}.items():
            archive.writestr(name, content)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return [zipped.getvalue(), tarred.getvalue(), gzip.compress(tarred.getvalue(), mtime=0)]


@fuzz(mutated(image_archives()), 40)
def test_archives_of_image_files(folder: Path, content: bytes) -> None:
    normalized(folder, content, "archive")


def split_bytes() -> bytes:
    path = Path("whole.npz")
    images = np.linspace(0, 1, 48, dtype=np.float32).reshape(3, 4, 4)
    split_file.write(path, split_file.Split(images, np.arange(3), ["a", "b", "c"], [], 255.0))
    return path.read_bytes()


@fuzz(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4))), 150)
def test_normalized_splits(folder: Path, edits: list[tuple[float, bytes]]) -> None:
    content = split_bytes()
    for fraction, piece in edits:
        at = int(fraction * len(content))
        content = content[:at] + piece + content[at + len(piece) :]
    path = Path("split.npz")
    path.write_bytes(content)
    refused_or_read(lambda: split_file.read(path))
    refused_or_read(lambda: split_file.read_first(path, 2))


PARAMS = (ROOT / "params.yaml").read_bytes()
DATASETS = (ROOT / "datasets.yaml").read_bytes()
WEIGHTS = (ROOT / "weights.yaml").read_bytes()
SCALARS = """\
010|1:1|yes|1e400|-.inf|.nan|0x1F|1_000|~|''|2001-01-01|1e-3|99999999999999999999|[]|{}|[1, [2]]|*a
&a 1|!!bool abc|!!timestamp abc|!!int x|!!binary x|'\\u0000'|"\\ud800"|? a|<<: 1|[[[[[[1]]]]]]"""


@st.composite
def yaml_text(draw: st.DrawFn, text: bytes) -> bytes:
    """A configuration with a value replaced, or with bytes changed."""
    if draw(st.booleans()):
        return draw(mutated([text]))
    lines = text.decode().splitlines()
    at = draw(st.sampled_from([n for n, line in enumerate(lines) if ": " in line]))
    scalar = draw(
        st.sampled_from(re.split(r"[|\n]", SCALARS))
        | st.text(max_size=10)
        | st.floats().map(str)
        | st.integers().map(str)
    )
    lines[at] = lines[at].partition(": ")[0] + ": " + scalar
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def configured(folder: Path, name: str, content: bytes) -> None:
    for file in ("params.yaml", "datasets.yaml", "weights.yaml", "environment.yaml"):
        (folder / file).write_bytes((ROOT / file).read_bytes())
    (folder / name).write_bytes(content)
    refused_or_read(download.read_settings)
    refused_or_read(normalize.read_settings)


@fuzz(yaml_text(PARAMS), 40)
def test_params(folder: Path, content: bytes) -> None:
    configured(folder, "params.yaml", content)


@fuzz(yaml_text(DATASETS), 40)
def test_catalogues(folder: Path, content: bytes) -> None:
    configured(folder, "datasets.yaml", content)


@fuzz(yaml_text(WEIGHTS), 40)
def test_catalogues_of_weights(folder: Path, content: bytes) -> None:
    configured(folder, "weights.yaml", content)


SHORT = "019.eE+-_:xobnaTZ#'[]{}\"!|>%@~=,? \t\xa0\ufeff"
LONG = "nan|.inf|.NaN|NULL|null|yes|No|on|TRUE|007|12|2001-01-01|1:30|&a|*a|!!int|!!str|<<|\\u0041"
TOKENS = [*SHORT, *re.split(r"\|", LONG)]
WORDS = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=5)


@fuzz(WORDS, 60)
def test_a_value_is_what_dvc_reads_or_one_of_them_refuses(folder: Path, tokens: list[str]) -> None:
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]
    from dvc.utils.serialize import parse_yaml  # type: ignore[import-untyped]

    scalar = "".join(tokens)
    for form in ("k: {}\n", "k: [{}]\n", "k:\n  - {}\n", "k: {{a: {}}}\n"):
        text = form.format(scalar)
        try:
            ours, theirs = yaml_file.parse(text, "made.yaml"), parse_yaml(text, "made.yaml")
        except (UserError, DvcException):
            continue
        assert json.dumps(ours) == json.dumps(theirs), text


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@fuzz(st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=5), 60)
def test_tables_survive_a_round(folder: Path, rows: list[list[str]]) -> None:
    path = folder / "table.csv"
    files.write_csv(path, ["a", "b"], rows)
    if any("\r" in cell or "\0" in cell for row in rows for cell in row):
        refused_or_read(lambda: files.read_csv(path))
    else:
        assert files.read_csv(path) == [dict(zip("ab", row, strict=True)) for row in rows]


@fuzz(mutated([b"epoch,loss\n1,0.5\n2,0.25\n", b'a,"b\nc",d\n1,2,3\n']), 60)
def test_broken_tables(folder: Path, content: bytes) -> None:
    path = folder / "table.csv"
    path.write_bytes(content)
    refused_or_read(lambda: files.read_csv(path))


RESULTS = tuple(path.as_posix() for path in plot.INPUTS if path.suffix in (".csv", ".json"))


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, list[tuple[float, int, bytes]]]:
    """One of the tables and records that plot reads, and what is changed in it."""
    pieces = st.sampled_from([b"", b"-", b"9", b"nan", b",", b"\n", b'"', b"null", b"[", b"1e999"])
    change = st.tuples(st.floats(0, 1), st.integers(0, 4), pieces | st.binary(max_size=4))
    return draw(st.sampled_from(RESULTS)), draw(st.lists(change, max_size=4))


@fuzz(edits(), 40)
def test_results_of_earlier_stages(
    folder: Path, example: tuple[str, list[tuple[float, int, bytes]]]
) -> None:
    name, changes = example
    folder = folder / "made"
    if not folder.exists():
        prepare("plot", folder)
        os.chdir(folder)
    path = folder / name
    content = whole = path.read_bytes()
    for fraction, size, piece in changes:
        at = int(fraction * len(content))
        content = content[:at] + piece + content[at + size :]
    path.write_bytes(content)
    test = split_file.read(plot.TEST_IMAGES)
    refused_or_read(lambda: plot.read_results(plot.Params(8, 6, 6, "en"), test))
    path.write_bytes(whole)


class Variable:
    """What a checkpoint sees of a variable of Keras's."""

    def __init__(self) -> None:
        self.value = np.zeros((2, 3), np.float32)

    def numpy(self) -> npt.NDArray[np.float32]:
        return self.value

    def assign(self, value: npt.NDArray[np.float32]) -> None:
        assert (value.shape, value.dtype) == (self.value.shape, self.value.dtype)
        self.value = value


def kept() -> bytes:
    """A checkpoint as it is written."""
    checkpoint.Checkpoint("whole").save([Variable()], [{"loss": 0.5}])
    return (checkpoint.FOLDER / "whole.npz").read_bytes()


@fuzz(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4))), 100)
def test_checkpoints(folder: Path, edits: list[tuple[float, bytes]]) -> None:
    content = kept()
    for fraction, piece in edits:
        at = int(fraction * len(content))
        content = content[:at] + piece + content[at + len(piece) :]
    (checkpoint.FOLDER / "damaged.npz").write_bytes(content)
    with contextlib.redirect_stdout(io.StringIO()):
        history = checkpoint.Checkpoint("damaged").restore([Variable()])
    assert isinstance(history, list)


@st.composite
def damaged_models(draw: st.DrawFn) -> tuple[str, list[tuple[float, int, bytes]]]:
    """Which part of a model's file is changed, the file itself or a member of it, and how."""
    words = [b"", b"null", b"-1", b"0", b"9" * 12, b'"Lambda"', b'"keras.src"', b"[", b"}", b"true"]
    pieces = st.sampled_from(words) | st.binary(max_size=4)
    change = st.tuples(st.floats(0, 1), st.integers(0, 6), pieces)
    part = draw(st.sampled_from(["", "config.json", "metadata.json", "model.weights.h5"]))
    return part, draw(st.lists(change, min_size=1, max_size=4))


def model_members() -> dict[str, bytes]:
    """The members of a small model's file, as train writes it."""
    import keras

    path = Path("whole.keras")
    if not path.exists():
        keras.utils.set_random_seed(1)
        layers = keras.layers
        model = keras.Sequential([keras.Input((4, 4)), layers.Flatten(), layers.Dense(2)])
        model_file.save(model, path)
    with zipfile.ZipFile(path) as whole:
        return {name: whole.read(name) for name in whole.namelist()}


@pytest.mark.usefixtures("tensorflow")
@fuzz(damaged_models(), 25)
def test_model_files(folder: Path, example: tuple[str, list[tuple[float, int, bytes]]]) -> None:
    from stages import evaluate

    part, changes = example
    members = model_members()
    content = members.get(part) or Path("whole.keras").read_bytes()
    for fraction, size, piece in changes:
        at = int(fraction * len(content))
        content = content[:at] + piece + content[at + size :]
    path = folder / "model.keras"
    if part:
        with zipfile.ZipFile(path, "w") as damaged:
            for name, member in {**members, part: content}.items():
                damaged.writestr(name, member)
    else:
        path.write_bytes(content)
    images = np.zeros((3, 4, 4), np.float32)
    test = split_file.Split(images, np.arange(3) % 2, ["a", "b"], [], 255.0)
    refused_or_read(lambda: evaluate.load_model(path, test))


def test_a_checkpoint_with_a_bad_header_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint.FOLDER.mkdir()
    (checkpoint.FOLDER / "damaged.npz").write_bytes(b"PK\x03\x04" + bytes(200))
    assert checkpoint.Checkpoint("damaged").restore([Variable()]) == []
    assert "damaged.npz: damaged" in capsys.readouterr().err
