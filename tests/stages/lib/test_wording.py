import math

from stages.lib import wording


def test_a_number_with_its_noun() -> None:
    assert wording.counted(1, "image") == "1 image"
    assert wording.counted(10000, "image") == "10,000 images"
    assert wording.counted(2, "class") == "2 classes"


def test_a_proportion() -> None:
    assert wording.percent(0.97791) == "97.79\N{NO-BREAK SPACE}%"
    assert wording.percent(1, 0) == "100\N{NO-BREAK SPACE}%"
    assert wording.percent(math.nan) == "–"
