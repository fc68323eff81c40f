"""What a data set's world allows at best, where a file beside the data set says so; one of another world is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_jax.contract import DatasetInfo
from vlm_jax.data.files import read_json
from vlm_jax.data.store import open_dataset
from vlm_jax.errors import UserError

CEILINGS = "information.json"
"""Beside a data set: what `vlm-jax data information --out DIR/information.json` measured of its world."""
SHAPING = ("world", "information", "stress", "activities_per_procedure")
"""Settings of the simulator that the ceilings hang on, as `vlm-jax data information` takes them."""


def read_ceilings(paths: Sequence[str]) -> dict[str, dict[str, float]]:
    """{source/task/metric: {ceiling_state, ceiling_inputs, ...}}, of the data sets that have the file.

    Raises:
      UserError: ceilings of another world than the data set's.
    """
    found: dict[str, dict[str, float]] = {}
    for path in paths:
        file = Path(path) / CEILINGS
        if file.is_file():
            info, measured = open_dataset(path).info, read_json(file)
            _check(file, info, measured)
            for task, metrics in measured["tasks"].items():
                found |= {f"{info.source}/{task}/{name}": of for name, of in metrics.items() if isinstance(of, dict)}
    return found


def _check(file: Path, info: DatasetInfo, measured: Mapping[str, Any]) -> None:
    there, here = measured.get("config", {}), info.generator.get("config", {})
    if any(key not in here for key in SHAPING):
        raise UserError(f"'{file}' has ceilings of the simulator, and no simulator's settings are kept of this data "
                        "set: remove the file")  # fmt: skip
    other = [key for key in SHAPING if there.get(key) != here[key]]
    if other:
        raise UserError(
            f"'{file}' has ceilings of another world than its data set ({', '.join(other)} differ): remove it, or "
            f"measure this one by `{command(file, here)}`"
        )


def command(file: Path, config: Mapping[str, Any]) -> str:
    """What measures the world of these settings."""
    words = [f"--{key} {config[key]}" for key in SHAPING if key != "stress"]
    return " ".join(["vlm-jax data information --out", str(file), *words, *(["--stress"] if config["stress"] else [])])
