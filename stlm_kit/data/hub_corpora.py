"""The corpora that are fetched by name: where each is, at which commit, which columns are read, and what a document is.

Commits, files and columns come from the code of public projects. The hub itself could not be reached while the kit was
written. data/DATA.md describes each corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from stlm_kit.data.layout import SPLITS
from stlm_kit.data.wikitext import wikitext_articles

Row = dict[str, Any]


@dataclass(frozen=True)
class Records:
    """How documents are made of several fields. The cache keeps the record, and the text is made when it is read. So a
    question and its answers can also be read separately (`hub.load_records`).

    text: a record to its text. of: rows to records, in order. article: the field that names the record's article. A
    corpus without a validation part is divided by article, so that no article is in two parts.
    """

    text: Callable[[Row], str]
    of: Callable[[Iterable[Row]], Iterable[Row]] = iter
    article: str = ""


@dataclass(frozen=True)
class HubCorpus:
    """Where a corpus is and how its rows become documents.

    revision: a commit, or the hub's branch of Parquet conversions, which has no other pin.
    files: split -> pattern below the repository. With "train" alone the corpus is split here, 85/10/5. With "train" and
        "test", validation is drawn from the articles of train.
    columns: {column that is read: its type}. A document is the text of the one column, or its texts grouped by `group`,
        or what `records` makes of several columns.
    first: how many documents are taken by default (None: all of them).
    size: (documents, bytes) of the whole, of its text or of its files, as public pages state them, or None.
    """

    repo: str
    revision: str
    kind: Literal["parquet", "json", "speakleash"]
    files: dict[str, str]
    columns: dict[str, str]
    licence: str
    first: int | None = None
    group: Callable[[Iterable[str]], Iterator[str]] = iter
    records: Records | None = None
    size: tuple[int, int] | None = None

    @property
    def text_field(self) -> str:
        """The column that holds the text, for documents made of one column."""
        return next(iter(self.columns))

    @property
    def payload(self) -> str:
        """The name of the second column in a cached file."""
        return "record" if self.records else "text"

    def expected_bytes(self, wanted: int | None) -> int | None:
        """About how many bytes the first `wanted` documents take, or None where no size is known."""
        if self.size is None:
            return None
        documents, size = self.size
        return size if wanted is None else round(size * min(wanted, documents) / documents)


def _files(pattern: str) -> dict[str, str]:
    return {split: pattern.format(split) for split in SPLITS}


def _wikitext(config: str, size: tuple[int, int]) -> HubCorpus:
    commit = "b08601e04326c79dfdd32d625aee71d232d685c3"
    files, licence = _files(config + "/{}-*.parquet"), "CC BY-SA 3.0 and GFDL"
    columns = {"text": "string"}
    return HubCorpus(
        "Salesforce/wikitext", commit, "parquet", files, columns, licence, group=wikitext_articles, size=size
    )


def dialogue_text(record: Row) -> str:
    """A dialogue with one turn a line. The speaker changes with each line."""
    return "\n".join(turn.strip() for turn in record["dialog"] if turn.strip())


def squad_paragraphs(rows: Iterable[Row]) -> Iterator[Row]:
    """SQuAD's rows, one a question, joined into one record for each paragraph. Rows of a paragraph follow each other.

    A record is {"title", "context", "questions": [{"id", "question", "answers"}]}.
    """
    for (title, context), found in groupby(rows, key=lambda row: (row["title"], row["context"])):
        questions = [{name: row[name] for name in ("id", "question", "answers")} for row in found]
        yield {"title": title, "context": context, "questions": questions}


def squad_text(record: Row) -> str:
    """A paragraph, an empty line, then each of its questions with the first human answer."""
    asked = []
    for question in record["questions"]:
        answer = next(iter(question["answers"]["text"]), "")
        asked.append(f"Question: {question['question'].strip()}\nAnswer: {answer.strip()}".rstrip())
    return "\n".join([f"{record['context']}\n", *asked])


def summary_text(record: Row) -> str:
    """An article, an empty line, "Summary:", and its highlights, one a line."""
    return f"{record['article']}\n\nSummary:\n{record['highlights']}"


HUB: dict[str, HubCorpus] = {
    "wikitext-103": _wikitext("wikitext-103-raw-v1", (29_000, 540_000_000)),
    "wikitext-2": _wikitext("wikitext-2-raw-v1", (700, 11_000_000)),
    "penn-treebank": HubCorpus(  # one sentence a row and a document each, because the corpus marks no larger documents
        "ptb-text-only/ptb_text_only",
        "refs/convert/parquet",
        "parquet",
        _files("penn_treebank/{}/*.parquet"),
        {"sentence": "string"},
        "Linguistic Data Consortium, for research only",
        size=(49_000, 6_000_000),
    ),
    "c4": HubCorpus(
        "allenai/c4",
        "1588ec454efa1a09f29cd18ddd04fe05fc8653a2",
        "json",
        {"train": "en/c4-train.*.json.gz"},
        {"text": "string"},
        "ODC-BY and Common Crawl's terms",
        first=10_000,
        size=(364_868_892, 828_589_180_707),
    ),
    # The 1B-token sample, because the full set is outside the hub behind a loading script. Of it we read only the
    # Common Crawl part, RedPajama's largest: each file is one source, so the first N documents of all would be arXiv
    # papers.
    "redpajama": HubCorpus(
        "togethercomputer/RedPajama-Data-1T-Sample",
        "98f93b765c118b999b1af570c3e399c207d08da7",
        "json",
        {"train": "cc_*_sample.jsonl"},
        {"text": "string"},
        "Common Crawl's terms",
        first=10_000,
    ),
    "simple-wikipedia": HubCorpus(  # the snapshot in STLM's public code; the paper names none
        "wikimedia/wikipedia",
        "b04c8d1ceb2f5cd4588862100d08de323dccfbaa",
        "parquet",
        {"train": "20231101.simple/train-*.parquet"},
        {"text": "string"},
        "CC BY-SA 3.0 and GFDL",
        size=(241_787, 156_885_218),
    ),
    "dailydialog": HubCorpus(
        "li2017dailydialog/daily_dialog",
        "refs/convert/parquet",
        "parquet",
        _files("default/{}/*.parquet"),
        {"dialog": "list<string>", "act": "list<int64>", "emotion": "list<int64>"},
        "CC BY-NC-SA 4.0",
        records=Records(dialogue_text),
        size=(13_118, 8_626_502),
    ),
    # The corpus's development part is the test part here. None of its articles is in the other parts.
    "squad": HubCorpus(
        "rajpurkar/squad",
        "7b6d24c440a36b6815f21b70d25016731768db1f",
        "parquet",
        {"train": "plain_text/train-*.parquet", "test": "plain_text/validation-*.parquet"},
        {
            "id": "string",
            "title": "string",
            "context": "string",
            "question": "string",
            "answers": "struct<text: list<string>, answer_start: list<int32>>",
        },
        "CC BY-SA 4.0",
        records=Records(squad_text, squad_paragraphs, article="title"),
        size=(20_963, 89_789_763),
    ),
    "cnn-dailymail": HubCorpus(
        "abisee/cnn_dailymail",
        "96df5e686bee6baa90b8bee7c28b81fa3fa6223d",
        "parquet",
        _files("3.0.0/{}-*.parquet"),
        {"article": "string", "highlights": "string", "id": "string"},
        "Apache-2.0 for the data set; the articles are CNN's and the Daily Mail's",
        records=Records(summary_text),
        size=(311_971, 1_369_361_929),
    ),
}
# What the memory study trained on. The server offers only its current state and gives it no name.
SPEAKLEASH: dict[str, HubCorpus] = {
    "speakleash-forum": HubCorpus(
        "speakleash/forum_forum_poradnikogrodniczy_pl_corpus",
        "current",
        "speakleash",
        {"train": "forum_forum_poradnikogrodniczy_pl_corpus.jsonl.zst"},
        {"text": "string"},
        "licence in its manifest",
    )
}
CORPORA = HUB | SPEAKLEASH
