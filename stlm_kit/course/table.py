"""What a grading came to, as a table in the terminal: a line for each submission, a column for each exercise."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stlm_kit.course.assignment import Assignment
from stlm_kit.course.course_file import Course
from stlm_kit.course.reports import Report


def show(reports: list[Report], assignments: list[Assignment], rules: Course) -> None:
    """Print a table for each assignment that somebody handed in, and one for what belongs to none."""
    console = Console()
    for assignment in assignments:
        if own := [report for report in reports if report.assignment == assignment.name]:
            console.print(_table(own, assignment, rules))
            for report in own:
                if notes := _notes(report):
                    console.print(f"[bold]{escape(report.student or report.name)}[/bold]: {escape(notes)}")
    if unsorted := [report for report in reports if not report.assignment]:
        console.print(f"[bold]No assignment:[/bold] {', '.join(escape(each.name) for each in unsorted)}")
    for report in reports:
        for flag in report.flags:
            console.print(f"[yellow]look at {escape(report.name)}, {report.assignment}:[/yellow] {escape(flag)}")


def _table(reports: list[Report], assignment: Assignment, rules: Course) -> Table:
    graded = [exercise for exercise in assignment.exercises if exercise.graded]
    table = Table(title=assignment.title, title_justify="left")
    table.add_column("student")
    for exercise in graded:
        table.add_column(exercise.id.replace("_", " "), justify="right")
    table.add_column("total", justify="right")
    table.add_column("late")
    for report in reports:
        marks = [share(report, assignment, exercise.id) for exercise in graded]
        known = report.handed_in and report.student
        late = rules.lateness(assignment.name, report.student, report.handed_in) if known else ""
        total = "" if report.problem else f"{report.earned:g} / {report.possible:g}"
        table.add_row(escape(report.student or report.name), *marks, total or "no grade", str(late))
    return table


def share(report: Report, assignment: Assignment, exercise: str) -> str:
    """ "2 / 3": what an exercise's marks came to; "" where nothing was graded."""
    own = [report.marks[cell.id] for cell in assignment.tests(exercise) if cell.id in report.marks]
    return f"{sum(mark.earned for mark in own):g} / {sum(mark.points for mark in own):g}" if own else ""


def _notes(report: Report) -> str:
    """Why there is no grade, or the reasons for lost marks that are no wrong answers."""
    notes = [report.problem] if report.problem else list(report.remarks)
    sentences = dict.fromkeys(mark.sentence for mark in report.marks.values())
    telling = ("stopped", "ended the Python", "called exit", "forbids", "no function", "cannot be trusted", "syntax")
    return " ".join([*notes, *(each for each in sentences if any(word in each for word in telling))])
