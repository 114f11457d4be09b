"""How the tools end: with an exit status, and errors of a user's in one or two lines."""

import io
import os
import sys
from collections.abc import Callable

from stages.lib.core import errors
from stages.lib.core.errors import UserError


def ended(work: Callable[[], int | None], interrupted: str = "Interrupted.") -> int:
    """The exit status of a tool's work, whose errors are said here.

    Args:
        work: Does it; gives the exit status, or None for 0.
        interrupted: What is said where it was interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # Windows, whose consoles lack some letters
    try:
        status = work() or 0
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (UserError, OSError, MemoryError) as error:
        print(f"ERROR: {errors.message(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    return status
