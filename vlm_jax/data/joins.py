"""What the tables say of one another: neighbours of an activity, contexts of a sentence, sentences of a moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vlm_jax.contract import END, START, Activity, Sentence, Tables

NONE = -1
"""No row."""

CONTEXT_SENTENCES = 1
"""How many sentences before the one to write go into its prompt (one: Bieck et al. 2021)."""


def join_context(sentences: Sequence[str]) -> str:
    """The context of the next sentence: the last ones written, or START where there is none yet."""
    return " ".join(sentences[-CONTEXT_SENTENCES:]) if sentences else START


@dataclass(frozen=True)
class Neighbours:
    """Texts before and after an activity in its video."""

    previous: str | None
    following: str | None


def join_activities(activities: Sequence[Activity]) -> list[Neighbours]:
    """Neighbours within the same procedure and video, by time; in a video without a description all are None."""
    chains: dict[tuple[str, str], list[int]] = {}
    for i in sorted(range(len(activities)), key=lambda i: (activities[i].t0, activities[i].t1)):
        chains.setdefault((activities[i].procedure, activities[i].video), []).append(i)
    out = [Neighbours(None, None)] * len(activities)
    for chain in chains.values():
        described = any(activities[i].description is not None for i in chain)
        texts = [START if described else None]
        texts += [activities[i].description for i in chain]
        texts.append(END if described else None)
        for place, i in enumerate(chain):
            out[i] = Neighbours(texts[place], texts[place + 2])
    return out


def join_reports(sentences: Sequence[Sentence]) -> dict[str, list[int]]:
    """procedure id -> rows of its sentences, in the order of the report (that of the table)."""
    reports: dict[str, list[int]] = {}
    for i, sentence in enumerate(sentences):
        reports.setdefault(sentence.procedure, []).append(i)
    return reports


def join_contexts(sentences: Sequence[Sentence]) -> list[str]:
    """Of each sentence: what the report says before it."""
    out = [START] * len(sentences)
    for report in join_reports(sentences).values():
        for place, i in enumerate(report):
            out[i] = join_context([sentences[j].text for j in report[:place]])
    return out


def several_videos(tables: Tables) -> set[str]:
    """Procedures with more than one video: there a sentence's window does not say which of them it is in."""
    return {procedure for procedure, n in Counter(video.procedure for video in tables.videos).items() if n > 1}


class WindowPicker:
    """Picks the sentence of a moment. Where windows overlap, the one that has had the fewest frames yet."""

    def __init__(self, report: Sequence[tuple[int, Sentence]]):
        self._windows = [(i, s.t0, s.t1) for i, s in report if s.t0 is not None and s.t1 is not None]
        self._used = dict.fromkeys((i for i, _, _ in self._windows), 0)

    def pick(self, pts_ms: int) -> int:
        """Row of the sentence whose window [t0, t1) holds `pts_ms`, or -1."""
        open_now = [i for i, t0, t1 in self._windows if t0 <= pts_ms < t1]
        if not open_now:
            return NONE
        chosen = min(open_now, key=self._used.__getitem__)
        self._used[chosen] += 1
        return chosen
