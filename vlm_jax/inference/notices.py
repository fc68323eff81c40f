"""What a caller should know of requests before they are answered: nothing here is an error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlm_jax.config.values import suggest
from vlm_jax.decoding.system import System
from vlm_jax.inference.request import Request
from vlm_jax.tasks import TASK_TABLE
from vlm_jax.text.prompts import is_cut

SHOWN = 3
"""Keywords that one line names."""


def notices(system: System, requests: Sequence[Request]) -> Iterator[str]:
    """One line each: frames that are missing, texts that are too long, keywords that nobody taught the model."""
    n, data = len(requests), system.config.data
    if data.frames > 1 and (alone := sum(not r.before for r in requests)):
        yield (
            f"the model sees {data.frames} frames; {alone} of {n} inputs name none before theirs and are answered "
            'as the first of a video: name them by "before" in a .jsonl (docs/inference.md)'
        )
    tasks = [TASK_TABLE[name] for name in system.config.tasks]
    if cut := sum(_is_cut(system, [task.prompt(r.record()) for task in tasks]) for r in requests):
        yield (
            f"{cut} of {n} inputs have a text that is too long: the last {data.prompt_length} tokens of a prompt are "
            "read (data.prompt_length)"
        )
    known = {
        keyword.lower() for source in system.meta.get("sources", {}).values() for keyword in source.get("keywords", ())
    }
    given = dict.fromkeys(r.keyword for r in requests if r.keyword)
    strange = [keyword for keyword in given if keyword.lower() not in known] if known else []
    if strange and "report" in system.config.tasks:
        named = ", ".join(f"{keyword!r}{suggest(keyword.lower(), sorted(known))}" for keyword in strange[:SHOWN])
        more = f" and {len(strange) - SHOWN} more" if strange[SHOWN:] else ""
        yield f"{named}{more}: not among the {len(known)} keywords of the training data; such reports mean little"


def _is_cut(system: System, prompts: Sequence[tuple[str | None, ...]]) -> bool:
    return any(is_cut(system.tokenizer, segments, system.config.data.prompt_length) for segments in prompts)
