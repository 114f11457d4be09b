"""How tools end."""

import subprocess
import sys

import pytest

from stages.lib.core.errors import UserError
from tests.conftest import ROOT
from tools.lib import command


def raising(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("params.yaml: x.\nMend it."), 1, "ERROR: params.yaml: x.\nMend it.\n"),
        (
            OSError(28, "No space left", "a"),
            1,
            "ERROR: a: No space left.\nFree some space and run ",
        ),
        (MemoryError(), 1, "ERROR: out of memory: "),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_are_told_without_a_traceback(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.ended(lambda: raising(error)) == status
    assert capsys.readouterr().err.startswith(said)


def test_the_status_is_that_of_the_work_and_a_mistake_of_the_program_stays_one() -> None:
    assert command.ended(lambda: 3) == 3
    assert command.ended(lambda: None) == 0
    with pytest.raises(KeyError):
        command.ended(lambda: raising(KeyError("x")))


def test_a_reader_that_goes_away_and_a_console_without_a_letter_do_no_harm() -> None:
    work = "lambda: [print('\\u82b1 ' * 9) for _ in range(99999)] and 0"
    code = f"import sys\nfrom tools.lib import command\nsys.exit(command.ended({work}))"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "", "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"? ? ?")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
