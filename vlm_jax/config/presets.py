"""What the files of `configs/` share: a preset by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from vlm_jax.config.values import suggest
from vlm_jax.errors import UserError

Settings = TypeVar("Settings")

LITE = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
"""What TensorFlow's Lite builder trains with, on values of 0-255: mean 127 and deviation 128 of every channel. The
torch port's examples use ImageNet's figures: those make the first layer's variance six times what its norm expects,
these about 1.2 times (two photographs of scikit-learn)."""


def choose(presets: Mapping[str, Callable[[], Settings]], name: str) -> Settings:
    """The settings of the preset called `name`; an empty name means the first one.

    Raises:
      UserError: an unknown preset; says which there are.
    """
    name = name.strip() or next(iter(presets))
    if name not in presets:
        raise UserError(f"unknown preset {name!r}{suggest(name, presets)}: choose one of {', '.join(presets)}")
    return presets[name]()
