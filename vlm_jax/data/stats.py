"""Figures of a data set: how much of what, how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vlm_jax.contract import IGNORE_LABEL, DatasetInfo, Tables
from vlm_jax.data.frame_index import FrameIndex

if TYPE_CHECKING:
    from vlm_jax.data.store import Dataset


def landmark_prevalence(info: DatasetInfo, frames: FrameIndex) -> dict[str, float | None]:
    """Landmark -> share of the frames that show it, of those where it is known; None where it is known of none."""
    visible = frames.visible
    shares: dict[str, float | None] = {}
    for i, name in enumerate(info.labels):
        known = visible[:, i][visible[:, i] != IGNORE_LABEL]
        shares[name] = float((known == 1).mean()) if known.size else None
    return shares


def _mean_words(texts: list[str]) -> float | None:
    return float(np.mean([len(text.split()) for text in texts])) if texts else None


def dataset_stats(dataset: Dataset) -> dict[str, Any]:
    """The figures, ready for `json.dumps`.

    Keys: `records` (frames; sentences where the source has no frames), `procedures`, `activities`,
    `landmark_prevalence` {name: share of frames}, `report_sentences`, `words_per_sentence` (mean, split at spaces),
    `keywords` (codes in the closed list), and, beyond these, `source`, `world`, `simulator`, `generator` (what made it,
    with its settings), `patients`, `videos`, `frames`, `assessable_frames`, `unassessable_frames`,
    `frames_in_activities`, `descriptions` (distinct), `words_per_description`, `sentences_per_report`, `keywords_used`,
    `fingerprint`.
    """
    return figures(dataset.info, dataset.tables, dataset.frames) | {"fingerprint": dataset.fingerprint}


def figures(info: DatasetInfo, tables: Tables, frames: FrameIndex) -> dict[str, Any]:
    """What `dataset_stats` says, but for the fingerprint."""
    texts = [row.text for row in tables.sentences]
    descriptions = [row.description for row in tables.activities if row.description is not None]
    reports = len({row.procedure for row in tables.sentences})
    return {
        "source": info.source,
        "world": info.world,
        "simulator": info.simulator or None,
        "records": len(frames) or len(texts),
        "frames": len(frames),
        "assessable_frames": int(frames.assessable.sum()),
        "unassessable_frames": int((~frames.assessable).sum()),
        "frames_in_activities": int((frames.activity != "").sum()),
        "patients": len({row.patient for row in tables.procedures}),
        "procedures": len(tables.procedures),
        "videos": len(tables.videos),
        "activities": len(tables.activities),
        "descriptions": len(set(descriptions)),
        "words_per_description": _mean_words(descriptions),
        "landmark_prevalence": landmark_prevalence(info, frames),
        "report_sentences": len(texts),
        "sentences_per_report": len(texts) / reports if reports else None,
        "words_per_sentence": _mean_words(texts),
        "keywords": len(info.keywords),
        "keywords_used": len({row.keyword for row in tables.sentences if row.keyword is not None}),
        "generator": info.generator,
    }


def render(stats: dict[str, Any]) -> str:
    """The figures as a table of two columns, the landmarks by falling prevalence."""
    rows = []
    for key, value in stats.items():
        if key not in ("landmark_prevalence", "generator"):
            rows.append((key.replace("_", " "), _show(value)))
    shares = sorted(stats["landmark_prevalence"].items(), key=lambda item: -(item[1] or 0))
    rows += [(f"frames with {name}", "unknown" if share is None else f"{share:.1%}") for name, share in shares]
    rows += [(f"setting {name}", _show(value)) for name, value in settings(stats["generator"]).items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def settings(generator: dict[str, Any]) -> dict[str, Any]:
    """What a data set was made with, flat: {name: value}; a simulator's settings without the word before them."""
    flat: dict[str, Any] = {}
    for key, value in generator.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat


def _show(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
