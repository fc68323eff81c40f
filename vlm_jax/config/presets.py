"""What the files of `configs/` share: a preset by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from vlm_jax.config.values import suggest
from vlm_jax.errors import UserError

Settings = TypeVar("Settings")


def choose(presets: Mapping[str, Callable[[], Settings]], name: str) -> Settings:
    """The settings of the preset called `name`; an empty name means the first one.

    Raises:
      UserError: an unknown preset; says which there are.
    """
    name = name.strip() or next(iter(presets))
    if name not in presets:
        raise UserError(f"unknown preset {name!r}{suggest(name, presets)}: choose one of {', '.join(presets)}")
    return presets[name]()
