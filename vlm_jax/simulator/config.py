"""The simulator's settings: one frozen, validated dataclass."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from vlm_jax.errors import UserError
from vlm_jax.simulator import anatomy

_RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "procedures": (1, 99_999),
    "frames_per_procedure": (1, 1_000_000),
    "image_size": (16, 2048),
    "activities_per_procedure": (12, 2000),
    "fps": (0.5, 60),
    "activity_seconds": (1, 600),
    "omission_rate": (0, 0.9),
    "delay_rate": (0, 1),
    "breach_rate": (0, 1),
    "leak_rate": (0, 1),
    "jpeg_quality": (10, 100),
}


@dataclass(frozen=True)
class SimulatorConfig:
    """What is generated. A procedure is a function of these settings (but not of `procedures`) and of its id."""

    seed: int = 0
    procedures: int = 30
    frames_per_procedure: int = 4333  # mean to keep; fewer than the natural number thins evenly, every activity stays
    image_size: int = 224  # pixels, square
    activities_per_procedure: float = anatomy.ACTIVITIES_PER_PROCEDURE  # mean
    fps: float = 5.0  # frames a second inside activities
    activity_seconds: float = anatomy.ACTIVITY_SECONDS  # mean of a log-normal
    omission_rate: float = 0.3  # share of reportable events that the surgeon leaves out
    delay_rate: float = 0.05  # share of sentences dictated later than their evidence
    breach_rate: float = 0.01  # breach of the orbital plate, a procedure
    leak_rate: float = 0.002  # leak of cerebrospinal fluid, a procedure
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = field.type == "int"
            good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            low, high = _RANGES[field.name]
            if not good or not math.isfinite(value) or not low <= value <= high:
                kind = "whole number" if whole else "number"
                raise UserError(f"simulator setting {field.name}={value!r}: give a {kind} from {low:g} to {high:g}")

    def to_json(self) -> dict[str, Any]:
        """Plain types, for the data set's `generator`."""
        return asdict(self)
