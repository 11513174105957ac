"""What single CUDA kernels allocate besides their results, in bytes. The formulas are from the kernels' sources.

They are checked against the allocations of an H200 (tests/memory/test_measured_on_gpu.py) and published figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from stlm_kit.memory.devices import Device

UNIT = 512  # bytes; the block unit of CUDA's allocator


def up(n: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `n`."""
    return math.ceil(n / multiple) * multiple


def flash_backward_bytes(q: Tensor, k: Tensor) -> int:
    """Bytes of the accumulators in FlashAttention-2's backward kernel (mha_bwd).

    In fp32: the queries' gradient and one dot product for each query, both padded. Where queries share keys, also the
    keys' and values' gradients of each query head, before they are summed.
    """
    batch, heads, length, width = q.shape
    padded = batch * heads * up(length, 128)
    shared = 2 * batch * heads * k.shape[2] * width * k.element_size() if k.shape[1] != heads else 0
    return 4 * padded * up(width, 32) + 4 * padded + shared


def efficient_backward_bytes(q: Tensor) -> list[int]:
    """Bytes that the memory-efficient backward kernel allocates, in two stages (attention_backward.cu).

    First the product whose sum is one dot product for each query, and these sums. Then the sums and the kernel's
    workspace: the queries' gradient in fp32 in tiles of 64 by 64, with 16 bytes before each (GradQTempStorage in
    kernel_backward.h).
    """
    batch, heads, length, width = q.shape
    sums = 4 * batch * heads * length
    tiles = batch * heads * math.ceil(length / 64) * math.ceil(width / 64)
    return [sums * width + sums, sums + tiles * (4 * 64 * 64 + 16)]


def group_norm_backward_bytes(
    grad, x, mean, rstd, weight: Tensor | None, n: int, c: int, hw: int, groups: int, mask: list[bool]
) -> int:
    """Bytes that CUDA's GroupNorm backward kernel allocates (group_norm_kernel.cu).

    Two fp32 sums for each row and channel. For the input's gradient also two numbers for each row and group and, where
    there is a weight, one for each row and channel.
    """
    if hw == 1:
        return 0
    by_channel, by_group = up(4 * n * c, UNIT), up(4 * n * groups, UNIT)  # each is a separate block
    return 2 * by_channel + mask[0] * (2 * by_group + (weight is not None) * by_channel)


def column_sum_bytes(terms: Tensor, dims: Sequence[int], device: Device) -> int:
    """Bytes of the buffer for a sum over a tensor's first dimensions, such as a bias's gradient (Reduce.cuh).

    With many rows and few columns, several blocks of threads share a column. Each block writes its partial sum to
    memory, one number for each thread (setReduceConfig). 0 where one block is enough, and for sums of another form.
    """
    first = sorted(dim % terms.dim() for dim in dims) == list(range(len(dims)))
    rows, columns = math.prod(terms.shape[: len(dims)]), math.prod(terms.shape[len(dims) :])
    if not first or not terms.is_contiguous() or min(rows, columns) < 2:
        return 0
    at_once = next(size for size in (4, 2, 1) if columns % size == 0)  # columns that one thread sums
    most = 512 // at_once  # threads in a block
    across, down = (min(_power_of_two(n), most) for n in (columns // at_once, rows))
    height = min(down, most // min(across, 32))
    width = min(across, most // height)
    each = math.ceil(rows / height)  # numbers that one thread sums
    blocks = math.ceil(columns / at_once / width)
    target = device.multiprocessors * (device.threads_per_multiprocessor // (width * height))
    if rows < height * 16 or each < 256 or blocks > target:
        return 0
    parts = max(min(math.ceil(target / blocks), math.ceil(each / 16)), math.ceil(each / 256))
    return 4 * columns * width * at_once * parts if parts > 1 else 0


def _power_of_two(n: int) -> int:
    """The largest power of two up to n."""
    return 1 << (n.bit_length() - 1)
