"""What notebook cells call: parameters, guesses, checks and the ledger.

Every printed line is the same on every machine: it gives a bound ("within 1e-06"), never a raw float. So a stored
output can be compared with a fresh one. A check that fails raises AssertionError with one sentence.
"""

from __future__ import annotations

import textwrap
from types import SimpleNamespace
from typing import Any

from stlm_kit import ledger as _ledger
from stlm_kit.errors import UsageError
from stlm_kit.ledger.guesses import guess, guessed, guesses, questions  # noqa: F401 (called by notebooks)
from stlm_kit.ledger.wording import SIGNS, number, show, source_says, with_unit
from stlm_kit.reproduce import parameters as _parameters


def parameters(**values: Any) -> SimpleNamespace:
    """The notebook's parameters as attributes (`run.steps`), after a check of each one's type and range.

    When papermill executes the notebook directly, this also checks what papermill was given and creates the run's
    folder (reproduce/plain_papermill.py).

    Raises UsageError with one sentence for an unknown name, a wrong type, or a value out of range.
    """
    from stlm_kit.reproduce import plain_papermill

    alone = plain_papermill.executes_this()
    given = plain_papermill.given() if alone else {}
    written = {name for name, value in values.items() if isinstance(value, str) and name not in given}
    if wrong := [name for name in values if name in written and not _parameters.takes_text(name)]:
        # in a notebook, "100" is a mistake and not a way to write 100
        raise UsageError(f"{wrong[0]} = {values[wrong[0]]!r} is a text; take the quotes away.")
    if alone:
        return SimpleNamespace(**plain_papermill.start(values, given))
    return SimpleNamespace(**_parameters.check(values, where="This notebook"))


# --- guesses ---


def reveal(claim_id: str) -> None:
    """Print your guess, the published value and the found value.

    Before the claim is answered, print that it is open.
    """
    claim = _ledger.find_claim(claim_id)
    _print_row(claim, _ledger.best_answer(claim, _ledger.latest_answers().get(claim_id)))


# --- checks ---


def same(mine: Any, kits: Any, tolerance: float = 1e-6, what: str = "both ways") -> None:
    """Assert that the value you built equals the kit's: tensors, arrays, numbers, strings, lists or dicts of these.

    tolerance: the largest absolute difference allowed between two numbers. Prints "same: <what> (within 1e-06)", or
    "(exactly)" where no fractions were compared or the tolerance is 0. Raises AssertionError that names the first
    difference and its place.
    """
    fractions = _compare(mine, kits, tolerance, what, "")
    print(f"same: {what} ({f'within {tolerance:g}' if fractions and tolerance else 'exactly'})")


def _compare(mine: Any, kits: Any, tolerance: float, what: str, at: str) -> bool:
    """Raise AssertionError where the two values differ. Return whether any fractions were compared.

    at: the place inside the whole value, such as "[2]['loss']".
    """
    place = f" at {at}" if at else ""
    if isinstance(mine, dict) and isinstance(kits, dict):
        if mine.keys() != kits.keys():
            odd = sorted(map(repr, mine.keys() ^ kits.keys()))
            raise AssertionError(f"{what}: only one of the two has {', '.join(odd[:3])}{place}.")
        return _compare_items([(f"{at}[{key!r}]", mine[key], kits[key]) for key in kits], tolerance, what)
    if mine is None and kits is not None:
        raise AssertionError(f"{what}: yours is None{place}; a function without a return gives None.")
    if isinstance(mine, (str, bytes)) or isinstance(kits, (str, bytes)) or mine is None or kits is None:
        if type(mine) is not type(kits) or mine != kits:
            raise AssertionError(f"{what}: yours is {_short(mine)}, the kit's is {_short(kits)}{place}.")
        return False
    if _is_plain_list(mine) or _is_plain_list(kits):
        if len(mine) != len(kits):
            raise AssertionError(f"{what}: yours has {len(mine)} items, the kit's {len(kits)}{place}.")
        return _compare_items([(f"{at}[{i}]", mine[i], kits[i]) for i in range(len(kits))], tolerance, what)
    return _compare_numbers(mine, kits, tolerance, what, place)


def _compare_items(items: list[tuple[str, Any, Any]], tolerance: float, what: str) -> bool:
    """`_compare` for each (place, mine, kit's) of a list or dict. Whether any item held fractions."""
    fractions = [_compare(mine, kits, tolerance, what, at) for at, mine, kits in items]
    return any(fractions)


def _compare_numbers(mine: Any, kits: Any, tolerance: float, what: str, place: str) -> bool:
    """`_compare` for tensors, arrays and numbers."""
    import numpy as np

    mine, kits = _array(mine, what), _array(kits, what)
    if mine.shape != kits.shape:
        raise AssertionError(f"{what}: yours has shape {mine.shape}, the kit's {kits.shape}{place}.")
    if mine.size == 0:
        return False
    with np.errstate(invalid="ignore"):
        difference = np.abs(mine.astype(np.float64) - kits.astype(np.float64))
    difference = np.where(mine == kits, 0.0, difference)  # two infinities of the same sign are equal
    if np.isnan(difference).any():
        where = tuple(int(i) for i in np.argwhere(np.isnan(difference))[0])
        raise AssertionError(f"{what}: not a number at {where}{place}; look for 0/0 or a row that is masked whole.")
    if difference.max() > tolerance:
        worst = np.unravel_index(difference.argmax(), difference.shape)
        share = f"{(difference > tolerance).sum():,} of {difference.size:,} numbers"
        where = f" at {tuple(map(int, worst))}" if difference.ndim else place
        raise AssertionError(
            f"{what}: {share} differ by more than {tolerance:g}; the largest difference is {difference.max():.3g}"
            f"{where}, where yours is {mine[worst]:.6g} and the kit's {kits[worst]:.6g}."
        )
    return not (np.issubdtype(mine.dtype, np.integer) or mine.dtype == bool)


def _is_plain_list(value: Any) -> bool:
    """Whether a list is compared item by item. A list of plain numbers may also be compared with an array at once."""
    return isinstance(value, (list, tuple)) and not all(isinstance(item, (bool, int, float)) for item in value)


def _array(value: Any, what: str):
    """A numpy array from a tensor, an array, a number or a list of numbers. AssertionError for anything else."""
    import numpy as np

    if hasattr(value, "detach"):  # a tensor: numpy has no bfloat16
        value = value.detach().cpu()
        value = value.double().numpy() if value.is_floating_point() else value.numpy()
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind in "US":
        raise AssertionError(f"{what}: {_short(value)} cannot be compared; give tensors, arrays, numbers or strings.")
    return array


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def within(
    found: float,
    expected: float,
    tolerance: float | None = None,
    what: str = "",
    unit: str = "",
    relative: float | None = None,
) -> None:
    """Assert |found - expected| <= tolerance (absolute), or <= relative * |expected|. Give exactly one of the two
    bounds.

    Prints "within 0.1 % of 18,959 MiB: <what>". The expected value must therefore be a constant and not a measurement.
    Raises AssertionError outside the bound (NaN is outside), UsageError unless exactly one bound is given.
    """
    if (tolerance is None) == (relative is None):
        raise UsageError("Give within() either a tolerance or relative=..., and only one of them.")
    found, expected = float(found), float(expected)
    bound = tolerance if relative is None else relative * abs(expected)
    near = (
        f"{f'{tolerance:,g}' if relative is None else f'{100 * relative:g} %'} of {number(expected)}{with_unit(unit)}"
    )
    if not abs(found - expected) <= bound:  # written so that NaN fails
        raise AssertionError(
            f"{what or 'the value'}: found {number(found)}{with_unit(unit)}, which is not within {near}."
        )
    print(f"within {near}" + (f": {what}" if what else ""))


def shows(condition: Any, what: str) -> None:
    """Assert that this run shows what you say. Prints "shows: <what>"; raises AssertionError otherwise."""
    if not bool(condition):
        raise AssertionError(f"this run does not show that {what}; run the cells above again, in order.")
    print(f"shows: {what}")


# --- the ledger ---


def ledger(claim_id: str, found: Any, how: str = "", *, by: str | None = None, missing: str | None = None) -> None:
    """Record what this notebook found for a claim, and print it beside the published value with the verdict.

    found: a value computed in the notebook. Give a dict {reading: value} where the source can be read in several ways,
    None where the claim cannot be answered here. missing: the quantity that the source does not give. by: "computed",
    "predicted", "measured" or "cited", where it differs from the default of the claim's kind. See `ledger.verdict`.
    """
    _ledger.record(claim_id, found, how, by=by, missing=missing)
    answer = {"found": _ledger.plain(found), "how": how, "by": by, "missing": missing}
    _print_row(_ledger.find_claim(claim_id), answer)


def verdict(claim_id: str, found: Any) -> None:
    """Print what you found beside the published value, with the verdict. Nothing is recorded.

    For a claim that the kit computes anew each time the ledger is read. Raises AssertionError where the kit's own
    answer leads to another verdict.
    """
    claim = _ledger.find_claim(claim_id)
    kits = _ledger.row(claim, _ledger.best_answer(claim, _ledger.latest_answers().get(claim_id)))
    answer = {"found": _ledger.plain(found), "how": "", "by": None, "missing": None}
    yours = _ledger.row(claim, answer)["verdict"]
    if yours != kits["verdict"]:
        raise AssertionError(
            f"{claim_id}: what you found makes it {yours}, the kit's answer {kits['verdict']}; see `stlm ledger`."
        )
    _print_row(claim, answer)


def _print_row(claim: _ledger.Claim, answer: dict | None) -> None:
    row = _ledger.row(claim, answer)
    print(f"{claim.id} · {row['verdict']}")
    _print_wrapped("  ", claim.statement, indent=2)
    if any(said := source_says(claim)):
        _print_part(*said)
    if claim.id in guesses():
        _print_part("your guess", show(guesses()[claim.id], claim))
    _print_part("published", f"{SIGNS[claim.compare]}{show(claim.value, claim)}")
    if answer is None or answer["found"] is None:
        _print_part("found", "not answered here")
    elif isinstance(answer["found"], dict):
        for reading, value in answer["found"].items():
            _print_part("found", f"{show(value, claim)}, read as: {reading}")
    else:
        differs = _ledger.is_number(answer["found"]) and answer["found"] != claim.value
        agrees = row["verdict"] not in ("contradicted", "underdetermined")
        bound = f" (within {number(row['tolerance'])})" if differs and agrees else ""
        _print_part("found", f"{show(answer['found'], claim)}{bound}")
    if answer and answer.get("missing"):
        _print_part("not given", answer["missing"])
    if claim.reading and row["verdict"] not in ("open", "needs_gpu"):
        _print_part("reading", claim.reading)


WIDTH = 100  # JupyterLab breaks a longer line in the middle of a word


def _print_part(name: str, text: str) -> None:
    _print_wrapped(f"  {name:<12}", text, indent=14)


def _print_wrapped(start: str, text: str, indent: int) -> None:
    words = {"break_long_words": False, "break_on_hyphens": False}
    print(textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=" " * indent, **words))
