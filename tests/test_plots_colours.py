"""Colours that stand beside each other in a picture are told apart on a printer without colour."""

from itertools import combinations, pairwise

import pytest
from matplotlib.colors import to_rgb

from stlm_kit.plots import CATEGORY_COLOURS, GROUP_COLOURS, PALETTE, VERDICT_COLOURS

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
TOLD_APART = 6  # steps of lightness between two colours of a legend
TOUCHING = 9  # and between two bands of a stack, which no gap separates


def lightness(colour: str) -> float:
    """CIE L* of an sRGB colour, 0 for black to 100 for white."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    luminance = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 216 / 24389 else luminance * 24389 / 27


def nearest(colours) -> float:
    return min(abs(lightness(one) - lightness(other)) for one, other in combinations(colours, 2))


def test_lightness_is_measured_as_defined():
    assert [lightness(colour) for colour in ("#000000", "#FFFFFF")] == pytest.approx([0, 100], abs=0.01)
    assert lightness("#777777") == pytest.approx(50.0, abs=0.1)


@pytest.mark.parametrize(
    "colours",
    [PALETTE, VERDICT_COLOURS.values(), GROUP_COLOURS.values(), CATEGORY_COLOURS.values()],
    ids=["palette", "verdicts", "groups", "categories"],
)
def test_no_two_colours_of_a_picture_are_the_same_grey(colours):
    assert nearest(colours) >= TOLD_APART
    assert nearest(OKABE_ITO) < 1  # what this test is for: in grey, that palette's orange is its sky blue


@pytest.mark.parametrize("stack", [GROUP_COLOURS, CATEGORY_COLOURS], ids=["groups", "categories"])
def test_neighbours_of_a_stack_differ_more(stack):
    assert all(abs(lightness(one) - lightness(other)) >= TOUCHING for one, other in pairwise(stack.values()))


def test_every_colour_is_seen_on_white_paper():
    assert max(map(lightness, PALETTE)) <= 80
