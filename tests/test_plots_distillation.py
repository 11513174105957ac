"""Pictures of a teacher's distribution, and of what a student gets of it, show the numbers that they were given."""

import pytest
import torch
from matplotlib.text import Text

import stlm_kit as kit
from stlm_kit import plots
from stlm_kit.errors import UsageError
from stlm_kit.plots.picture import png
from stlm_kit.plots.text import label_of
from stlm_kit.teachers import Teacher


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2, "n_kv_heads": 1, "d_ff": 32, "vocab_size": 257}
    return Teacher("tiny", kit.Decoder(kit.preset("laptop-llama", **sizes)).eval(), kit.load_tokenizer("bytes"))


def probabilities(teacher, sentence: str, temperature: float) -> torch.Tensor:
    ids = torch.tensor([teacher.tokenizer.encode(sentence)])
    return (teacher.logits(ids)[0, -1].double() / temperature).softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.25, 3.0])
def test_the_next_tokens_are_the_teachers_at_that_temperature(teacher, temperature):
    figure = plots.next_tokens(teacher, "a speech", temperature, n=7)
    top, together = figure.axes
    p, plain = (probabilities(teacher, "a speech", each) for each in (temperature, 1.0))
    now, outlines = ([bar.get_width() for bar in row] for row in top.containers)
    assert now == pytest.approx((100 * p.topk(7).values).tolist())
    assert outlines == pytest.approx((100 * plain.topk(7).values).tolist())
    words = [label_of(bytes([token])) for token in plain.topk(7).indices.tolist()]
    assert [label.get_text() for label in top.get_yticklabels()] == words
    assert f"entropy {torch.distributions.Categorical(p).entropy():.2f} nats" in top.get_title(loc="left")
    lines = [line for line in together.lines if len(line.get_xdata()) == 257]
    assert len(lines) == (1 if temperature == 1 else 2)
    assert lines[-1].get_ydata()[4] == pytest.approx(100 * p.topk(5).values.sum().item())
    count = int((p.sort(descending=True).values.cumsum(0) < 0.9).sum()) + 1
    assert f"T = {temperature:g}: {count:,} hold 90 %" in [text.get_text() for text in together.get_legend().texts]
    assert f"{count:,} tokens hold 90 % of the probability" in figure.alternative_text


def test_the_teacher_reads_the_end_of_a_long_sentence(teacher):
    long, end = plots.next_tokens(teacher, "x" * 500 + "y" * 64), plots.next_tokens(teacher, "y" * 64)
    assert long.axes[0].containers[0][0].get_width() == end.axes[0].containers[0][0].get_width()


@pytest.mark.parametrize(
    ("sentence", "temperature", "words"),
    [("", 1.0, "no sentence to go on from"), ("a", 0.0, "temperature 0.0 will not do"), ("a", -1.0, "will not do")],
)
def test_nothing_to_go_on_from_is_refused(teacher, sentence, temperature, words):
    with pytest.raises(UsageError, match=words):
        plots.next_tokens(teacher, sentence, temperature)


def test_a_text_shows_its_entropies_its_labels_and_their_means():
    figure = plots.labels_and_entropy([b" of", b" the", b" war"], [1.0, 4.0, 2.5], [0.5, 1.0, 9.0])
    [axes] = figure.axes
    assert [bar.get_height() for bar in axes.containers[0]] == [1.0, 4.0, 2.5]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["·of", "·the", "·war"]
    assert next(list(line.get_ydata()) for line in axes.lines if line.get_marker() == "o") == [0.5, 1.0, 9.0]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [2.5, 3.5]
    assert "highest before ·the (4.00), lowest before ·of (1.00)" in figure.alternative_text
    with pytest.raises(UsageError, match="There are 1 tokens, 2 entropies and 1 losses"):
        plots.labels_and_entropy([b"a"], [1.0, 2.0], [1.0])


def test_fitted_bumps_stand_over_the_distribution():
    figure = plots.one_bump([-1.0, 0.0, 1.0], [0.5, 0.1, 0.4], {"wide": [0.3, 0.4, 0.3], "narrow": [0.8, 0.1, 0.1]})
    [axes] = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.3, 0.4, 0.3], [0.8, 0.1, 0.1]]
    assert "narrow: highest at -1.00, with 0.800" in figure.alternative_text


def test_what_is_not_drawn_stays_as_wrong_as_it_was():
    figure = plots.averaged([1, 10, 100], {"drawn": [1.0, 0.3, 0.1], "top": 0.5}, "error")
    [axes] = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[1.0, 0.3, 0.1], [0.5, 0.5, 0.5]]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert "drawn: from 1 to 0.1; top: from 0.5 to 0.5" in figure.alternative_text


def test_each_student_has_its_losses_and_all_one_score():
    losses = {"labels": [7.0] * 9, "taught": [2.0, 1.0, 0.5]}
    figure = plots.loss_and_score(losses, {"teacher": 2.0, "labels": 2.4, "taught": 2.1})
    left, right = figure.axes
    assert [len(line.get_xdata()) for line in left.lines] == [9, 3]
    assert [bar.get_width() for bar in right.containers[0]] == [2.0, 2.4, 2.1]
    inks = [bar.get_facecolor()[:3] for bar in right.containers[0]]
    assert inks[0] not in inks[1:] and inks[1] != inks[2]
    assert "taught from 2 to 0.5. Right, held-out bits per byte: teacher 2.00" in figure.alternative_text
    with pytest.raises(UsageError, match="student 'taught' has no score"):
        plots.loss_and_score(losses, {"labels": 2.4})


def test_each_fits_a_page_with_letters_large_enough_to_read(teacher):
    for figure in (
        plots.next_tokens(teacher, "a speech of the President", 2.0),
        plots.labels_and_entropy([b" token"] * 40, [2.0] * 40, [3.0] * 40),
        plots.one_bump(range(101), [0.01] * 101, {"forward KL": [0.01] * 101}),
        plots.averaged([1, 10], {"top 12, with a tail": 0.1}, "error of the gradient"),
        plots.loss_and_score({"a young teacher": [1.0] * 120}, {"a young teacher": 2.0}),
    ):
        assert max(figure.get_size_inches()) <= 10
        written = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        assert min(text.get_fontsize() for text in written) >= 8
        assert len(png(figure)) < 80_000
