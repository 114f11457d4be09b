"""Outputs that are not what dvc.lock recorded, removed from the working folder and DVC's cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from stages.lib.core import pipeline, recorded


def run(root: Path) -> int:
    """Removes what is damaged, and says what to run next; the exit status."""
    cache = _cache(root)
    count = 0
    for entry in pipeline.load_lock(root).values():
        for out, digest in entry.outs.items():
            for path, expected, _ in recorded.differences(root / out, digest, cache):
                if path.exists():
                    _delete(path)
                    print(f"{path.relative_to(root).as_posix()}: removed, not what was recorded")
                    count += 1
                count += _remove(cache, expected)
            count += _damaged(cache, digest)
    print("Run `dvc repro`, which makes them again." if count else "ok: nothing is damaged")
    return 0


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _damaged(cache: Path, digest: str) -> int:
    """Removes an object of the cache whose content is not that of its name."""
    path = cache / digest[:2] / digest[2:]
    plain = digest.removesuffix(".dir")
    return _remove(cache, digest) if path.is_file() and recorded.md5(path) != plain else 0


def _remove(cache: Path, digest: str) -> int:
    path = cache / digest[:2] / digest[2:]
    if not digest or not path.is_file():
        return 0
    if recorded.md5(path) == digest.removesuffix(".dir"):
        return 0  # sound: DVC takes it from there
    path.unlink()
    print(f"{digest}: removed from DVC's cache, its content is another")
    return 1


def _cache(root: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"],
        cwd=root,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return root / (done.stdout.strip() or ".dvc/cache") / "files/md5"
