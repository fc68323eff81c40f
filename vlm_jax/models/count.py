"""How many parameters stand where: the rows of the table in docs/reference/model.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

PARTS = {
    "image_encoder": ("image_encoder", "backbone"),
    "text_encoder": ("text_encoder",),
    "fusion": ("text_to_image", "image_to_text"),
    "decoder": ("decoder",),
    "other": (),
}


def parameter_table(params: Mapping[str, Any]) -> dict[str, int]:
    """Parameters (arrays or abstract arrays) by part, and their `total`.

    `other` holds what the parts' names do not cover and what the paper's table lists as positions, biases and head: the
    decoder's positions and final norm, the token bias, the landmark head, null embeddings, width projection.
    """
    table = dict.fromkeys(PARTS, 0)
    owner = {module: part for part, modules in PARTS.items() for module in modules}
    for name, subtree in params.items():
        for inner, value in subtree.items() if isinstance(subtree, Mapping) else [("", subtree)]:
            part = owner.get(name, "other")
            if part == "decoder" and not inner.startswith("layer"):
                part = "other"
            table[part] += _count(value)
    return {**table, "total": sum(table.values())}


def _count(tree: Any) -> int:
    return sum(_count(v) for v in tree.values()) if isinstance(tree, Mapping) else math.prod(tree.shape)
