"""Arms, means with intervals, paired differences and notes, of rows made up here and of those that are recorded."""

import csv
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stlm_kit.errors import KitError, UsageError
from stlm_kit.reproduce import results
from stlm_kit.tables.columns import Sample, telling_apart
from stlm_kit.tables.intervals import Estimate, holm, rounded
from stlm_kit.tables.table import tabulate
from stlm_kit.tables.text import cells, csv_text, escaped, latex, records

SCORES = {0: 2.0, 1: 2.2, 2: 2.1}
BETTER = {0: 1.9, 1: 2.15, 2: 2.0}


def sample(score=2.0, seed=0, origin="", **changes) -> Sample:
    """A row with a bits_per_byte of this much; changes: settings, or fields of the row by their names there."""
    own = ("name", "profile", "labels", "status", "device", "machine", "date", "asked", "metrics", "source")
    fields = {name: changes.pop(name) for name in own if name in changes}
    configuration = {"preset": "laptop-llama", "steps": 5, "learning_rate": 0.1, "seed": seed, **changes}
    machine = {"processor": "a processor", "cores": 2, "threads": 1}
    row = {"study": "mine", "name": "one", "hash": "0", "seed": seed, "configuration": configuration}
    row |= {"device": "cpu", "machine": machine, "date": "2026-01-01T00:00:00+00:00"}
    row |= {"metrics": {"bits_per_byte": score}}
    return Sample(row | fields, origin)


def arms(scores_of: dict) -> list[Sample]:
    return [sample(score, seed, learning_rate=lr) for lr, scores in scores_of.items() for seed, score in scores.items()]


numbers = st.lists(st.floats(-1e3, 1e3).map(lambda value: round(value, 3)), min_size=2, max_size=8)


@given(numbers)
@settings(max_examples=50)
def test_an_interval_is_students(values):
    estimate = Estimate(tuple(values))
    if len(set(values)) == 1:
        assert estimate.low == pytest.approx(estimate.high) and estimate.p is None
        return
    low, high = stats.t.interval(0.95, len(values) - 1, loc=estimate.mean, scale=stats.sem(values))
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))
    assert estimate.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_one_value_has_no_interval_and_none_no_mean():
    assert (Estimate((2.0,)).mean, Estimate((2.0,)).half, Estimate((2.0,)).p) == (2.0, None, None)
    assert (Estimate(()).mean, Estimate(()).low, Estimate(()).n) == (None, None, 0)


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # his own procedure, by hand
    assert holm([0.9, None, 0.6]) == pytest.approx([1.0, None, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize(
    "mean, half, shown",
    [
        (2.30449, 0.02444, ("2.304", "0.024")),
        (392.6, 24.2, ("393", "24")),
        (12345.6, 1234.5, ("12,346", "1,234")),
        (2.4012, None, ("2.401", "")),
        (3949.04, None, ("3,949", "")),
        (2.5, 0.0, ("2.500", "0")),
        (-0.0001, 0.5, ("0.00", "0.50")),
        (1.371e-7, None, ("1.371e-07", "")),
        (0.0, None, ("0", "")),
    ],
)
def test_digits_follow_the_interval(mean, half, shown):
    assert rounded(mean, half) == shown


def test_arms_are_told_apart_by_what_varies_and_averaged_over_seeds():
    table = tabulate(arms({0.2: BETTER, 0.1: SCORES}))
    assert (table.by, table.over, table.metrics) == (["learning_rate"], ["seed"], ["bits_per_byte"])
    assert [arm.values for arm in table.arms] == [{"learning_rate": 0.1}, {"learning_rate": 0.2}]  # by size
    assert [estimate.n for estimate in table.estimates.values()] == [3, 3]
    assert table.estimates[0, "bits_per_byte"].mean == pytest.approx(2.1)


def test_labels_come_before_the_settings_that_they_stand_for():
    labelled = [
        sample(name=f"{kind}-b{size}", labels={"technique": kind, "batch_size": size}, recipe=recipe, batch_size=size)
        for kind, recipe in {"plain": "fp32", "bf16": "bf16"}.items()
        for size in (4, 16, 8)
    ]
    assert telling_apart(labelled, ["seed"]) == ["technique", "batch_size"]
    assert [arm.label for arm in tabulate(labelled).arms][:3] == ["plain, 4", "plain, 8", "plain, 16"]
    assert telling_apart([*labelled, sample(name="other")], ["seed"]) == ["name"]  # one has no labels
    coupled = [
        sample(labels={"kind": kind, "size": size}, batch_size=size, steps=100 // size, recipe=kind)
        for kind in ("fp32", "bf16")
        for size in (4, 8)
    ]
    assert telling_apart(coupled, ["size"]) == ["kind"]  # steps go along with the size


def test_a_setting_that_differs_along_with_the_seed_is_told_apart():
    assert telling_apart([sample(seed=0, steps=5), sample(seed=1, steps=6)], ["seed"]) == ["steps"]


def test_a_field_that_is_not_overridden_is_the_presets():
    rows = [sample(overrides={"n_layers": 7}), sample(seed=1)]
    table = tabulate(rows, by=["n_layers"])
    from stlm_kit.presets import preset

    assert [arm.values["n_layers"] for arm in table.arms] == sorted([7, preset("laptop-llama").n_layers])


def test_a_text_given_by_path_goes_by_its_content():
    asked = [{"contents": {"corpus": content * 64}} for content in "aab"]
    paths = ("/here/text.txt", "/there/text.txt", "/here/text.txt")
    rows = [sample(seed=i, corpus=path, asked=a) for i, (path, a) in enumerate(zip(paths, asked, strict=True))]
    assert [arm.label for arm in tabulate(rows, by=["corpus"]).arms] == ["text.txt (aaaaaa)", "text.txt (bbbbbb)"]


def test_a_run_made_twice_counts_once_by_its_latest_row():
    later = {"date": "2026-01-02T00:00:00+00:00"}
    table = tabulate([sample(2.5, **later, device="cuda"), sample(2.0), sample(3.0, seed=1)])
    assert table.estimates[0, "bits_per_byte"].values == (2.5, 3.0)
    assert any("1 row of a run made again" in note for note in table.notes)
    lost = sample(2.5, **later, status="out_of_memory", metrics={})  # a smaller card, later
    assert tabulate([lost, sample(2.0)]).estimates[0, "bits_per_byte"].values == (2.0,)


def test_differences_are_paired_by_seed():
    table = tabulate(arms({0.1: SCORES, 0.2: BETTER}), against="0.1")
    (difference,) = table.differences
    expected = stats.ttest_rel(list(BETTER.values()), list(SCORES.values()))
    assert difference.estimate.n == 3 and difference.alone == []
    assert difference.estimate.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (difference.estimate.low, difference.estimate.high) == (pytest.approx(low), pytest.approx(high))
    assert difference.p_holm == difference.estimate.p  # one comparison


def test_a_seed_that_one_arm_lacks_is_named_and_left_out():
    table = tabulate(arms({0.1: {**SCORES, 7: 9.0}, 0.2: BETTER}), against="learning_rate=0.1")
    assert table.differences[0].estimate.n == 3 and table.differences[0].alone == ["seed 7"]
    assert any("without a partner and left out: seed 7" in note for note in table.notes)


def test_columns_left_open_pair_each_arm_with_its_like():
    rows = [
        sample(2 + size / 10 + (kind == "b"), labels={"kind": kind, "size": size}, beta_1=size, clip=kind)
        for kind in "ab"
        for size in (1, 2)
    ]
    table = tabulate(rows, against="a")
    compared = [(each.arm.label, each.reference.label) for each in table.differences]
    assert compared == [("b, 1", "a, 1"), ("b, 2", "a, 2")]
    assert [each.estimate.mean for each in table.differences] == pytest.approx([1.0, 1.0])
    assert all(each.estimate.half is None for each in table.differences)
    one = tabulate(rows, against="kind=a,size=2")
    assert {each.reference.label for each in one.differences} == {"a, 2"} and len(one.differences) == 3
    averaged = tabulate(rows, over=["size"], against="a")
    assert averaged.differences[0].estimate.n == 2


@pytest.mark.parametrize(
    "options, told",
    [
        ({"metrics": ["bits_per_bite"]}, r"^No row has a metric named 'bits_per_bite'.*'bits_per_byte'"),
        ({"by": ["learning_rat"]}, r"no column 'learning_rat'.*'learning_rate'"),
        ({"over": ["sed"]}, r"no column 'sed'.*'seed'"),
        ({"by": ["seed"]}, r"'seed' cannot both"),
        ({"against": "0.3"}, r"No arm is '0.3'"),
        ({"against": "learning_rate=0.11"}, r"Did you mean 'learning_rate=0.1'"),
        ({"against": "lerning_rate=0.1"}, r"no column 'lerning_rate'.*Did you mean 'learning_rate'"),
        ({"against": "seed=1"}, r"no column 'seed' to compare by. Its columns are learning_rate; --by adds others"),
        ({"against": "same", "by": ["kind", "other"]}, r"write kind=same or other=same"),
    ],
)
def test_what_a_user_can_get_wrong(options, told):
    rows = [sample(2, i, learning_rate=lr, kind="same", other=lr and "same") for i, lr in enumerate((0.1, 0.2))]
    with pytest.raises(UsageError, match=told):
        tabulate(rows, **options)


def test_nothing_to_average():
    with pytest.raises(KitError, match="every run ran out of memory"):
        tabulate([sample(status="out_of_memory", metrics={})])
    with pytest.raises(KitError, match="no row holds a number"):
        tabulate([sample(metrics={"kind": "predicted"})])
    with pytest.raises(UsageError, match="choose with --metric among peak_mib"):
        tabulate([sample(metrics={"peak_mib": 3.0, "ok": True})])
    with pytest.raises(UsageError, match="no other arm"):
        tabulate([sample(), sample(seed=1)], against="one")


def test_an_arm_without_memory_is_shown_without_a_mean():
    table = tabulate([sample(name="small"), sample(name="large", status="out_of_memory", metrics={}, batch_size=64)])
    assert cells(table)[0].lines == [["small", "1", "2.000"], ["large", "0", "out of memory"]]
    assert any(note.startswith("Out of memory, in no mean: large (1)") for note in table.notes)


def test_times_of_several_machines_are_neither_averaged_nor_paired():
    other = {"machine": {"processor": "another", "cores": 64, "threads": 8}}
    timed = [
        sample(name=name, seed=seed, metrics={"seconds": 1.0, "loss": 3.0}, clip=float(name == "a"), **place)
        for name in "ab"
        for seed, place in enumerate(({}, {}, other if name == "a" else {}))
    ]
    table = tabulate(timed, ["seconds", "loss"], against="b")
    assert cells(table)[0].lines[0][-3:] == ["several machines", "3", "3.000 ± 0"]
    pairs = {each.metric: each.estimate.n for each in table.differences}
    assert pairs == {"seconds": 2, "loss": 3}
    assert any("do not compare; not averaged: a (--by place splits them)" in note for note in table.notes)
    split = tabulate(timed, ["seconds"], by=["name", "place"])
    assert [estimate.n for estimate in split.estimates.values()] == [2, 1, 3]
    assert any("another, 8 threads, 64 cores" in note for note in split.notes)  # they stand beside each other still


def test_what_nobody_told_apart_is_said():
    table = tabulate([sample(steps=5), sample(steps=6), sample(steps=5, learning_rate=0.2)], by=["learning_rate"])
    assert "Runs of one arm also differ in steps; --by tells them apart." in table.notes
    sources = tabulate([sample(source="a" * 64), sample(source="b" * 64, seed=1)])
    assert any("2 states of the kit's code (aaaaaa, bbbbbb)" in note for note in sources.notes)


def test_csv_is_read_back_whole():
    table = tabulate([sample(2.0, name='a, "b"\nc'), sample(2.2, 1, name='a, "b"\nc')])
    text = csv_text(table)
    assert text.count("\r\n") == 2
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["name"] == 'a, "b"\nc' and float(row["mean"]) == records(table)[0]["mean"] == pytest.approx(2.1)
    assert float(row["low"]) == records(table)[0]["low"]


def test_latex_has_nothing_that_it_would_read_as_a_command():
    name = r"100%_of $x & #1 {a} ~ ^ \b"
    text = latex(tabulate([sample(2, name=name), sample(1, name="z", clip=2.0)], against="z"))
    body = re.sub(r"\\[%$#_&{}]|\\(textbackslash|textasciitilde|textasciicircum)\{\}|\$(\\pm|<|>|-|\|)\$", "", text)
    body = re.sub(r"\\(begin|end)\{tabular\}(\{[lr]+\})?|\\\\|\\(top|mid|bottom)rule", "", body)
    body = re.sub(r"^%.*$", "", body, flags=re.MULTILINE)
    assert not re.search(r"[\\%$#_{}~^]", body), body
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    for columns, lines in (("lrr", rows[:3]), ("lllrrrr", rows[3:])):
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(columns) - 1}
        assert rf"\begin{{tabular}}{{{columns}}}" in text
    assert escaped("-3.2 ± 1") == r"$-$3.2 $\pm$ 1"


def test_the_recorded_rows_of_chapter_3():
    rows = [Sample(row, "chapter-03") for row in results.recorded("chapter-03")]
    table = tabulate(rows, against="cosine", metrics=["bits_per_byte"])
    assert table.by == ["name"] and {estimate.n for estimate in table.estimates.values()} == {10}
    by_name = {each.arm.label: each for each in table.differences}
    constant = [row.row["metrics"]["bits_per_byte"] for row in rows if row.row["name"] == "constant"]
    cosine = [row.row["metrics"]["bits_per_byte"] for row in rows if row.row["name"] == "cosine"]
    assert by_name["constant"].estimate.p == pytest.approx(stats.ttest_rel(constant, cosine).pvalue)
    assert any("Of twenty such intervals" in note for note in table.notes)
