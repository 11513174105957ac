"""What many processes write at once: no row lost or doubled, no cache half made, each thing made by one of them."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from stlm_kit.ledger.gpu_rows import STUDY
from stlm_kit.reproduce import results, rows
from stlm_kit.reproduce.rows import collect

# Forks that begin in one moment. A body knows `folder` and its own number `i`.
PROGRAM = """
import os, sys, traceback
from pathlib import Path
n, folder = int(sys.argv[1]), Path(sys.argv[2])
{imports}
gate, opened = os.pipe()
for i in range(n):
    if not os.fork():
        os.close(opened)
        os.read(gate, 1)  # ends when the parent opens the gate
        try:
{body}
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
os.close(opened)
statuses = [os.wait()[1] for i in range(n)]
sys.exit(any(statuses))
"""


def at_once(n: int, folder: Path, imports: str, body: str, **environment: str) -> str:
    """Run the body in n processes at once; gives what they printed."""
    body = "\n".join(" " * 12 + line for line in body.strip().splitlines())
    program = PROGRAM.format(imports=imports, body=body)
    command = [sys.executable, "-c", program, str(n), str(folder)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def some_rows(n: int, study: str = "mine") -> list[dict]:
    return [results.new_row(study, f"r{i}", {"seed": i}, {"loss": 1.0 + i}, "NVIDIA L4") for i in range(n)]


@pytest.mark.parametrize("kind", ["flock", "lease"])
def test_sixteen_processes_append_rows_at_once(kind, tmp_path):
    """Three rows each, one after the other, of which the last is the same in all."""
    made = some_rows(16 * 2 + 1)
    (tmp_path / "made.json").write_text(json.dumps(made))
    at_once(
        16,
        tmp_path,
        "import json\nfrom stlm_kit.reproduce.results import append_rows\n"
        "made = json.loads((folder / 'made.json').read_text())",
        """
for row in [*made[2 * i : 2 * i + 2], made[-1]]:
    append_rows(folder / "rows" / "mine.jsonl", [row])
""",
        STLM_LOCKS=kind,
    )
    found = results.read_rows(tmp_path / "rows" / "mine.jsonl")
    assert sorted(row["seed"] for row in found) == list(range(33))
    assert sorted(found, key=lambda row: row["seed"]) == made
    others = [path.name for path in (tmp_path / "rows").iterdir() if path.name != "mine.jsonl"]
    assert len(others) == 1 and others[0].startswith("mine.lock")


def test_rows_of_eight_gpus_are_imported_at_once(tmp_path):
    for i, row in enumerate(some_rows(8, STUDY)):
        (tmp_path / f"{i}.jsonl").write_text(json.dumps(row) + "\n")
    at_once(
        8,
        tmp_path,
        "from stlm_kit.ledger import gpu_rows\ngpu_rows.results.checkout_folder = lambda: folder / 'data'",
        'assert len(gpu_rows.import_gpu_rows(folder / f"{i}.jsonl")) == 1',
    )
    assert len(results.read_rows(tmp_path / "data" / "gpu.jsonl")) == 8


def test_four_processes_record_and_one_configuration_has_one_row(tmp_path):
    """The first two train the same."""
    tiny = "dict(n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, d_ff=16)"
    at_once(
        4,
        tmp_path,
        "import datasets, torch._dynamo\nfrom stlm_kit import train_from_text\nfrom stlm_kit.reproduce import results\n"
        f"tiny = {tiny}\nresults.project_dir = lambda: folder\nimport torch\ntorch.set_num_threads(1)",
        """
results.record("mine", "tiny", corpus="polish", tokenizer="bytes", steps=2, batch_size=2, context_length=8,
               overrides=tiny, eval_documents=1, preset="laptop-gpt2", seed=max(0, i - 1))
""",
    )
    found = results.read_rows(tmp_path / "data" / "results" / "mine.jsonl")
    assert Counter(row["seed"] for row in found) == {0: 1, 1: 1, 2: 1}


def test_a_slow_collector_does_not_undo_a_newer_one(runs, monkeypatch):
    """The first has read the rows when another run ends and is collected; then it writes."""

    def finish(seed):
        folder = runs / "mine" / f"s{seed}"
        folder.mkdir(parents=True)
        record = {"study": "mine", "name": f"s{seed}", "status": "done", "parameters": {"seed": seed}}
        record["identity"] = dict.fromkeys(("notebook", "parameters", "contents", "source", "versions"))
        (folder / "run.json").write_text(json.dumps(record))

    has_read, second_is_there = threading.Event(), threading.Event()
    read = rows.row

    def slow(folder):
        found = read(folder)
        if threading.current_thread() is first:
            has_read.set()
            second_is_there.wait(1)  # it waits for the lock, or writes without one
        return found

    monkeypatch.setattr(rows, "row", slow)
    finish(1)
    first = threading.Thread(target=collect, args=["mine"])
    first.start()
    assert has_read.wait(30)
    finish(2)
    assert [row["seed"] for row in collect("mine")] == [1, 2]
    second_is_there.set()
    first.join()
    written = [json.loads(line) for line in (runs / "mine" / "rows.jsonl").open()]
    assert [row["seed"] for row in written] == [1, 2]


def test_caches_that_many_ask_for_at_once_are_made_once(tmp_path):
    said = at_once(
        6,
        tmp_path,
        """
import json
import stlm_kit.data.tokenizers as tokenizers, stlm_kit.data.token_files as token_files
from stlm_kit.reproduce import trace_cache
texts = [f"Verse {n}: the fox number {n} jumps over the lazy dog." for n in range(400)]
train = tokenizers.train_bpe
def trained(*args):
    os.write(1, b"trained\\n")
    return train(*args)
tokenizers.train_bpe = trained
write = token_files._write
def written(*args):
    os.write(1, b"written\\n")
    return write(*args)
token_files._write = written
def answer(n: int) -> list[int]:
    return list(range(n))
answer.__module__ = "stlm_kit.elsewhere"
""",
        """
tokenizer = tokenizers.trained_bpe(texts, 300)
tokens = token_files.tokenize_texts(texts, tokenizer)
kept = trace_cache.kept(list[int], answer, 1000)
assert kept == answer(1000) and tokenizer.decode(tokens.document(7)) == texts[7]
os.write(1, f"{tokenizer.content_hash} {tokens.content_hash} {tokens.n_tokens}\\n".encode())
""",
        STLM_CACHE=str(tmp_path / "cache"),
    )
    lines = Counter(said.splitlines())
    assert (lines.pop("trained"), lines.pop("written")) == (1, 1)
    assert list(lines.values()) == [6]  # all have the same
    assert not list((tmp_path / "cache").rglob("*.part-*"))


def test_a_killed_trainer_of_a_tokenizer_is_followed_and_its_half_is_cleared(tmp_path, monkeypatch):
    from stlm_kit.data.tokenizers import trained_bpe

    monkeypatch.setenv("STLM_CACHE", str(tmp_path))
    code = """
import os, stlm_kit.paths as paths, stlm_kit.data.tokenizers as tokenizers
from pathlib import Path
def killed(*_):
    os.kill(os.getpid(), 9)
os.fsync = killed  # after the half-written file lies there
tokenizers.trained_bpe(["one two three"] * 9, 300)
"""
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ)).returncode == -9
    [half] = tmp_path.rglob("*.part-*")
    assert trained_bpe(["one two three"] * 9, 300).vocab_size <= 300
    assert not half.exists()
