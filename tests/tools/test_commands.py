"""The list of the commands, and what each says when it is asked for help."""

import importlib
import subprocess
import sys

import pytest

from tests.conftest import ROOT

COMMANDS = importlib.import_module("tools.__main__").commands()


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_every_command_is_listed_with_what_it_does() -> None:
    done = run("tools")
    assert done.returncode == 0, done.stderr
    for name, text in COMMANDS.items():
        assert f"tools.{name} " in done.stdout
        assert text in done.stdout
        assert 20 < len(text) < 120
        assert "python -m" not in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_help_and_refuses_an_unknown_option(name: str) -> None:
    helped = run(f"tools.{name}", "--help")
    assert helped.returncode == 0, helped.stderr
    example = f"python -m tools.{name}"
    words = " ".join(helped.stdout.split())
    assert example in words
    assert f"Example: {example} " in words or name == "schema"  # which takes no argument
    refused = run(f"tools.{name}", "--no-such-option")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
