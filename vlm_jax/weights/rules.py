"""What a mapping table is made of: a `Layout` says how a family of checkpoints names and shapes its arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
Transform = Callable[[np.ndarray, Mapping[str, Any]], "np.ndarray | tuple[np.ndarray, ...]"]


def same(array: np.ndarray, config: Mapping[str, Any]) -> np.ndarray:
    """The array as it is."""
    del config
    return array


@dataclass(frozen=True)
class Rule:
    """One source key (or family of keys) and where it goes.

    Attributes:
      pattern: regular expression over the whole source key, prefix removed. Keep to literals, `(\\d+)` and
        `(?:a|b)`: an error then can say which key was expected.
      target: name of our parameter from the part on, "image_encoder/blocks/layer_{0}/norm_1/scale", with the pattern's
        groups as {0}, {1}, ...; several names where one source array is split.
      transform: (array, config fragment) -> the array in our shape, or a tuple for several targets. Raises
        ValueError where the source's shape is not what it must be.
    """

    pattern: str
    target: str | tuple[str, ...]
    transform: Transform = same

    @property
    def targets(self) -> tuple[str, ...]:
        """All target templates."""
        return (self.target,) if isinstance(self.target, str) else self.target


@dataclass(frozen=True)
class Layout:
    """A family of checkpoints.

    Attributes:
      name: as `vlm-jax weights import --layout` takes it.
      part: the top name of our parameters that it fills: image_encoder, text_encoder, backbone, gpt.
      rules: where each source array goes.
      drops: (regular expression over the whole key, why it is not needed).
      configure: arrays, prefix removed -> the config fragment (fields of the part's section in config.schema, and
        `image_size` or `vocab_size`), inferred from shapes. Raises KeyError for a key that it cannot do without.
      abstract: config fragment -> tree of arrays or abstract arrays that must be filled, below the part's name.
      prefix: regular expression of what may stand before every key ("bert.", "model.").
      heads: config fragment -> number of attention heads, which shapes do not tell; None = there are none.
      source: what the layout is that of, for the table in docs/weights.md.
      known: values of the config fragment that every checkpoint of this layout has.
    """

    name: str
    part: str
    rules: tuple[Rule, ...]
    drops: tuple[tuple[str, str], ...]
    configure: Callable[[Arrays], dict[str, Any]]
    abstract: Callable[[Mapping[str, Any]], Any]
    prefix: str = ""
    heads: Callable[[Mapping[str, Any]], int] | None = None
    source: str = ""
    known: tuple[tuple[str, Any], ...] = ()

    def strip(self, key: str) -> str:
        """The key without the prefix that frameworks put before it."""
        return re.sub(f"^(?:{self.prefix})", "", key) if self.prefix else key


def example_key(rule: Rule, target: str) -> str | None:
    """The source key from which `rule` fills our parameter `target`; None where it does not."""
    for template in rule.targets:
        literal = re.split(r"\{(\d+)\}", template)
        pattern = "".join(f"(?P<g{t}>[^/]+)" if i % 2 else re.escape(t) for i, t in enumerate(literal))
        if match := re.fullmatch(pattern, target):
            groups = [match[f"g{i}"] for i in range(len(match.groupdict()))]
            return _example(rule.pattern, groups)
    return None


def _example(pattern: str, groups: list[str]) -> str:
    """A string that `pattern` matches: its groups filled in, the first of every choice, nothing optional."""
    text = re.sub(r"\(\?:([^()]*)\)\?", "", pattern)
    text = re.sub(r"\(\?:([^()|]*)(\|[^()]*)?\)", r"\1", text)
    for group in groups:
        text = re.sub(r"\((?!\?)[^()]*\)", lambda _, g=group: g, text, count=1)
    return text.replace("\\", "")
