"""docs/reference/config.md, made from the schemas: `python -m vlm_jax.config.reference > docs/reference/config.md`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from typing import Any

from vlm_jax.config.rules import BOUNDS, CHOICES, LISTS, MANY
from vlm_jax.config.schema import Config
from vlm_jax.config.study import BOUNDS as STUDY_BOUNDS
from vlm_jax.config.study import StudyConfig
from vlm_jax.config.values import sections

HEAD = """# Settings

Every key of a run, with its default: change one with `--config.KEY=value`, or in a config file. Lists are written with
commas (`--config.data.path=A,B`). The presets of `configs/vlm.py` start from these defaults; a study has
[settings of its own](#settings-of-a-study). Made from `vlm_jax/config/schema.py` and `vlm_jax/config/study.py` by
`make reference`.
"""
STUDY = """
# Settings of a study

Every key of `vlm-jax study --config FILE:ARG` ([what a study is](study.md)), with its default. The presets of
`configs/study.py` start from these.
"""


def render() -> str:
    """The whole page, one table a section."""
    run, study = (json.loads(json.dumps(dataclasses.asdict(kind()))) for kind in (Config, StudyConfig))
    return "\n".join(
        [HEAD, *_section(Config, "", "the run", run), STUDY, *_section(StudyConfig, "", "the study", study)]
    )


def _section(cls: type, prefix: str, top: str, defaults: dict[str, Any]) -> list[str]:
    comments = _comments(cls)
    bounds = _of_run if top == "the run" else _of_study
    rows, inner = [], []
    for name, kind in sections(cls).items():
        key = prefix + name
        if dataclasses.is_dataclass(kind):
            inner += _section(typing.cast(type, kind), key + ".", top, defaults[name])
        else:
            meant = comments.get(name, "").replace("|", "\\|")
            rows.append(f"| `{key}` | `{json.dumps(defaults[name])}` | {bounds(key)} | {meant} |")
    part = prefix.rstrip(".") or top
    title = f"## {part}" if top == "the run" or part == top else f"## {part} of the study"
    return ["", title, "", "| key | default | allowed | meaning |", "|---|---|---|---|", *rows, *inner]


def meanings(cls: type, prefix: str = "") -> dict[str, str]:
    """{dotted key: what the setting means}, of a schema and its sections."""
    comments, found = _comments(cls), {}
    for name, kind in sections(cls).items():
        if dataclasses.is_dataclass(kind):
            found |= meanings(typing.cast(type, kind), f"{prefix}{name}.")
        else:
            found[prefix + name] = comments.get(name, "")
    return found


def _comments(cls: type) -> dict[str, str]:
    """{field: the comment on its line}."""
    lines = inspect.getsource(cls).splitlines()
    found = (re.match(r"\s+(\w+):[^#]*#\s*(.+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def _of_run(key: str) -> str:
    if key in CHOICES or key in LISTS:
        return ", ".join(CHOICES.get(key) or LISTS[key])
    return _between(*BOUNDS[key]) if key in BOUNDS else ""


def _of_study(key: str) -> str:
    if key == "contexts":
        return ", ".join(LISTS["eval.contexts"])
    return _between(*STUDY_BOUNDS[key]) if key in STUDY_BOUNDS else ""


def _between(low: float, high: float) -> str:
    return f"at least {low}" if high == MANY else f"{low} to {high}"


if __name__ == "__main__":
    print(render())
