"""A right answer of another natural kind earns every mark: lists for tuples, numpy's numbers, float32 inside.

Each is tried as it is graded, and as a student runs it: the public check and the visible lines of every test cell, with
nothing in between that would turn a list into a tuple.
"""

import contextlib
import io
import re

import numpy as np
import pytest
import torch

from stlm_kit.course import self_test as trial
from stlm_kit.course.assignment import SETUP, folders, read
from stlm_kit.course.keyed_values import keyed
from stlm_kit.course.plain_values import guarded
from stlm_kit.course.stated_type import stated_type

from .grading import HIDDEN

ASSIGNMENTS = {folder.name: read(folder) for folder in folders()}
EXERCISES = [(name, exercise.id) for name, each in ASSIGNMENTS.items() for exercise in each.exercises]
KEYS = ["", "spring"]
REPORT = re.compile(r"^desk\.report\(.*", re.MULTILINE | re.DOTALL)  # it wants a notebook's own function


def swapped(value):
    """Lists for tuples and tuples for lists, as deep as they go."""
    if isinstance(value, (list, tuple)):
        return (tuple if isinstance(value, list) else list)(map(swapped, value))
    return value


def in_numpy(value):
    """numpy's numbers for Python's."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(in_numpy, value))
    kinds = {int: np.int64, float: np.float64}
    return kinds[type(value)](value) if type(value) in kinds else value


def in_tensors(value):
    """A tensor of no axes for each number."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(in_tensors, value))
    kinds = {int: torch.int64, float: torch.float64}
    return torch.tensor(value, dtype=kinds[type(value)]) if type(value) in kinds else value


def whole(value):
    """An int for each float that is a whole number."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(whole, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def failures(assignment, exercise, change, key):
    """{cell: sentence} of what the reference fails when `change` has turned what it returns into another kind."""
    cells = {cell.id: cell.source for cell in keyed(assignment, key).cells if cell.cell_type == "code"}
    namespace = {"__name__": "__main__"}
    tests = [cell.id for cell in assignment.tests(exercise)]
    given = [name for name in cells if assignment.exercise(exercise).owns(name)]  # a text to try it on, say
    for name in (SETUP, *given):
        if name not in (*tests, f"{exercise}-check"):
            exec(cells[name], namespace)
    reference = namespace[exercise]

    def answer(*arguments, **named):
        return change(reference(*arguments, **named))

    graded = guarded(answer, exercise, stated_type(assignment, exercise))
    tried = [(f"{name}, graded", cells[name], graded) for name in tests]
    tried += [(f"{name}, shown", HIDDEN.sub("", cells[name]), answer) for name in tests]
    tried.append(("the public check", REPORT.sub("", cells[f"{exercise}-check"]), answer))
    found = {}
    for name, source, function in tried:
        namespace[exercise] = function
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                exec(source, namespace)
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
    return found


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("change", [swapped, in_numpy, in_tensors, whole], ids=lambda change: change.__name__)
@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_the_reference_in_another_kind_earns_everything(name, exercise, change, key):
    assert failures(ASSIGNMENTS[name], exercise, change, key) == {}


def test_a_wrong_kind_is_seen():
    """Else the test above could not fail."""
    found = failures(ASSIGNMENTS["01_data_and_tokenizers"], "bpe_merges", lambda merges: merges[:-1], "")
    assert {"bpe_merges-counts, graded", "bpe_merges-counts, shown", "the public check"} <= set(found)


def test_a_count_that_is_a_whole_float_earns_everything():
    found = failures(ASSIGNMENTS["02_building_the_decoder"], "count_parameters", float, "")
    assert found == {}


PAIRS_AS_LISTS = """\
def bpe_merges(words, n_merges):
    split, merges = {word: list(word) for word in words}, []
    while len(merges) < n_merges:
        counts = {}
        for word, ids in split.items():
            for left, right in pairwise(ids):
                counts[left, right] = counts.get((left, right), 0) + words[word]
        if not counts:
            break
        best = list(min(counts, key=lambda pair: (-counts[pair], pair)))
        for word, ids in split.items():
            i = 0
            while i < len(ids) - 1:
                if ids[i : i + 2] == best:
                    ids[i : i + 2] = [256 + len(merges)]
                i += 1
        merges.append(best)
    return merges
"""
SUMMED_IN_FLOAT32 = """\
def bits_per_byte(losses, targets, texts, end):
    counts = (targets != -100) & (targets != end)
    return losses[counts].float().sum() / math.log(2) / sum(len(text.encode()) for text in texts)
"""
LLAMAS_NORM = """\
def rms_norm(x, weight):
    type_of_x, x = x.dtype, x.to(torch.float32)
    x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
    return weight * x.to(type_of_x)
"""
NORM_LEFT_IN_FLOAT32 = LLAMAS_NORM.replace("weight * x.to(type_of_x)", "weight.float() * x")
SOFTMAX_IN_FLOAT32 = """\
def grouped_queries(q, k, v):
    group = q.shape[-3] // k.shape[-3]
    k, v = k.repeat_interleave(group, -3), v.repeat_interleave(group, -3)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1, dtype=torch.float32).to(q.dtype) @ v
"""
ATTENTION_LEFT_IN_FLOAT32 = SOFTMAX_IN_FLOAT32.replace(".to(q.dtype) @ v", " @ v.float()")
ANGLES_IN_FLOAT32 = """\
def rotary(x, positions, base=10_000.0):
    half = x.shape[-1] // 2
    angles = positions.float()[:, None] * base ** (-torch.arange(half).float() / half)
    first, second = x[..., :half], x[..., half:]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
"""
FILLS_ONE_PART_AFTER_THE_OTHER = """\
def split_documents(documents, shares, seed):
    at, above = {}, list(range(len(documents)))

    def root(number):
        while above[number] != number:
            number = above[number]
        return number

    for number, document in enumerate(documents):
        words = document.split()
        for start in range(max(1, len(words) - 7)):
            above[root(number)] = root(at.setdefault(" ".join(words[start : start + 8]), number))
    families = sorted({root(number) for number in range(len(documents))})
    random.seed(seed)
    random.shuffle(families)
    part_of, filled, part = {}, 0, 0
    for family in families:
        while part < len(shares) - 1 and filled >= sum(shares[: part + 1]) * len(documents):
            part += 1
        part_of[family] = part
        filled += sum(root(number) == family for number in range(len(documents)))
    return [part_of[root(number)] for number in range(len(documents))]
"""
CACHED_IN_FLOAT32 = """\
def cached_attention(q, k, v, cache=None):
    if cache:
        k, v = torch.cat([cache[0], k], dim=-2), torch.cat([cache[1], v], dim=-2)
    place = torch.arange(k.shape[-2])
    later = place > place[-q.shape[-2] :, None]
    scores = (q @ k.transpose(-2, -1)).float() * q.shape[-1] ** -0.5
    weights = torch.where(later, torch.finfo(torch.float32).min, scores).softmax(-1)
    return weights.to(v.dtype) @ v, [k, v]
"""


@pytest.mark.parametrize(
    ("exercise", "code", "lost"),
    [
        ("bpe_merges", PAIRS_AS_LISTS, []),
        ("bits_per_byte", SUMMED_IN_FLOAT32, ["bits_per_byte-sum"]),
        ("rms_norm", LLAMAS_NORM, []),
        ("rms_norm", NORM_LEFT_IN_FLOAT32, ["rms_norm-scale"]),
        ("grouped_queries", SOFTMAX_IN_FLOAT32, []),
        ("grouped_queries", ATTENTION_LEFT_IN_FLOAT32, ["grouped_queries-together"]),
        ("rotary", ANGLES_IN_FLOAT32, ["rotary-base"]),
        ("split_documents", FILLS_ONE_PART_AFTER_THE_OTHER, []),
        ("cached_attention", CACHED_IN_FLOAT32, []),
    ],
)
def test_another_way_earns_everything_and_a_coarser_type_costs_the_mark_about_it_at_most(exercise, code, lost):
    assignment = next(each for each in ASSIGNMENTS.values() if exercise in {one.id for one in each.exercises})
    found = trial.marks_of(assignment, exercise, code)
    assert trial.lost(assignment, found) == lost, found
    if not lost:
        assert found[f"{exercise}-check"].passed, found[f"{exercise}-check"].sentence
