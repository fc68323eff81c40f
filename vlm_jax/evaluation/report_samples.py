"""The report's sample units: a frame, what was predicted, what was true."""

from __future__ import annotations

import base64
import difflib
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from vlm_jax.contract import TEXT_TASKS
from vlm_jax.text.normalise import words

IMAGE_SIDE = 224
N_SAMPLES = 12
_TITLES = {"describe": "Description", "anticipate": "Next description", "report": "Report sentence"}


def pick(rows: Sequence[Mapping[str, Any]], source: str, n: int = N_SAMPLES) -> list[Mapping[str, Any]]:
    """At most `n` rows of a source, evenly spread over the split; rows with a text first, for they say more."""
    own = [r for r in rows if r["source"] == source]
    told = [r for r in own if any(t in r for t in TEXT_TASKS)] or own
    if len(told) <= n:
        return told
    return [told[(2 * i + 1) * len(told) // (2 * n)] for i in range(n)]


def card(row: Mapping[str, Any], image: bytes | None, *, boxes: bool = False) -> str:
    """One sample as HTML, with `boxes` around its landmarks; everything that comes from data is escaped."""
    parts = []
    picture = data_address(image) if image else None
    if picture:
        image_tag = f'<img alt="frame {escape(str(row["uid"]))}" src="{picture}">'
        parts.append(f'<div class="picture">{image_tag}{_boxes(row.get("landmarks", {})) if boxes else ""}</div>')
    parts.append("<dl>")
    if "landmarks" in row:
        parts.append(_landmarks(row["landmarks"]))
    for task in TEXT_TASKS:
        if task in row:
            parts.append(_sentence(_TITLES[task], row[task]))
    where = " · ".join(str(row[k]) for k in ("procedure", "activity", "sentence") if row.get(k))
    return f'<div class="card">{"".join(parts)}</dl><p class="note">{escape(where)}</p></div>'


def _landmarks(said: Mapping[str, Mapping[str, Any]]) -> str:
    predicted = [n for n, v in said.items() if v["predicted"]]
    true = [n for n, v in said.items() if v["true"]]
    shown = ", ".join(escape(n) if n in true else f"<mark>{escape(n)}</mark>" for n in predicted) or "none"
    return (
        f"<dt>Landmarks predicted</dt><dd>{shown}</dd>"
        f'<dt>Landmarks in view</dt><dd class="true">{escape(", ".join(true) or "none")}</dd>'
    )


def _boxes(said: Mapping[str, Mapping[str, Any]]) -> str:
    """Of a model that marks places: where it sees the landmarks that it calls present; dashed, where masks have one."""
    parts = []
    for name, one in said.items():
        if one["predicted"] and one.get("box"):
            parts.append(_box(name, one["box"], "box"))
        if one["true"] and one.get("true_box"):
            parts.append(_box(name, one["true_box"], "box true"))
    return "".join(parts)


def _box(name: str, box: Sequence[float], kind: str) -> str:
    left, top, right, bottom = (100 * x for x in box)
    place = f"left:{left:.1f}%;top:{top:.1f}%;width:{right - left:.1f}%;height:{bottom - top:.1f}%"
    label = "" if "true" in kind else f"<b>{escape(name)}</b>"
    return f'<span class="{kind}" style="{place}" title="{escape(name)}">{label}</span>'


def _sentence(title: str, said: Mapping[str, Any]) -> str:
    return (
        f"<dt>{title}, predicted</dt><dd>{marked(said['predicted'], said['true'])}</dd>"
        f'<dt>{title}, true</dt><dd class="true">{escape(said["true"])}</dd>'
    )


def marked(predicted: str, true: str) -> str:
    """The predicted words as HTML, those that differ from the true ones marked."""
    own, gold = words(predicted), words(true)
    pieces = []
    for kind, start, end, _, _ in difflib.SequenceMatcher(None, own, gold, autojunk=False).get_opcodes():
        text = escape(" ".join(own[start:end]))
        if text:
            pieces.append(text if kind == "equal" else f"<mark>{text}</mark>")
    return " ".join(pieces) or "<mark>nothing</mark>"


def data_address(image: bytes) -> str | None:
    """The image as a small JPEG in a data: address; None where it cannot be read."""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            small = opened.convert("RGB")
    except (OSError, ValueError):
        return None
    small.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
