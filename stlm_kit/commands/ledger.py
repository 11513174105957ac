"""`stlm ledger`: published numbers beside what the kit found. `stlm ledger import` adds answers from your own runs."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections import Counter
from pathlib import Path

from stlm_kit.commands.console import plain_table, print_table
from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.progress import Waiting
from stlm_kit.reproduce.results import rows_hashes
from stlm_kit.reproduce.trace_cache import kept


def add_ledger(parser: argparse.ArgumentParser) -> None:
    """Add the options of `stlm ledger`, of one claim, and of `stlm ledger import`."""
    parser.usage = "stlm ledger [options] [CLAIM] | stlm ledger import RUN_DIR|GPU_ROWS [--dry-run] | "
    parser.usage += "stlm ledger --verify-quotes FOLDER"
    parser.add_argument(
        "what",
        nargs="*",
        metavar="CLAIM",
        help="a claim's id: that one whole; or `import RUN_DIR`, a run's folder, or the file of benchmarks/gpu.py",
    )
    parser.add_argument("--source", help="only this source, such as memory")
    parser.add_argument("--kind", help="only claims of this kind: arithmetic, predictable, trend, full_scale or config")
    parser.add_argument("--verdict", help="only claims with this verdict, such as contradicted")
    parser.add_argument("--json", action="store_true", help="every field, as a list of objects")
    parser.add_argument("--dry-run", action="store_true", help="of an import: check and show, but keep nothing")
    parser.add_argument(
        "--verify-quotes",
        metavar="FOLDER",
        type=Path,
        help="look for each quote in FOLDER/SOURCE.txt, letter for letter but for white space",
    )
    parser.epilog = (
        "stlm ledger import RUN_DIR checks your own runs at the published size and lets them answer the claims that "
        f"ask for one. {WHERE_ROWS_GO} stlm ledger import FOLDER/gpu.jsonl takes over what benchmarks/gpu.py found, "
        "into data/results/gpu.jsonl."
    )


WHERE_ROWS_GO = (
    "The rows are kept in runs/imported/STUDY.jsonl, beside your runs, and no file of the checkout changes. "
    "To contribute one, append its line to data/results/STUDY.jsonl and commit that."
)


def run_ledger(options: argparse.Namespace) -> int:
    """`stlm ledger`: the whole ledger, one claim, or an import. UsageError for other arguments."""
    if options.verify_quotes:
        return verify_quotes(options)
    if options.what[:1] == ["import"]:
        if len(options.what) != 2:
            raise UsageError("stlm ledger import takes one RUN_DIR: a run's folder, or one that holds many.")
        options.run_dir = Path(options.what[1])
        if options.run_dir.is_file():
            return import_of_a_gpu(options.run_dir, options.dry_run)
        return import_rows(options)
    if options.dry_run:
        raise UsageError("--dry-run is for `stlm ledger import RUN_DIR`; leave it out.")
    if len(options.what) > 1:
        raise UsageError(f"stlm ledger shows one claim at a time; {options.what[1]!r} is a second one.")
    if options.what:
        return show_claim(options.what[0], options.json)
    return show_ledger(options)


def show_claim(claim_id: str, as_json: bool) -> int:
    """Print one claim: what it says and where, what was found and how, and the command that repeats it."""
    from stlm_kit import ledger
    from stlm_kit.ledger.origin import command_of, place_of
    from stlm_kit.ledger.wording import in_words, source_says

    claim = ledger.find_claim(claim_id)
    with Waiting("computing the answer"):
        answer = ledger.best_answer(claim, ledger.latest_answers().get(claim.id))
    row = ledger.row(claim, answer)
    published, found = in_words(claim, row["found"])
    about = {"reading": claim.reading, "computed_by": place_of(claim, answer)}
    about["command"] = command_of(claim, answer)
    if as_json:
        print(json.dumps({**row, **about}, indent=1, ensure_ascii=False))
        return 0
    print(f"{claim.id}: {row['verdict'].replace('_', ' ')}")
    lines = {
        "statement": claim.statement,
        "source": f"{claim.source}, {claim.where}",
        **dict([source_says(claim)]),
        "published": published or "no value",
        "found": found or "not answered yet",
        "reading": claim.reading,
        "how": row["how"],
        "computed by": about["computed_by"],
        "do it again": about["command"],
    }
    for name, text in lines.items():
        if text:
            print(textwrap.fill(text, 110, initial_indent=f"  {name:<13}", subsequent_indent=" " * 15))
    return 0


def verify_quotes(options: argparse.Namespace) -> int:
    """`stlm ledger --verify-quotes FOLDER`: print each quote that was not found, and the counts.

    Returns 1 where a quote or a file is missing, else 0.
    """
    from stlm_kit import ledger
    from stlm_kit.ledger.quotes import check

    claims = ledger.load_claims(options.source)
    if options.what:
        claims = [ledger.find_claim(claim_id) for claim_id in options.what]
    checked = check(options.verify_quotes, claims)
    for claim, quote in checked.not_found:
        print(f"{claim.id}: not in {claim.source}.txt: “{quote}” ({claim.where})")
    for file, count in checked.missing.items():
        print(f"stlm: There is no {file}; {count} quotes of {file.stem} were not looked for.", file=sys.stderr)
    unchecked = sum(checked.missing.values())
    not_looked_for = f", {unchecked} not looked for" if unchecked else ""
    derived = sum(claim.derived is not None for claim in claims)
    print(
        f"{checked.found + len(checked.not_found)} quotes: {checked.found} found, {len(checked.not_found)} not found"
        f"{not_looked_for}; {derived} of {len(claims)} claims are derived"
    )
    return 1 if checked.not_found or checked.missing else 0


def import_rows(options: argparse.Namespace) -> int:
    """`stlm ledger import`: print a line for each run folder and each claim that it answers.

    Raises KitError where a run was refused.
    """
    from stlm_kit import ledger
    from stlm_kit.ledger.import_rows import import_runs, shown
    from stlm_kit.ledger.wording import in_words

    done = import_runs(options.run_dir, dry_run=options.dry_run)
    refused = [each for each in done if each.refusal]
    if refused and len(done) == 1:
        raise KitError(f"{refused[0].folder.name} is not imported: {refused[0].refusal}")
    for each in done:
        if each.refusal:
            print(f"{shown(each)}: not imported: {each.refusal}")
            continue
        state = "known already" if each.known else "would be imported" if options.dry_run else "imported"
        print(f"{shown(each)}: {state}")
        for claim_id, answer in each.answers.items():
            claim = ledger.find_claim(claim_id)
            published, found = in_words(claim, answer["found"])
            print(f"  {claim_id}: published {published}, found {found}: {ledger.verdict_of(claim, answer)}")
        for claim_id, why in each.unanswered.items():
            print(f"  {claim_id}: not answered: {why}")
        if not each.answers and not each.unanswered:
            print(f"  no claim of the study {each.row['study']} is tied to this run yet (`answers:`)")
    if refused:
        raise KitError(f"{len(refused)} of {len(done)} runs were not imported; the lines above say why.")
    return 0


def _kept_answers(source: str | None) -> dict[str, dict | None]:
    """The answers that need no run. They are cached until the kit, its libraries or the recorded rows change."""
    from stlm_kit.ledger.answers import computed_answers

    return kept(dict[str, dict | None], computed_answers, source, besides=rows_hashes())


def import_of_a_gpu(file: Path, dry_run: bool) -> int:
    """`stlm ledger import FOLDER/gpu.jsonl`: print how many rows are new, and each claim whose answer they change."""
    from stlm_kit import ledger
    from stlm_kit.ledger.gpu_rows import import_gpu_rows
    from stlm_kit.ledger.wording import in_words

    claims = [claim for claim in ledger.load_claims() if claim.kind == "full_scale"]
    before = {claim.id: ledger.best_answer(claim, None) for claim in claims}
    new = import_gpu_rows(file, dry_run=dry_run)
    devices = ", ".join(sorted({row["device"] for row in new}))
    print(f"{len(new)} new rows{' of ' + devices if new else ''}{' would be kept' if dry_run else ''}")
    for claim in claims:
        answer = ledger.best_answer(claim, None)
        if answer and answer != before[claim.id]:
            published, found = in_words(claim, answer["found"])
            print(f"  {claim.id}: published {published}, found {found}: {ledger.verdict_of(claim, answer)}")
    return 0


def show_ledger(options: argparse.Namespace) -> int:
    """Print every claim: published beside found, with the verdict. Contradictions go to standard error."""
    from stlm_kit import ledger
    from stlm_kit.ledger.survey import survey
    from stlm_kit.ledger.wording import show

    for name, known in (("kind", ledger.KINDS), ("verdict", ledger.VERDICTS)):
        wanted = getattr(options, name)
        if wanted is not None and wanted not in known:
            raise UsageError(f"There is no {name} {wanted!r}; there are {', '.join(known)}.{near(wanted, known)}")
    with Waiting("computing answers"):
        found = survey(options.source, _kept_answers)
    for sentence in found.warnings:
        print(f"stlm: {sentence}", file=sys.stderr)
    rows = [
        row for row in found.rows if options.kind in (None, row["kind"]) and options.verdict in (None, row["verdict"])
    ]
    if options.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    from rich.markup import escape

    claims = {claim.id: claim for claim in ledger.load_claims(options.source)}
    table = plain_table("claim", "published", "found", "verdict", "statement")
    for row in rows:
        claim, found = claims[row["id"]], row["found"]
        values = list(found.values()) if isinstance(found, dict) else [] if found is None else [found]
        published = "" if claim.value is None else show(claim.value, claim)
        shown = " or ".join(show(value, claim) for value in values)
        statement = row["statement"] + (" (derived)" if row["derived"] else "")
        table.add_row(row["id"], escape(published), escape(shown), row["verdict"], escape(statement))
    print_table(table, soft_wrap=False)
    counts = Counter(row["verdict"] for row in rows)
    print(f"{len(rows)} claims: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    return 0
