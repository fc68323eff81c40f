"""The simulator's settings: one frozen, validated dataclass."""

from __future__ import annotations

import difflib
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
    "unassessable_share": (0, 0.5),
    "omission_rate": (0, 0.9),
    "delay_rate": (0, 1),
    "breach_rate": (0, 1),
    "leak_rate": (0, 1),
    "information": (0, 1),
    "jpeg_quality": (10, 100),
    "blood": (0, 1),
    "smoke": (0, 1),
    "fog": (0, 1),
    "blur": (0, 1),
    "droplets": (0, 1),
    "over": (0, 1),
    "noise": (0, 1),
    "compression": (0, 1),
    "instruments": (0, 1),
}

WORLDS: dict[str, str] = {
    "normal": "",
    "reports_independent": "reports independent",
    "previous_shuffled": "previous shuffled",
}
"""`world` -> what is said of it wherever the data set's world is named. The last two are null worlds, see `worlds`."""
_CHOICES = {"world": tuple(WORLDS)}


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
    unassessable_share: float = 0.02  # of all frames: between activities, showing nothing; thinned like the others
    omission_rate: float = 0.3  # share of reportable events that the surgeon leaves out
    delay_rate: float = 0.05  # share of sentences dictated later than their evidence
    breach_rate: float = 0.01  # breach of the orbital plate, a procedure
    leak_rate: float = 0.002  # leak of cerebrospinal fluid, a procedure
    world: str = "normal"  # one of WORLDS
    information: float = 1.0  # share of visual report sentences and of descriptions that are true to the scene
    stress: bool = False  # rare complications at the rates of `stress.RATES`
    masks: bool = False  # id masks beside the images
    depth: bool = False  # depth maps beside the images
    jpeg_quality: int = 90
    # What spoils images: mean strengths over activities.
    blood: float = 0.15
    smoke: float = 0.05
    fog: float = 0.04
    blur: float = 0.10
    droplets: float = 0.04
    over: float = 0.06
    noise: float = 0.20
    compression: float = 0.12
    instruments: float = 0.35  # share of activities, from step 1 on, with an instrument in view

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, str(field.type), getattr(self, field.name))

    @property
    def peculiarities(self) -> tuple[str, ...]:
        """What sets these settings' world apart from the normal one; empty for the normal one."""
        stressed = "stress" if self.stress else ""
        loose = f"information {self.information:g}" if self.information < 1 else ""
        return tuple(filter(None, (stressed, WORLDS[self.world], loose)))

    def to_json(self) -> dict[str, Any]:
        """Plain types, for the data set's `generator`."""
        return asdict(self)


def _check(name: str, kind: str, value: Any) -> None:
    """UserError, naming the setting, unless `value` is of the right kind and within its bounds."""
    if kind == "bool":
        if not isinstance(value, bool):
            raise UserError(f"simulator setting {name}={value!r}: give True or False")
    elif kind == "str":
        if value not in _CHOICES[name]:
            close = difflib.get_close_matches(str(value), _CHOICES[name], n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise UserError(f"simulator setting {name}={value!r}: {hint}choose one of {', '.join(_CHOICES[name])}")
    else:
        whole = kind == "int"
        good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        low, high = _RANGES[name]
        if not good or not math.isfinite(value) or not low <= value <= high:
            what = "whole number" if whole else "number"
            raise UserError(f"simulator setting {name}={value!r}: give a {what} from {low:g} to {high:g}")
