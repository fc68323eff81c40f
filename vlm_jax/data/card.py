"""The data set's card: README.md beside the tables, from what is true of the whole and from its figures alone."""

from __future__ import annotations

from typing import Any

from vlm_jax.contract import DatasetInfo, Tables, is_simulated
from vlm_jax.data.frame_index import FrameIndex
from vlm_jax.data.stats import figures, settings

CARD = "README.md"

_COUNTS = {
    "patients": "patients",
    "procedures": "procedures",
    "videos": "videos",
    "activities": "activities",
    "frames": "frames",
    "assessable_frames": "of them assessable",
    "frames_in_activities": "of them in an activity",
    "descriptions": "distinct descriptions",
    "words_per_description": "words a description",
    "report_sentences": "report sentences",
    "sentences_per_report": "sentences a report",
    "words_per_sentence": "words a sentence",
    "keywords": "keywords",
    "keywords_used": "of them used",
}
_HONEST = {
    True: "Everything in it is simulated: no patient is shown, and no score on it says how a system does on patients.",
    False: "The images and texts are real; their licence and their source's terms apply to every copy.",
}


def dataset_card(info: DatasetInfo, tables: Tables, frames: FrameIndex) -> str:
    """Markdown; the same text for the same data set."""
    stats = figures(info, tables, frames)
    parts = [
        f"# {info.source} ({info.full_world})",
        _HONEST[is_simulated(info.world)],
        "Read it with `vlm_jax.data.store.open_dataset(DIR)`, train on it with `--config.data.path=DIR`; "
        "`tfds.builder_from_directory(DIR).as_data_source('frames')` reads the frames. `vlm-jax data check DIR` looks "
        "it over.",
        f"Licence: {info.licence or 'not stated'}.\n\nCite: {info.citation or 'not stated'}",
        "## What is in it\n\n" + _table(("", "count"), [(text, _number(stats[key])) for key, text in _COUNTS.items()]),
    ]
    shares = sorted(stats["landmark_prevalence"].items(), key=lambda item: -(item[1] or 0))
    if shares:
        rows = [(name, "not known" if share is None else f"{share:.1%}") for name, share in shares]
        parts.append("## Labels\n\n" + _table(("label", "share of the frames where it is known"), rows))
    if info.extras:
        what = {"mask": "label number of each pixel, 0 for anything else", "depth": "hundredths of a millimetre"}
        parts.append("## Beside the images\n\n" + "\n".join(f"- `{name}`: PNG, {what[name]}" for name in info.extras))
    made = [(f"`{name}`", f"`{value}`") for name, value in settings(info.generator).items()]
    if made:
        parts.append("## How it was made\n\n" + _table(("setting", "value"), made))
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [f"| {left} | {right} |" for left, right in (head, ("---", "---"), *rows)]
    return "\n".join(lines)


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}"
