"""Operations below autograd that depend on values that a fake tensor lacks, and the scratch memory of kernels."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from stlm_kit.memory.devices import Device, device_named
from stlm_kit.memory.kernel_sizes import (
    column_sum_bytes,
    efficient_backward_bytes,
    flash_backward_bytes,
    group_norm_backward_bytes,
)
from stlm_kit.memory.known_values import KnownValues
from stlm_kit.memory.recording import MIB
from stlm_kit.memory.refusals import refuse_sparse

aten = torch.ops.aten
Kernel = Callable[..., object]

HERE, WRAPPERS = str(Path(__file__).parent), ("eval_frame.py", "_compile.py")
ELEMENTWISE = {aten.add, aten.add_, aten.sub, aten.sub_, aten.mul, aten.mul_, aten.div, aten.div_}
SUMS = {aten.sum.default, aten.sum.dim_IntList, aten.mean.default, aten.mean.dim}
MATMULS = {aten.mm.default, aten.bmm.default, aten.addmm.default, aten.baddbmm.default, aten.addmv.default}


# Autograd adds the gradient of an indexing into zeros that it made. Under a dispatch mode it copies them instead.
INTO_ZEROS = {
    aten.index_add.default: aten.index_add_.default,
    aten.scatter.src: aten.scatter_.src,
    aten.scatter.value: aten.scatter_.value,
    aten.scatter_add.default: aten.scatter_add_.default,
    aten.masked_scatter.default: aten.masked_scatter_.default,
    aten.put.default: aten.put_.default,
}


def as_unwatched(func: Kernel, args: tuple, kwargs: dict, in_backward: bool):
    """Compute an operation as autograd does without a dispatch mode.

    Under a dispatch mode autograd writes nothing in place. Without one, it adds the gradient of an indexing into zeros
    that it made. And it adds a tensor's second gradient into the first, unless something else still needs the first.
    """
    if in_backward and func is aten.index_put.default and _called_by_engine():  # its caller holds the zeros, too
        aten.index_put_.default(*args, **kwargs)
        return args[0]
    if in_backward and func in INTO_ZEROS and _is_autograds(args[0]):
        INTO_ZEROS[func](*args, **kwargs)
        return args[0]
    if in_backward and func is aten.add.Tensor and _adds_gradients(*args, **kwargs):
        return aten.add_.Tensor(*args)
    return func(*args, **kwargs)


def _adds_gradients(first: Tensor, second: object, **more) -> bool:
    """Whether autograd's engine requests this sum and nothing else holds `first` (input_buffer.cpp)."""
    like = isinstance(second, Tensor) and first.shape == second.shape and first.dtype == second.dtype and not more
    if not like or torch.is_grad_enabled() or not torch._prims_common.is_non_overlapping_and_dense_or_false(first):
        return False
    return _is_autograds(first)


def _is_autograds(tensor: Tensor) -> bool:
    """Whether only autograd holds a tensor, and no user function requests the operation."""
    storage = tensor.untyped_storage()  # held by the tensor and by this name
    unshared = torch._C._storage_Use_Count(storage._cdata) <= 2 and tensor._use_count() <= 4
    return unshared and _called_by_engine()


def _called_by_engine() -> bool:
    """Whether no user function in Python (a custom backward) is between the engine and this call."""
    frame = sys._getframe(1)
    while frame and (frame.f_code.co_filename.startswith(HERE) or frame.f_code.co_filename.endswith(WRAPPERS)):
        frame = frame.f_back  # the tracker, and torch's wrapper around every dispatch mode
    return frame is None or frame.f_code.co_name == "_engine_run_backward"  # None: in a thread of the engine


class WithoutValues:
    """Computes operations on fake tensors that need values, with assumed values.

    A mask is true for `share` of its entries, the share of real targets. A number that is read back has the value that
    `read_back` gives for its tensor, else the known value (known_values.py), else 1 or True. UsageError for a sparse
    tensor.
    """

    def __init__(self, share: float = 1.0, read_back: Callable[[Tensor], float | None] | None = None) -> None:
        self.share = share
        self.guessed = False  # whether a number was read back without a known value
        self._read_back, self._known = read_back, KnownValues()

    def __call__(self, func: Kernel, args: tuple, kwargs: dict, in_backward: bool):
        if func is aten._local_scalar_dense.default:
            return self._number(args[0])
        out = self._computed(func, args, kwargs, in_backward)
        self._known.note(func, args, out)
        if isinstance(out, Tensor) and out.layout != torch.strided:
            refuse_sparse()
        return out

    def _number(self, tensor: Tensor) -> float:
        told = self._read_back(tensor) if self._read_back else None
        value = self._known.of(tensor) if told is None else told
        self.guessed |= value is None
        kind = bool if tensor.dtype == torch.bool else float if tensor.dtype.is_floating_point else int
        return kind(1 if value is None else value)

    def _computed(self, func: Kernel, args: tuple, kwargs: dict, in_backward: bool):
        if func is aten.nonzero.default:
            return self._true_entries(args[0])
        if func is aten.masked_select.default:
            return args[0].new_empty(self._count(args[1]))
        if func is aten.index.Tensor:
            args = args[0], self._numbered(args[1])
        elif func in (aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default):
            args = args[0], self._numbered(args[1], args[2].shape[0] if args[2].dim() else None), *args[2:]
        return as_unwatched(func, args, kwargs, in_backward)

    def _count(self, mask: Tensor) -> int:
        return round(self.share * mask.numel())

    def _true_entries(self, mask: Tensor, n_rows: int | None = None) -> Tensor:
        rows = self._count(mask) if n_rows is None else n_rows
        return mask.new_empty((rows, mask.dim()), dtype=torch.int64)

    def _numbered(self, indices: list[Tensor | None], n_rows: int | None = None) -> list[Tensor | None]:
        """Masks replaced by the positions of their true entries, one tensor for each dimension."""
        found: list[Tensor | None] = []
        for index in indices:
            is_mask = index is not None and index.dtype in (torch.bool, torch.uint8)
            found.extend(self._true_entries(index, n_rows).unbind(1) if is_mask else [index])
        return found


class CudaScratch:
    """What CUDA kernels allocate besides their results: (name, bytes, whether it stays).

    Each thread that multiplies matrices creates a cuBLAS handle with a workspace. Where cuBLASLt has its own workspace,
    it is created at the thread's first matmul with a bias. Autograd's backward pass has its own thread, which adds a
    bias only with checkpointing. So checkpointing cost 1 MiB more in torch 2.9, the difference that the memory study
    recorded at every batch size.
    """

    def __init__(self, device: Device | None = None) -> None:
        self._device = device = device_named(device)
        self._cublas, self._cublaslt = round(device.cublas_mib * MIB), round(device.cublaslt_mib * MIB)
        self._have: set[tuple[str, bool]] = set()

    def __call__(self, func: Kernel, args: tuple, out: object, in_backward: bool) -> Iterator[tuple[str, int, bool]]:
        if func in MATMULS:
            yield from _copied_matrices(args)
            yield from self._once("cuBLAS workspace", self._cublas, in_backward)
            if self._cublaslt and func is aten.addmm.default and args[0].dim() == 1:
                yield from self._once("cuBLASLt workspace", self._cublaslt, in_backward)
        else:
            yield from _in_both(func, args)
        if func in SUMS:
            if args[0].dtype not in (torch.bfloat16, torch.float16):
                yield from _converted_for_sum(args[0], out)
            dims = args[1] if len(args) > 1 and args[1] is not None else ()
            if n_bytes := column_sum_bytes(args[0], dims, self._device):
                yield "parts of a sum", n_bytes, False
        if func is aten._scaled_dot_product_flash_attention_backward.default:
            yield "flash attention's accumulators", flash_backward_bytes(*args[1:3]), False
        elif func is aten._scaled_dot_product_efficient_attention_backward.default:
            for n_bytes in efficient_backward_bytes(args[1]):
                yield "efficient attention's accumulators", n_bytes, False
        elif func is aten._softmax_backward_data.default:
            yield "gradient times weights", args[0].numel() * args[0].element_size(), False
        elif func is aten.native_group_norm_backward.default:
            yield "sums by channel and group", group_norm_backward_bytes(*args), False

    def _once(self, name: str, n_bytes: int, in_backward: bool) -> Iterator[tuple[str, int, bool]]:
        if (name, in_backward) not in self._have:
            self._have.add((name, in_backward))
            yield name, n_bytes, True


class CpuScratch:
    """What CPU kernels allocate besides their results, temporarily.

    Elementwise kernels compute in one type. Operands of another type are first converted as a whole, where CUDA
    converts each number as it is read (TensorIterator.cpp). 32-bit indices are converted to 64 bits.
    """

    def __call__(self, func: Kernel, args: tuple, out: object, in_backward: bool) -> Iterator[tuple[str, int, bool]]:
        if func.overloadpacket in ELEMENTWISE:
            tensors = [arg for arg in args if isinstance(arg, Tensor) and arg.dim()]  # a single number does not count
            if len({tensor.dtype for tensor in tensors}) > 1:
                common = functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
                others = sum(tensor.numel() for tensor in tensors if tensor.dtype != common)
                yield "operands converted", others * common.itemsize, False
        elif func in SUMS:
            yield from _converted_for_sum(args[0], out)
        elif func in (aten.mm.default, aten.addmm.default):
            yield from _copied_matrices(args)
        elif func is aten.index.Tensor:
            short = [index for index in args[1] if index is not None and index.dtype == torch.int32]
            if n_bytes := sum(8 * index.numel() for index in short):
                yield "indices converted", n_bytes, False
        else:
            yield from _in_both(func, args)


def _converted_for_sum(terms: Tensor, out: Tensor) -> Iterator[tuple[str, int, bool]]:
    """A sum in another type first converts all its terms. Only CUDA's sum from 16 bits to fp32 does not (ReduceOps)."""
    if terms.dtype != out.dtype:
        yield "terms converted", terms.numel() * out.element_size(), False


def _copied_matrices(args: tuple) -> Iterator[tuple[str, int, bool]]:
    """Copies for BLAS of matrices that are contiguous neither by row nor by column, such as an expanded gradient."""
    for matrix in args[-2:] if isinstance(args[-1], Tensor) else args:
        if isinstance(matrix, Tensor) and matrix.dim() >= 2:
            (rows, columns), (row, column) = matrix.shape[-2:], matrix.stride()[-2:]
            if not ((column == 1 and row >= max(1, columns)) or (row == 1 and column >= max(1, rows))):
                yield "a matrix copied for BLAS", matrix.numel() * matrix.element_size(), False


def _in_both(func: Kernel, args: tuple) -> Iterator[tuple[str, int, bool]]:
    """What composite operations allocate in their parts, which a dispatch mode does not see."""
    if func is aten.logsumexp.default:
        yield "scores less their maximum", args[0].numel() * args[0].element_size(), False
    elif func is aten._safe_softmax.default:
        yield "a look for rows of nothing", args[0].numel(), False
