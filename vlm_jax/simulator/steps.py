"""The steps of the operation as data: S0 inspects both sides, S1 to S11 happen on each operated side."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the operation on one side.

    Attributes:
      share: of the annotated time, over all procedures.
      probability: that a side has it.
      turn: progress within the step (0-1) at which its structure is opened or removed.
      views: (region, weight, scopes) that the endoscope visits in it.
    """

    number: int
    name: str
    share: float
    probability: float
    turn: float
    views: tuple[tuple[str, float, tuple[int, ...]], ...]

    @property
    def code(self) -> str:
        """`S0` to `S11`."""
        return f"S{self.number}"


STEPS: tuple[Step, ...] = (
    Step(
        0,
        "decongestion and inspection",
        0.14,
        1.0,
        1.0,
        (
            ("nasal vestibule", 0.2, (0,)),
            ("nasal floor", 0.2, (0,)),
            ("sphenoethmoidal recess", 0.15, (0,)),
            ("middle meatus", 0.45, (0,)),
        ),
    ),
    Step(
        1,
        "infiltration and polypectomy",
        0.06,
        1.0,
        0.6,
        (("nasal vestibule", 0.3, (0,)), ("middle meatus", 0.7, (0,))),
    ),
    Step(
        2,
        "medialisation of the middle concha",
        0.06,
        1.0,
        0.5,
        (("nasal vestibule", 0.25, (0,)), ("middle meatus", 0.75, (0,))),
    ),
    Step(
        3, "uncinectomy", 0.12, 1.0, 0.65, (("middle meatus", 0.65, (0,)), ("ethmoidal infundibulum", 0.35, (30, 45)))
    ),
    Step(
        4,
        "antrostomy",
        0.13,
        0.95,
        0.45,
        (
            ("ethmoidal infundibulum", 0.4, (30, 45)),
            ("maxillary sinus", 0.4, (0, 45, 70)),
            ("middle meatus", 0.2, (0, 30)),
        ),
    ),
    Step(
        5,
        "bulla and anterior ethmoid",
        0.14,
        0.9,
        0.4,
        (("middle meatus", 0.25, (0,)), ("anterior ethmoid", 0.75, (0, 30))),
    ),
    Step(6, "basal lamella", 0.05, 0.65, 0.6, (("basal lamella", 0.8, (0,)), ("common ethmoid cavity", 0.2, (0,)))),
    Step(
        7,
        "posterior ethmoid",
        0.08,
        0.65,
        0.6,
        (("posterior ethmoid", 0.85, (0, 30)), ("common ethmoid cavity", 0.15, (0,))),
    ),
    Step(8, "sphenoid", 0.05, 0.45, 0.5, (("sphenoethmoidal recess", 0.35, (0,)), ("sphenoidal sinus", 0.65, (0, 30)))),
    Step(9, "roof of ethmoid", 0.06, 0.4, 0.5, (("skull base", 0.85, (30, 45)), ("common ethmoid cavity", 0.15, (0,)))),
    Step(
        10,
        "frontal recess",
        0.07,
        0.45,
        0.6,
        (("frontal recess", 0.85, (45, 70)), ("common ethmoid cavity", 0.15, (0, 30))),
    ),
    Step(
        11,
        "haemostasis and packing",
        0.04,
        1.0,
        0.5,
        (("common ethmoid cavity", 0.5, (0,)), ("nasal vestibule", 0.3, (0,)), ("nasal floor", 0.2, (0,))),
    ),
)
