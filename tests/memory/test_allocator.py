"""The caching allocator's rules, one by one."""

import pytest

from stlm_kit.memory.allocator import CachingAllocator

KIB, MIB = 2**10, 2**20


@pytest.fixture
def allocator():
    return CachingAllocator()


@pytest.mark.parametrize(
    ("asked", "given", "segment"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (51463168, 50 * MIB, 50 * MIB),  # the study's embedding: 0.92 MiB are too few to be cut off
        (12 * MIB + 512, 14 * MIB - (2 * MIB - 512), 14 * MIB),  # here 2 MiB less 512 bytes are left and cut off
    ],
)
def test_a_first_request(allocator, asked, given, segment):
    assert allocator.allocate(asked).size == given == allocator.allocated
    assert allocator.reserved == segment


def test_the_smallest_block_that_holds_it(allocator):
    large, kept, middle = (allocator.allocate(size * MIB) for size in (40, 12, 20))
    for block in (large, middle):
        allocator.release(block)
    assert allocator.allocate(18 * MIB).address == middle.address
    assert allocator.reserved == 72 * MIB and allocator.allocated == kept.size + 18 * MIB


def test_a_rest_below_one_mebibyte_stays_with_the_block(allocator):
    allocator.release(allocator.allocate(12 * MIB))
    block = allocator.allocate(11 * MIB + 512)
    assert block.size == 12 * MIB
    allocator.release(block)
    assert allocator.allocate(11 * MIB - 512).size == 11 * MIB - 512


def test_freed_neighbours_join(allocator):
    parts = [allocator.allocate(5 * MIB) for _ in range(4)]
    assert allocator.reserved == 20 * MIB
    for place in (0, 2, 1, 3):
        allocator.release(parts[place])
    assert allocator.allocated == 0
    assert allocator.allocate(20 * MIB).address == parts[0].address
    assert allocator.reserved == 20 * MIB


def test_a_hole_between_two_blocks_is_too_small(allocator):
    """Fragmentation: 10 MiB are free, but nowhere in one piece."""
    parts = [allocator.allocate(5 * MIB) for _ in range(4)]
    for place in (0, 2):
        allocator.release(parts[place])
    allocator.allocate(9 * MIB)
    assert allocator.reserved == 40 * MIB


def test_small_requests_have_segments_of_their_own(allocator):
    allocator.release(allocator.allocate(20 * MIB))
    allocator.allocate(4 * KIB)
    assert allocator.reserved == 22 * MIB
