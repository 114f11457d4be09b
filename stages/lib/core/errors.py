"""The error that a user can mend, and what is said about one that ends a stage."""

import errno
import sys


class UserError(Exception):
    """A mistake in the configuration, the data or the surroundings that a user can mend.

    The message is one or two lines: the file or key, what was expected, what was found, and the
    next step. ``stages.lib.core.stage.run`` prints it without a traceback and exits with status 1.
    """


def message(error: BaseException) -> str:
    """What to say about an error of the user's or of the system's; empty for any other."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        what = str(error) or "Python asked for more than there is"
        return f"out of memory: {what}.\nEnd other programs, or set smaller sizes, and run again."
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        step = "Free some space" if error.errno == errno.ENOSPC else "Mend that"
        return f"{place}{error.strerror or error}.\n{step} and run again."
    if isinstance(error, Warning):
        return (
            "a warning was made an error by PYTHONWARNINGS or -W: "
            f"{' '.join(str(error).split())}.\nRun again without that setting."
        )
    return ""


def message_at_import(error: BaseException) -> str:
    """What to say about an error that ends a stage before its work; empty for one of its code."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        library = error.name.partition(".")[0]
        if library != "stages":
            return (
                f"{library}: not installed for {sys.executable}.\n"
                "Run `pip install -r requirements.txt` in the environment that runs the stages; a "
                "package of your own belongs in that file and in environment.yaml."
            )
    return message(error)
