"""`--set NAME=VALUE`: what reaches the settings, and the sentence for what does not."""

from argparse import Namespace

import pytest

from stlm_kit import UsageError
from stlm_kit.options import NAMED, settings_from_options


def settings(*texts):
    return settings_from_options(Namespace(**dict.fromkeys([*NAMED, "learning_rate"]), set=list(texts)))


def test_none_reaches_a_field_of_the_preset():
    assert settings("n_kv_heads=none", "window=null").overrides == {"n_kv_heads": None, "window": None}


@pytest.mark.parametrize(
    ("written", "meant"),
    [("<|endoftext|>", "<|endoftext|>"), (r"\n%%\n", "\n%%\n"), (r"\t", "\t"), (r"a\\nb", r"a\nb"), ("none", None)],
)
def test_how_a_separator_is_written(written, meant):
    assert settings(f"separator={written}", "text_field=data.text").separator == meant
    assert settings("text_field=data.text").text_field == "data.text"


@pytest.mark.parametrize("text", ["window=[", "d_ff=: :", "bias={", "steps=", "overrides=1", "steps", "=3"])
def test_a_value_that_cannot_be_read_is_one_sentence(text):
    with pytest.raises(UsageError) as found:
        from stlm_kit import preset

        preset("laptop-gpt2", **settings(text).overrides)
    assert "\n" not in str(found.value) and "Did you mean 'overrides'" not in str(found.value)


def test_a_path_that_is_not_unicode_is_one_sentence():
    with pytest.raises(UsageError, match=r"corpus = caf\\xe9.txt is not Unicode text.*rename it\.$"):
        settings("corpus=caf\udce9.txt")
