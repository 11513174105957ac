"""A table of results as text: cells for a terminal or a page, CSV, LaTeX, and plain objects for JSON."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import Any

from stlm_kit.tables.arms import Arm
from stlm_kit.tables.columns import shown
from stlm_kit.tables.intervals import LEVEL, Estimate, rounded
from stlm_kit.tables.table import Difference, Table

PERCENT = f"{100 * LEVEL:.0f} %"
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL |= {character: f"\\{character}" for character in "&%$#_{}"}
SPECIAL |= {"±": r"$\pm$", "<": r"$<$", ">": r"$>$", "|": r"$|$", "–": "--", "…": r"\dots{}"}


@dataclass(frozen=True)
class Cells:
    """One table ready to print. The first `n_names` columns hold names, the others numbers."""

    header: list[str]
    lines: list[list[str]]
    n_names: int


def cells(table: Table) -> list[Cells]:
    """The means, one line for each arm; then the differences from the reference, one for each arm and metric."""
    ns = [{table.estimates[place, metric].n for metric in table.metrics} for place in range(len(table.arms))]
    one_n = all(len(found) == 1 for found in ns)
    header = [*table.by, *(["n"] if one_n else [])]
    for metric in table.metrics:
        header += [f"{metric} ± {PERCENT}"] if one_n else ["n", f"{metric} ± {PERCENT}"]
    lines = []
    for place, arm in enumerate(table.arms):
        line = [*map(shown, arm.values.values()), *([str(next(iter(ns[place])))] if one_n else [])]
        for metric in table.metrics:
            estimate = table.estimates[place, metric]
            line += ([] if one_n else [str(estimate.n)]) + [_mean(arm, metric, estimate)]
        lines.append(line)
    found = [Cells(header, lines, len(table.by))]
    if table.differences:
        header = ["arm", "against", "metric", "pairs", f"difference ± {PERCENT}", "p", "p (Holm)"]
        lines = [
            [
                *(difference.arm.label, difference.reference.label, difference.metric, str(difference.estimate.n)),
                with_interval(difference.estimate, sign=True) or "no pair",
                *map(_p, (difference.estimate.p, difference.p_holm)),
            ]
            for difference in table.differences
        ]
        found.append(Cells(header, lines, 3))
    return found


def _mean(arm: Arm, metric: str, estimate: Estimate) -> str:
    if arm.mixed(metric):
        return "several machines"
    return with_interval(estimate) or ("out of memory" if arm.out_of_memory else "")


def with_interval(estimate: Estimate, *, sign: bool = False) -> str:
    """ "2.231 ± 0.020". The mean of one run has no interval; no value gives ""."""
    if estimate.mean is None:
        return ""
    mean, half = rounded(estimate.mean, estimate.half, sign=sign)
    return f"{mean} ± {half}" if half else mean


def _p(value: float | None) -> str:
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def records(table: Table) -> list[dict[str, Any]]:
    """One object for each arm and metric, with unrounded numbers; unknown values are None."""
    compared = {(id(each.arm), each.metric): each for each in table.differences}
    found = []
    for place, arm in enumerate(table.arms):
        for metric in table.metrics:
            estimate = table.estimates[place, metric]
            label = {"arm": arm.label} if table.differences else {}  # the name that `against` takes
            record = {**label, **arm.values, "metric": metric, **_figures(estimate), "out_of_memory": arm.out_of_memory}
            record |= {"min": min(estimate.values, default=None), "max": max(estimate.values, default=None)}
            if table.differences:
                record |= _compared(compared.get((id(arm), metric)))
            found.append(record)
    return found


def _figures(estimate: Estimate) -> dict[str, Any]:
    return {name: getattr(estimate, name) for name in ("n", "mean", "low", "high", "sd")}


def _compared(difference: Difference | None) -> dict[str, Any]:
    """The fields of a difference in a record. The reference arm has the same fields with None."""
    found = difference and difference.estimate
    return {
        "against": difference and difference.reference.label,
        "pairs": found and found.n,
        "difference": found and found.mean,
        "difference_low": found and found.low,
        "difference_high": found and found.high,
        "p": found and found.p,
        "p_holm": difference and difference.p_holm,
    }


def csv_text(table: Table) -> str:
    """The records as comma-separated values (RFC 4180: lines end in CR LF), numbers unrounded."""
    lines = records(table)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]))
    writer.writeheader()
    for line in lines:
        writer.writerow({name: shown(line[name]) if name in table.by else line[name] for name in line})
    return text.getvalue()


def latex(table: Table) -> str:
    """The tables of `cells` as LaTeX's tabular, for \\usepackage{booktabs}, with the notes as comments."""
    parts = []
    for found in cells(table):
        columns = "l" * found.n_names + "r" * (len(found.header) - found.n_names)
        head, *body = (" & ".join(map(escaped, line)) + r" \\" for line in [found.header, *found.lines])
        begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
        parts.append("\n".join([begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", end]))
    notes = "".join(f"% {' '.join(note.split())}\n" for note in table.notes)
    return "\n\n".join(parts) + "\n" + notes


def escaped(text: str) -> str:
    """A text escaped for LaTeX. A newline in a cell becomes a blank."""
    text = re.sub(r".", lambda found: SPECIAL.get(found[0], found[0]), " ".join(text.split()))
    return re.sub(r"^-(?=\d)", "$-$", text)  # a minus sign, not a hyphen
