"""WordPiece tokens with this project's special tokens, trained on the run's texts or read from a tokenizer.json."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from vlm_jax.contract import END, START, TASKS
from vlm_jax.errors import UserError
from vlm_jax.text.wordpiece import CONTINUATION, train_wordpiece

PAD, UNKNOWN, CLS, SEP, MASK, NULL, EOS = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[NULL]", "[EOS]"
NEW = "new"
"""`data.tokenizer`: one trained on the run's texts, whatever model the run starts from."""
TASK_TOKENS = {task: f"[{task.upper()}]" for task in TASKS}
SPECIALS = (PAD, UNKNOWN, CLS, SEP, MASK, NULL, START, END, EOS, *TASK_TOKENS.values())
"""In the order of their ids in a trained vocabulary; [PAD] is 0 everywhere."""

# How the pieces of a text are set again: only space around punctuation goes, so the words stay the same.
_CLEAN = (
    (re.compile(r"\s+([.,;:!?%)\]}])"), r"\1"),
    (re.compile(r"([(\[{])\s+"), r"\1"),
    (re.compile(r"(?<=[^\W_])\s*(['’/-])\s*(?=[^\W_])"), r"\1"),
    (re.compile(r"(?<=\d)([.:])\s+(?=\d)"), r"\1"),
    (re.compile(r"(?<=_)\s+(?=_)"), ""),  # blanks of a dictated note
)


def clean(text: str) -> str:
    """Takes out the spaces that splitting at punctuation left: `o ' clock , left - sided` -> `o'clock, left-sided`."""
    for pattern, replacement in _CLEAN:
        text = pattern.sub(replacement, text)
    return text.strip()


class Tokenizer:
    """Text to ids and back; lower-case, safe to share between threads."""

    def __init__(self, backend: tokenizers.Tokenizer):
        missing = [t for t in SPECIALS if backend.token_to_id(t) is None]
        pad = backend.token_to_id(PAD)
        if pad is None or pad != 0:
            raise UserError(f"tokenizer: expected {PAD} with id 0, got {pad}; give a BERT-like tokenizer.json")
        if missing:
            backend.add_special_tokens(missing)
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True  # "[SEP]" typed in a note is text, never the token
        self._backend = backend
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self.size: int = max(vocabulary.values()) + 1
        self._tokens = {i: t for t, i in vocabulary.items()}
        self._special_ids = frozenset(vocabulary[t] for t in SPECIALS)
        self._cached_encode = functools.lru_cache(maxsize=65536)(self._encode)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """A WordPiece vocabulary of at most `vocab_size` from `texts`; the same texts give the same tokenizer."""
        normaliser = _normaliser()
        splitter = pre_tokenizers.BertPreTokenizer()
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(word for word, _ in splitter.pre_tokenize_str(normaliser.normalize_str(text.lower())))
        pieces = train_wordpiece(counts, vocab_size - len(SPECIALS))
        vocabulary = {token: i for i, token in enumerate((*SPECIALS, *pieces))}
        backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=100))
        backend.normalizer = normaliser  # pyright: ignore[reportAttributeAccessIssue]
        backend.pre_tokenizer = splitter  # pyright: ignore[reportAttributeAccessIssue]
        return cls(backend)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Reads what `to_json` wrote, or any WordPiece tokenizer.json; specials that it lacks are appended."""
        try:
            kind = json.loads(text)["model"]["type"]
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the Rust parser raises bare Exception
            raise UserError(f"tokenizer: not a tokenizer.json ({error}); give one that `tokenizers` saved") from None
        if kind != "WordPiece":
            raise UserError(f"tokenizer: expected a WordPiece model, got {kind}; give a BERT-like tokenizer.json")
        return cls(backend)

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """Reads a tokenizer.json."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            kind = type(error).__name__
            raise UserError(f"data.tokenizer: cannot read '{path}' ({kind}); give a tokenizer.json") from None
        return cls.from_json(text)

    def to_json(self) -> str:
        """The whole tokenizer as one JSON text: what a checkpoint stores."""
        return self._backend.to_str(pretty=False)

    # --- ids ---------------------------------------------------------------------------------------------------------

    @property
    def pad_id(self) -> int:
        return 0

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of the special tokens, in order: no text is written with them."""
        return tuple(sorted(self._special_ids))

    @property
    def eos_id(self) -> int:
        return self.id(EOS)

    def id(self, token: str) -> int:
        """The id of one token; KeyError if there is none."""
        found = self._backend.token_to_id(token)
        if found is None:
            raise KeyError(token)
        return found

    def task_id(self, task: str) -> int:
        """The id of the token that opens this task's target."""
        return self.id(TASK_TOKENS[task])

    # --- text --------------------------------------------------------------------------------------------------------

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._backend.encode(text.lower(), add_special_tokens=False).ids)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without special tokens."""
        return list(self._cached_encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Clean lower-case text up to the first [EOS]; special tokens and padded ids are skipped.

        `normalise(decode(encode(t))) == normalise(t)` for every text without unknown words. [END] before any word
        (there is no next activity) reads `contract.END`, as `prompts.encode_target` writes it, whatever follows; later
        it is skipped. A piece that continues a word, where there is none, begins one.
        """
        parts: list[str] = []
        end_id, eos_id = self.id(END), self.eos_id
        for i in map(int, ids):
            if i == eos_id:
                break
            if i == end_id and not parts:
                return END
            if i in self._special_ids or i not in self._tokens:
                continue
            token = self._tokens[i]
            continues = token.startswith(CONTINUATION) and len(token) > len(CONTINUATION)
            if continues and parts:
                parts[-1] += token.removeprefix(CONTINUATION)
            else:
                parts.append(token.removeprefix(CONTINUATION) if continues else token)
        return clean(" ".join(parts))


def _normaliser() -> normalizers.Normalizer:
    # Accents and ideographs stay as they are: splitting or stripping them would change words that metrics compare.
    return normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=True)
