"""Where the tip of the endoscope stands in each view of the nose, what it is turned to, and what a description names.

Coordinates are those of `blocks` (mm; x lateral, y up, z back). The shaft runs through the nostril, and a scope of 30,
45 or 70 degrees looks that far off the shaft, towards the station's target.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlm_jax.simulator.blocks import Vector

NOSTRIL: Vector = (6.5, 9.0, -6.0)


@dataclass(frozen=True, slots=True)
class Station:
    """Tip of the endoscope and the point it is turned to, for the scopes given."""

    scopes: tuple[int, ...]
    eye: Vector
    target: Vector


LAYOUTS: dict[str, tuple[int, ...]] = {
    "nasal vestibule": (3, 2, 1, 4, 5),
    "nasal floor": (20, 2, 1, 3),
    "sphenoethmoidal recess": (12, 13, 1, 3, 20),
    "middle meatus": (5, 3, 6, 4, 2, 1),
    "ethmoidal infundibulum": (7, 5, 6, 3, 4, 2),
    "maxillary sinus": (8, 3, 2, 15, 4, 6),
    "anterior ethmoid": (9, 6, 10, 15, 3, 16, 19, 4),
    "basal lamella": (10, 11, 15, 3, 16),
    "posterior ethmoid": (11, 12, 15, 16, 18, 3),
    "sphenoidal sinus": (14, 13, 12, 11, 1),
    "skull base": (16, 17, 18, 15, 3, 19),
    "frontal recess": (19, 17, 5, 15, 3, 16),
    "common ethmoid cavity": (3, 15, 16, 8, 14, 2),
}
"""Landmarks that a view's description names first, in order; others in view follow by number."""

STATIONS: dict[str, tuple[Station, ...]] = {
    "nasal vestibule": (Station((0,), (6.2, 14.0, 11.0), (7, 20, 40)),),
    "nasal floor": (Station((0,), (4.8, 7.0, 40.0), (4.5, 9, 70)),),
    "sphenoethmoidal recess": (Station((0,), (2.4, 22.5, 50.5), (3.6, 30, 67)),),
    "middle meatus": (
        Station((0,), (8.4, 19.0, 22.0), (11, 22, 36)),
        Station((30, 45, 70), (8.2, 18.0, 25.0), (12, 21, 36)),
    ),
    "ethmoidal infundibulum": (
        Station((30,), (8.8, 17.5, 29.0), (15, 19, 38)),
        Station((0, 45, 70), (9.2, 17.5, 31.0), (15, 19, 38)),
    ),
    "maxillary sinus": (
        Station((0,), (10.4, 17.5, 33.0), (20, 18, 44)),
        Station((30, 45), (10.2, 18.5, 38.0), (24, 16, 45)),
        Station((70,), (10.5, 18.5, 40.5), (26, 16, 46)),
    ),
    "anterior ethmoid": (
        Station((0,), (9.8, 23.5, 32.0), (11, 29, 44)),
        Station((30, 45, 70), (9.6, 23.5, 33.0), (11, 36, 43)),
    ),
    "basal lamella": (Station((0, 30, 45, 70), (10.0, 26.0, 38.5), (11, 31, 50)),),
    "posterior ethmoid": (
        Station((0,), (9.8, 27.5, 46.5), (10.5, 31, 58)),
        Station((30, 45, 70), (9.8, 27.0, 46.0), (10.5, 36.5, 57)),
    ),
    "sphenoidal sinus": (Station((0, 30, 45, 70), (8.6, 27.8, 57.5), (6.5, 29, 72)),),
    "skull base": (
        Station((0, 30), (9.8, 27.0, 41.5), (10, 38, 48)),
        Station((45, 70), (9.8, 28.0, 43.0), (10, 38, 46)),
    ),
    "frontal recess": (
        Station((0, 30, 45), (9.6, 28.4, 37.0), (10.4, 40, 35.5)),
        Station((70,), (9.8, 28.0, 37.0), (10.4, 42, 34.5)),
    ),
    "common ethmoid cavity": (Station((0, 30, 45, 70), (9.0, 22.0, 31.5), (10, 28, 55)),),
}
SPHENOID_THROUGH_NOSE = Station((0, 30, 45, 70), (2.7, 26.5, 59.5), (4.2, 30.5, 69))
"""Where the posterior ethmoid is closed, the sphenoid is reached beside the septum."""

NEEDS: dict[str, int] = {
    "maxillary sinus": 4,
    "anterior ethmoid": 5,
    "basal lamella": 6,
    "posterior ethmoid": 7,
    "sphenoidal sinus": 8,
    "skull base": 9,
    "frontal recess": 10,
    "common ethmoid cavity": 5,
}
"""The step that must have begun on this side before the endoscope can be there."""


def station(region: str, scope: int, through_nose: bool = False) -> Station:
    """The station of a view for this scope."""
    if region == "sphenoidal sinus" and through_nose:
        return SPHENOID_THROUGH_NOSE
    return next(s for s in STATIONS[region] if scope in s.scopes)
