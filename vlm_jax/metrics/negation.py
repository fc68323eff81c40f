"""Which concepts of a sentence are denied, after NegEx (Chapman et al. 2001, J Biomed Inform 34:301-310).

Trigger phrases before or behind a concept within a window of five words, pseudo-negations, and words that end a
trigger's reach. Two additions of ours: a list joined by commas, "or" and "nor" is denied as a whole, and where no
concept of the table stands in reach the last word of the noun phrase is what is denied ("without difficulty").
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from vlm_jax.metrics import lexicon

Span = tuple[int, int, str]
"""(first word, word behind the last, canonical name) of a concept."""


@dataclass(frozen=True, slots=True)
class Denials:
    """Of one sentence.

    Attributes:
      denied: (what is denied, the word that says it).
      silent: places of the words of denials: what is "seen" there is not seen.
      absent: something is said not to be there ("not required" is a denial of another kind).
    """

    denied: tuple[tuple[str, int], ...]
    silent: frozenset[int]
    absent: bool


WINDOW = 5
"""Words between a trigger and what it denies, at most (Chapman et al. 2001)."""
CONTENT = "content"
"""What "empty" and "nothing" deny."""
_JOINS = (",", "or", "nor", "and")
_SKIPPED = frozenset(
    ("a", "an", "any", "the", "further", "evidence", "of", "sign", "acute", "other", "obvious", "relevant", "more")
    + ("appear", "to", "have", "has", "had", "be", "been", "being", "do", "does", "did", "desire", "his", "her", "its")
    + ("active", "significant", "identifiable", "additional", "much", "such", "mucosal", "retained", "inside")
)
_STOPS = frozenset(
    ("was", "were", "is", "are", "in", "on", "at", "to", "from", "with", "by", "noted", "seen", "identified", "found")
    + ("present", "encountered", "visible", "along", "above", "within", "over", "as", "this", "that", "into", "after")
    + (*_JOINS, "for", *lexicon.TERMINATIONS)
)
_EXISTENCE = re.compile(
    r"not (?:seen|present|identified|found|visible|noted|encountered|observed|appear|have|pneumati)|absent"
)


@functools.cache
def _pseudo() -> re.Pattern[str]:
    return re.compile("|".join(rf"\b{re.escape(p)}(?=\W|$)" for p in lexicon.PSEUDO_NEGATIONS))


@functools.cache
def _triggers() -> tuple[re.Pattern[str], re.Pattern[str]]:
    before = "|".join(map(re.escape, sorted(lexicon.NEGATIONS, key=len, reverse=True)))
    behind = "|".join(map(re.escape, lexicon.NEGATED_BEFORE))
    return re.compile(rf"\b(?:{before})\b"), re.compile(rf"\b(?:{behind})\b")


def find_denials(tokens: list[str], spans: list[Span]) -> Denials:
    """What a sentence denies.

    Args:
      tokens: its words in the singular.
      spans: the concepts in it, in the order of the text.
    """
    line = _pseudo().sub(_blank, " ".join(tokens))
    hollow = [(CONTENT, i) for i, word in enumerate(tokens) if word in ("empty", "nothing")]
    denied, silent, absent = list(hollow), {i for _, i in hollow}, bool(hollow)
    before, behind = _triggers()
    taken = re.sub(r"\bnothing\b", "x", line)
    for m in behind.finditer(line):
        place = line.count(" ", 0, m.start())
        silent |= set(range(place, place + m[0].count(" ") + 1))
        found = _behind(tokens, spans, place)
        if found is not None:
            denied.append(found)
            absent |= _EXISTENCE.search(m[0]) is not None
            taken = re.sub(rf"\b{re.escape(m[0])}\b", _blank, taken, count=1)
    for m in before.finditer(taken):
        some = _ahead(tokens, spans, taken.count(" ", 0, m.end()) + 1)
        denied += some
        silent |= _clause(tokens, taken.count(" ", 0, m.start()))
        of_being = m[0] != "not" or _EXISTENCE.match(taken, m.start()) is not None
        absent |= of_being and any(name not in lexicon.ACTIONS for name, _ in some)
    return Denials(tuple(denied), frozenset(silent), absent)


def _blank(match: re.Match[str]) -> str:
    """As many words as were found, that say nothing."""
    return re.sub(r"\S+", "x", match[0])


def _clause(tokens: list[str], start: int) -> set[int]:
    """The words from a trigger to the end of its clause, with "there was" before it."""
    end = start
    while end < len(tokens) and tokens[end] not in (*lexicon.TERMINATIONS, "and", ","):
        end += 1
    begin = start - 2 if tokens[max(0, start - 2) : start] in (["there", "was"], ["there", "were"]) else start
    return set(range(begin, end))


def _behind(tokens: list[str], spans: list[Span], place: int) -> tuple[str, int] | None:
    """The concept within the window before word `place`, else the word before the verb."""
    near = [s for s in spans if place - WINDOW <= s[1] <= place and not _ends(tokens[s[1] : place])]
    if near:
        return near[-1][2], near[-1][1] - 1
    words_before = [i for i in range(max(0, place - WINDOW), place) if tokens[i] not in _STOPS | _SKIPPED]
    return (tokens[words_before[-1]], words_before[-1]) if words_before else None


def _ends(between: list[str]) -> bool:
    return any(word in lexicon.TERMINATIONS for word in between)


def _ahead(tokens: list[str], spans: list[Span], start: int) -> list[tuple[str, int]]:
    """What a trigger that ends before word `start` denies: concepts in reach, and on through a list."""
    denied: list[tuple[str, int]] = []
    while True:
        reach = start
        while reach < len(tokens) and reach - start <= WINDOW and tokens[reach] not in lexicon.TERMINATIONS:
            reach += 1
            if reach < len(tokens) and tokens[reach] in _JOINS:
                break
        inside = [s for s in spans if start <= s[0] < reach and s[2] not in lexicon.ACTIONS] or [
            s for s in spans if start <= s[0] < reach
        ]
        if inside:
            first = inside[0][0]
            denied += [(s[2], s[1] - 1) for s in inside if s[0] == first or s[2] in lexicon.FINDINGS]
        elif (head := _head(tokens, start, reach)) is not None:
            denied.append((tokens[head], head))
        if not denied or reach + 1 >= len(tokens) or not _goes_on(tokens, reach):
            return denied
        start = reach + (2 if tokens[reach + 1] in _JOINS else 1)


def _goes_on(tokens: list[str], place: int) -> bool:
    """Whether the list of denied things goes on behind word `place`: after "or", or after a comma that leads to one."""
    if tokens[place] in ("or", "nor"):
        return True
    rest = tokens[place + 1 : place + 1 + 2 * WINDOW]
    ahead = [word for word in rest[: rest.index("or")] if word in (*_JOINS, *_STOPS)] if "or" in rest else ["x"]
    return tokens[place] == "," and all(word == "," for word in ahead)


def _head(tokens: list[str], start: int, reach: int) -> int | None:
    head = None
    for i in range(start, min(reach, len(tokens))):
        if tokens[i] in _STOPS and (head is not None or tokens[i] not in _SKIPPED):
            break
        if tokens[i] not in _SKIPPED:
            head = i
    return head
