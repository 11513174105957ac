"""Perplexity and bits per byte against an independent computation, token by token."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import stlm_kit as kit
from stlm_kit.data.token_files import TokenFile
from stlm_kit.evaluation import perplexity
from stlm_kit.evaluation.perplexity import Perplexity, evaluate_text, evaluate_tokens

TOKENIZER = kit.load_tokenizer("bytes")
TEXTS = ["To be, or not to be", "Zażółć gęślą jaźń", "x", "that is the question: " * 4]


@pytest.fixture(scope="module")
def model() -> kit.Decoder:
    torch.manual_seed(0)
    config = kit.preset("laptop-gpt2", n_layers=1, d_model=16, n_heads=2, d_ff=32, context_length=24, init_std=0.3)
    return kit.Decoder(config).eval()


@torch.no_grad()
def by_hand(model, text: str, context_length: int) -> float:
    """Nats of a text: each target's cross-entropy, one forward pass a window, nothing batched or padded."""
    ids = [TOKENIZER.end_of_document, *text.encode()]
    nats = 0.0
    for start in range(0, len(ids) - 1, context_length):
        window = torch.tensor(ids[start : start + context_length + 1])
        nats += F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="sum").item()
    return nats


@pytest.mark.parametrize("context_length", [24, 7, 1])
def test_nats_and_bits_per_byte_match_an_independent_computation(model, context_length):
    found = evaluate_text(model, TOKENIZER, TEXTS, context_length=context_length, batch_size=3)
    nats = sum(by_hand(model, text, context_length) for text in TEXTS)
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert (found.n_targets, found.n_bytes) == (n_bytes, n_bytes)  # a byte is a token here, and the end is none
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(nats / n_bytes), rel=1e-5)


@settings(max_examples=15)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=4).filter(any), batch_size=st.integers(1, 5))
def test_batching_and_padding_never_count(model, texts, batch_size):
    together = evaluate_text(model, TOKENIZER, texts, batch_size=batch_size)
    apart = [evaluate_text(model, TOKENIZER, [text], batch_size=1) for text in texts if text]
    assert together.nats == pytest.approx(sum(one.nats for one in apart), rel=1e-4)
    assert together.n_targets == sum(len(text.encode()) for text in texts)


def test_a_token_file_scores_like_its_texts_with_the_bytes_of_the_raw_text(model):
    tokens = TokenFile.in_memory(TEXTS, TOKENIZER)
    assert evaluate_tokens(model, tokens) == evaluate_text(model, TOKENIZER, TEXTS)
    first = evaluate_tokens(model, tokens, max_documents=1)
    assert (first.n_targets, first.n_bytes) == (len(TEXTS[0]), len(TEXTS[0]))


def test_fewer_tokens_still_divide_by_the_bytes_of_the_text():
    bpe = kit.load_tokenizer("bpe-300", ["to be or not to be " * 20])
    torch.manual_seed(0)
    model = kit.Decoder(kit.preset("laptop-gpt2", n_layers=1, vocab_size=bpe.vocab_size, context_length=32))
    found = evaluate_text(model, bpe, ["to be or not"])
    assert found.n_targets == len(bpe.encode("to be or not")) < found.n_bytes == len("to be or not")


def test_bf16_recipe_stays_within_its_bound_and_the_mode_comes_back(model):
    model.train()
    plain = evaluate_text(model, TOKENIZER, TEXTS)
    rounded = evaluate_text(model, TOKENIZER, TEXTS, recipe=kit.Recipe.named("bf16"))
    assert model.training
    model.eval()
    assert plain.nats != rounded.nats
    assert rounded.loss == pytest.approx(plain.loss, rel=kit.Recipe.named("bf16").bound)


def test_sums_add():
    assert Perplexity(1.0, 2, 3) + Perplexity(10.0, 20, 30) == Perplexity(11.0, 22, 33)


@pytest.mark.parametrize(
    ("documents", "options", "sentence"),
    [
        ([], {}, "every document is empty"),
        (["", ""], {}, "every document is empty"),
        ("one text", {}, "list of documents"),
        (["text"], {"context_length": 0}, "1 to 24 positions"),
        (["text"], {"context_length": 25}, "1 to 24 positions"),
        (["text"], {"batch_size": 0}, "at least 1 window"),
    ],
)
def test_mistakes_are_one_sentence(model, documents, options, sentence):
    with pytest.raises(kit.KitError, match=sentence):
        evaluate_text(model, TOKENIZER, documents, **options)


def test_another_tokenizers_file_is_refused(model):
    tokens = TokenFile.in_memory(["text"], kit.load_tokenizer("bpe-300", ["to be or not to be " * 20]))
    with pytest.raises(kit.KitError, match="tokenizer it was trained with"):
        evaluate_tokens(model, tokens)


def test_a_batch_whose_logits_would_be_too_many_is_scored_in_parts(model, monkeypatch):
    """Two windows at a time fit under this limit; the score is that of eight at a time."""
    whole = evaluate_text(model, TOKENIZER, TEXTS * 4, batch_size=8)
    sizes = []
    monkeypatch.setattr(perplexity, "MOST_LOGITS", 2 * model.config.context_length * model.config.vocab_size)
    hook = model.register_forward_hook(lambda module, inputs, logits: sizes.append(len(logits)))
    parts = evaluate_text(model, TOKENIZER, TEXTS * 4, batch_size=8)
    hook.remove()
    assert max(sizes) == 2 and parts.loss == pytest.approx(whole.loss, rel=1e-6)
