"""Every file that a stage reads, damaged: ``python -m tests.faults.damage STAGE FOLDER``.

The folder is an empty one. The last line printed is JSON: the damages by file, and each after which
there was neither an error of two lines that names the file nor the result of the whole one.
"""

import itertools
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.faults.counts import ALL
from tests.faults.harness import Trial, tree
from tests.faults.prepared import read_by

CONFIGURATION = ["params.yaml", "datasets.yaml", "weights.yaml", "environment.yaml"]
# A changed number in a text may be as good a number: what matters is that nothing breaks
TEXTS = (".yaml", ".csv", ".json")
EVERY = {} if ALL else {"plot": 3}  # plot draws for a second what it can draw

OTHER_TYPES = {
    "empty": b"",
    "zeros": bytes(1000),
    "a text": b"not what it should be\n",
    "JSON": b'{"a": [1, null]}',
    "a JSON list": b"[]",
    "YAML of one number": b"12\n",
    "deep YAML": b"[" * 3000,
    "an unknown YAML tag": b"a: !!python/object/apply:os.system ['exit 3']\n",
    "not UTF-8": b"\xff\xfe\x00a",
    "an empty zip": b"PK\x05\x06" + bytes(18),
    "half a PNG": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "gzip of nothing": bytes.fromhex("1f8b08000000000002ff03000000000000000000"),
}


def damages(content: bytes, flips: int) -> Iterator[tuple[str, bytes | None]]:
    """Names and contents: bits that flip, ends that are cut off, other types; None is a folder."""
    for at in range(0, len(content), max(1, len(content) // flips)):
        bit = 1 << at % 8
        yield (
            f"bit {bit} of byte {at}",
            content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :],
        )
    for size in (1, len(content) // 3, len(content) // 2, len(content) - 1):
        yield f"cut to {size} bytes", content[:size]
    yield from OTHER_TYPES.items()
    yield "a folder", None


def names(file: str) -> list[str]:
    """What an error may name: the file, or what no longer fits a changed configuration."""
    return [*CONFIGURATION, "SHA-256"] if file in CONFIGURATION else [file, Path(file).name]


def strike(trial: Trial, name: str, content: bytes | None) -> list[str]:
    """What was not as promised with one damaged file."""
    shutil.rmtree(trial.folder, ignore_errors=True)
    shutil.copytree(trial.prepared, trial.folder)
    path = trial.folder / name
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    trial.run(None, fresh=False)
    log = trial.log.read_text(errors="replace")
    now = tree(trial.folder)
    if trial.code == 0:
        same = all(trial.part(now, o) == trial.part(trial.after, o) for o in trial.outputs)
        return [] if same or name.endswith(TEXTS) else ["another result"]
    problems = []
    message = log.partition("ERROR: ")[2].strip()
    if trial.code != 1 or "Traceback" in log or not 1 <= len(message.splitlines()) <= 2:
        problems.append(f"ended with {trial.code}: {log[-1500:]}")
    elif not any(word in message for word in names(name)):
        problems.append(f"does not name it: {message}")
    if any(".tmp" in path for path in now):
        problems.append("a temporary file is left")
    return problems


def main(name: str, work: str, flips: str) -> None:
    """Damages each file that the stage reads in each way, and prints the counts."""
    trial = Trial(name, Path(work), draws=True)
    struck: dict[str, int] = {}
    problems = []
    every = EVERY.get(name, 1)
    for at, file in enumerate(read_by(name, trial.prepared)):
        whole = (trial.prepared / file).read_bytes()
        some = itertools.islice(damages(whole, int(flips)), at % every, None, every)
        for damage, content in some:
            struck[file] = struck.get(file, 0) + 1
            where = f"{name}: {file}: {damage}"
            problems += [f"{where}: {problem}" for problem in strike(trial, file, content)]
    print(json.dumps({"struck": struck, "problems": problems}))


if __name__ == "__main__":
    main(*sys.argv[1:])
