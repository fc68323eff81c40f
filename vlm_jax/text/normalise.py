"""One form of a text for every comparison, and its mirror image for flipped frames."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")


def words(text: str) -> list[str]:
    """Lower-case words and single punctuation marks: `"3 o'clock."` -> `["3", "o", "'", "clock", "."]`."""
    return _WORD.findall(text.lower())


def normalise(text: str) -> str:
    """The words of `text` joined by single spaces: what metrics and exact matches compare."""
    return " ".join(words(text))


# --- Mirror ----------------------------------------------------------------------------------------------------------

_SWAPS = {"left": "right", "right": "left"}
_TURNS = {"clockwise": "counterclockwise", "counterclockwise": "clockwise", "anticlockwise": "clockwise"}
_HOURS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

_SIDE = re.compile(r"(?<![^\W_])(left|right)(?=(?:wards?|most)?(?![^\W_]))(?![\s-]+angle)", re.IGNORECASE)
_TURN = re.compile(r"\b(counterclockwise|anticlockwise|clockwise)\b", re.IGNORECASE)
_NUMBER = r"(?:0?[1-9]|1[0-2])(?::[0-5]\d)?|" + "|".join(_HOURS)
_JOIN = r"\s*(?:-|–|/|&|to|and|or|through|until)\s*"
# A comma joins hours only where "and" or "or" follows: in "grade 2, 3 o'clock" it does not.
_LIST = rf"(?:\s*,\s*(?:{_NUMBER}))+\s*,?(?=\s*(?:and|or)\b)"
_CLOCK = re.compile(
    rf"(?<![\w:.])(?:{_NUMBER})(?:{_LIST})?(?:{_JOIN}(?:{_NUMBER}))*(?=[\s-]*o\s*['’]?\s*clock\b)",
    re.IGNORECASE,
)
_HOUR = re.compile(rf"(?<![\w:])(?:{_NUMBER})(?![\w:])", re.IGNORECASE)


def _like(model: str, text: str) -> str:
    """`text` in the case of `model`: upper, capitalised, else lower."""
    if model.isupper():
        return text.upper()
    return text.capitalize() if model[0].isupper() else text


def _mirror_hour(match: re.Match[str]) -> str:
    given = match.group()
    if given.lower() in _HOURS:
        hour = _HOURS.index(given.lower()) + 1
        return _like(given, _HOURS[(11 - hour) % 12])
    hour, _, minutes = given.partition(":")
    mirrored = -(int(hour) * 60 + int(minutes or 0)) % 720
    hour_text = str(mirrored // 60 or 12)
    return f"{hour_text}:{mirrored % 60:02d}" if minutes else hour_text


def mirror(text: str) -> str:
    """What `text` says of the mirrored image: left and right swap, h o'clock becomes 12 - h o'clock.

    Hours may be digits (also `3:30`), words, or a list or range (`2 to 4 o'clock`, `3, 6 and 9`; each mirrored), whose
    last two are joined by a dash, a stroke, `&`, to, and, or, through or until, not by a comma alone. "Right angle"
    names an instrument and stays. Twice mirrored, a text has its first words again; only a leading zero of an hour, odd
    letter case of a swapped word and the choice between anticlockwise and counterclockwise are not kept.
    """
    text = _SIDE.sub(lambda m: _like(m.group(1), _SWAPS[m.group(1).lower()]), text)
    text = _TURN.sub(lambda m: _like(m.group(1), _TURNS[m.group(1).lower()]), text)
    return _CLOCK.sub(lambda m: _HOUR.sub(_mirror_hour, m.group()), text)
