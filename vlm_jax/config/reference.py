"""docs/reference/config.md, made from the schema: `python -m vlm_jax.config.reference > docs/reference/config.md`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from typing import Any

from vlm_jax.config.rules import BOUNDS, CHOICES, LISTS, MANY
from vlm_jax.config.schema import Config
from vlm_jax.config.values import sections

HEAD = """# Settings

Every key of a run, with its default: change one with `--config.KEY=value`, or in a config file. Lists are written with
commas (`--config.data.path=A,B`). The presets of `configs/vlm.py` start from these defaults. Made from
`vlm_jax/config/schema.py` by `make reference`.
"""


def render() -> str:
    """The whole page, one table a section."""
    pages = [HEAD, *_section(Config, "", json.loads(json.dumps(dataclasses.asdict(Config()))))]
    return "\n".join(pages)


def _section(cls: type, prefix: str, defaults: dict[str, Any]) -> list[str]:
    comments = _comments(cls)
    rows, inner = [], []
    for name, kind in sections(cls).items():
        key = prefix + name
        if dataclasses.is_dataclass(kind):
            inner += _section(typing.cast(type, kind), key + ".", defaults[name])
        else:
            rows.append(f"| `{key}` | `{json.dumps(defaults[name])}` | {_allowed(key)} | {comments.get(name, '')} |")
    title = f"## {prefix.rstrip('.') or 'the run'}"
    return ["", title, "", "| key | default | allowed | meaning |", "|---|---|---|---|", *rows, *inner]


def _comments(cls: type) -> dict[str, str]:
    """{field: the comment on its line}, with `|` escaped for a table."""
    lines = inspect.getsource(cls).splitlines()
    found = (re.match(r"\s+(\w+):[^#]*#\s*(.+)", line) for line in lines)
    return {match[1]: match[2].replace("|", "\\|") for match in found if match}


def _allowed(key: str) -> str:
    if key in CHOICES or key in LISTS:
        return ", ".join(CHOICES.get(key) or LISTS[key])
    if key not in BOUNDS:
        return ""
    low, high = BOUNDS[key]
    return f"at least {low}" if high == MANY else f"{low} to {high}"


if __name__ == "__main__":
    print(render())
