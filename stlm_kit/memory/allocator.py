"""A replay of CUDA's caching allocator: the block size for each request, and what is reserved from the device.

The rules are those of torch's CUDACachingAllocator without options. A request is rounded up to 512 bytes and served by
the smallest free block that holds it. Blocks are cut from segments: 2 MiB for requests up to 1 MiB, 20 MiB for requests
below 10 MiB, and otherwise the request rounded up to 2 MiB. A remainder that is too small to be useful stays with its
block. Free neighbours are merged.

If the device has no more memory, every segment that is wholly free is returned to it first (release_cached_blocks).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass

from stlm_kit.memory.recording import Allocation, Recording

UNIT = 512
SMALL = 2**20  # requests up to this size use the small pool
SMALL_SEGMENT, LARGE_SEGMENT = 2 * 2**20, 20 * 2**20
OWN_SEGMENT, SEGMENT_UNIT = 10 * 2**20, 2 * 2**20


class NoRoom(Exception):
    """The device's memory cannot hold a request, even after all cached segments are returned."""


@dataclass(slots=True, eq=False)
class Block:
    """A part of a segment, linked to its neighbours."""

    address: int
    size: int
    small: bool
    free: bool = False
    before: Block | None = None
    after: Block | None = None


class CachingAllocator:
    """The GPU's allocator, with `allocated` and `reserved` in bytes.

    At most `limit` bytes are reserved. `allocate` raises NoRoom where that is too little.
    """

    def __init__(self, limit: float = math.inf) -> None:
        self.limit = limit
        self.allocated = self.reserved = 0
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}  # by pool: (size, address), sorted
        self._at: dict[int, Block] = {}  # the free blocks by address
        self._top = 0

    def allocate(self, n_bytes: int) -> Block:
        """A block of at least `n_bytes` bytes. Raises NoRoom where the limit is too low."""
        size = max(UNIT, _up(n_bytes, UNIT))
        small = size <= SMALL
        block = self._best(size, small) or self._segment(size, small)
        rest = block.size - size
        if rest >= UNIT if small else rest > SMALL:
            self._cut(block, size)
        block.free = False
        self.allocated += block.size
        return block

    def release(self, block: Block) -> None:
        """Free a block and merge it with free neighbours."""
        self.allocated -= block.size
        block.free = True
        if (before := block.before) and before.free:
            self._forget(before)
            block.address, block.size, block.before = before.address, block.size + before.size, before.before
            if block.before:
                block.before.after = block
        if (after := block.after) and after.free:
            self._forget(after)
            block.size, block.after = block.size + after.size, after.after
            if block.after:
                block.after.before = block
        self._offer(block)

    def _best(self, size: int, small: bool) -> Block | None:
        free = self._free[small]
        place = bisect_left(free, (size, -1))
        if place == len(free):
            return None
        block = self._at[free[place][1]]
        self._forget(block)
        return block

    def _segment(self, size: int, small: bool) -> Block:
        length = SMALL_SEGMENT if small else LARGE_SEGMENT if size < OWN_SEGMENT else _up(size, SEGMENT_UNIT)
        if self.reserved + length > self.limit:
            self._give_back()
            if self.reserved + length > self.limit:
                raise NoRoom
        self.reserved += length
        self._top += length
        return Block(self._top - length, length, small)

    def _give_back(self) -> None:
        for block in [block for block in self._at.values() if block.before is None and block.after is None]:
            self._forget(block)
            self.reserved -= block.size

    def _cut(self, block: Block, size: int) -> None:
        rest = Block(block.address + size, block.size - size, block.small, True, before=block, after=block.after)
        if rest.after:
            rest.after.before = rest
        block.size, block.after = size, rest
        self._offer(rest)

    def _offer(self, block: Block) -> None:
        insort(self._free[block.small], (block.size, block.address))
        self._at[block.address] = block

    def _forget(self, block: Block) -> None:
        free = self._free[block.small]
        del free[bisect_left(free, (block.size, block.address))]
        del self._at[block.address]


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


@dataclass(frozen=True)
class Replay:
    """Bytes allocated and reserved after each event, and the bytes of the block that each allocation received."""

    allocated: list[int]
    reserved: list[int]
    given: dict[Allocation, int]


def replay(recording: Recording) -> Replay:
    """The recording's events as CUDA's allocator would serve them."""
    allocator, blocks = CachingAllocator(), {}
    allocated, reserved, given = [], [], {}
    for allocation, sign in recording.events:
        if sign > 0:
            blocks[allocation] = allocator.allocate(allocation.n_bytes)
            given[allocation] = blocks[allocation].size
        else:
            allocator.release(blocks.pop(allocation))
        allocated.append(allocator.allocated)
        reserved.append(allocator.reserved)
    return Replay(allocated, reserved, given)


def least(recording: Recording) -> int:
    """The least memory, in bytes, that is enough for the recording's events, to one part in 500.

    It is less than what an unlimited device reserves, because an allocator that runs short returns its cached segments.
    """
    served = replay(recording)
    low, high = max(served.allocated, default=0), max(served.reserved, default=0)
    while high - low > max(SEGMENT_UNIT, high // 500):
        middle = (low + high) // 2
        low, high = (low, middle) if _is_served(recording, middle) else (middle, high)
    return high


def _is_served(recording: Recording, limit: int) -> bool:
    allocator, blocks = CachingAllocator(limit), {}
    try:
        for allocation, sign in recording.events:
            if sign > 0:
                blocks[allocation] = allocator.allocate(allocation.n_bytes)
            else:
                allocator.release(blocks.pop(allocation))
    except NoRoom:
        return False
    return True


def as_asked(recording: Recording) -> Replay:
    """The same for the CPU's allocator, which gives exactly the requested bytes and caches nothing."""
    total, allocated, given = 0, [], {}
    for allocation, sign in recording.events:
        total += sign * allocation.n_bytes
        allocated.append(total)
        given[allocation] = allocation.n_bytes
    return Replay(allocated, allocated, given)
