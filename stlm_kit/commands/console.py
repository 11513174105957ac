"""Tables for a terminal, a log or a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def plain_table(*columns: str) -> Table:
    """A table without a frame."""
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def print_table(table: Table, soft_wrap: bool = True) -> None:
    """Print a table. In a log or a pipe it is as wide as its content; on a terminal it is folded inside its columns.

    The first column holds names to copy, so it is never folded or cut. soft_wrap: on a terminal a long line continues
    instead of being folded inside its column.
    """
    from rich.console import Console

    console = Console(soft_wrap=soft_wrap)
    if table.columns:
        table.columns[0].no_wrap = True
        table.columns[0].min_width = max((len(str(cell)) for cell in table.columns[0].cells), default=0)
    if not console.is_terminal:
        console.width = 10_000  # a log has no width
        console.width = max(console.measure(table).maximum, 1)
    console.print(table)
