"""What makes a run another run, and what does not."""

import pytest

from stlm_kit.training.run_folder import first_difference

CONFIG = {
    "content": {"train": "a1", "tokenizer": "b2"},
    "run": {"corpus": "verses.txt", "tokenizer": None, "packing": "packed"},
    "training": {"learning_rate": 1e-3, "checkpoint_every": 100},
    "made_by": {"torch": "2.13.0"},
}


def changed(**sections):
    return {name: {**content, **sections.get(name, {})} for name, content in CONFIG.items()}


@pytest.mark.parametrize(
    "other",
    [
        {"made_by": {"torch": "3.0"}},
        {"training": {"checkpoint_every": 7}},
        {"run": {"corpus": "/scratch/verses.txt", "tokenizer": "bpe-2048"}},  # the same content by another name
    ],
)
def test_names_and_pace_make_no_other_run(other):
    assert first_difference(CONFIG, changed(**other)) is None


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"training": {"learning_rate": 0.5}}, "training.learning_rate is 0.001 there and 0.5 here"),
        ({"run": {"packing": "documents"}}, "run.packing is 'packed' there and 'documents' here"),
        ({"content": {"train": "c3"}}, "content.train is 'a1' there and 'c3' here"),  # the file was edited
        (
            {"content": {"train": "c3"}, "run": {"corpus": "plays.txt"}},
            "run.corpus is 'verses.txt' there and 'plays.txt' here",
        ),
    ],
)
def test_another_number_or_text_does(other, sentence):
    assert first_difference(CONFIG, changed(**other)) == sentence
