"""Whether a change of a source file is one of comments, docstrings or layout alone."""

import ast
import hashlib
from pathlib import Path

from tools.lib.git import git

_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_DEPTH = 200  # commits of a file that are looked through


def same_code(root: Path, path: str, digest: str) -> bool:
    """Whether a file does the same as the version in Git whose MD5 is ``digest``.

    Args:
        root: The top folder of the repository.
        path: The file, relative to it.
        digest: The MD5 of the content of the other version.
    """
    file = root / path
    if not file.is_file():
        return False
    before, now = _content(root, path, digest), file.read_bytes()
    return before is not None and b"\r" not in now and equal(before, now)


def equal(one: bytes, other: bytes) -> bool:
    """Whether two sources differ in comments, docstrings and layout alone.

    Docstrings count when the code looks at them.
    """
    docstrings = b"__doc__" in one + other or b"getdoc" in one + other
    try:
        return _code(one, docstrings) == _code(other, docstrings)
    except SyntaxError:
        return False


def _code(source: bytes, docstrings: bool) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and not docstrings and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def _content(root: Path, path: str, digest: str) -> bytes | None:
    """The version of a file that has an MD5: the one staged, the one of HEAD, or an older one."""
    limit = f"--max-count={_DEPTH}"
    log = git("log", limit, "--format=%H", "--", path, folder=root).stdout.decode()
    names = "".join(f"{revision}:./{path}\n" for revision in ("", "HEAD", *log.split()))
    answer = git("cat-file", "--batch", folder=root, text=names.encode()).stdout
    while answer:
        header, _, rest = answer.partition(b"\n")
        size = int(header.split()[-1]) if b" blob " in header else -1
        content, answer = rest[: max(size, 0)], rest[size + 1 :]
        if hashlib.md5(content, usedforsecurity=False).hexdigest() == digest:
            return content
    return None
