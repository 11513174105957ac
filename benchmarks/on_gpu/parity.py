"""Does a GPU compute what the specification says? Attention kernels, recipes, resumed and repeated runs."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import stlm_kit as kit
from on_gpu.cases import Case, unavailable
from on_gpu.learning import KINDS, RESUMED, killed_and_resumed, trained_twice
from stlm_kit.data.batches import IGNORE
from stlm_kit.model import attention
from stlm_kit.training.optimizer import build_optimizer
from stlm_kit.training.step import Step

# The largest relative error of a vector against float64: roundings of operands, twice over, and of the result.
BOUNDS = {"fp32": 2.0**-17, "tf32": 2.0**-9, "bf16": 2.0**-6, "fp16": 2.0**-9}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
KERNELS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
NO_KERNEL = ("No available kernel", "No viable backend")  # as torch says that a kernel takes no such mask or type
ATTENTION = ["eager", *(f"sdpa-{kernel}" for kernel in KERNELS), "flex", "flash", "hub"]
RECIPES = """tf32 bf16 fp16 chunked masked valid checkpoint selective tiled foreach chunked+tiled bf16+chunked
    bf16+checkpoint fp16+chunked in-backward flex bf16+flex bf16+flash 8bit 8bit+in-backward""".split()  # noqa: SIM905
COMPILED = ("chunked", "bf16")
VOCABULARY = 1024
EXACT = 2.0**-15  # sums in another order; the update divides by a root of squares, which widens it


def cases(device: torch.device) -> Iterator[Case]:
    compiled_by_torch = [name for name in RECIPES if "8bit" in name]  # these take the longest, so they come last
    for name in RECIPES:
        if name not in compiled_by_torch:
            yield _recipe(name, False, device)
    yield Case("attention.choice", {"shape": "2 rows, 2 heads, 64 wide"}, partial(chosen_kernels, device))
    for name, precision in product(ATTENTION, DTYPES):
        asked = {"attention": name, "precision": precision, "shape": "2 rows, 4 heads on 2, 64 wide"}
        yield Case(f"attention.{name}.{precision}", asked, partial(attention_parity, name, precision, device))
    yield Case("repeated", {"training": "deterministic"}, partial(trained_twice, device))
    for kind in RESUMED if device.type == "cuda" else RESUMED[:1]:
        yield Case(f"resumed.{kind}", {"training": kind}, partial(resumed_parity, kind, device))
    for name in compiled_by_torch:
        yield _recipe(name, False, device)
    for name in COMPILED if device.type == "cuda" else ():  # a processor compiles for longer than it rehearses
        yield _recipe(name, True, device)


def _recipe(name: str, compiled: bool, device: torch.device) -> Case:
    asked = {"recipe": name, "compiled": compiled, "preset": "laptop-llama"}
    return Case(
        f"recipe.{name}{'.compiled' if compiled else ''}", asked, partial(recipe_parity, name, compiled, device)
    )


# --- attention ---


def attention_parity(name: str, precision: str, device: torch.device) -> dict[str, Any]:
    """Output and gradients of one kernel against the eager one in float64, over masks: the largest error of each."""
    attend, reason = _kernel(name, precision, device)
    if attend is None:
        return {"unavailable": reason}
    length = 320 if device.type == "cuda" else 40
    runs = torch.arange(length, device=device).div(length // 3, rounding_mode="floor").expand(2, -1)
    worst, refused = {"out": 0.0, "gradient": 0.0}, []
    for masked, (window, documents) in {
        "causal": (None, None),
        "window": (17, None),
        "documents": (None, runs),
    }.items():
        q, k, v, gradient = _drawn(length, DTYPES[precision], device)
        expected = _with_gradients(attention.eager, *(x.double() for x in (q, k, v, gradient)), window, documents)
        try:
            found = _with_gradients(attend, q, k, v, gradient, window, documents)
        except RuntimeError as error:
            if not any(words in str(error) for words in NO_KERNEL):
                raise
            refused.append(masked)
            continue
        errors = [distance(mine, own) for mine, own in zip(found, expected, strict=True)]
        worst = {"out": max(worst["out"], errors[0]), "gradient": max(worst["gradient"], *errors[1:])}
    if len(refused) == 3:
        return {"unavailable": "torch offers this kernel for none of the three masks"}
    bound = BOUNDS[precision]
    return {"ok": max(worst.values()) <= bound, **worst, "bound": bound, "refused": " ".join(refused) or "none"}


def chosen_kernels(device: torch.device) -> dict[str, Any]:
    """Which of its kernels torch takes by itself, by precision; a window is a mask of booleans to it."""
    found = {}
    for precision, dtype in DTYPES.items():
        q, k, v, _ = (x[:, :2].contiguous() for x in _drawn(64, dtype, device))
        mask = attention.visible(64, window=5, device=device)
        for name, how in {"causal": {"is_causal": True}, "window": {"attn_mask": mask}}.items():
            choice = SDPBackend(torch._fused_sdp_choice(q, k, v, **how))
            found[f"{precision}_{name}"] = choice.name.lower().removesuffix("_attention")
    return found


def _kernel(name: str, precision: str, device: torch.device) -> tuple[Callable[..., Tensor] | None, str]:
    """A kernel by name, or None and why there is none."""
    if name.startswith("sdpa-"):
        kernel = KERNELS[name.removeprefix("sdpa-")]

        def attend(*args):
            with sdpa_kernel(kernel):
                return attention.sdpa(*args)

        return attend, ""
    if name == "hub":
        return _from_the_hub(precision)
    if name == "flash" and precision == "fp32":
        return None, "flash-attn computes in 16 bits"
    reason = attention.unavailable(name) if device.type == "cuda" or name != "eager" else None
    return (None, reason) if reason else (attention.BACKENDS[name], "")


def _from_the_hub(precision: str) -> tuple[Callable[..., Tensor] | None, str]:
    """FlashAttention as the package `kernels` brings it, where it is on the machine already."""
    if importlib.util.find_spec("kernels") is None:
        return None, "the package kernels is not installed"
    if precision == "fp32":
        return None, "flash-attn computes in 16 bits"
    import kernels

    try:
        found = kernels.get_kernel("kernels-community/flash-attn2")
    except Exception as error:
        return None, f"the kernel could not be loaded ({type(error).__name__})"

    def attend(q, k, v, window, documents):
        if documents is not None:
            raise RuntimeError("No available kernel: documents are not asked of it")
        reach = (-1 if window is None else window, 0)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return found.flash_attn_func(q, k, v, causal=True, window_size=reach).transpose(1, 2)

    return attend, ""


def _drawn(length: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """q, k, v and a gradient of the output: [2, heads, length, 64], four heads of queries and two of keys."""
    generator = torch.Generator().manual_seed(length)
    shapes = [(2, heads, length, 64) for heads in (4, 2, 2, 4)]
    return tuple(torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)


def _with_gradients(attend: Callable, q: Tensor, k: Tensor, v: Tensor, gradient: Tensor, *mask) -> list[Tensor]:
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    out = attend(q, k, v, *mask)
    return [out, *torch.autograd.grad(out, (q, k, v), gradient)]


# --- recipes ---


def recipe_parity(name: str, compiled: bool, device: torch.device) -> dict[str, Any]:
    """Loss, gradient and weights after three steps, beside the plain fp32 step on the same device."""
    recipe = kit.Recipe.named(name)
    if reason := unavailable(recipe, device):
        return {"unavailable": reason}
    clip = 0.0 if recipe.update == "in_backward" else 1.0
    loss, gradient, moved = three_steps("eager", device, clip)
    found = three_steps(name, device, clip, compiled)
    errors = {
        "loss": abs(found[0] - loss) / loss,
        "gradient": distance(found[1], gradient) if recipe.update == "after" else 0.0,
        "update": distance(found[2], moved),
    }
    bound = max(recipe.bound, EXACT)
    return {"ok": max(errors.values()) <= bound, **errors, "bound": bound}


def resumed_parity(kind: str, device: torch.device) -> dict[str, Any]:
    reason = unavailable(kit.Recipe.named(KINDS[kind].recipe), device)
    return {"unavailable": reason} if reason else killed_and_resumed(kind, device)


def three_steps(name: str, device: torch.device, clip: float, compiled: bool = False) -> tuple[float, Tensor, Tensor]:
    """(the first loss, its gradient as one vector, how far the weights have moved after three steps)."""
    on_gpu = device.type == "cuda"
    length, rows, changes = (128, 8, {}) if on_gpu else (32, 2, {"n_layers": 1, "d_model": 64, "d_ff": 128})
    config = kit.preset("laptop-llama", vocab_size=VOCABULARY, context_length=length, dropout=0.0, **changes)
    torch.manual_seed(0)
    model = kit.Decoder(config).to(device).train()
    at_first = flat(model.parameters())
    recipe = kit.Recipe.named(name)
    settings = kit.TrainingSettings(learning_rate=1e-3, epsilon=1e-3)  # mild: else a first step is a sign
    step = Step(model, build_optimizer(model, settings, recipe), recipe, clip=clip, compile=compiled)
    ids = torch.randint(0, VOCABULARY, (rows, length + 1), generator=torch.Generator().manual_seed(1))
    batch = kit.Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
    batch.targets[:, : length // 4] = IGNORE
    loss = float(step.compute(batch))
    scale = step.scaler.get_scale() if step.scaler else 1.0
    gradients = [parameter.grad for parameter in model.parameters()]
    gradient = torch.zeros(1) if None in gradients else flat(gradients) / scale
    step.update()
    for number in (2, 3):
        step(batch, number)
    return loss, gradient, flat(model.parameters()) - at_first


def flat(tensors) -> Tensor:
    """All of them as one float64 vector on the CPU."""
    return torch.cat([tensor.detach().double().flatten().cpu() for tensor in tensors])


def distance(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected| as vectors; infinite where a number is none."""
    found, expected = found.detach().double(), expected.detach().double()
    relative = ((found - expected).norm() / expected.norm()).item()
    return relative if math.isfinite(relative) else math.inf
