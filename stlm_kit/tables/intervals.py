"""Means of a few runs: Student's 95 % interval, a paired difference's p value, Holm's adjustment, and their digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LEVEL = 0.95
ALONE_DIGITS = 4  # significant ones of a number that has no interval
SMALL = 1e-5  # below it powers of ten are easier to read
INTERVAL_DIGITS = 2  # of half an interval; its mean ends at the same place


@dataclass(frozen=True)
class Estimate:
    """The arithmetic mean of independent values, and half of its 95 % interval by Student's t with n - 1 degrees of
    freedom: mean ± half. half is None below two values, where nothing is known of their spread."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float | None:
        return fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """The sample's standard deviation, with n - 1."""
        return stdev(self.values) if self.n > 1 else None

    @property
    def half(self) -> float | None:
        if self.n < 2:
            return None
        from scipy.stats import t

        return float(t.ppf((1 + LEVEL) / 2, self.n - 1)) * self.sd / math.sqrt(self.n)

    @property
    def low(self) -> float | None:
        return None if self.half is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        return None if self.half is None else self.mean + self.half

    @property
    def p(self) -> float | None:
        """Two-sided, of a mean of zero; None below two values, and where all are the same, so that none deviates."""
        if not self.sd:
            return None
        from scipy.stats import t

        return float(2 * t.sf(abs(self.mean) / (self.sd / math.sqrt(self.n)), self.n - 1))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment of p values, in their order; those that are None are no comparisons."""
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    so_far = 0.0
    for rank, (p, place) in enumerate(order):
        so_far = max(so_far, min(1.0, p * (len(order) - rank)))
        adjusted[place] = so_far
    return adjusted


def rounded(mean: float, half: float | None, *, sign: bool = False) -> tuple[str, str]:
    """(mean, half) as text: half with two significant digits, the mean to the same place.

    Without an interval, or with one of no width, the mean has four significant digits and half is "" or "0". Numbers
    below 0.00001 are written with powers of ten. sign: the mean keeps its plus.
    """
    plus = "+" if sign else ""
    if mean and abs(mean) < SMALL and (half or 0.0) < SMALL:
        return f"{mean:{plus}.{ALONE_DIGITS - 1}e}", "" if half is None else f"{half:.{INTERVAL_DIGITS - 1}e}"
    if half:
        places = max(INTERVAL_DIGITS - 1 - math.floor(math.log10(half)), 0)
        mean = round(mean, places) or 0.0  # not -0.0
        return f"{mean:{plus},.{places}f}", f"{half:,.{places}f}"
    if mean == 0 or not math.isfinite(mean):
        return f"{mean:g}", "" if half is None else "0"
    places = max(ALONE_DIGITS - 1 - math.floor(math.log10(abs(mean))), 0)
    return f"{mean:{plus},.{places}f}", "" if half is None else "0"
