"""What a stage reads is what DVC reads, or it is refused."""

import io
import math
from typing import Any

import pytest
import ruamel.yaml

from stages.lib.core import yaml_file
from stages.lib.core.errors import UserError

# Each as it may stand after `key: `
SCALARS = (
    """
1|0|-0|+5|12|010|00|0o10|0O10|0x1F|0X1F|0b11|1_000|_1|1__0|1:1|1:30:15|190:20:30.15|1:1.5|-1:1
1.|1.5|.5|-.5|+.5|1e3|1E3|1e-3|1.0e+3|.1e2|.1e-2|1e|e1|1.5.2|00.5|1_0.5|.inf|-.inf|.Inf|.nan|.NaN
inf|nan|infinity|1e400|99999999999999999999|true|True|TRUE|tRuE|false|yes|Yes|no|NO|on|off|y|n
null|Null|~||2025-01-31|2025-1-1|2025-02-30|2025-01-31 10:00:00|2025-01-31T10:00:00Z|12:30|"1"
'010'|"yes"|text|a b|-|--|+|.|..|0.|0e0|1e+3|<<|[1, 010]|{a: yes}|!!str 5|!!int 5|!!float 5
!!bool "abc"|!!int "x"|!!timestamp "abc"|!!binary aGk=|!!set {a}|!!python/name:os.system|0xg|0b12
08|09.5|1e5_0|...|4e2.5|1,5
""".strip()
    .replace("\n", "|")
    .split("|")
)


def by_dvc(text: str) -> Any:
    """What DVC's parser makes of a text."""
    parser = ruamel.yaml.YAML(typ="safe", pure=True)
    return parser.load(io.StringIO(text))


def parsed(text: str) -> tuple[Any, str]:
    """What is read, or the message, which is two lines."""
    try:
        return yaml_file.parse(text, "made.yaml"), ""
    except UserError as error:
        message = str(error)
    if len(message.splitlines()) != 2:
        pytest.fail(message)
    return None, message


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float) and math.isnan(ours):
        return math.isnan(theirs)
    return type(ours) is type(theirs) and bool(ours == theirs)


@pytest.mark.parametrize("scalar", SCALARS)
def test_a_value_is_what_dvc_reads_or_refused(scalar: str) -> None:
    text = f"key: {scalar}\n"
    ours, message = parsed(text)
    if message:
        assert message.startswith("made.yaml: ")
        return
    assert same(ours["key"], by_dvc(text)["key"]), (ours, by_dvc(text))


@pytest.mark.parametrize(
    "scalar",
    [
        "5",
        "-3",
        "0.5",
        "1e-3",
        "true",
        "false",
        "~",
        "text",
        "yes",
        "off",
        "'010'",
        "[1, 2]",
        "{a: b}",
    ],
)
def test_plain_values_are_not_refused(scalar: str) -> None:
    assert same(yaml_file.parse(f"key: {scalar}", "made.yaml"), by_dvc(f"key: {scalar}"))


@pytest.mark.parametrize("scalar", ["010", "1:1", "0x10", "1_000", ".inf", ".nan", "2025-01-31"])
def test_what_versions_of_yaml_read_differently_is_refused(scalar: str) -> None:
    with pytest.raises(UserError, match=r"line 2, column 6: .* is read differently elsewhere"):
        yaml_file.parse(f"a: 1\nkey: {scalar}\n", "made.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "key: " + "[" * 100_000,
        "key: " + "{a: " * 100_000,
        "\n".join(" " * depth + "a:" for depth in range(2000)),
        "- " * 50_000 + "x",
        'key: "\\ud800"',
        'key: "a\\rb"',
        'key: "\\x07"',
        "key: " + "x" * 100_001,
        "key: " + "9" * 5000,
        "&a key: *a",
        "a: &a [*a]",
    ],
)
def test_what_would_harm_later_is_refused_where_it_is_read(text: str) -> None:
    _, message = parsed(text)
    assert message or text == "&a key: *a"  # an alias that makes no circle does no harm
    assert len(message) < 400
