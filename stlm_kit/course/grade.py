"""`stlm course grade`: every submission of a folder gets a grade or a report that says why not; the rest goes on.

Two kernels run side by side; the gradebook is written by one thread. What has a report with the same fingerprint is not
graded again, so that a grading that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from stlm_kit.course import feedback, gradebook, reports, sandbox
from stlm_kit.course.assignment import Assignment, assignments_dir, folders, is_test, points, read
from stlm_kit.course.course_file import Course, read_course
from stlm_kit.course.execution import Executed, execute
from stlm_kit.course.repair import Repaired, repair
from stlm_kit.course.reports import Mark, Report
from stlm_kit.course.submissions import Submission, Unreadable, cells, find
from stlm_kit.errors import KitError
from stlm_kit.paths import atomic_write, file_sha256

SIDE_BY_SIDE = 2  # kernels at once: torch alone takes some seconds to import
KIT = Path(__file__).parent


@dataclass(frozen=True)
class Released:
    """An assignment with this course's notebooks: its source, hidden tests inside, and what students were given."""

    assignment: Assignment
    source: NotebookNode
    release: NotebookNode
    tests: str  # fingerprint of everything but the submission that decides a mark

    @property
    def name(self) -> str:
        return self.assignment.name

    @cached_property
    def ids(self) -> set[str]:
        return {cell.id for cell in self.source.cells}

    @property
    def stubs(self) -> list[NotebookNode]:
        """The exercises' cells as students were given them."""
        exercises = {each.id for each in self.assignment.exercises}
        return [cell for cell in self.release.cells if cell.id in exercises]


def released(course: Path, names: list[str] | None = None) -> list[Released]:
    """The assignments that this course has released; only those named. Raises KitError where one is not released."""
    there = {path.parent.name for path in (course / "source").glob("*/*.ipynb")}
    wanted = [path for path in folders(names) if names or path.name in there]
    if missing := [path.name for path in wanted if path.name not in there]:
        raise KitError(f"{missing[0]} has not been released in {course}; run make release first.")
    if not wanted:
        raise KitError(f"Nothing has been released in {course}; run make release first.")
    return [_released(course, path) for path in wanted]


def _released(course: Path, folder: Path) -> Released:
    places = [course / kind / folder.name / f"{folder.name}.ipynb" for kind in ("source", "release")]
    try:
        source, release = (nbformat.read(place, as_version=4) for place in places)
    except Exception as error:  # nbformat has a class of its own for each way to be no notebook
        raise KitError(f"{places[0]} or its release cannot be read; run make release again.") from error
    decisive = [places[0], folder / "exercises.yaml", *sorted(KIT.glob("*.py"))]
    tests = hashlib.sha256("".join(map(file_sha256, decisive)).encode()).hexdigest()
    return Released(read(folder), source, release, tests)


def grade(
    submissions: Path,
    course: Path,
    names: list[str] | None = None,
    say: Callable[[str], None] = print,
    side_by_side: int = SIDE_BY_SIDE,
) -> list[Report]:
    """Grade what lies in `submissions`, and give every submission's report, new or kept.

    say: gets a line for each one done and each warning. Raises UsageError for a folder with nothing in it, and KitError
    where nothing was released, or where the teacher's own files are not afterwards what they were before; the reports
    are written all the same.
    """
    everything = {each.name: each for each in released(course)}
    wanted = [each.name for each in released(course, names)] if names else list(everything)
    rules = read_course(course / "course.yaml")
    if not (course / "course.yaml").exists():
        say(f"There is no {course / 'course.yaml'}: whoever handed in takes part, and nothing is late.")
    stubs = [cell.source for each in everything.values() for cell in each.stubs]
    found = find(submissions, rules, {name: each.ids for name, each in everything.items()}, wanted, stubs)
    return grade_all(found, everything, rules, course, say, side_by_side)


def grade_all(
    found: list[Submission],
    everything: dict[str, Released],
    rules: Course,
    course: Path,
    say: Callable[[str], None],
    side_by_side: int = SIDE_BY_SIDE,
) -> list[Report]:
    """`grade` for submissions that were found already; regrading comes in here."""
    if reason := sandbox.missing():
        say(f"WARNING: {reason} Submissions run without protection: they can read and change your files.")
    gradebook.quiet()
    before = _teachers_files(course)
    done, open_ = [], []
    for each in found:
        report = _begun(each, everything, rules)
        kept = reports.read(course, report.assignment, report.student) if report.student else None
        if report.problem:
            done.append(_unreadable(course, report, say))
        elif kept and kept.fingerprint == report.fingerprint:
            done.append(kept)
        else:
            open_.append((each, report))
    if kept := [report for report in done if not report.problem]:
        say(f"{len(kept)} graded before; nothing about them has changed.")
    for executed, (each, report) in _run(open_, everything, rules, side_by_side):
        done.append(_finish(executed, each, report, everything[report.assignment], rules, course))
        say(line(done[-1]))
    _unchanged(before, _teachers_files(course))
    return sorted(done, key=lambda report: (report.assignment, report.student or report.name))


def line(report: Report) -> str:
    """One line about a report."""
    what = report.problem or f"{report.earned:g} of {report.possible:g} in {report.seconds:.0f} s"
    return f"{report.assignment or 'unsorted'} · {report.student or report.name}: {what}"


def _begun(each: Submission, everything: dict[str, Released], rules: Course) -> Report:
    """The report of a submission as far as it is known before anything of it runs."""
    report = Report(
        student=each.student,
        name=each.name,
        assignment=each.assignment,
        file=each.path.name if each.path else "",
        handed_in=each.handed_in,
        problem=each.problem,
        remarks=list(each.remarks),
    )
    if not each.problem:
        parts = [each.content, str(each.handed_in), everything[each.assignment].tests, rules.limits.model_dump_json()]
        coded = [part if isinstance(part, bytes) else part.encode() for part in parts]
        report.fingerprint = hashlib.sha256(b"\0".join(coded)).hexdigest()
    return report


def _unreadable(course: Path, report: Report, say: Callable[[str], None]) -> Report:
    """File a report on what cannot be graded; it takes the place of the report on an earlier submission."""
    reports.write(course, report)
    say(line(report))
    return report


def _run(
    open_: list[tuple[Submission, Report]], everything: dict[str, Released], rules: Course, side_by_side: int
) -> Iterator[tuple[tuple[Repaired, Executed] | KitError, tuple[Submission, Report]]]:
    """Execute submissions a few at a time, and give each when it is done; on the way out every kernel is stopped."""
    stop, locked_in = threading.Event(), not sandbox.missing()

    def work(each: Submission) -> tuple[Repaired, Executed] | KitError:
        of = everything[each.assignment]
        try:
            repaired = repair(cells(each.content), of.assignment, of.source, of.release)
            return repaired, execute(of.assignment, repaired.notebook, rules.limits, locked_in, stop)
        except (KitError, Unreadable) as error:
            return KitError(str(error))
        except Exception as error:  # a notebook nobody thought of is to cost nobody else's grade
            return _surprise(error)

    with ThreadPoolExecutor(side_by_side) as pool:
        running: dict[Future, tuple[Submission, Report]] = {}
        waiting = list(reversed(open_))
        try:
            while waiting or running:
                while waiting and len(running) < side_by_side:
                    each = waiting.pop()
                    running[pool.submit(work, each[0])] = each
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield future.result(), running.pop(future)
        finally:
            stop.set()


def _finish(
    result: tuple[Repaired, Executed] | KitError,
    each: Submission,
    report: Report,
    of: Released,
    rules: Course,
    course: Path,
) -> Report:
    """Have nbgrader keep the marks, write the feedback, and the report last of all."""
    try:
        if isinstance(result, KitError):
            raise result
        repaired, executed = result
        atomic_write(course / "received" / of.name / f"{report.student}.ipynb", each.content)
        gradebook.record(course, of.name, report.student, executed.notebook, report.handed_in)
        scores = gradebook.scores(course, of.name, report.student)
        for cell in filter(is_test, of.source.cells):
            earned, sentence = scores[cell.id].automatic, executed.lost.get(cell.id, "")
            report.marks[cell.id] = Mark(points=points(cell), earned=earned, sentence=sentence)
        report.remarks += repaired.remarks
        report.flags, report.seconds = executed.flags, executed.seconds
        report.locked_in = not sandbox.missing()
        late = rules.lateness(of.name, report.student, report.handed_in) if report.handed_in else ""
        feedback.write(course, report, str(late))
    except Exception as error:  # as above; without a fingerprint it is tried again next time
        report.problem = str(error if isinstance(error, KitError) else _surprise(error))
        report.fingerprint, report.marks = "", {}
    reports.write(course, report)
    return report


def _surprise(error: Exception) -> KitError:
    first = next(iter(str(error).strip().splitlines()), "no reason given").rstrip(".")
    return KitError(f"The grader itself failed on it ({type(error).__name__}: {first}); the file is kept, look at it.")


# --- the teacher's own files ---


def _teachers_files(course: Path) -> dict[Path, str]:
    """The SHA-256 of everything that no submission may change: sources, releases, tests, rules, key and this code."""
    places = [course / "source", course / "release", assignments_dir(), KIT]
    files = [path for place in places for path in sorted(place.rglob("*")) if path.suffix != ".pyc"]
    files += [course / "course.yaml", course / "key"]
    return {path: file_sha256(path) for path in files if path.is_file()}


def _unchanged(before: dict[Path, str], after: dict[Path, str]) -> None:
    """Raise KitError naming the files that a grading found changed at its end."""
    changed = sorted(str(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    if changed:
        raise KitError(
            f"{len(changed)} of your own files changed while submissions were graded: {', '.join(changed[:5])}. "
            "Put them back and grade again; until then trust none of these marks."
        )
