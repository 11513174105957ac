"""What editors and students do to a notebook without a change to any answer: the ways of mangling, drawn at random.

A notebook is the plain content of its file. Each way returns what it did, for the failure's sake.
"""

import copy
import re


def code(notebook):
    return [number for number, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"]


def text(cell):
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def copied(rng, notebook, answers):
    """A cell copied with its metadata, somewhere behind it; at times emptied."""
    at = rng.choice(code(notebook))
    other = copy.deepcopy(notebook["cells"][at])
    if rng.random() < 0.3:
        other["source"] = ""
    notebook["cells"].insert(rng.randint(at + 1, len(notebook["cells"])), other)


def stubbed(rng, notebook, answers):
    """An exercise's cell as released, put in again anywhere."""
    exercise = rng.choice(sorted(answers))
    cell = new(answers[exercise], rng)
    if rng.random() < 0.5:
        cell["metadata"] = {"nbgrader": {"grade_id": exercise}}
    notebook["cells"].insert(rng.randint(0, len(notebook["cells"])), cell)


def earlier(rng, notebook, answers):
    """A wrong attempt in a cell of its own, before the answer."""
    found = [(at, name) for at in code(notebook) for name in answers if writes(notebook["cells"][at], name)]
    if not found:
        return
    _, exercise = rng.choice(found)
    first = min(place for place, name in found if name == exercise)
    notebook["cells"].insert(rng.randint(0, first), new(f"def {exercise}(*_, **__):\n    return None", rng))


def split(rng, notebook, answers):
    """A cell cut in two at a line, as JupyterLab does: both halves keep the metadata, blank lines at the cut go."""
    places = [at for at in code(notebook) if text(notebook["cells"][at]).count("\n") > 1]
    if not places:
        return
    at = rng.choice(places)
    lines = text(notebook["cells"][at]).split("\n")
    cut = rng.randint(1, len(lines) - 1)
    other = copy.deepcopy(notebook["cells"][at])
    notebook["cells"][at]["source"] = "\n".join(lines[:cut]).rstrip("\n")
    other["source"] = "\n".join(lines[cut:]).lstrip("\n")
    if rng.random() < 0.5:
        other["metadata"] = {}
    if "id" in other:
        other["id"] = fresh(rng)
    notebook["cells"].insert(at + 1, other)


def merged(rng, notebook, answers):
    """Two neighbouring cells of code made one; what stood between them goes below."""
    numbers = code(notebook)
    at = rng.randrange(len(numbers) - 1)
    first, second = numbers[at], numbers[at + 1]
    other = notebook["cells"].pop(second)
    cell = notebook["cells"][first]
    cell["source"] = text(cell) + "\n\n" + text(other)


def moved(rng, notebook, answers):
    """A cell taken elsewhere, answer or not."""
    cells = notebook["cells"]
    cell = cells.pop(rng.randrange(len(cells)))
    cells.insert(rng.randint(0, len(cells)), cell)


def converted(rng, notebook, answers):
    """A cell of code turned into text, or text into code."""
    cell = rng.choice(notebook["cells"])
    cell["cell_type"] = rng.choice(["raw", "markdown"]) if cell["cell_type"] == "code" else "code"
    for key in ("outputs", "execution_count"):
        cell.pop(key, None)
    if cell["cell_type"] == "code":
        cell |= {"outputs": [], "execution_count": None}


def deleted(rng, notebook, answers):
    """A cell that holds no answer and no helper gone."""
    needed = ("def ", "import")
    free = [at for at, cell in enumerate(notebook["cells"]) if not any(word in text(cell) for word in needed)]
    if free:
        notebook["cells"].pop(rng.choice(free))


def stripped(rng, notebook, answers):
    """Ids and metadata gone, everywhere or in some cells."""
    share = rng.choice([0.3, 1.0])
    for cell in notebook["cells"]:
        if rng.random() < share:
            cell.pop("id", None)
            cell["metadata"] = {}


def rewritten(rng, notebook, answers):
    """New ids, as VS Code and Colab give them; at times all the same, at times another cell's."""
    ids = [cell.get("id", "") for cell in notebook["cells"]]
    how = rng.choice(["fresh", "same", "shuffled"])
    rng.shuffle(ids)
    for cell, other in zip(notebook["cells"], ids, strict=True):
        cell["id"] = {"fresh": fresh(rng), "same": "x", "shuffled": other}[how]
        if how != "shuffled" and rng.random() < 0.5:
            cell["metadata"] = {"id": fresh(rng), "colab": {"base_uri": "https://localhost:8080/"}}


def returned(rng, notebook, answers):
    """Line ends of Windows or of old Macs, lists of lines, lines without their ends, blanks at the ends of lines."""
    for cell in notebook["cells"]:
        source = text(cell)
        how = rng.choice(["crlf", "cr", "lines", "bare", "blanks", "as it is"])
        if how in ("crlf", "cr"):
            cell["source"] = source.replace("\n", "\r\n" if how == "crlf" else "\r")
        elif how in ("lines", "bare"):
            cell["source"] = source.splitlines(keepends=how == "lines")
        elif how == "blanks":
            cell["source"] = re.sub(r"$", "  ", source, flags=re.MULTILINE) + "\n"


def older(rng, notebook, answers):
    """Another minor version of the format: none before 4.5 has ids."""
    notebook["nbformat_minor"] = rng.randint(0, 5)
    if notebook["nbformat_minor"] < 5:
        for cell in notebook["cells"]:
            cell.pop("id", None)


WAYS = [copied, stubbed, earlier, split, merged, moved, converted, deleted, stripped, rewritten, older]
WAYS += [returned]


def mangled(rng, notebook, answers):
    """A copy of a notebook, mangled one to four times, and the names of the ways. answers: {exercise: its stub}."""
    notebook = copy.deepcopy(notebook)
    ways = sorted(rng.choices(WAYS[:-1], k=rng.randint(1, 4)), key=WAYS.index)
    ways += [returned] * (rng.random() < 0.3)  # how lines end comes last, and once
    for way in ways:
        way(rng, notebook, answers)
    return notebook, [way.__name__ for way in ways]


def writes(cell, exercise):
    return f"def {exercise}(" in text(cell) and "NotImplementedError" not in text(cell)


def new(source, rng):
    cell = {"cell_type": "code", "id": fresh(rng), "metadata": {}, "outputs": [], "execution_count": None}
    return cell | {"source": source}


def fresh(rng):
    return f"{rng.getrandbits(32):08x}"
