"""Small parts of a comparison's tables and record."""

from tools.compare import markdown, record
from tools.compare.comparison import ABSENT


def test_a_table_aligns_the_columns_that_say_so() -> None:
    assert markdown.table(["a", "b", "c"], [["1", "2", "3"]], "lr") == (
        "| a | b | c |\n| --- | ---: | --- |\n| 1 | 2 | 3 |"
    )


def test_a_side_that_lacks_a_key_is_left_out_and_null_is_not() -> None:
    values = {"x": (ABSENT, 1), "y": (None, 2), "z": (3, ABSENT)}
    assert record._changes(values) == {
        "x": {"after": 1},
        "y": {"before": None, "after": 2},
        "z": {"before": 3},
    }
