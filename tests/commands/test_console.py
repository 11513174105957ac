"""Tables: as wide as their content in a pipe; on a terminal no name is cut."""

import io

from rich.console import Console

from stlm_kit.commands import console

LONG = "memory.a.very.long.claim.id.that.nobody.wants.to.see.cut"


def printed(monkeypatch, terminal: bool, width: int) -> list[str]:
    out = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console", lambda **options: Console(file=out, force_terminal=terminal, width=width, **options)
    )
    table = console.plain_table("claim", "statement")
    table.add_row(LONG, "a statement that goes on for " + "very " * 40 + "long")
    console.print_table(table, soft_wrap=False)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_piped_table_is_as_wide_as_its_content(monkeypatch):
    lines = printed(monkeypatch, terminal=False, width=40)
    assert len(lines) == 2 and lines[1].endswith("very long") and len(lines[1]) == len(LONG) + 2 + 233


def test_a_terminal_never_cuts_an_id(monkeypatch):
    lines = printed(monkeypatch, terminal=True, width=80)
    assert any(LONG in line for line in lines) and len(lines) > 3
