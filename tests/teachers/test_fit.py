"""The memory of a teacher and a student: predicted before anything loads, and refused with what would fit."""

import pytest
import torch

from stlm_kit import Decoder, KitError, UsageError, predict_peak
from stlm_kit.config import DecoderConfig
from stlm_kit.memory import measure_peak
from stlm_kit.model import export_to_hf
from stlm_kit.teachers import teacher_and_student
from stlm_kit.teachers.fit import short_distillation, stand_in, stored_mib, teacher_config
from stlm_kit.teachers.packed import pack
from stlm_kit.training.distillation import DistillationLoss

LLAMA = {"norm": "rmsnorm", "positions": "rotary", "feed_forward": "swiglu", "bias": False, "tied_head": True}
STUDENT = DecoderConfig(vocab_size=2048, context_length=64, n_layers=2, d_model=64, n_heads=4, d_ff=128, **LLAMA)
TEACHER = DecoderConfig(vocab_size=2048, context_length=64, n_layers=6, d_model=192, n_heads=6, d_ff=512, **LLAMA)
QWEN = "Qwen/Qwen3-8B"


def test_qwen3_in_16_bits_takes_what_is_published():
    """8,190,735,360 weights of two bytes, and the tables of 40,960 rotary positions: 64 cosines and sines each."""
    tables = 2 * 40_960 * 64 * 4
    assert stored_mib(teacher_config(QWEN), torch.bfloat16) * 2**20 == 2 * 8_190_735_360 + tables
    # 6,945,767,424 weights in the blocks' matrices; each 64 of them have a scale and a minimum of two bytes
    saved = 6_945_767_424 * (2 - 0.5 - 4 / 64)
    assert stored_mib(teacher_config(QWEN), torch.bfloat16, 4) * 2**20 == 2 * 8_190_735_360 + tables - saved


@pytest.mark.parametrize("bits", [None, 8, 4])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_the_prediction_is_what_is_measured(bits, batch_size):
    def measured_loss():
        torch.manual_seed(0)
        teacher = Decoder(TEACHER).eval().requires_grad_(False)
        return DistillationLoss(teacher if bits is None else pack(teacher, bits))

    made = stand_in(TEACHER, torch.float32, bits)
    sizes = STUDENT, "fp32", batch_size, 64
    found = predict_peak(*sizes, span="step", semantics="cpu", loss=lambda: DistillationLoss(made()))
    measured = measure_peak(*sizes, span="step", loss=measured_loss, device="cpu")
    assert found.peak_allocated_mib == pytest.approx(measured.peak_allocated_mib, rel=0.005)
    assert found.by_category["parameters"] > stored_mib(TEACHER, torch.float32, bits)


@pytest.mark.parametrize("bits", [None, 4])
def test_two_layers_of_the_teacher_have_the_peak_of_all(bits):
    made = stand_in(TEACHER, torch.bfloat16, bits)
    peaks = [
        predict_peak(STUDENT, "bf16", 4, 64, span="step", loss=lambda make=make: make(made())).needed_mib
        for make in (DistillationLoss, short_distillation(STUDENT.vocab_size))
    ]
    assert peaks[0] == peaks[1]


def test_a_pair_that_fits():
    fit = teacher_and_student(TEACHER, STUDENT, "bf16", 4, 64, 500.0)
    assert fit.teacher_mib == stored_mib(TEACHER, torch.bfloat16)
    assert fit.student_mib + fit.teacher_mib < fit.together_mib <= fit.budget_mib == 500.0
    assert fit.report.span == "step"


def test_qwen3_and_a_student_in_20_gb():
    """Qwen3-8B in bf16 leaves no room for a student that trains on many rows; in 4 bits it does."""
    with pytest.raises(KitError) as refused:
        teacher_and_student(QWEN, "gpt2-small", "bf16+checkpoint+chunked", 16, 512, "mig-20gb")
    said = str(refused.value)
    assert "15.28 GiB of it the teacher's weights, and mig-20gb offers" in said and "\n" not in said
    assert "the teacher in 8 bits (bits=8)" in said and "outputs from a cache (the student alone takes" in said
    fit = teacher_and_student(QWEN, "gpt2-small", "bf16+checkpoint+chunked", 16, 512, "mig-20gb", bits=8)
    assert fit.together_mib <= fit.budget_mib


def test_fewer_rows_are_named_where_they_fit():
    with pytest.raises(KitError, match=r"batches of (\d+) \(more") as refused:
        teacher_and_student(TEACHER, STUDENT, "fp32", 512, 64, 200.0)
    fewer = int(str(refused.value).split("batches of ")[1].split()[0])
    teacher_and_student(TEACHER, STUDENT, "fp32", fewer, 64, 200.0)
    with pytest.raises(KitError):
        teacher_and_student(TEACHER, STUDENT, "fp32", 2 * fewer, 64, 200.0)


def test_nothing_would_fit():
    with pytest.raises(KitError, match="take a smaller student or a larger GPU"):
        teacher_and_student(TEACHER, STUDENT, "fp32", 1, 64, 2.0)


def test_a_loss_of_your_own_is_counted():
    class Projecting(DistillationLoss):
        def __init__(self, teacher):
            super().__init__(teacher)
            self.projection = torch.nn.Linear(512, 2048, bias=False)

        def forward(self, model, batch, step):
            value = super().forward(model, batch, step)
            return value._replace(nats=value.nats + self.projection.weight.square().sum())

    fits = [teacher_and_student(TEACHER, STUDENT, "fp32", 4, 64, loss=loss) for loss in (None, Projecting)]
    more = fits[1].report.peak_allocated_mib - fits[0].report.peak_allocated_mib
    assert more >= 3 * 4 * 512 * 2048 / 2**20  # the weights and AdamW's two moments


def test_configurations_by_name_and_folder(tmp_path):
    assert teacher_config("smollm2-135m").n_layers == 30
    assert teacher_config(QWEN).d_model == 4096
    assert teacher_config("gpt2-small").n_layers == 12
    assert teacher_config(TEACHER) is TEACHER
    export_to_hf(Decoder(STUDENT), tmp_path / "hf")
    assert teacher_config(tmp_path / "hf").d_model == 64
    with pytest.raises(UsageError, match="no preset"):
        teacher_config("nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(KitError, match=r"holds no config\.json"):
        teacher_config(tmp_path / "empty")


@pytest.mark.parametrize("budget", [0, -1.0, True, float("nan"), "no-gpu"])
def test_a_budget_that_will_not_do(budget):
    with pytest.raises(UsageError):
        teacher_and_student(TEACHER, STUDENT, "fp32", 1, 64, budget)
