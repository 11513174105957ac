"""Counts, by storage and by group."""

import pytest
import torch
from torch import nn

from stlm_kit.model import Decoder, count_parameters, parameter_table
from stlm_kit.presets import preset

from .conftest import tiny

PUBLISHED = {
    "memory-study": 28_941_393,
    "memory-study-text": 24_035_328,
    "stlm-50m": 55_888_896,
    "stlm-50m-code": 47_203_328,
    "layerdrop-12": 42_949_632,
    "gpt2-small": 124_439_808,
}


def on_meta(name: str, **overrides) -> Decoder:
    with torch.device("meta"):  # shapes only: no memory, no time
        return Decoder(preset(name, **overrides))


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_published_counts_are_exact(name, count):
    assert count_parameters(on_meta(name)) == count


@pytest.mark.parametrize(
    ("name", "overrides", "count"),
    [
        ("memory-study", {"tied_head": True}, 16_075_601),
        ("memory-study", {"tied_head": True, "head_bias": False}, 16_025_344),
        ("memory-study-text", {"tied_head": False, "head_bias": True}, 29_165_328),
        ("stlm-50m", {"n_kv_heads": 16}, 59_821_056),
        ("stlm-50m", {"n_kv_heads": 16, "tied_head": False}, 85_552_640),
        ("stlm-50m", {"tied_head": False}, 81_620_480),
    ],
)
def test_the_other_readings_of_the_sources(name, overrides, count):
    assert count_parameters(on_meta(name, **overrides)) == count


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_adds_up(name):
    table = parameter_table(on_meta(name))
    assert list(table) == ["embedding", "positions", "attention", "feed_forward", "norms", "head"]
    assert sum(table.values()) == PUBLISHED[name]


def test_the_table_of_the_memory_study():
    table = parameter_table(on_meta("memory-study"))
    assert table["embedding"] == 50257 * 256
    assert table["head"] == 50257 * 256 + 50257
    assert table["attention"] == 4 * 4 * (256 * 256 + 256)
    assert table["norms"] == (2 * 4 + 1) * 2 * 256
    assert table["positions"] == 0  # sinusoids are not learned


def test_a_tied_head_counts_once_on_every_device():
    for device in ("cpu", "meta"):
        with torch.device(device):
            tied, untied = Decoder(tiny()), Decoder(tiny(tied_head=False))
        assert count_parameters(untied) - count_parameters(tied) == 23 * 16
        assert parameter_table(tied)["head"] == 0


def test_counting_is_by_storage_not_by_object():
    """Two Parameter objects over one memory count once; a copy counts again."""
    first, second = nn.Linear(3, 4, bias=False), nn.Linear(3, 4, bias=False)
    both = nn.Sequential(first, second)
    assert count_parameters(both) == 24
    second.weight = nn.Parameter(first.weight.data)
    assert second.weight is not first.weight
    assert count_parameters(both) == 12
    second.weight = nn.Parameter(first.weight.data.clone())
    assert count_parameters(both) == 24


def test_two_halves_of_one_buffer_are_two_parameters():
    whole = torch.zeros(8)
    pair = nn.ParameterList([nn.Parameter(whole[:4]), nn.Parameter(whole[4:])])
    assert count_parameters(pair) == 8
