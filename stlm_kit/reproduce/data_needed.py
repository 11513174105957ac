"""Check that a run's data is present before it is queued or started. Only files are checked; no corpus is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from stlm_kit.data.hub_tokenizers import TOKENIZERS
from stlm_kit.errors import KitError, near
from stlm_kit.paths import cache_dir
from stlm_kit.presets import preset_entry
from stlm_kit.reproduce.needed_runs import names_a_run
from stlm_kit.reproduce.run import Run
from stlm_kit.reproduce.study_file import FULL_SIZE, load_study, study_names

CORPUS, PRESET = "sotu", "laptop-llama"  # the defaults of a run's settings


def must_have_data(runs: Iterable[Run]) -> None:
    """Raise KitError where the text, tokenizer or weights of an unfinished run cannot be read here."""
    missing = missing_data(runs)
    if not missing:
        return
    whys = list(dict.fromkeys(missing.values()))
    names = [run.name for run, why in missing.items() if why == whys[0]]
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    others = len(missing) - len(names)
    rest = f" ({others} runs lack something else)" if others else ""
    raise KitError(f"What {some} would read is not there{rest}: {whys[0]}")


def missing_data(runs: Iterable[Run], may_fetch: bool = False) -> dict[Run, str]:
    """{run: why its data is missing and how to get it, as one sentence}. A finished run needs nothing.

    may_fetch: a corpus counts as present if its server answers, because a run fetches what it lacks. The server is
    asked once; without an answer this takes up to 15 seconds.
    """
    found = {}
    for run in runs:
        settings = run.parameters.get("settings")
        if settings is not None and not run.finished and (why := why_missing(settings, may_fetch)):
            found[run] = why
    return found


def why_missing(settings: dict[str, Any], may_fetch: bool = False) -> str:
    """Why the text, tokenizer or weights in a run's settings are missing; "" where they are present."""
    corpus = settings.get("corpus", CORPUS)
    in_folders = {name: value for name, value in settings.items() if not names_a_run(name, value)}
    return (
        why_no_corpus(corpus, settings.get("max_documents"), may_fetch)
        or why_no_tokenizer(tokenizer_of(settings))
        or _why_no_weights(in_folders.get("init_from"))
        or _why_no_teacher(in_folders.get("teacher"))
    )


def why_no_corpus(corpus: str, max_documents: int | None = None, may_fetch: bool = False) -> str:
    """Why a corpus, given by name or path, cannot be read here; "" where it can."""
    from stlm_kit.data import corpora, hub

    if corpus in corpora.SHIPPED:
        return _complaint_of(lambda: next(iter(corpora.SHIPPED[corpus][0]()), None))
    if corpus not in hub.NAMES:
        if Path(corpus).expanduser().exists():
            return ""
        return f"there is no corpus, file or folder {corpus!r}; check the name.{near(corpus, corpora.corpus_names())}"
    wanted = max_documents or hub.CORPORA[corpus].first
    folder = hub.find_kept(corpus, wanted)
    get = get_line([(corpus, max_documents)])
    if folder is not None:
        damaged = hub.damage(corpus, folder, hashes=False)
        return (
            f"the corpus {corpus} is damaged ({', '.join(damaged.values())}); mend it with `{get}`." if damaged else ""
        )
    if may_fetch:
        return _why_no_answer(corpus)
    return f"the corpus {corpus} is not in {cache_dir()}; fetch it with `{get}` where there is a network."


def get_line(corpora: Iterable[tuple[str, int | None]]) -> str:
    """The command that fetches these corpora, each with its wanted number of documents (None: the default)."""
    lines: dict[int | None, list[str]] = {}
    for name, most in corpora:
        lines.setdefault(most, []).append(name)
    return " && ".join(
        f"stlm data get {' '.join(names)}" + (f" --max-documents {most}" if most else "")
        for most, names in lines.items()
    )


def corpora_of(studies: Iterable[str] = (), profile: str = FULL_SIZE) -> list[tuple[str, int | None]]:
    """(corpus, largest number of documents) in the runs of these studies at a profile; all studies by default."""
    cells = _cells_of(studies, profile)
    return list(dict.fromkeys((cell.get("corpus", CORPUS), cell.get("max_documents")) for cell in cells))


def tokenizers_of(studies: Iterable[str] = (), profile: str = FULL_SIZE) -> list[str]:
    """The tokenizers of the hub in the runs of these studies at a profile; all studies by default."""
    return [name for name in dict.fromkeys(map(tokenizer_of, _cells_of(studies, profile))) if name in TOKENIZERS]


def _cells_of(studies: Iterable[str], profile: str) -> Iterator[dict[str, Any]]:
    """The settings of every run of these studies at a profile. No studies: all that have runs there."""
    for study in map(load_study, studies or study_names()):
        if studies or study.has_runs(profile):
            yield from study.expand(profile).values()


def tokenizer_of(settings: dict[str, Any]) -> str:
    """The name or path of the tokenizer in a run's settings: the preset's own where they give none."""
    named = settings.get("tokenizer")
    return preset_entry(settings.get("preset", PRESET)).tokenizer if named in (None, "preset") else named


@cache
def _why_no_answer(corpus: str) -> str:
    """Why a corpus cannot be fetched now; "" where its server answers. Asked once in a process."""
    from stlm_kit.data import hub

    return _complaint_of(lambda: hub.check_reachable(hub.CORPORA[corpus], corpus))


def why_no_tokenizer(tokenizer: str) -> str:
    """Why a tokenizer, given by name or path, cannot be read here; "" where it can."""
    from stlm_kit.data.tokenizers import NAMED, is_named

    if tokenizer in NAMED:
        return _complaint_of(NAMED[tokenizer].find)
    if is_named(tokenizer):  # trained here
        return ""
    path = Path(tokenizer).expanduser()
    there = path.is_file() or (path / "tokenizer.json").is_file()
    return "" if there else f"there is no tokenizer.json at {path}; check the path."


def _why_no_weights(folder: str | None) -> str:
    if folder is None or (Path(folder).expanduser() / "config.json").is_file():
        return ""
    return f"the folder {folder} to start from holds no model; give a run's folder, or one in Hugging Face's layout."


def _why_no_teacher(folder: str | None) -> str:
    if folder is None:
        return ""
    from stlm_kit.data.tokenizers import NAMED
    from stlm_kit.teachers.teacher import NAMES, SMOLLM2

    if folder == SMOLLM2:
        return _complaint_of(NAMED["smollm2"].find)
    if folder in NAMES or (Path(folder).expanduser() / "config.json").is_file():
        return ""
    return f"the teacher's folder {folder} holds no model; give a run's folder, or one in Hugging Face's layout."


def _complaint_of(look) -> str:
    """The error of a check as the rest of a sentence; "" where it raises none."""
    try:
        look()
    except KitError as error:
        said = str(error)
        return f"the {said[4:]}" if said.startswith("The ") else said
    return ""
