"""Generation: greedy and sampled, against the model's own logits."""

import pytest
import torch

import stlm_kit as kit
from stlm_kit.generation import pick

TOKENIZER = kit.load_tokenizer("bytes")


def decoder(**overrides) -> kit.Decoder:
    torch.manual_seed(0)
    small = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_ff": 32, "context_length": 8, "init_std": 0.3}
    return kit.Decoder(kit.preset("laptop-gpt2", **small | overrides))


def always(token: int, **overrides) -> kit.Decoder:
    """A decoder that finds one token likeliest whatever came before."""
    model = decoder(head_bias=True, **overrides)
    with torch.no_grad():
        model.head.bias[token] = 1000.0
    return model


@torch.no_grad()
def greedy_by_hand(model: kit.Decoder, prompt: str, n: int) -> str:
    model.eval()
    ids = [256, *prompt.encode()]
    for _ in range(n):
        ids.append(int(model(torch.tensor([ids[-8:]]))[0, -1].argmax()))
        if ids[-1] == 256:
            ids.pop()
            break
    return bytes(ids[1:]).decode(errors="replace")


@pytest.mark.parametrize("prompt", ["", "To be", "longer than the context of eight positions"])
def test_greedy_takes_the_likeliest_token_each_time(prompt):
    model = decoder()
    assert kit.generate(model, TOKENIZER, prompt, max_new_tokens=12) == greedy_by_hand(model, prompt, 12)


def test_a_seed_fixes_the_text_and_touches_no_other_random_number():
    model = decoder().train()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = kit.generate(model, TOKENIZER, "a", max_new_tokens=20, temperature=1.0, seed=5)
    assert torch.equal(torch.rand(3), expected)
    assert first == kit.generate(model, TOKENIZER, "a", max_new_tokens=20, temperature=1.0, seed=5)
    assert first != kit.generate(model, TOKENIZER, "a", max_new_tokens=20, temperature=1.0, seed=6)
    assert model.training


def test_draws_follow_the_softmax_at_the_temperature():
    logits, generator = torch.tensor([0.0, 1.0, -1.0]), torch.Generator().manual_seed(0)
    for temperature in (0.5, 1.0, 2.0):
        draws = torch.tensor([pick(logits, temperature, generator) for _ in range(4000)])
        shares = torch.bincount(draws, minlength=3) / 4000
        assert torch.allclose(shares, (logits / temperature).softmax(-1), atol=0.03)


def test_a_tiny_temperature_is_greedy_and_does_not_overflow():
    logits = torch.tensor([1.0, 3.0, 2.0])
    assert {pick(logits, 1e-6, torch.Generator().manual_seed(seed)) for seed in range(20)} == {1}


def test_the_end_of_a_document_stops_it():
    model = always(TOKENIZER.end_of_document)
    assert kit.generate(model, TOKENIZER, "Hello", max_new_tokens=5) == "Hello"
    assert kit.generate(always(ord("!")), TOKENIZER, "Hello", max_new_tokens=5) == "Hello!!!!!"


def test_ids_beyond_the_tokenizer_are_never_chosen():
    model = always(300, vocab_size=320)  # a vocabulary padded to a round size
    assert kit.generate(model, TOKENIZER, "a", max_new_tokens=3).startswith("a")


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"temperature": -1.0}, kit.UsageError, "temperature"),
        ({"temperature": float("nan")}, kit.UsageError, "temperature"),
        ({"max_new_tokens": -1}, kit.UsageError, "max_new_tokens"),
        ({"prompt": 3}, kit.UsageError, "must be a text"),
        ({"prompt": "\ud800"}, kit.KitError, "surrogate"),
    ],
)
def test_mistakes_are_one_sentence(options, error, sentence):
    with pytest.raises(error, match=sentence):
        kit.generate(decoder(), TOKENIZER, **options)


def test_a_prompt_outside_the_vocabulary_and_broken_weights_are_named():
    with pytest.raises(kit.KitError, match="tokenizer it was trained with"):
        kit.generate(decoder(vocab_size=100), TOKENIZER, "hello")
    model = decoder()
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    with pytest.raises(kit.KitError, match="not numbers"):
        kit.generate(model, TOKENIZER, "hello")


def test_a_tiny_temperature_is_nearly_greedy():
    model = decoder()
    assert kit.generate(model, TOKENIZER, "a", 5, temperature=1e-300) == kit.generate(model, TOKENIZER, "a", 5)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range(seed):
    with pytest.raises(kit.UsageError, match="seed"):
        kit.generate(decoder(), TOKENIZER, "a", 1, seed=seed)
