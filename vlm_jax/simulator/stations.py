"""Where the plain renderer puts each landmark in each view: one layout a region of the nose.

Coordinates are (lateral, up) in radii of the field of view at zoom 1; a larger depth is farther away. The order of a
layout's rows is the order in which a description names its landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A landmark's ellipse in one view: centre (x lateral, y up), radii, depth, turn in degrees."""

    landmark: int
    x: float
    y: float
    rx: float
    ry: float
    depth: float
    turn: float = 0.0


P = Place
LAYOUTS: dict[str, tuple[Place, ...]] = {
    "nasal vestibule": (
        P(3, 0.15, 0.42, 0.22, 0.42, 3),
        P(2, 0.52, -0.45, 0.44, 0.36, 2),
        P(1, -0.80, 0.0, 0.40, 1.05, 1),
        P(4, 0.52, 0.25, 0.17, 0.26, 4, -10),
    ),
    "nasal floor": (P(20, 0.0, -0.12, 0.27, 0.34, 5), P(2, 0.66, 0.15, 0.40, 0.52, 2), P(1, -0.78, 0.1, 0.42, 1.1, 1)),
    "sphenoethmoidal recess": (
        P(12, 0.45, 0.42, 0.22, 0.36, 3, 15),
        P(13, -0.06, 0.28, 0.13, 0.13, 5),
        P(1, -0.72, 0.0, 0.38, 1.1, 1),
        P(3, 0.75, -0.30, 0.34, 0.52, 1.5),
        P(20, 0.0, -0.60, 0.28, 0.24, 5),
    ),
    "middle meatus": (
        P(5, 0.50, -0.05, 0.24, 0.50, 2, 10),
        P(3, -0.55, 0.15, 0.27, 0.72, 1.5, 5),
        P(6, 0.16, 0.42, 0.26, 0.26, 4),
        P(4, -0.04, -0.15, 0.22, 0.40, 6),
        P(2, 0.30, -0.88, 0.55, 0.22, 1),
    ),
    "ethmoidal infundibulum": (
        P(7, 0.25, -0.22, 0.17, 0.13, 5),
        P(5, 0.58, 0.42, 0.18, 0.32, 2, -15),
        P(6, 0.02, 0.42, 0.30, 0.27, 3),
        P(3, -0.75, 0.1, 0.22, 0.7, 1.5),
        P(4, -0.25, -0.2, 0.17, 0.32, 6),
        P(2, 0.15, -0.86, 0.5, 0.22, 1),
    ),
    "maxillary sinus": (
        P(8, 0.18, 0.0, 0.58, 0.52, 6),
        P(3, -0.80, 0.15, 0.22, 0.62, 1.5),
        P(2, -0.05, -0.88, 0.55, 0.2, 1),
        P(15, 0.35, 0.76, 0.42, 0.18, 3),
    ),
    "anterior ethmoid": (
        P(9, 0.20, 0.30, 0.32, 0.28, 4),
        P(6, 0.02, -0.22, 0.28, 0.26, 3),
        P(10, 0.02, -0.26, 0.30, 0.30, 6),
        P(15, 0.80, 0.05, 0.22, 0.62, 2),
        P(3, -0.74, 0.0, 0.24, 0.75, 1.5),
        P(16, 0.1, 0.80, 0.5, 0.18, 5),
        P(19, -0.27, 0.55, 0.14, 0.16, 6),
    ),
    "basal lamella": (
        P(10, 0.02, -0.05, 0.42, 0.42, 5),
        P(11, 0.08, -0.10, 0.20, 0.20, 4),
        P(15, 0.80, 0.0, 0.22, 0.62, 2),
        P(3, -0.76, 0.0, 0.24, 0.75, 1.5),
        P(16, 0.1, 0.80, 0.5, 0.2, 5.5),
    ),
    "posterior ethmoid": (
        P(11, 0.12, -0.05, 0.40, 0.36, 5),
        P(12, -0.62, 0.12, 0.20, 0.46, 2),
        P(15, 0.80, 0.0, 0.22, 0.62, 2),
        P(16, 0.1, 0.74, 0.52, 0.22, 5.5),
        P(18, 0.12, 0.58, 0.27, 0.055, 3, 8),
    ),
    "sphenoidal sinus": (
        P(14, 0.02, -0.02, 0.42, 0.40, 6),
        P(13, 0.0, 0.02, 0.19, 0.19, 5),
        P(12, 0.62, 0.30, 0.22, 0.40, 3),
        P(1, -0.80, 0.0, 0.28, 1.0, 1),
    ),
    "skull base": (
        P(16, 0.05, 0.25, 0.62, 0.40, 5),
        P(17, 0.08, 0.42, 0.40, 0.06, 3, -12),
        P(18, 0.08, -0.02, 0.30, 0.05, 3, 8),
        P(15, 0.82, -0.1, 0.22, 0.6, 2),
        P(3, -0.78, -0.2, 0.22, 0.6, 1.5),
        P(19, -0.1, 0.80, 0.18, 0.14, 4),
    ),
    "frontal recess": (
        P(19, 0.02, 0.22, 0.30, 0.30, 5),
        P(17, 0.05, -0.27, 0.38, 0.06, 4, -10),
        P(5, 0.50, -0.42, 0.18, 0.24, 2),
        P(15, 0.80, 0.15, 0.22, 0.6, 3),
        P(3, -0.76, 0.0, 0.24, 0.75, 1.5),
        P(16, 0.0, -0.62, 0.5, 0.22, 5),
    ),
    "common ethmoid cavity": (
        P(3, -0.72, 0.1, 0.24, 0.72, 1.5),
        P(15, 0.80, 0.2, 0.22, 0.5, 2),
        P(16, 0.05, 0.72, 0.55, 0.24, 5),
        P(8, 0.48, -0.42, 0.27, 0.22, 4.5),
        P(14, -0.1, 0.12, 0.17, 0.17, 6),
        P(2, 0.1, -0.88, 0.55, 0.2, 1),
    ),
}

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
