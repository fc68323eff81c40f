"""The BERT family in Hugging Face's names."""

from __future__ import annotations

from vlm_jax.weights.rules import Layout

LAYOUTS: tuple[Layout, ...] = ()
