"""A verdict against a source stands beside the source's own words, and the words are looked for in a user's texts."""

import re
from html import escape

import pytest
from pydantic import ValidationError

from stlm_kit import cli, ledger
from stlm_kit.errors import KitError
from stlm_kit.ledger.claims import MOST_WORDS
from stlm_kit.ledger.quotes import check, stands_in
from stlm_kit.notebook_files import chapters

TEXT = "1 Data\n\nThe corpus\thas 34 million\n  words (about 370Mb).\nBatch 24   20\n"


def claim(name: str = "made.words", **fields) -> ledger.Claim:
    entry = {"id": name, "source": "made", "where": "section 1", "kind": "arithmetic", "statement": "s", "how": "h"}
    return ledger.Claim(**entry, published="34M", unit="words", **fields)


@pytest.mark.parametrize(
    ("quote", "stands"),
    [
        ("The corpus has 34 million words", True),
        ("The corpus  has\n34 million words (about 370Mb).", True),
        ("Batch 24 20", True),
        ("the corpus has 34 million words", False),
        ("The corpus has 34 million words.", False),
        ("The corpus has 4 million words", False),
        ("4 million", False),
        ("34 mill", False),
        ("(about 370Mb)", True),
    ],
)
def test_a_quote_stands_letter_for_letter_but_for_white_space(quote, stands):
    assert stands_in(quote, TEXT) is stands


def test_found_not_found_and_missing_are_told_apart(tmp_path):
    (tmp_path / "made.txt").write_text(TEXT)
    elsewhere = claim("other.words", quote="never looked for").model_copy(update={"source": "other"})
    wrong = claim("made.wrong", quote=["Batch 24", "43 million words"])
    checked = check(
        tmp_path, [claim(quote="34 million words"), wrong, elsewhere, claim("made.derived", derived="a sum")]
    )
    assert checked.found == 2 and checked.not_found == [(wrong, "43 million words")]
    assert checked.missing == {tmp_path / "other.txt": 1}


@pytest.fixture
def made_up(monkeypatch):
    """The command reads a made-up study of three claims."""
    claims = [
        claim(quote="34 million words"),
        claim("made.table", quote=["Batch 24 20", "about 370Mb"]),
        claim("made.sum", derived="a sum of two printed numbers"),
    ]
    monkeypatch.setattr(ledger, "load_claims", lambda source=None: claims)


def test_the_command_counts_and_ends_with_0_where_all_are_found(made_up, tmp_path, capsys):
    (tmp_path / "made.txt").write_text(TEXT)
    assert cli.main(["ledger", "--verify-quotes", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "3 quotes: 3 found, 0 not found; 1 of 3 claims are derived\n"


def test_the_command_names_what_it_does_not_find_and_ends_with_1(made_up, tmp_path, capsys):
    (tmp_path / "made.txt").write_text(TEXT.replace("24", "25"))
    assert cli.main(["ledger", "--verify-quotes", str(tmp_path)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "made.table: not in made.txt: “Batch 24 20” (section 1)"
    assert said[1] == "3 quotes: 2 found, 1 not found; 1 of 3 claims are derived"


def test_a_missing_file_and_a_missing_folder_are_a_sentence(made_up, tmp_path, capsys):
    assert cli.main(["ledger", "--verify-quotes", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.err == f"stlm: There is no {tmp_path / 'made.txt'}; 3 quotes of made were not looked for.\n"
    assert "0 found, 0 not found, 3 not looked for" in said.out
    assert cli.main(["ledger", "--verify-quotes", str(tmp_path / "none")]) != 0
    assert "There is no folder" in capsys.readouterr().err
    (tmp_path / "made.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(KitError, match="plain text"):
        check(tmp_path, ledger.load_claims())


def test_a_quote_is_short_and_excludes_derived():
    claim(quote="word " * MOST_WORDS)
    for fields in ({"quote": "word " * (MOST_WORDS + 1)}, {"quote": ""}, {"quote": ["one"]}, {"derived": ""}):
        with pytest.raises(ValidationError):
            claim(**fields)
    with pytest.raises(ValidationError, match="called derived"):
        claim(quote="34 million words", derived="a sum")


def test_every_verdict_against_a_source_and_every_trend_has_its_words_or_is_derived():
    against = {row["id"] for row in ledger.rows() if row["verdict"] in ("contradicted", "underdetermined")}
    against |= {claim.id for claim in ledger.load_claims() if claim.kind == "trend"}
    outputs = [output for chapter in chapters() for cell in chapter.cells for output in cell.get("outputs", [])]
    stored = "\n".join("".join(output.get("text", "")) for output in outputs)
    against |= set(re.findall(r"\b([a-z]+\.[\w.]+) · (?:contradicted|underdetermined)", stored))
    known = {claim.id: claim for claim in ledger.load_claims()}
    assert len(against) > 50
    assert [name for name in sorted(against) if not known[name].quotes and not known[name].derived] == []


def test_a_claim_without_a_published_value_is_derived():
    assert all(one.derived for one in ledger.load_claims() if one.published is None)


@pytest.mark.parametrize(("name", "label"), [("ld.cite.arxiv", "source says"), ("stlm.tokens.seen", "derived")])
def test_words_and_derivation_are_shown_wherever_a_claim_is(name, label, runs, capsys):
    from stlm_kit import checks
    from stlm_kit.ledger import table
    from stlm_kit.report.ledger_summary import summarise

    claim = ledger.find_claim(name)
    words = claim.derived or claim.quote
    checks.reveal(name)
    assert cli.main(["ledger", name]) == 0
    shown = [" ".join(part.split()) for part in capsys.readouterr().out.split(f"{name}:")]
    assert len(shown) == 2 and all(f"{label} " in part and words in part for part in shown)
    [row] = [row for row in ledger.rows(claim.source) if row["id"] == name]
    assert escape(words) in table.claims([row]).data and f"{label}: " in table.claims([row]).data
    told = summarise([{**row, "verdict": "contradicted"}])["told"]["contradicted"][claim.source]
    assert words in told[0]["said"]
