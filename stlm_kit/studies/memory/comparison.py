"""A memory study's runs compared: cells from result rows, a report in sentences, and the six figures.

    rows of runs, or committed rows -> cells -> text, figures

At the laptop's profile each run has its own prediction. At full size the committed predictions and the study's own
records stand beside the measured rows. Times are compared only within one profile on one device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stlm_kit.errors import KitError, UsageError
from stlm_kit.ledger.full_size import full_size_rows
from stlm_kit.reproduce import results
from stlm_kit.reproduce.rows import collect
from stlm_kit.reproduce.study_file import FULL_SIZE, PROFILES, labels_of, load_study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASELINE = "fp32"
RECORDED_AS = {"baseline": "fp32", "bf16": "bf16", "bf16_flash": "flash", "bf16_window16": "window-16"}
RECORDED_AS |= {"bf16_window32": "window-32", "gradcp": "checkpoint"}
RECORDED_PLACE = "RTX 5090, as the study recorded"
WARMUP_STEPS = 20  # the study left these out of its records, but not out of its epochs
KINDS = ("measured", "recorded", "predicted")  # how a cell was found, the most certain first
SAME_PCT = 0.5  # smaller differences between peaks count as equal


@dataclass(frozen=True)
class Comparison:
    """The cells of one study at one profile; see plots/memory.py for the fields of a cell."""

    study: str
    profile: str
    cells: list[dict[str, Any]]

    def figures(self) -> dict[str, Figure]:
        """{file name: figure}: memory, speed, trade-off, techniques, windows, savings."""
        from stlm_kit.plots import memory as plots

        drawn = {"memory": plots.memory_against_batch(self.cells)}
        if plots.timed(self.cells):
            drawn |= {"speed": plots.speed_against_batch(self.cells), "trade-off": plots.trade_off(self.cells)}
        drawn["techniques"] = plots.technique_comparison(self.cells)
        if any(cell["window"] for cell in self.cells):
            drawn["windows"] = plots.windows(self.cells)
        return drawn | {"savings": plots.savings(self.cells, BASELINE)}

    def sentences(self) -> list[str]:
        """The findings of the cells, one sentence each."""
        return [*_accuracy(self.cells), *_windows(self.cells), *_front(self.cells), *_not_timed(self.cells)]

    def lines(self) -> list[str]:
        """The report as text: a table, and the sentences."""
        runs: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
        for cell in self.cells:
            runs.setdefault((cell["technique"], cell["batch_size"]), {})[cell["found"]] = cell
        kinds = [kind for kind in KINDS if any(kind in found for found in runs.values())]
        sizes = " ".join(f"{kind:>10}" for kind in kinds)
        head = f"{'technique':<12} {'rows':>4} {sizes}  {'saved':>7} {'rows/s':>8}  time saved"
        lines = [_line(run, found, kinds, self.cells) for run, found in runs.items()]
        return [head, *lines, "Peaks in MiB, before the update.", *self.sentences()]


def compare(study: str, profile: str = "laptop", device: str = "") -> Comparison | None:
    """The cells of a study's rows at a profile. None for a study whose runs measure no memory.

    device: part of the name of the device whose rows count, where rows come from several. Raises UsageError for an
    unknown profile or a device without rows, KitError where times come from several devices.
    """
    from stlm_kit.plots.memory import one_place

    if profile not in PROFILES:
        raise UsageError(f"There is no profile {profile!r}; choose {' or '.join(PROFILES)}.")
    measured = [cell for row in latest(known_rows(study, profile)) for cell in cells_of(row)]
    if device:
        places = {cell["place"] for cell in measured}
        measured = [cell for cell in measured if device.lower() in cell["place"].lower()]
        if not measured:
            raise UsageError(f"No row of {study} at {profile} was timed on {device!r}; there are {_listed(places)}.")
    if profile == FULL_SIZE:
        measured = [cell for cell in measured if cell["found"] == "measured"]
        cells = predicted_cells(study) + recorded_cells(study, timed=not measured) + measured
    else:
        cells = measured
    one_place(cells)
    return Comparison(study, profile, cells) if cells else None


def _listed(places: Iterable[str]) -> str:
    return "; ".join(sorted(places)) or "none"


def known_rows(study: str, profile: str) -> list[dict[str, Any]]:
    """The rows at a profile: of the runs on this machine or, without any, the committed and imported ones."""
    own = [row for row in collect(study) if row["profile"] == profile and row["status"] == "done"]
    if own:
        return own
    if profile == FULL_SIZE:
        return list(full_size_rows(study))
    return [row for row in results.rows_of(study) if row.get("profile") == profile]


def latest(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The latest row of each run, in the order in which the runs first occur."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["name"] not in found or row["date"] >= found[row["name"]]["date"]:
            found[row["name"]] = row
    return list(found.values())


def cells_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row's measured cell and its predicted one; [] for a row without measured memory."""
    numbers, configuration = row["metrics"], row["configuration"]
    if "peak_allocated_mib" not in numbers:
        return []
    rows_a_step = configuration["batch_size"] * configuration.get("accumulation_steps", 1)
    cell = {
        "technique": _technique(row["name"], row.get("labels") or _labels(row)),
        "batch_size": rows_a_step,
        "window": (configuration.get("overrides") or {}).get("window"),
        "recipe": configuration["recipe"],
        "place": place(row),
    }
    measured = {**cell, "found": "measured", "peak_mib": numbers["peak_allocated_mib"]}
    return [measured | _speeds(row, rows_a_step), {**cell, "found": "predicted", "peak_mib": numbers["predicted_mib"]}]


def _technique(name: str, labels: dict[str, Any]) -> str:
    """A run's label on the axis `technique`, or on all axes except the batch size; else its name."""
    others = [str(label) for axis, label in labels.items() if axis != "batch_size"]
    return str(labels.get("technique") or "-".join(others) or name)


def _labels(row: dict[str, Any]) -> dict[str, Any]:
    """The labels in the study's file for a row without its own; {} where no study of the kit has the run."""
    return labels_of(row["study"], row["name"], row["profile"])


def _speeds(row: dict[str, Any], rows_a_step: int) -> dict[str, float]:
    """Rows a second: over all the run's steps at full size, over individually timed steps on a laptop.

    A precision with slow matrix products on the processor was not timed there; "slowdown" then says why.
    """
    numbers = row["metrics"]
    if "slowdown" in numbers:
        return {"slowdown": numbers["slowdown"]}
    if row["profile"] == FULL_SIZE:
        seconds = numbers.get("training_seconds")
        return {"rows_per_second": numbers["steps"] * rows_a_step / seconds} if seconds else {}
    median, least, most = (rows_a_step / numbers[f"step_s_{name}"] for name in ("median", "least", "most"))
    return {"rows_per_second": median, "fastest": least, "slowest": most}


def place(row: dict[str, Any]) -> str:
    """Where a row was timed: profile, device and everything else that makes its time comparable."""
    numbers, device = row["metrics"], row["device"]
    if device == "cpu":
        device = f"{row['machine']['processor']}, {numbers['threads']} thread{'s' if numbers['threads'] > 1 else ''}"
    facts = [f"{numbers['multiprocessors']} SMs" if numbers.get("multiprocessors") else ""]
    facts += [f"driver {numbers['driver']}" if numbers.get("driver") else ""]
    facts += [f"CUDA {numbers['cuda']}" if numbers.get("cuda") else "", f"torch {row['versions']['torch']}"]
    return f"{row['profile']}: {', '.join([device, *filter(None, facts)])}"


def predicted_cells(study: str) -> list[dict[str, Any]]:
    """The committed predictions for the study's own runs."""
    from stlm_kit.studies.memory.predictions import predicted

    known = predicted(study)
    if not known:
        return []
    return [
        {
            "technique": _technique(name, cell.labels),
            "batch_size": cell.parameters["batch_size"],
            "window": cell.parameters.get("window"),
            "recipe": cell.parameters["recipe"],
            "found": "predicted",
            "peak_mib": known[name]["peak_allocated_mib"],
        }
        for name, cell in load_study(study).cells(FULL_SIZE).items()
        if name in known
    ]


def recorded_cells(study: str, timed: bool = True) -> list[dict[str, Any]]:
    """The cells of the study's 18 runs in its result files. Times are those of epochs, not of steps.

    The study read its step times without synchronizing the device: they add up to about half of an epoch.
    """
    from stlm_kit.ledger.answers import evidence

    if study != "memory":
        return []
    cells = []
    for name, run in evidence(study)["runs"].items():
        rows = (run["recorded_steps"] + WARMUP_STEPS) * run["batch_size"]
        times = {"rows_per_second": rows / run["epoch_s"], "place": RECORDED_PLACE} if timed else {}
        cell = {"technique": RECORDED_AS[name.rsplit("_", 1)[0]], "batch_size": run["batch_size"]}
        cells.append({**cell, "window": run["window"], "found": "recorded", "peak_mib": run["peak_mib"], **times})
    return cells


# --- the report ---


def _line(run: tuple[str, int], found: dict[str, dict[str, Any]], kinds: list[str], cells: list[dict[str, Any]]) -> str:
    """One run of the table: its peaks, the saving by the most certain of them, and its speed."""
    from stlm_kit.plots.memory import saved_memory, saved_time

    surest = next(found[kind] for kind in KINDS if kind in found)
    group = [cell for cell in cells if cell["found"] == surest["found"]]
    cell = next((cell for cell in found.values() if cell.get("rows_per_second")), surest)
    sizes = " ".join(f"{found[kind]['peak_mib']:>10,.1f}" if kind in found else " " * 10 for kind in kinds)
    speed = f"{cell['rows_per_second']:.1f}" if cell.get("rows_per_second") else ""
    time = saved_time(cell, [other for other in cells if other["found"] == cell["found"]], BASELINE)
    stands_in = run[0] == "flash" or cell["window"]
    note = "  (sdpa for flash-attn)" if stands_in and "flash" not in cell.get("recipe", "flash") else ""
    saved = _percent(saved_memory(surest, group, BASELINE))
    return f"{run[0]:<12} {run[1]:>4} {sizes}  {saved:>7} {speed:>8}  {_percent(time):>10}{note}".rstrip()


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} %"


def _accuracy(cells: list[dict[str, Any]]) -> list[str]:
    """The error of the predictions, relative to measured or recorded peaks."""
    found = []
    foretold = {
        (cell["technique"], cell["batch_size"]): cell["peak_mib"] for cell in cells if cell["found"] == "predicted"
    }
    for kind in ("measured", "recorded"):
        pairs = [
            (cell["peak_mib"], foretold[cell["technique"], cell["batch_size"]])
            for cell in cells
            if cell["found"] == kind and (cell["technique"], cell["batch_size"]) in foretold
        ]
        if pairs:
            worst = max(abs(guess / truth - 1) for truth, guess in pairs)
            found.append(f"Predicted peaks lie within {100 * worst:.2f} % of the {len(pairs)} {kind} ones.")
    return found


def _windows(cells: list[dict[str, Any]]) -> list[str]:
    """Whether a window changes the peak."""
    changes = []
    for cell in cells:
        same = [o for o in cells if o["technique"] == "flash" and _alike(o, cell)]
        if cell["window"] and same:
            changes.append(100 * (cell["peak_mib"] / same[0]["peak_mib"] - 1))
    if not changes:
        return []
    most = max(changes, key=abs)
    verdict = "changes nothing" if abs(most) < SAME_PCT else "changes the peak"
    return [f"A window {verdict}: it moves a peak by {most:+.2f} % at most."]


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["batch_size"] == other["batch_size"] and one["found"] == other["found"]


def _front(cells: list[dict[str, Any]]) -> list[str]:
    """The cells on the Pareto front of memory and speed, and where they were timed."""
    from stlm_kit.plots.memory import one_place, pareto

    if not (place := one_place(cells)):
        return ["Nothing was timed."]
    front = ", ".join(f"{cell['technique']} at {cell['batch_size']}" for cell in pareto(cells))
    return [f"Not beaten in both memory and speed: {front}.", f"Times: {place}."]


def _not_timed(cells: list[dict[str, Any]]) -> list[str]:
    """The cells without a speed, because the processor lacks instructions for their precision."""
    slow = [cell for cell in cells if "slowdown" in cell]
    if not slow:
        return []
    names = ", ".join(dict.fromkeys(cell["technique"] for cell in slow))
    times = max(cell["slowdown"] for cell in slow)
    return [
        f"No claim on the speed of {names} is made on this processor, where 16-bit products take {times:.1f} times as "
        "long as those in fp32."
    ]


def compare_or_why_not(study: str, profile: str) -> tuple[Comparison | None, list[str]]:
    """(comparison, lines of its report); (None, the reason) where times may not be compared, or (None, [])."""
    try:
        found = compare(study, profile)
    except KitError as error:
        return None, [f"No comparison: {error}"]
    return found, found.lines() if found else []
