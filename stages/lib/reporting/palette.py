"""The colours of all figures.

Source: Okabe and Ito (2008), "Color Universal Design", told apart by people with any common kind
of colour blindness; the red is their vermilion, darkened until text in it has 4.5:1 on white.
"""

CORRECT = "#0072b2"
INCORRECT = "#b8320a"
TRAINING = "#0072b2"
VALIDATION = "#c77700"
PRECISION = "#c77700"
RECALL = "#008a64"
INK = "#1f2328"
MUTED = "#59636e"
OTHER = "#b6bdc6"  # bars that are neither correct nor incorrect
LINE = "#d1d7de"


def rgb(colour: str) -> tuple[float, float, float]:
    """Red, green and blue, 0 to 1."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue
