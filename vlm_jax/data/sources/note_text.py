"""From the text of an operative note to the sentences of its operative part, in order.

The notes are transcriptions whose line breaks became `,`: a section reads `PROCEDURE: ,The patient was ...` and a
paragraph ends `.,`. Some lack the colon (`DESCRIPTION OF PROCEDURE,The patient ...`). Notes with line breaks are
brought into that form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MIN_WORDS, MAX_WORDS = 3, 40
"""Shorter is a heading or a rest of one, longer is several sentences run together."""

_UPPER, _LOWER = "A-ZÀ-ÖØ-Þ", "a-zß-öø-ÿ"  # with the letters of western European languages
_CAPITALS = rf"[{_UPPER}][{_UPPER}0-9 /&'()\-]{{2,80}}?"
_KNOWN = (
    "DIAGNOS|PROCEDURE|OPERATION|ANESTHE|INDICATION|FINDING|COMPLICATION|HISTORY|SURGEON|ASSISTANT|SPECIMEN|BLOOD LOSS"
    "|DESCRIPTION|DETAIL|TECHNIQUE|DISPOSITION|CONDITION|DRAIN|FLUID|PLAN|CONSENT|MEDICATION|IMPRESSION"
)
_HEADER = re.compile(
    rf"(?:^|(?<=[.,:;])|(?<=[.,:;]\s))\s*(?P<name>{_CAPITALS})\s*"
    rf"(?::|,(?=\s?[{_UPPER}0-9][{_LOWER}0-9 .#]))"
)
_HEADING = re.compile(rf"{_CAPITALS}\s*(?::|$)")
"""A line that is a heading, or begins with one."""
_KNOWN_HEADER = re.compile(rf"\b(?:{_KNOWN})")
_OPERATIVE = re.compile(r"\b(?:PROCEDURES?|OPERATIONS?|OPERATIVE|TECHNIQUE|DESCRIPTION|DETAILS?|SURGERY|NARRATIVE)\b")
_NOT_OPERATIVE = re.compile(
    r"DIAGNOS|INDICATION|TITLE|NAME\b|ANESTHE|HISTORY|SURGEON|ASSISTANT|COMPLICATION|SPECIMEN|BLOOD|PLAN|CONSENT"
    r"|RECOMMEND|MEDICATION|IMPRESSION|CONDITION|DISPOSITION|DRAIN|FLUID|IMPLANT|COUNT|POSTOPERATIVE|PREOPERATIVE|REASON"
)

_ABBREVIATIONS = frozenset(
    ("dr", "drs", "mr", "mrs", "ms", "st", "jr", "sr", "vs", "no", "nos", "fig", "approx", "e.g", "i.e", "inc", "fr")
    + ("ft", "wt", "min", "sec", "temp", "dept", "vol", "a.m", "p.m", "b.i.d", "t.i.d", "q.i.d", "p.o", "i.v", "m.d")
)
_TITLES = ("dr", "drs", "mr", "mrs", "ms")
_END = re.compile(rf"[.?!]+[\"')]*\s+(?=[\"'(]?[{_UPPER}0-9])")


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a note under its heading (upper case, '' for what stands before the first)."""

    header: str
    body: str


def joined_lines(text: str) -> str:
    """A note with line breaks of its own in the transcriptions' form: `,` where a heading or a paragraph begins or
    ends, a blank where a sentence goes on in the next line."""
    first, *others = text.splitlines() or [""]
    joined, last = first.strip(), first.strip()
    for line in (other.strip() for other in others):
        ends = not line or not last or last[-1] in ".:;?!" or _HEADING.match(line) or _HEADING.match(last)
        joined += (" ," if ends else " ") + line
        last = line
    return joined


def sections(text: str) -> list[Section]:
    """The sections of a note, in order."""
    text = joined_lines(text)
    found = [m for m in _HEADER.finditer(text) if m[0].endswith(":") or _KNOWN_HEADER.search(m["name"])]
    starts = [(0, 0, "")] + [(m.start(), m.end(), m["name"].strip()) for m in found]
    ends = [start for start, _, _ in starts[1:]] + [len(text)]
    return [Section(name, text[begin:end]) for (_, begin, name), end in zip(starts, ends, strict=True)]


def clean(text: str) -> str:
    """Spaces for the transcription's line breaks: `: ,` and `.,` lose their comma, blanks collapse."""
    text = re.sub(r"([.:;?!])\s*(?:,\s*)+", r"\1 ", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(rf"(?<=[{_LOWER})])\.(?=[{_UPPER}][{_LOWER}])", ". ", text)  # `was done.The patient`
    return text.strip(" ,")


def split_sentences(text: str) -> list[str]:
    """Sentences of a cleaned text. Abbreviations, initials, list numbers and decimals end none."""
    pieces, start = [], 0
    for end in _END.finditer(text):
        if _ends_sentence(text[start : end.start()]):
            pieces.append(text[start : end.end()].strip())
            start = end.end()
    pieces.append(text[start:].strip())
    return [piece for piece in pieces if piece]


def _ends_sentence(before: str) -> bool:
    """Whether the full stop after `before` ends a sentence."""
    tokens = before.split()
    if not tokens:
        return False
    last = tokens[-1].lstrip("(\"'").lower()
    previous = tokens[-2].rstrip(".").lower() if len(tokens) > 1 else ""
    if last in _ABBREVIATIONS or (last.isdigit() and len(tokens) == 1):
        return False
    # `Dr. X. The` ends a sentence (X stands for a name that was taken out), `J. Smith` does not.
    return not (len(last) == 1 and last.isalpha() and tokens[-1].isupper() and previous not in _TITLES and last != "i")


def _kept(sentence: str) -> bool:
    words = sentence.split()
    letters = [c for c in sentence if c.isalpha()]
    if not MIN_WORDS <= len(words) <= MAX_WORDS or not letters:
        return False
    heading = sentence.isupper() or re.match(rf"{_CAPITALS}:", sentence) is not None
    return not heading and sentence[0].isupper() and sentence[-1] in ".?!\"')"


def sentences(body: str) -> list[str]:
    """The sentences of one section that stand on their own: list numbers taken off, headings and fragments dropped."""
    bare = (re.sub(r"^\(?\d{1,2}[.)]\s+", "", s) for s in split_sentences(clean(body)))
    return [s for s in bare if _kept(s)]


def operative_sentences(text: str) -> list[str]:
    """The sentences of the operative part of a note, in order; [] where it has none.

    The name of the operation stands under the same headings as its description, so a section counts from three
    sentences on. Where no such section exists, the longest one counts that is not about something else (some notes
    tell the operation under FINDINGS).
    """
    parts = [(s.header, sentences(s.body)) for s in sections(text) if not _NOT_OPERATIVE.search(s.header)]
    told = [found for header, found in parts if _OPERATIVE.search(header) and len(found) >= 3]
    if not told:
        told = sorted((found for _, found in parts if len(found) >= 3), key=len)[-1:]
    return [sentence for found in told for sentence in found]
