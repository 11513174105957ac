"""The kit's errors. Each is one sentence that says what is wrong and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KitError(Exception):
    """An error that a user can fix: a path, a file, a full disk. The command line exits with `exit_status`."""

    exit_status = 1


class OtherRun(KitError):
    """A run's folder belongs to a run with other settings or other text."""


class UsageError(KitError):
    """The request itself is wrong: an unknown name, a wrong type, a value out of range."""

    exit_status = 2


class Interrupted(KitError):
    """A signal stopped the run after its state was saved. The same command resumes it."""

    exit_status = 3


def near(name: str, options: Iterable[str]) -> str:
    """A question with the options most similar to `name`, to append to a sentence. Empty where none is similar."""
    found = difflib.get_close_matches(name, list(options), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(option) for option in found)}?" if found else ""


def first_sentence(error) -> str:
    """The first error of a pydantic `ValidationError` as one sentence that names the field and the given value."""
    complaint = error.errors()[0]
    field = ".".join(str(part) for part in complaint["loc"])
    message = complaint["msg"].removeprefix("Value error, ")
    if complaint["type"] == "value_error":  # raised by one of our validators, so already a sentence
        return message
    if complaint["type"] == "extra_forbidden":
        return f"There is no setting named {field!r}; check its spelling."
    if complaint["type"] == "missing":
        return f"The setting {field!r} is missing; give it a value."
    return f"{field} = {complaint['input']!r} will not do: {message[0].lower()}{message[1:]}."
