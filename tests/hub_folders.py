"""Small folders laid out as the repositories of the hub's corpora are: the same paths, columns and nested types."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SPLITS = ("train", "validation", "test")
WIKITEXT = ["", " = Robert Boulter = \n", "", " He acts . \n", " = = Career = = \n", " In 2000 = he did . \n", "", "",
            " = Du Fu = \n", "", " A poet . \n", ""]  # fmt: skip
ARTICLES = [" = Robert Boulter = \n He acts . \n = = Career = = \n In 2000 = he did . \n", " = Du Fu = \n A poet . \n"]
ANSWERS = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])


def parquet(path: Path, columns: dict[str, list], **types: pa.DataType) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()}), path)


def wikitext(folder: Path) -> None:
    for config in ("wikitext-2-raw-v1", "wikitext-103-raw-v1"):
        parquet(folder / config / "train-00000-of-00002.parquet", {"text": WIKITEXT[:5]})
        parquet(
            folder / config / "train-00001-of-00002.parquet", {"text": WIKITEXT[5:]}
        )  # an article crosses the files
        for split in SPLITS[1:]:
            parquet(folder / config / f"{split}-00000-of-00001.parquet", {"text": WIKITEXT})


def penn_treebank(folder: Path) -> None:
    for split in SPLITS:
        sentences = [f"{split} <unk> N", "no it was n't"]
        parquet(folder / f"penn_treebank/{split}/0000.parquet", {"sentence": sentences})


def c4(folder: Path) -> None:
    (folder / "en").mkdir()
    for shard in range(2):
        with gzip.open(folder / f"en/c4-train.0000{shard}-of-01024.json.gz", "wt") as file:
            for i in range(40):
                file.write(json.dumps({"text": f"{shard}:{i}", "timestamp": "2019-04-25T12:57:54Z", "url": "u"}) + "\n")


def redpajama(folder: Path) -> None:
    for name, meta in (
        ("cc_2019-30", {"source": "cc", "language": "en"}),
        ("cc_2020-05", {"pred_label": "x", "wiki_prob": 0.3}),
    ):
        rows = [json.dumps({"text": f"{name} {i}\u2028", "meta": meta}, ensure_ascii=False) for i in range(12)]
        (folder / f"{name}_sample.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "arxiv_sample.jsonl").write_text(json.dumps({"text": "left out", "meta": {}}) + "\n")


def simple_wikipedia(folder: Path) -> None:
    numbers = [str(i) for i in range(1, 31)]
    columns = {
        "id": numbers,
        "url": [f"https://simple.wikipedia.org/wiki/{i}" for i in numbers],
        "title": [f"Month {i}" for i in numbers],
        "text": [f"Month {i} is a month.\n\nIt has days.\n\nReferences\n" for i in numbers],
    }
    parquet(folder / "20231101.simple/train-00000-of-00001.parquet", columns)


def dailydialog(folder: Path) -> None:
    for split in SPLITS:
        columns = {
            "dialog": [
                ["Say , Jim , how about a few beers ? ", f" You know {split} . ", " "],
                ["Can you do push-ups ? ", " Of course I can . "],
                [],
            ],
            "act": [[3, 4, 1], [2, 1], []],
            "emotion": [[0, 0, 0], [0, 4], []],
        }
        parquet(folder / f"default/{split}/0000.parquet", columns, dialog=pa.list_(pa.string()))


def squad(folder: Path) -> None:
    """Of ten articles with two paragraphs of two questions for training, and one for development."""
    for split, titles in (("train", [f"Article_{i}" for i in range(10)]), ("validation", ["Super_Bowl_50"])):
        rows = []
        for title in titles:
            for paragraph in range(2):
                context = f"{title}, paragraph {paragraph}: the game was played on February 7."
                for number in range(2):
                    question = {"id": f"{title}-{paragraph}-{number}", "title": title, "context": context}
                    answers = {"text": ["February 7", "7"], "answer_start": [context.index("Feb"), len(context) - 2]}
                    rows.append({**question, "question": f" When was it ({number})?", "answers": answers})
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        parquet(folder / f"plain_text/{split}-00000-of-00001.parquet", columns, answers=ANSWERS)


def cnn_dailymail(folder: Path) -> None:
    for split in SPLITS:
        shards = 3 if split == "train" else 1
        for shard in range(shards):
            columns = {
                "article": [f"LONDON ({split} {shard}) -- He turns 18 .", "By . A reporter ."],
                "highlights": ["He turns 18 .\nHe has a fortune .", "A reporter wrote ."],
                "id": ["42c027e4ff9730fbb3de84c1af0d2c506e41c3e4", "ee8871b15c50d0db17b0179a6d2beab35065f1e9"],
            }
            parquet(folder / f"3.0.0/{split}-0000{shard}-of-0000{shards}.parquet", columns)


def speakleash(folder: Path) -> None:
    """The form of Speakleash's archives: JSON lines under zstd, with the text and what its manifest calls meta."""
    rows = [{"text": f"Post {i}\nz dwiema liniami", "meta": {"url": "u", "length": 9}} for i in range(30)]
    rows.append({"text": " \n", "meta": {}})
    packed = pa.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), codec="zstd", asbytes=True)
    (folder / "forum_forum_poradnikogrodniczy_pl_corpus.jsonl.zst").write_bytes(packed)


FOLDERS = {
    "wikitext-103": wikitext,
    "wikitext-2": wikitext,
    "penn-treebank": penn_treebank,
    "c4": c4,
    "redpajama": redpajama,
    "simple-wikipedia": simple_wikipedia,
    "dailydialog": dailydialog,
    "squad": squad,
    "cnn-dailymail": cnn_dailymail,
    "speakleash-forum": speakleash,
}
