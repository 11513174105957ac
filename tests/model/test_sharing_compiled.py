"""torch.compile of layers that share weights: one graph, and the losses and gradients of the model as it is written."""

import getpass
import tempfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from stlm_kit.model import Decoder
from stlm_kit.training.compilation import cannot_compile

from .conftest import stir, tiny
from .test_sharing import PATTERNS

CANNOT = cannot_compile("cpu", Path(torch.__file__).parent)


@pytest.fixture(autouse=True)
def _compiled_anew(monkeypatch):
    """Each test compiles its own models. What was compiled for another processor gives wrong numbers: a cache each."""
    cache = f"stlm-compiled-{getpass.getuser()}-{torch.backends.cpu.get_cpu_capability()}"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / cache))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def loss_and_gradients(model, function, ids):
    model.zero_grad()
    loss = F.cross_entropy(function(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def check_compiled(ids, backend: str, **settings) -> None:
    """The same loss and gradients in float64, before and after the weights change in place, as an update does."""
    model = stir(Decoder(tiny(n_layers=3, **settings))).double()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for _ in range(2):
        loss, gradients = loss_and_gradients(model, model, ids)
        found, theirs = loss_and_gradients(model, compiled, ids)
        assert found.item() == pytest.approx(loss.item(), rel=1e-12)
        assert gradients.keys() == theirs.keys()
        for name, gradient in gradients.items():
            assert gradient.abs().max() > 0, name
            assert torch.allclose(theirs[name], gradient, rtol=1e-10, atol=1e-13), name
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.1 * parameter.grad)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    "extras", [{}, {"lora_rank": 2, "factor_rank": 3, "layer_index": True}], ids=["plain", "extras"]
)
def test_what_torch_captures_computes_the_same(pattern, extras, ids):
    """Forward and backward graphs as torch.compile captures them, run without generated code, which takes minutes."""
    check_compiled(ids, "aot_eager", sharing=pattern, **extras)


@pytest.mark.skipif(CANNOT is not None, reason="cannot compile here")
@pytest.mark.parametrize(
    "settings",
    [
        {"sharing": "all", "layer_index": True},
        {"sharing": "feed-forward", "lora_rank": 2, "factor_rank": 3, "layer_index": True},
    ],
    ids=["whole blocks", "parts of blocks"],
)
def test_generated_code_computes_the_same(settings, ids):
    check_compiled(ids, "inductor", **settings)
