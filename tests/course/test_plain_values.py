"""What a student's function returns is taken apart into plain values of the type that the signature states."""

import enum
from collections import Counter, namedtuple
from fractions import Fraction

import numpy as np
import pytest
import torch

from stlm_kit.course.assignment import folders, read
from stlm_kit.course.plain_values import guarded
from stlm_kit.course.stated_type import stated_type

Pair = namedtuple("Pair", "left right")
Number = enum.IntEnum("Number", {"THREE": 3})
TENSOR = torch.tensor([1.0, 2.0])


class Sly(int):
    """A number that equals every other."""

    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


class SlyList(list):
    def __eq__(self, other):
        return True


class SlyTensor(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return True


class Always:
    def __eq__(self, other):
        return True


def given(value, stated):
    return guarded(lambda: value, "answer", stated)()


def kinds(value):
    """A value with the types of everything in it."""
    return (type(value), [kinds(each) for each in value]) if isinstance(value, (list, tuple)) else (type(value), value)


PAIRS = ("list", ("tuple", "int", "int"))


@pytest.mark.parametrize(
    ("value", "stated", "plain"),
    [
        ([(1, 2), (3, 4)], PAIRS, [(1, 2), (3, 4)]),
        ([[1, 2], [3, 4]], PAIRS, [(1, 2), (3, 4)]),
        (((1, 2), Pair(3, 4)), PAIRS, [(1, 2), (3, 4)]),
        ([np.int64(3)], ("list", "int"), [3]),
        (map(int, "12"), ("list", "int"), [1, 2]),
        ((2, 0.5), ("tuple", "int", "float"), (2, 0.5)),
        (np.float32(0.5), "float", 0.5),
        (np.array(0.5), "float", 0.5),
        (torch.tensor(0.5, requires_grad=True), "float", 0.5),
        (torch.tensor([3]), "int", 3),
        (Fraction(1, 2), "float", 0.5),
        (Number.THREE, "int", 3),
        (3, "float", 3),
        (3.0, "int", 3.0),  # that it is no int is for the tests to say
        (True, "int", True),
        (Sly(3), "int", 3),
        (SlyList([1]), ("list", "int"), [1]),
        (SlyList([Sly(1)]), "any", [1]),
        (None, ("either", ("list", "tensor"), "none"), None),
        (2.5, "tensor", 2.5),  # a number of its own where a tensor without dimensions is due
        (Counter("aab"), "any", {"a": 2, "b": 1}),
        ({1, 2}, "any", {1, 2}),
        ("text", "any", "text"),
        (np.str_("text"), "str", "text"),
    ],
)
def test_natural_kinds_become_the_stated_type(value, stated, plain):
    assert kinds(given(value, stated)) == kinds(plain)


def test_tensors_stay_what_they_are():
    assert given(TENSOR, "tensor") is TENSOR
    left, right = given(torch.stack([TENSOR, TENSOR + 1]), ("tuple", "tensor", "tensor"))
    assert torch.equal(left, TENSOR) and torch.equal(right, TENSOR + 1)
    parameter = torch.nn.Parameter(TENSOR)
    assert given([parameter], ("list", "tensor"))[0] is parameter


def with_a_method():
    tensor = torch.zeros(2)
    tensor.tolist = lambda: [1.0, 2.0]
    return tensor


@pytest.mark.parametrize(
    ("value", "stated", "sentence"),
    [
        (TENSOR.as_subclass(SlyTensor), "tensor", "a SlyTensor, a class of its own, where a plain torch.Tensor is due"),
        (with_a_method(), "tensor", "a tensor with attributes of its own"),
        (Always(), "tensor", "an Always where its signature states a torch.Tensor"),
        (Always(), "float", "an Always where its signature states a float"),
        (Always(), "any", "an Always"),
        ([(1, Always())], PAIRS, "an Always where its signature states an int"),
        (Always(), PAIRS, "an Always where its signature states a list"),
        (None, "tensor", "None where its signature states a torch.Tensor"),
        ((1, 2, 3), ("tuple", "int", "int"), "3 things where its signature states 2"),
        (TENSOR, "float", "a Tensor where its signature states a float"),
        ("3", "int", "a str where its signature states an int"),
        (3, "str", "an int where its signature states a str"),
        (Always(), "str", "an Always where its signature states a str"),
        (np.zeros(2), "tensor", "a ndarray where its signature states a torch.Tensor"),
    ],
)
def test_anything_else_is_one_sentence(value, stated, sentence):
    with pytest.raises(AssertionError) as refusal:
        given(value, stated)
    assert str(refusal.value).startswith(f"answer gives {sentence}") and str(refusal.value).endswith(".")


def test_a_function_that_calls_itself_is_guarded_on_the_outside_alone():
    def count(n):
        return {"inside": n} if n else checked(1)

    checked = guarded(count, "count", "any")
    assert checked(0) == {"inside": 1}


STATED = {
    "bpe_merges": ("list", ("tuple", "int", "int")),
    "bits_per_byte": "float",
    "pack_documents": ("tuple", "tensor", "tensor", "tensor"),
    "split_documents": ("list", "int"),
    "causal_mask": "tensor",
    "cached_attention": ("tuple", "tensor", ("tuple", "tensor", "tensor")),
    "count_parameters": "int",
    "clip_by_global_norm": ("tuple", ("list", "tensor"), "tensor"),
    "peak_with_checkpointing": ("tuple", "int", "float"),
    "mend_training_script": ("tuple", ("list", "float"), "float"),
    "paired_conclusion": ("tuple", "str", "float", "float", "float"),
    "shared_stack": ("tuple", ("list", "int"), "int", "int"),
    "shared_gradients": ("tuple", ("list", "tensor"), "tensor"),
    "relaxed_start": ("tuple", "tensor", "tensor", "tensor"),
    "distillation_loss": "tensor",
    "mend_distillation": "float",
    "sampled_teacher": ("tuple", "tensor", "tensor"),
    "loss_scaling": ("tuple", ("either", ("list", "tensor"), "none"), "float", "int"),
}


def test_every_signature_of_the_course_states_a_type():
    found = {
        exercise.id: stated_type(assignment, exercise.id)
        for assignment in map(read, folders())
        for exercise in assignment.exercises
    }
    assert "any" not in str(found) and found == found | STATED


def test_a_signature_that_states_nothing_known_is_any(made_up):
    assert stated_type(made_up, "tail") == "any" and stated_type(made_up, "double") == "tensor"
