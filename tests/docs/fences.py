"""Fenced blocks of the documentation, and what each says about how it is tested.

A bash block is preceded by one comment: `<!-- test: run -->` (in the default tests), `<!-- test: slow -->` (in `make
test-slow`) or `<!-- test: parse: WHY -->` (parsed, its settings checked, not run).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"\s*(?P<ticks>`{3,}|~{3,})\s*(?P<kind>[^\s`]*)\s*")
_COMMENT = re.compile(r"<!-- test: (?P<mark>\w+)(?:: (?P<why>\S.*))? -->")
_COMMAND = re.compile(r"^\s*(?:\$\s+)?(?:vlm-jax|make|python3? -m vlm_jax)\s", re.M)
_INLINE = re.compile(r"(?<!`)`(vlm-jax [^`\n]+)`(?!`)")
_PLACEHOLDERS = re.compile(r"[|]|\.\.\.|COMMAND")


class Block(NamedTuple):
    """One fenced block: its page, its number there, the comment before it, its tag and its text."""

    page: str
    number: int
    comment: str
    kind: str
    text: str

    @property
    def mark(self) -> str:
        """run, slow, parse, or empty."""
        match = _COMMENT.fullmatch(self.comment)
        return match["mark"] if match else ""

    @property
    def commands(self) -> list[list[str]]:
        """The words of every line; a backslash joins lines, a `#` starts a comment."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]

    @property
    def name(self) -> str:
        return f"{self.page}-{self.number}"

    def problems(self) -> Iterator[str]:
        """What keeps this block from being tested."""
        if self.kind != "bash":
            if _COMMAND.search(self.text):
                yield f"{self.name}: commands in a ```{self.kind} block: tag it bash and mark it"
            return
        match = _COMMENT.fullmatch(self.comment)
        if not match or match["mark"] not in ("run", "slow", "parse"):
            yield f"{self.name}: a bash block needs <!-- test: run -->, slow or parse: WHY, on the line before it"
        elif (match["mark"] == "parse") != bool(match["why"]):
            yield f"{self.name}: parse (and only parse) says why, as in <!-- test: parse: needs a GPU -->"
        elif match["mark"] != "parse":
            yield from (f"{self.name}: not run: {shlex.join(c)}" for c in self.commands if c[0] not in _RUN)


_RUN = ("vlm-jax", "make")


def blocks(text: str, page: str) -> Iterator[Block]:
    """The fenced blocks of a page; ValueError for a fence that is not closed."""
    before, number, opened = "", 0, None
    inside: list[str] = []
    for line in text.splitlines():
        fence = _FENCE.fullmatch(line)
        if opened is None:
            if fence:
                opened, inside = fence, []
            else:
                before = line.strip()
        elif fence and not fence["kind"] and fence["ticks"] == opened["ticks"]:
            yield Block(page, number, before, opened["kind"], "\n".join(inside) + "\n")
            before, number, opened = "", number + 1, None
        else:
            inside.append(line)
    if opened:
        raise ValueError(f"{page}: a fence is not closed")


def all_blocks() -> list[Block]:
    return [b for page in PAGES for b in blocks(page.read_text(), str(page.relative_to(ROOT)))]


def comments(text: str) -> int:
    """How many lines of a page are test comments; each belongs to a block."""
    return len(re.findall(r"^\s*<!-- test:", text, re.M))


def inline_commands(text: str) -> list[str]:
    """Whole commands in running text: those with a flag and without a placeholder."""
    return [c for c in _INLINE.findall(text) if " --" in c and not _PLACEHOLDERS.search(c)]


def links(text: str) -> list[str]:
    """Targets of links to other files."""
    return re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)(?:#[^)]*)?\)", text)
