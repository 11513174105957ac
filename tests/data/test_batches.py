"""Batches: every token a target once an epoch, no leaks between documents, and nothing but seed and index matters."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stlm_kit import KitError, UsageError
from stlm_kit.data import IGNORE, DocumentBatches, PackedBatches, TokenFile
from stlm_kit.data.tokenizers import ByteTokenizer

BYTES = ByteTokenizer()
END = BYTES.end_of_document
documents = st.lists(st.lists(st.integers(0, 255), max_size=30), min_size=4, max_size=20)


def token_file(documents):
    return TokenFile.from_ids(documents, BYTES, [len(ids) for ids in documents])


TOKENS = token_file([[10 * i + j for j in range(i + 1)] for i in range(20)])  # documents of 1 to 20 tokens


@settings(max_examples=60)
@given(documents, st.integers(1, 3), st.integers(1, 10), st.integers(0, 5))
def test_packed_rows_cover_the_file_once_an_epoch(documents, batch_size, context_length, seed):
    tokens = token_file(documents)
    try:
        batches = PackedBatches(tokens, batch_size, context_length, seed)
    except KitError:
        assert (tokens.n_tokens - 1) // context_length < batch_size
        return
    rows = [row for batch in batches for row in torch.cat([batch.ids, batch.targets[:, -1:]], 1).tolist()]
    whole = tokens.ids.tolist()
    possible = Counter(tuple(whole[i * context_length : (i + 1) * context_length + 1]) for i in range(batches.n_rows))
    assert all(batch.valid_fraction == 1 and batch.documents is None for batch in batches)
    assert not Counter(map(tuple, rows)) - possible and len(rows) == len(batches) * batch_size
    assert batches.n_rows - len(rows) < batch_size


@settings(max_examples=60)
@given(documents, st.integers(1, 10), st.integers(0, 5))
def test_separated_documents_neither_mix_nor_predict_each_other(documents, context_length, seed):
    tokens = token_file(documents)
    if (tokens.n_tokens - 1) // context_length < 1:
        return
    for batch in PackedBatches(tokens, 1, context_length, seed, attend_across_documents=False):
        inputs, targets, numbers = batch.ids[0], batch.targets[0], batch.documents[0]
        is_end = inputs == END
        assert numbers[0] == 0
        assert torch.equal(numbers[1:] - numbers[:-1], is_end[:-1].long())  # a new document after each end
        assert torch.equal(targets == IGNORE, is_end)  # an end token predicts nothing
        kept = (targets != IGNORE)[:-1]
        assert torch.equal(targets[:-1][kept], inputs[1:][kept])


@settings(max_examples=60)
@given(documents, st.integers(1, 12), st.integers(0, 5))
def test_a_document_a_row(documents, context_length, seed):
    tokens = token_file(documents)
    seen = []
    for batch in DocumentBatches(tokens, 1, context_length, seed):
        real = int((batch.targets != IGNORE).sum())
        row = [*batch.ids[0, :1].tolist(), *batch.targets[0, :real].tolist()]
        assert (batch.targets[0, real:] == IGNORE).all() and (batch.ids[0, max(real, 1) :] == END).all()
        assert batch.ids[0, 1:real].tolist() == batch.targets[0, : max(real - 1, 0)].tolist()
        seen.append(tuple(row))
    assert Counter(seen) == Counter(tuple([*ids, END][: context_length + 1]) for ids in documents)


@pytest.mark.parametrize("kind", [PackedBatches, DocumentBatches])
def test_a_batch_depends_on_seed_and_index_alone(kind):
    forward, backward = kind(TOKENS, 3, 8, seed=1), kind(TOKENS, 3, 8, seed=1)
    order = list(range(3 * len(forward)))
    ahead = {i: forward[i] for i in order}
    for i in reversed(order):
        assert torch.equal(backward[i].ids, ahead[i].ids) and torch.equal(backward[i].targets, ahead[i].targets)
    other = kind(TOKENS, 3, 8, seed=2)
    assert any(not torch.equal(other[i].ids, ahead[i].ids) for i in order)


@pytest.mark.parametrize("kind", [PackedBatches, DocumentBatches])
def test_each_epoch_has_its_own_order(kind):
    batches = kind(TOKENS, 2, 8)
    epochs = [
        [tuple(batches[e * len(batches) + i].ids.flatten().tolist()) for i in range(len(batches))] for e in (0, 1)
    ]
    assert epochs[0] != epochs[1]
    assert len(list(batches)) == len(batches)


def test_shares_and_sizes():
    packed, rows = PackedBatches(TOKENS, 4, 8), DocumentBatches(TOKENS, 20, 255)
    assert len(packed) == (TOKENS.n_tokens - 1) // 8 // 4 and len(rows) == 1
    batch = rows[0]
    assert batch.real_targets == sum(range(1, 21)) and batch.valid_fraction == pytest.approx(210 / (20 * 255))
    assert batch.ids.dtype == batch.targets.dtype == torch.long and batch.ids.shape == (20, 255)
    moved = PackedBatches(TOKENS, 4, 8, attend_across_documents=False)[0].to("cpu")
    assert moved.documents.shape == (4, 8) and moved.documents.dtype == torch.long


def test_the_description_states_whether_rows_attend_across_documents():
    assert "rows attend across documents" in PackedBatches(TOKENS, 1, 8).description
    separated = PackedBatches(TOKENS, 1, 8, attend_across_documents=False)
    assert "no token attends across documents" in separated.description
    assert "no token attends across documents" in DocumentBatches(TOKENS, 1, 8).description


def test_a_corpus_shorter_than_one_context():
    with pytest.raises(KitError, match=r"230 tokens, fewer than the 257 of one row; lower context_length"):
        PackedBatches(TOKENS, 1, 256)


def test_a_corpus_smaller_than_one_batch():
    with pytest.raises(KitError, match=r"gives 2 rows of 100 tokens and a batch takes 3; lower batch_size"):
        PackedBatches(TOKENS, 3, 100)
    with pytest.raises(KitError, match="gives 20 documents and a batch takes 21"):
        DocumentBatches(TOKENS, 21, 100)


@pytest.mark.parametrize("kind", [PackedBatches, DocumentBatches])
@pytest.mark.parametrize(
    ("name", "value"), [("context_length", 0), ("batch_size", 0), ("batch_size", 1.0), ("seed", -1)]
)
def test_sizes_that_will_not_do(kind, name, value):
    with pytest.raises(UsageError, match=name):
        kind(TOKENS, **({"batch_size": 1, "context_length": 8} | {name: value}))


def test_a_negative_index():
    with pytest.raises(UsageError, match="no batch -1"):
        PackedBatches(TOKENS, 1, 8)[-1]


def test_batches_do_not_write_through_to_the_file():
    tokens = TokenFile.in_memory(["abcdefghij"], BYTES)
    before = np.array(tokens.ids)
    batch = PackedBatches(tokens, 1, 5)[0]
    batch.ids.fill_(0)
    assert (tokens.ids == before).all()
