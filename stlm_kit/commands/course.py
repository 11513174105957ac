"""`stlm course`: reads options and prints sentences; stlm_kit.course does the work."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from stlm_kit.errors import UsageError
from stlm_kit.paths import course_dir


def add_course(parser: argparse.ArgumentParser, parents: list[argparse.ArgumentParser]) -> None:
    """Add the actions of `stlm course` and their options.

    `parents`: parsers with the options that every action takes.
    """
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    summary = "Make the students' notebooks: no solutions, no hidden tests, the course's own seeds and conventions."
    release = actions.add_parser("release", help=summary, description=summary, parents=parents)
    release.set_defaults(action=run_release)
    release.add_argument("assignments", nargs="*", metavar="ASSIGNMENT", help="by number or name; default: all")
    release.add_argument(
        "--key",
        default=os.environ.get("COURSE_KEY") or None,
        help="draws seeds, shapes and conventions for this course (default: $COURSE_KEY, else the key it has)",
    )
    release.add_argument("--force", action="store_true", help="change the key although there are marks")
    _add_grading(actions, parents)


def _add_grading(actions: argparse._SubParsersAction, parents: list[argparse.ArgumentParser]) -> None:
    summary = "Grade a folder of submissions: marks, feedback and reports; again goes on where it was stopped."
    grade = actions.add_parser("grade", help=summary, description=summary, parents=parents)
    grade.set_defaults(action=run_grade)
    grade.add_argument("folder", help="STUDENT/x.ipynb, STUDENT.ipynb, or an LMS's download, unpacked")
    summary = "After a mended test: release anew, grade again what was handed in, and say whose marks moved."
    regrade = actions.add_parser("regrade", help=summary, description=summary, parents=parents)
    regrade.set_defaults(action=run_regrade)
    for parser in (grade, regrade):
        parser.add_argument("assignments", nargs="*", metavar="ASSIGNMENT", help="by number or name; default: all")
    summary = "Write the marks to one file, late rule applied: for a spreadsheet, Canvas or Moodle."
    grades = actions.add_parser("grades", help=summary, description=summary, parents=parents)
    grades.set_defaults(action=run_grades)
    grades.add_argument("--format", choices=["csv", "canvas", "moodle"], default="csv")


def run_course(options: argparse.Namespace) -> int:
    """`stlm course ACTION`; returns its exit status."""
    return options.action(options) or 0


def run_release(options: argparse.Namespace) -> None:
    """`stlm course release`: print the folder of each release and which exercises were drawn for it."""
    from stlm_kit.course.folder import read_key
    from stlm_kit.course.release import release

    course = course_dir()
    for released in release(options.assignments, options.key, course, options.force):
        print(f"{released.path}: {released.marks:g} marks")
        for exercise, (name, value) in released.conventions.items():
            print(f"  {exercise}: {name} = {value!r}")
    if not (key := read_key(course)):
        print("No key: the conventions are the published ones, and so are the solutions.")
        return
    print(f"The key is kept in {course / 'key'}. It is secret: whoever has it can work out the hidden seeds.")
    if len(key) < 16:
        print("It is short enough to be guessed from the stated conventions; 16 random characters are not.")


def run_grade(options: argparse.Namespace) -> None:
    """`stlm course grade`: print a line for each submission, then the table."""
    from stlm_kit.course import table
    from stlm_kit.course.course_file import read_course
    from stlm_kit.course.grade import grade, released

    if not options.folder:
        raise UsageError("Say which folder holds the submissions: make grade SUBMISSIONS=folder.")
    course = course_dir()
    reports = grade(Path(options.folder), course, options.assignments)
    table.show(reports, [each.assignment for each in released(course)], read_course(course / "course.yaml"))
    print(f"Reports: {course / 'reports'} · feedback for students: {course / 'feedback'}")


def run_regrade(options: argparse.Namespace) -> None:
    """`stlm course regrade`: print a line for each mark that changed."""
    from stlm_kit.course.regrade import regrade

    moved = regrade(course_dir(), options.assignments)
    for each in moved:
        print(each)
    print(f"{len(moved)} marks moved." if moved else "No mark moved.")


def run_grades(options: argparse.Namespace) -> None:
    """`stlm course grades`: print where the file is."""
    from stlm_kit.course.grades import export

    print(export(course_dir(), options.format))
