"""Means of a few runs: Student's 95 % interval, a paired difference's p value, Holm's adjustment, and rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LEVEL = 0.95
ALONE_DIGITS = 4  # significant digits of a number without an interval
SMALL = 1e-5  # smaller numbers are written with powers of ten
INTERVAL_DIGITS = 2  # significant digits of half an interval; its mean ends at the same place


@dataclass(frozen=True)
class Estimate:
    """The arithmetic mean of independent values with its 95 % interval, mean ± half, by Student's t with n - 1 degrees
    of freedom.

    half is None below two values, because their spread is unknown.
    """

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """The number of values."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """The arithmetic mean, or None without values."""
        return fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """The sample's standard deviation, with n - 1; None below two values."""
        return stdev(self.values) if self.n > 1 else None

    @property
    def half(self) -> float | None:
        """Half of the 95 % interval, or None below two values."""
        if self.n < 2:
            return None
        from scipy.stats import t

        return float(t.ppf((1 + LEVEL) / 2, self.n - 1)) * self.sd / math.sqrt(self.n)

    @property
    def low(self) -> float | None:
        """The lower end of the interval, or None below two values."""
        return None if self.half is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        """The upper end of the interval, or None below two values."""
        return None if self.half is None else self.mean + self.half

    @property
    def p(self) -> float | None:
        """The two-sided p value of a mean of zero. None below two values, and where all values are equal."""
        if not self.sd:
            return None
        from scipy.stats import t

        return float(2 * t.sf(abs(self.mean) / (self.sd / math.sqrt(self.n)), self.n - 1))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment of p values, in their order. None entries are not comparisons and stay None."""
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    so_far = 0.0
    for rank, (p, place) in enumerate(order):
        so_far = max(so_far, min(1.0, p * (len(order) - rank)))
        adjusted[place] = so_far
    return adjusted


def rounded(mean: float, half: float | None, *, sign: bool = False) -> tuple[str, str]:
    """(mean, half) as text: half with two significant digits, the mean to the same place.

    Without an interval, or with one of zero width, the mean has four significant digits and half is "" or "0". Numbers
    below 0.00001 are written with powers of ten. sign: write a plus before a positive mean.
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
