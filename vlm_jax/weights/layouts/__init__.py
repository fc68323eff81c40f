"""The mapping tables, one file a family of architectures. A new layout is one row in its file's `LAYOUTS`."""

from __future__ import annotations

from vlm_jax.weights.layouts import bert, efficientnet, gpt2, resnet, swin, vit
from vlm_jax.weights.rules import Layout

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for family in (
        vit.LAYOUTS,
        bert.LAYOUTS,
        resnet.LAYOUTS,
        efficientnet.LAYOUTS,
        swin.LAYOUTS,
        gpt2.LAYOUTS,
    )
    for layout in family
}
"""Every layout by name."""
