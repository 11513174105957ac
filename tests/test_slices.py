"""MIG slices as nvidia-smi lists them. No GPU is here: a stand-in prints what NVIDIA's user guide shows."""

import pytest

from stlm_kit.errors import KitError, UsageError
from stlm_kit.slices import Slice, chosen_slices, mig_profile, slices, unused_slices

A100 = "NVIDIA A100-SXM4-80GB"
LIST = f"""\
GPU 0: {A100} (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 2g.20gb     Device  0: (UUID: MIG-41b35414-aa4b-5c38-9c6f-1d8b0a7bd4a1)
  MIG 1c.2g.20gb  Device  1: (UUID: MIG-41b3c6d4-42e4-5de3-91c7-45d71c87eb3f)
GPU 1: {A100} (UUID: GPU-6bb5b34e-0edc-4e4e-a1cd-a58f08e4b6c3)
  MIG 1g.10gb+me  Device  0: (UUID: MIG-edd5a5a7-8d52-5bd0-ba2b-6b1bd8b1e6e7)
GPU 2: {A100} (UUID: GPU-7c1a2f10-1e2d-4c3b-8a5f-0123456789ab)
"""
ALL = [
    Slice(f"{A100} MIG 2g.20gb", "MIG-41b35414-aa4b-5c38-9c6f-1d8b0a7bd4a1", "2g.20gb", 0),
    Slice(f"{A100} MIG 1c.2g.20gb", "MIG-41b3c6d4-42e4-5de3-91c7-45d71c87eb3f", "1c.2g.20gb", 0),
    Slice(f"{A100} MIG 1g.10gb+me", "MIG-edd5a5a7-8d52-5bd0-ba2b-6b1bd8b1e6e7", "1g.10gb+me", 1),
]


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """nvidia_smi(text): from now on a program of that name prints it. What a GPU's own prints was not tried here."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def prints(text: str) -> None:
        (tmp_path / "listed").write_text(text)
        program = tmp_path / "nvidia-smi"
        program.write_text(f'#!/bin/sh\n[ "$1" = -L ] && cat "{tmp_path}/listed"\n')
        program.chmod(0o755)

    prints(LIST)
    return prints


def test_every_slice_with_its_name_uuid_profile_and_gpu(nvidia_smi):
    assert slices() == ALL
    nvidia_smi(f"GPU 0: {A100} (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)\n")
    assert slices() == []
    nvidia_smi("No devices found.\n")
    assert slices() == []


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [
        ("MIG-41b3c6d4-42e4-5de3-91c7-45d71c87eb3f", [1]),
        ("MIG-edd5, MIG-41b35", [2, 0]),  # the first characters, and its order
        ("0", [0, 1]),  # a GPU stands for its slices
        ("GPU-6bb5", [2]),
        ("1,0,1", [2, 0, 1]),
        ("MIG-edd5,-1,0", [2]),  # what is not there ends the list, as for CUDA
        ("MIG-41b3", []),  # two slices begin so
        ("2", []),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices_narrows_them(nvidia_smi, monkeypatch, visible, numbers):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert slices() == [ALL[number] for number in numbers]


def test_identifiers_of_older_drivers(nvidia_smi, monkeypatch):
    old = "MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/{}/0"
    text = "GPU 0: A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)\n"
    nvidia_smi(text + "".join(f"  MIG 1g.5gb Device {n}: (UUID: {old.format(7 + n)})\n" for n in range(2)))
    assert [part.uuid for part in slices()] == [old.format(7), old.format(8)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", old.format(8))
    assert slices() == [Slice("A100-SXM4-40GB MIG 1g.5gb", old.format(8), "1g.5gb", 0)]
    nvidia_smi(LIST)  # a newer driver takes the older form and does not list it
    assert slices() == [Slice(f"{A100} MIG", old.format(8), "", 0)]


def test_those_that_are_asked_for(nvidia_smi, monkeypatch):
    assert chosen_slices("auto") == ALL
    assert chosen_slices("MIG-edd5a5a7,MIG-41b35414-aa4b-5c38-9c6f-1d8b0a7bd4a1") == [ALL[2], ALL[0]]
    with pytest.raises(UsageError, match="'MIG-41b3' names 2 slices of those here"):
        chosen_slices("MIG-41b3")
    with pytest.raises(UsageError, match=r"'MIG-41b35414-aa4b-5c38-9c6f-1d8b0a7bd4a2' names no slice .*Did you mean"):
        chosen_slices("MIG-41b35414-aa4b-5c38-9c6f-1d8b0a7bd4a2")
    with pytest.raises(UsageError, match="give auto, or UUIDs"):
        chosen_slices(" , ")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with pytest.raises(KitError, match="no MIG slice here among CUDA_VISIBLE_DEVICES='2'"):
        chosen_slices("auto")


def test_a_process_is_told_of_slices_that_it_cannot_use(nvidia_smi, monkeypatch):
    assert "3 MIG slices are here and a process can use one" in unused_slices()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-edd5")
    assert unused_slices() is None


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("NVIDIA A100-SXM4-80GB MIG 1g.20gb", "1g.20gb"),
        ("NVIDIA A100-SXM4-80GB MIG 1c.2g.20gb", "1c.2g.20gb"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", "1g.10gb+me"),
        ("NVIDIA H100 NVL MIG 3g.47gb", "3g.47gb"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition MIG 1g.24gb+me.all", "1g.24gb+me.all"),
        ("NVIDIA GeForce RTX 5090", None),
        ("NVIDIA A100-SXM4-80GB MIG", None),
    ],
)
def test_the_profile_in_a_device_name(name, profile):
    assert mig_profile(name) == profile
