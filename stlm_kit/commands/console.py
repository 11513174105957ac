"""Tables on a terminal, and in a log or a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def plain_table(*columns: str) -> Table:
    """A table without a frame."""
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def print_table(table: Table, soft_wrap: bool = True) -> None:
    """Print a table; where nobody watches, no column is cut.

    soft_wrap: on a terminal a long line runs on instead of being folded inside its column.
    """
    from rich.console import Console

    console = Console(soft_wrap=soft_wrap)
    if not console.is_terminal:
        console.width = 400  # a log has no width of its own
    console.print(table)
