"""What a sentence says, by rules: structures, sides, status, what is denied, actions, and values of findings.

The tables are in `lexicon`, what is denied is found by `negation`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from vlm_jax.metrics import lexicon
from vlm_jax.metrics.negation import find_denials
from vlm_jax.text.normalise import words


@dataclass(frozen=True, slots=True)
class Facts:
    """What one sentence says; every attribute is a set of canonical names.

    Attributes:
      landmark: structures named, denied or not.
      laterality: left, right; both for "bilateral".
      status: seen, done, absent, history.
      negation: what is denied: structures, findings, actions, or a word outside the table.
      action: what is done, denied or not.
      finding: findings and values that are affirmed.
      said: every concept and word that is not denied; what a denial elsewhere contradicts.
    """

    landmark: frozenset[str] = frozenset()
    laterality: frozenset[str] = frozenset()
    status: frozenset[str] = frozenset()
    negation: frozenset[str] = frozenset()
    action: frozenset[str] = frozenset()
    finding: frozenset[str] = frozenset()
    said: frozenset[str] = frozenset()


ATTRIBUTES = ("landmark", "laterality", "status", "negation", "action", "finding")
EXCLUSIVE: tuple[frozenset[str], ...] = tuple(frozenset(group) for group in lexicon.VALUES)
"""Values of one group: two sentences with different ones contradict each other."""


def singular(word: str) -> str:
    """`conchae` -> `concha`, `polyps` -> `polyp`, `sinuses` -> `sinus`; other words as they are."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "uses", "xes")):
        return word[:-2]
    if word.endswith("ae") and len(word) > 4:
        return word[:-1]
    if word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def canonical(name: str, labels: tuple[str, ...] = ()) -> str:
    """The table's name of a structure that a data set names its own way; the data set's where it is not in there."""
    found = facts_of(name, labels).landmark
    return next(iter(found)) if len(found) == 1 else name


@functools.lru_cache(maxsize=65536)
def facts_of(text: str, labels: tuple[str, ...] = ()) -> Facts:
    """What `text` says.

    Args:
      text: one sentence.
      labels: a data set's own names of structures, for those that the table does not have.
    """
    line = _form(text)
    tokens = line.split(" ") if line else []
    spans = _concepts(line, labels)
    denials = find_denials(tokens, spans)
    names, denied = {name for _, _, name in spans}, {name for name, _ in denials.denied}
    structures, findings, actions = ({n for n in names if n in table} for table in _tables(labels))
    planned = re.search(rf"\b(?:{lexicon.PLANNED})\b", line) is not None
    acting = frozenset() if planned and "where" not in tokens else frozenset(actions)
    heard = " ".join("x" if i in denials.silent else token for i, token in enumerate(tokens))
    status = _status(line, heard, acting, findings - denied, denials.absent, planned)
    return Facts(
        landmark=frozenset(structures),
        laterality=_sides(tokens, line),
        status=status,
        negation=frozenset(denied),
        action=acting,
        finding=frozenset(findings - denied),
        said=frozenset((names | set(tokens)) - denied - _words_of(denials.denied, tokens)),
    )


def _words_of(negated: Iterable[tuple[str, int]], tokens: list[str]) -> set[str]:
    """Words that stand where something is denied and nowhere else."""
    places = {place for _, place in negated}
    elsewhere = {word for i, word in enumerate(tokens) if i not in places}
    return {tokens[i] for i in places if i < len(tokens)} - elsewhere


# --- Concepts --------------------------------------------------------------------------------------------------------


def _form(phrase: str) -> str:
    """Words in the singular; names of a table's columns (`middle_nasal_concha`) are words, too."""
    return " ".join(singular(word) for word in words(phrase.replace("_", " ")))


@functools.lru_cache(maxsize=64)
def _phrases(labels: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, tuple[str, ...]]]:
    """One pattern of all phrases, longest first, and what each names ("" = nothing)."""
    named: dict[str, tuple[str, ...]] = {}
    for table in (lexicon.STRUCTURES, lexicon.FINDINGS, *lexicon.VALUES):
        for name, others in table.items():
            for phrase in (name, *others):
                form = _form(phrase)
                named[form] = tuple(dict.fromkeys((*named.get(form, ()), name)))
    for label in labels:
        named.setdefault(_form(label), (label,))
    named |= {_form(p): () for p in lexicon.NOT_STRUCTURES if _form(p) not in named}
    longest = sorted(named, key=lambda p: (-len(p), p))
    return re.compile(rf"(?<![\w])(?:{'|'.join(map(re.escape, longest))})(?![\w])"), named


@functools.cache
def _actions() -> dict[str, re.Pattern[str]]:
    return {name: re.compile(rf"\b(?:{pattern})\b") for name, pattern in lexicon.ACTIONS.items()}


@functools.cache
def _implied() -> dict[re.Pattern[str], tuple[str, ...]]:
    longest = sorted(lexicon.IMPLIED, key=len, reverse=True)
    return {re.compile(rf"\b{re.escape(word)}\b"): lexicon.IMPLIED[word] for word in longest}


def _tables(labels: tuple[str, ...]) -> tuple[set[str], set[str], set[str]]:
    structures = set(lexicon.STRUCTURES) | {name for name in labels if _form(name) not in _bare()}
    values = {value for group in lexicon.VALUES for value in group}
    return structures, set(lexicon.FINDINGS) | values, set(lexicon.ACTIONS)


@functools.cache
def _bare() -> frozenset[str]:
    return frozenset(_phrases(())[1])


def _concepts(line: str, labels: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """(first word, word behind the last, canonical name) of everything the tables know, in the order of the text."""
    pattern, named = _phrases(labels)
    found = [(m.start(), m.end(), name) for m in pattern.finditer(line) for name in named[m[0]]]
    for name, action in _actions().items():
        found += [(m.start(), m.end(), name) for m in action.finditer(line)]
    used: list[tuple[int, int]] = []
    for word, names in _implied().items():
        for m in word.finditer(line):
            if not any(a <= m.start() < b for a, b in used):
                used.append(m.span())
                found += [(m.start(), m.end(), name) for name in names]
    return sorted((line.count(" ", 0, a), line.count(" ", 0, b) + 1, name) for a, b, name in found)


# --- Sides and status ------------------------------------------------------------------------------------------------

_SIDE_NOUNS = (
    r"(?:side|nare|naris|nostril|nasal|ear|eye|tonsil\w*|peritonsillar|vocal|inferior|middle|turbinate|concha)"
)
_BOTH = re.compile(
    rf"\b(?:bilateral(?:ly)?|both {_SIDE_NOUNS}|each {_SIDE_NOUNS}|both outfractured|on both side|both were|both sinu)"
)
_NO_SIDE = re.compile(
    r"\b(?:right (?:-|angle|away|after|before|next)\b|left (?:in place|the operating|alone|behind|open|intact|for|as|at"
    r"|untouched)\b|(?<!the )left \.|both sides? of the (?:ear|wound|incision))"
)


def _sides(tokens: list[str], line: str) -> frozenset[str]:
    kept = _NO_SIDE.sub("x", line)
    found = {word for word in ("left", "right") if re.search(rf"\b{word}\b", kept)}
    return frozenset({"left", "right"} if _BOTH.search(kept) else found)


def _status(
    line: str, heard: str, actions: frozenset[str], findings: set[str], absent: bool, planned: bool
) -> frozenset[str]:
    """`heard` is the line without its denials: what is not seen is not seen."""
    status: set[str] = set()
    operating = actions - {"inspect"}
    if re.search(rf"\b(?:{lexicon.HISTORY})\b", line):
        status.add("history")
    if absent:
        status.add("absent")
    if not planned and (operating or re.search(rf"\b(?:{lexicon.ACTED})\b", line) or _passive(heard)):
        status.add("done")
    if (findings & _values() if operating else findings) or re.search(rf"\b(?:{lexicon.SEEN})\b", heard):
        status.add("seen")
    if not status and not planned and "inspect" in actions:
        status.add("done")
    if not status and not planned and re.search(r"\b(?:was|were|is|are)\b", line):
        status.add("seen")
    return frozenset(status)


def _passive(line: str) -> bool:
    """Whether something "was ...ed" that is neither seeing nor a state."""
    return any(re.search(rf"{lexicon.STATES}$", m[0]) is None for m in re.finditer(rf"\b(?:{lexicon.DONE_TO})\b", line))


@functools.cache
def _values() -> frozenset[str]:
    return frozenset().union(*EXCLUSIVE)
