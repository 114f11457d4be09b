"""Git as the tools ask it: one command at a time, its answer as bytes."""

import subprocess
from pathlib import Path

from stages.lib.core.errors import UserError


def git(
    *arguments: str, folder: Path | None = None, text: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """The finished command, whatever its exit status.

    Args:
        arguments: What follows ``git``.
        folder: Where it runs; the present folder if None.
        text: Its standard input.

    Raises:
        UserError: Git is not installed.
    """
    try:
        return subprocess.run(  # noqa: S603 git from PATH, no shell
            ["git", *arguments],  # noqa: S607
            cwd=folder,
            input=text,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise UserError("git: not found.\nInstall Git, or put it on PATH, and try again.") from None
