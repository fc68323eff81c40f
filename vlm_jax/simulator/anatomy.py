"""The 20 landmarks and the scopes as data: what the workflow obeys and the tests assert.

All of it is ours, to be signed off by a rhinologist one day, except what `known` marks: the five landmarks whose
prevalence Bieck et al. (doi 10.1007/s11548-025-03512-z) publish. Names follow Terminologia Anatomica, else the European
Position Paper on the nomenclature of the nose and sinuses (Lund et al. 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

SIDES = ("left", "right")
SCOPES = (0, 30, 45, 70)
"""Viewing angles of the rigid endoscopes, degrees."""


@dataclass(frozen=True, slots=True)
class Landmark:
    """One row of the landmark table.

    Attributes:
      number: 1-20; the id in id masks (0 is anything else).
      first: steps of which one must have begun on this side before the landmark may be in view.
      scopes: viewing angles that can show it.
      ends: the step that ends it on this side (None = never).
      ends_at_turn: gone from the step's turn on (see `Step.turn`), else from the step's end on.
      neighbours: (relation, number) in anatomical words: this landmark is RELATION that one.
      known: the paper publishes its prevalence.
    """

    number: int
    name: str
    region: str
    paired: bool
    first: tuple[int, ...]
    scopes: tuple[int, ...]
    ends: int | None
    neighbours: tuple[tuple[str, int], ...]
    ends_at_turn: bool = False
    begins_at_turn: bool = False
    known: bool = False


ALL = SCOPES
LANDMARKS: tuple[Landmark, ...] = (
    Landmark(1, "nasal septum", "medial wall", False, (0,), ALL, None, (("medial to", 2), ("medial to", 3))),
    Landmark(2, "inferior nasal concha", "lateral wall", True, (0,), ALL, None, (("below", 4), ("lateral to", 1))),
    Landmark(
        3,
        "middle nasal concha",
        "lateral wall",
        True,
        (0,),
        ALL,
        None,
        (("medial to", 4), ("medial to", 15), ("lateral to", 1)),
        known=True,
    ),
    Landmark(
        4,
        "middle nasal meatus",
        "lateral to the middle nasal concha",
        True,
        (0,),
        ALL,
        5,
        (("above", 2), ("lateral to", 3)),
        known=True,
    ),
    Landmark(
        5,
        "uncinate process",
        "front of the meatus",
        True,
        (0,),
        ALL,
        3,
        (("in front of", 6), ("lateral to", 3)),
        ends_at_turn=True,
        known=True,
    ),
    Landmark(
        6,
        "ethmoidal bulla",
        "meatus",
        True,
        (0,),
        ALL,
        5,
        (("behind", 5), ("in front of", 10), ("above", 7)),
        ends_at_turn=True,
    ),
    Landmark(
        7,
        "opening of maxillary sinus",
        "ethmoidal infundibulum",
        True,
        (3,),
        (30, 45),
        4,
        (("below", 6), ("lateral to", 4)),
        ends_at_turn=True,
    ),
    Landmark(
        8,
        "maxillary sinus",
        "maxilla",
        True,
        (4,),
        ALL,
        None,
        (("lateral to", 4), ("lateral to", 3)),
        begins_at_turn=True,
    ),
    Landmark(
        9,
        "anterior ethmoidal cells",
        "ethmoid",
        True,
        (5,),
        ALL,
        5,
        (("in front of", 10), ("medial to", 15), ("below", 16)),
    ),
    Landmark(
        10,
        "basal lamella of middle concha",
        "ethmoid",
        True,
        (5,),
        ALL,
        6,
        (("behind", 9), ("in front of", 11), ("lateral to", 3)),
    ),
    Landmark(
        11,
        "posterior ethmoidal cells",
        "ethmoid",
        True,
        (6,),
        ALL,
        7,
        (("behind", 10), ("lateral to", 12), ("medial to", 15)),
        begins_at_turn=True,
    ),
    Landmark(
        12,
        "superior nasal concha",
        "upper posterior wall",
        True,
        (0,),
        ALL,
        None,
        (("behind", 3), ("lateral to", 13), ("medial to", 11)),
    ),
    Landmark(
        13,
        "opening of sphenoidal sinus",
        "sphenoethmoidal recess",
        True,
        (0, 8),
        ALL,
        8,
        (("above", 20), ("lateral to", 1), ("medial to", 12)),
        ends_at_turn=True,
    ),
    Landmark(
        14,
        "sphenoidal sinus",
        "sphenoid",
        True,
        (8,),
        ALL,
        None,
        (("behind", 11), ("lateral to", 1)),
        begins_at_turn=True,
    ),
    Landmark(
        15,
        "orbital plate of ethmoid",
        "lateral ethmoid wall",
        True,
        (5,),
        ALL,
        None,
        (("lateral to", 9), ("lateral to", 11), ("lateral to", 3)),
    ),
    Landmark(16, "roof of ethmoid", "ethmoid", True, (5,), ALL, None, (("above", 9), ("above", 11), ("above", 10))),
    Landmark(
        17,
        "anterior ethmoidal artery",
        "roof of ethmoid",
        True,
        (9, 10),
        (30, 45),
        None,
        (("behind", 19), ("below", 16)),
        known=True,
    ),
    Landmark(
        18,
        "posterior ethmoidal artery",
        "roof of ethmoid",
        True,
        (7,),
        ALL,
        None,
        (("above", 11), ("below", 16)),
        known=True,
    ),
    Landmark(
        19,
        "frontal recess",
        "before the anterior ethmoidal artery",
        True,
        (5,),
        ALL,
        10,
        (("in front of", 17), ("lateral to", 3), ("medial to", 15)),
    ),
    Landmark(
        20, "choana", "posterior nares", False, (0,), ALL, None, (("behind", 2), ("below", 13), ("lateral to", 1))
    ),
)
NAMES: tuple[str, ...] = tuple(landmark.name for landmark in LANDMARKS)
"""The label names of the source `fess`, in the order of every label tuple."""

FORBIDDEN_PAIRS: tuple[tuple[int, int], ...] = ((20, 17), (20, 18))
"""Never in one frame; kept apart by `scene.nameable`, as is the inside of 14 behind an intact 10 on the transethmoidal
route. The table itself forbids 7 with an intact 5 at 0 degrees, 11 before step 6, 8 before step 4, left with right."""


def landmark(number: int) -> Landmark:
    """The row of the table with this number (1-20)."""
    return LANDMARKS[number - 1]


ACTIVITIES_PER_PROCEDURE = 4322 / 30
"""KNOWN: 4,322 activities in 30 videos."""
ACTIVITY_SECONDS = 6.0
"""KNOWN by division: about 130,000 frames at 5 per second in 4,322 activities."""
N_SURGEONS, N_CENTRES = 10, 5
