"""Which token stands for which row of a word embedding: from a tokenizer.json or a vocab.txt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlm_jax.errors import UserError

_NAMES = ("tokenizer.json", "vocab.txt")


def files_in(folder: Path) -> list[Path]:
    """The files of a folder that `read` takes, the one that it prefers first."""
    return [folder / name for name in _NAMES if (folder / name).is_file()]


def read(path: str | Path) -> str:
    """The text of a tokenizer.json: from such a file, from a BERT vocab.txt, or from a directory with either.

    Raises:
      UserError: neither is there, or it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        found = files_in(path)
        if not found:
            raise UserError(f"{path} holds neither {' nor '.join(_NAMES)}")
        path = found[0]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the vocabulary {path} ({type(error).__name__}); give a tokenizer.json") from None
    if path.suffix == ".txt":
        text = from_lines([line.rstrip("\r") for line in text.removesuffix("\n").split("\n")])
    tokens_of(text)
    return text


def from_lines(lines: list[str]) -> str:
    """A BERT tokenizer.json from the lines of a vocab.txt; line n is the token with id n.

    It lower-cases where no token but the special ones ([UNK], [unused0], ...) has a capital.
    """
    import tokenizers

    vocabulary = {token: i for i, token in enumerate(lines)}
    if len(vocabulary) != len(lines) or "[UNK]" not in vocabulary:
        raise UserError("the vocab.txt repeats a token or lacks [UNK]; expected BERT's, one token a line")
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    small = all(token == token.lower() for token in lines if not token.startswith("["))
    backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=small)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens([t for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if t in vocabulary])
    return backend.to_str(pretty=False)


def tokens_of(tokenizer_json: str) -> tuple[str, ...]:
    """The token of every id, in order; "" where an id has none.

    Raises:
      UserError: not a tokenizer.json.
    """
    try:
        tokenizer = json.loads(tokenizer_json)
        vocabulary = tokenizer["model"]["vocab"]
        ids = {i: t for t, i in vocabulary.items()} if isinstance(vocabulary, Mapping) else dict(enumerate(vocabulary))
        ids.update({row["id"]: row["content"] for row in tokenizer.get("added_tokens") or ()})
        size = 1 + max(ids)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"not a tokenizer.json ({type(error).__name__}: {error})") from None
    return tuple(t if isinstance(t := ids.get(i, ""), str) else t[0] for i in range(size))


def spellings(tokenizer_json: str) -> tuple[str, ...]:
    """The tokens in WordPiece's spelling, in which tokens of different tokenizers can be compared.

    GPT-2's byte-level pieces mark the space before a word, WordPiece's the lack of one: `Ġnose` is `nose`, `ing` is
    `##ing`, and its `<|endoftext|>` is our [EOS]. Pieces that are no whole characters have no spelling: "".

    Raises:
      UserError: not a tokenizer.json.
    """
    tokens, values = tokens_of(tokenizer_json), json.loads(tokenizer_json)
    if "ByteLevel" not in json.dumps([values.get("pre_tokenizer"), values.get("decoder")]):
        return tokens
    special = {row["content"] for row in values.get("added_tokens") or ()}
    return tuple(_SPECIAL.get(token, token) if token in special else _spelling(token) for token in tokens)


_SPECIAL = {"<|endoftext|>": "[EOS]"}


def _spelling(piece: str) -> str:
    """Of one byte-level piece."""
    try:
        text = bytes(_BYTES[letter] for letter in piece).decode()
    except (KeyError, UnicodeDecodeError):
        return ""
    word = text.strip()
    return word if text != word or not word[:1].isalnum() else f"##{word}"


def _byte_letters() -> dict[str, int]:
    """{letter: byte} of GPT-2's encoding of bytes: a printable one stands for itself, the others from U+0100 on."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    return {**{chr(byte): byte for byte in own}, **{chr(256 + i): byte for i, byte in enumerate(others)}}


_BYTES = _byte_letters()


def check_size(tokenizer_json: str, config: Mapping[str, Any]) -> None:
    """UserError where the tokenizer is not the one of the word embedding, by its size.

    Embeddings may have more rows (padding); a tokenizer with more tokens than rows, or one that leaves an eighth of the
    rows unused, belongs to another model.
    """
    rows, size = config.get("vocab_size"), len(tokens_of(tokenizer_json))
    if rows is None:
        raise UserError("these weights have no vocabulary: leave out the tokenizer")
    if size > rows or rows - size > rows // 8:
        raise UserError(
            f"wrong vocabulary: the word embedding has {rows} rows, the tokenizer {size} tokens; "
            "give the tokenizer.json or vocab.txt that came with the weights"
        )
