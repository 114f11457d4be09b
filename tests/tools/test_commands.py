"""The list of the commands, and what each says when it is asked for help."""

import contextlib
import importlib
import io
import runpy
import sys
from unittest import mock

import pytest

from tests.conftest import ROOT, Finished

# As other tests of this process import them
pytestmark = pytest.mark.filterwarnings("ignore:.* found in sys.modules:RuntimeWarning")

COMMANDS = importlib.import_module("tools.__main__").commands()


def run(module: str, *arguments: str) -> Finished:
    """What `python -m` does with a module, in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", [module, *arguments]),
        contextlib.chdir(ROOT),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Finished(code, out.getvalue(), err.getvalue())


def test_every_command_is_listed_with_what_it_does() -> None:
    done = run("tools")
    assert done.code == 0, done.err
    for name, text in COMMANDS.items():
        assert f"tools.{name} " in done.out
        assert text in done.out
        assert 20 < len(text) < 120
        assert "python -m" not in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_help_and_refuses_an_unknown_option(name: str) -> None:
    helped = run(f"tools.{name}", "--help")
    assert helped.code == 0, helped.err
    example = f"python -m tools.{name}"
    words = " ".join(helped.out.split())
    assert example in words
    assert f"Example: {example} " in words or name == "schema"  # which takes no argument
    refused = run(f"tools.{name}", "--no-such-option")
    assert refused.code == 2
    assert "Traceback" not in refused.err
