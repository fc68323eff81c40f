"""One side of the nose as blocks: tissue that stands in the airway, air, and names for parts of the wall.

Sizes are those of an adult (OURS, after general descriptions of the nasal cavity; to be signed off by a rhinologist):
nostril to choana 66 mm, floor to roof of the ethmoid 38 mm, septum to orbital plate 14 mm.

What is not air is tissue: the wall is the complement of the airways. `surgery` opens airways and takes tissue away, so
that what a step ends is gone from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlm_jax.simulator.blocks import RGB, Block
from vlm_jax.simulator.surgery import SideState, available

MUCOSA: RGB = (0.88, 0.50, 0.46)
BONE: RGB = (0.93, 0.70, 0.56)
PALE: RGB = (0.90, 0.60, 0.54)
DEEP: RGB = (0.80, 0.38, 0.34)
LAMELLA: RGB = (0.87, 0.65, 0.58)
CELL: RGB = (0.88, 0.63, 0.52)
DEEP_CELL: RGB = (0.86, 0.60, 0.54)
HOLE: RGB = (0.42, 0.17, 0.16)
VESSEL: RGB = (0.82, 0.30, 0.27)


@dataclass(frozen=True, slots=True)
class Nose:
    """What the tracer sees: solids stand in the air, airways are carved out of the wall, paints name parts of the wall.

    The first paint that holds a point of the wall names it; a landmark that may not be named yet has no paint.
    """

    solids: tuple[Block, ...]
    airways: tuple[Block, ...]
    paints: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """One patient's side: sizes as factors about 1, shifts in mm, and which cells there are."""

    width: float = 1.0
    concha: float = 1.0
    bulla: float = 1.0
    roof: float = 0.0  # mm, lower is negative
    septum: float = 0.0  # mm, towards this side
    bullosa: bool = False
    spur: bool = False
    haller: bool = False
    onodi: bool = False
    agger: bool = True
    opening: float = 1.0
    sphenoid_opening: float = 1.0
    antrostomy: float = 1.0
    frontal_opening: float = 1.0
    anterior_artery: float = 1.0
    posterior_artery: float = 1.0
    polyps: int = 0
    trimmed: bool = False
    turbinoplasty: bool = False


def build(variant: Variant, state: SideState, exposed: frozenset[int]) -> Nose:
    """The side as it is at this moment. `exposed` are the arteries that bone does not hide."""
    solids = tuple(b for b in _solids(variant, state, exposed) if b is not None)
    return Nose(solids, tuple(_airways(variant, state)), tuple(_paints(variant, state)))


def _solids(v: Variant, state: SideState, exposed: frozenset[int]) -> list[Block | None]:
    roof = 37.5 + v.roof
    blocks: list[Block | None] = [
        Block("septum", 1, (-2.0 + v.septum * 0.25, 20, 32), (2.0, 26, 33), 0.6, (0, 0, -1.5 * v.septum), PALE),
        _inferior_concha(v, state),
        *_middle_concha(v, state),
        _superior_concha(v, state),
    ]
    if v.spur:
        blocks.append(Block("spur", 1, (0.6, 9.5, 36), (1.2, 0.2, 9), 0.9, (0, 0, -20), BONE))
    if abs(v.septum) > 0.5:
        blocks.append(Block("deviation", 1, (1.1 * v.septum - 0.9, 19, 25), (0.2, 4, 5), 1.7, (0, 0, 0), PALE))
    if 5 not in state.missing:
        if not state.passed(3):
            blocks.append(
                Block("uncinate", 5, (11.2, 21.5, 33.0), (0.25, 6.2, 2.6), 0.55, (8, -38, -8), (0.91, 0.60, 0.50))
            )
        elif state.stump and not state.passed(10):
            blocks.append(
                Block("uncinate stump", 5, (11.0, 29.5, 33.5), (0.25, 1.6, 1.9), 0.55, (8, -38, -8), (0.91, 0.60, 0.50))
            )
    if 6 not in state.missing and not state.passed(5):
        s = v.bulla
        blocks.append(
            Block("bulla", 6, (11.6, 25.0, 41.5), (0.8, 1.0 * s, 1.4), 2.9 * s, (10, 0, 0), (0.92, 0.66, 0.60))
        )
    blocks += _lamellae(v, state)
    if v.agger and not state.passed(10):
        blocks.append(Block("agger nasi", 0, (11.0, 30.5, 28.5), (0.5, 0.8, 1.0), 2.6, (0, 0, 0), MUCOSA))
    if v.haller and 5 not in state.done:
        blocks.append(Block("infraorbital cell", 0, (16.5, 23.0, 41.0), (0.5, 0.3, 1.5), 1.6, (0, 0, 0), MUCOSA))
    if 17 in exposed and (state.begun(9) or state.begun(10)):
        r = 0.75 * v.anterior_artery
        drop = 0.6 if v.anterior_artery > 1.2 else 0.0
        blocks.append(
            Block("anterior ethmoidal artery", 17, (10.0, roof - 0.3 - drop, 42.0), (4.6, 0, 0), r, (0, 14, -3), VESSEL)
        )
    if 18 in exposed and state.begun(7):
        r = 0.7 * v.posterior_artery
        blocks.append(
            Block("posterior ethmoidal artery", 18, (9.8, roof - 1.8, 56.0), (4.2, 0, 0), r, (0, -8, 2), VESSEL)
        )
    return blocks + _polyps(v, state)


def _inferior_concha(v: Variant, state: SideState) -> Block:
    s = v.concha * (0.62 if v.turbinoplasty and state.passed(11) else 1.0)
    return Block("inferior concha", 2, (11.2, 9.6, 37.5), (0.8, 1.2, 18.5), 3.1 * s, (3, 0, -12), (0.84, 0.47, 0.46))


def _middle_concha(v: Variant, state: SideState) -> list[Block | None]:
    shift, tilt = (-1.5, 6.0) if state.passed(2) else (0.0, -6.0)
    thick = v.concha * (2.3 if v.bullosa and not state.passed(2) else 1.35)
    head = Block(
        "head of middle concha",
        3,
        (6.8 + shift * 0.6, 25.5, 33.8),
        (0.2, 7.2, 1.2),
        thick * 1.25,
        (0, 4, tilt),
        (0.89, 0.56, 0.52),
    )
    body = Block(
        "middle concha", 3, (6.6 + shift, 26.5, 45.0), (0.2, 7.0, 9.5), thick, (-3, 0, tilt), (0.89, 0.56, 0.52)
    )
    return [head, body]


def _superior_concha(v: Variant, state: SideState) -> Block:
    if v.trimmed and state.passed(8):
        return Block("superior concha", 12, (5.6, 36.0, 59.5), (0.15, 1.4, 3.4), 0.95, (-8, 0, -6), (0.85, 0.52, 0.55))
    return Block("superior concha", 12, (5.6, 34.2, 59.5), (0.15, 3.4, 3.8), 0.95, (-8, 0, -6), (0.85, 0.52, 0.55))


def _lamellae(v: Variant, state: SideState) -> list[Block | None]:
    """Partitions of the ethmoid: what divides the cells until each step takes it away."""
    blocks: list[Block | None] = []
    if 6 not in state.done:
        if not state.passed(6):
            blocks.append(Block("basal lamella", 10, (11.2, 30.5, 50.3), (4.4, 10.0, 0.25), 0.5, (8, 0, 0), LAMELLA))
        else:  # opened low and medially: a rim is left
            blocks.append(
                Block("rim of basal lamella", 10, (11.2, 36.6, 51.0), (4.0, 2.6, 0.25), 0.5, (8, 0, 0), LAMELLA)
            )
            blocks.append(
                Block("foot of basal lamella", 10, (11.2, 23.2, 49.2), (4.0, 2.4, 0.25), 0.5, (8, 0, 0), LAMELLA)
            )
            blocks.append(
                Block("side of basal lamella", 10, (14.2, 30.0, 50.3), (1.6, 6.0, 0.25), 0.5, (8, 0, 0), LAMELLA)
            )
    if state.begun(5) and 5 not in state.done:
        blocks.append(Block("anterior partition", 9, (13.6, 33.6, 40.0), (1.8, 2.0, 0.1), 0.75, (-14, 24, 10), CELL))
        blocks.append(Block("suprabullar partition", 9, (12.2, 35.2, 45.5), (2.4, 1.6, 0.1), 0.7, (12, -18, -14), CELL))
    if state.passed(6) and 7 not in state.done:
        blocks.append(
            Block("posterior partition", 11, (12.6, 33.4, 56.0), (1.8, 2.4, 0.1), 0.75, (6, 16, 12), DEEP_CELL)
        )
        if not state.passed(7):
            blocks.append(
                Block("low posterior partition", 11, (12.0, 27.0, 58.5), (2.2, 0.1, 1.6), 0.7, (10, 0, -18), DEEP_CELL)
            )
    return blocks


def _polyps(v: Variant, state: SideState) -> list[Block | None]:
    """Pale sacs of the middle meatus, until they are taken out in step 1."""
    if state.passed(1):
        return []
    places = [((10.2, 18.6, 36.5), 2.0), ((9.2, 16.2, 32.0), 2.4), ((9.0, 20.0, 28.5), 2.9)]
    return [
        Block(f"polyp {k}", 4, centre, (0.3, 0.8, 0.6), radius, (0, 0, 20 * k), (0.90, 0.80, 0.72))
        for k, (centre, radius) in enumerate(places[: v.polyps])
    ]


def _airways(v: Variant, state: SideState) -> list[Block]:
    w, roof = v.width, 37.5 + v.roof
    blocks = [
        Block("vestibule", 0, (6.5, 10.0, 4.0), (0.6, 2.2, 8.0), 5.2, (-8, 0, 0)),
        Block("atrium", 0, (7.0, 19.0, 23.0), (4.4 * w, 7.5, 7.5), 3.0),
        Block("lower corridor", 0, (7.2, 10.0, 41.0), (4.6 * w, 5.6, 26.0), 2.4),
        Block("upper corridor", 0, (3.8, 25.5, 42.0), (2.6, 10.0, 22.5), 1.8),
        Block("middle meatus", 4, (10.8, 21.5, 43.5), (2.2 * w, 6.0, 11.5), 1.6),
        Block("sphenoethmoidal recess", 0, (3.6, 29.0, 61.5), (2.0, 9.0, 4.5), 1.4),
        Block("nasopharynx", 20, (3.0, 9.0, 77.0), (10.0, 6.0, 8.0), 3.0),
        Block("maxillary opening", 7, (15.0, 19.0, 38.0), (2.0, 0.3, 0.5), 1.5 * v.opening),
        Block(
            "sphenoidal opening",
            13,
            (3.9, 31.0, 67.6),
            (0.1, 0.3, 1.4),
            (1.5 if state.roomy or state.begun(8) else 0.5) * v.sphenoid_opening,
        ),
    ]
    if state.passed(4):
        s = v.antrostomy
        blocks.append(Block("maxillary sinus", 8, (29.5, 15.0, 46.0), (6.5, 7.5, 8.0), 6.0))
        blocks.append(Block("antrostomy", 8, (15.6, 19.0, 42.0), (2.6, 2.6 * s, 4.6 * s), 1.6))
    blocks += _opened_ethmoid(v, state, roof)
    return blocks


def _opened_ethmoid(v: Variant, state: SideState, roof: float) -> list[Block]:
    blocks = []
    if state.begun(5):
        blocks.append(Block("suprabullar recess", 9, (11.2, roof - 6.0, 38.5), (2.0, 3.8, 3.0), 2.0))
        blocks.append(
            Block(
                "frontal recess",
                19,
                (10.4, roof + 1.8, 35.2),
                (0.8, 4.5, 0.8),
                2.1 * (v.frontal_opening if state.passed(10) else 0.85),
                (22, 0, 0),
            )
        )
    if state.passed(5):
        blocks.append(Block("opened anterior ethmoid", 9, (11.2, roof - 6.5, 43.5), (2.2, 4.4, 4.2), 2.0))
    if state.passed(6):
        blocks.append(Block("opened posterior ethmoid", 11, (10.4, 30.5, 55.0), (2.6, 4.6, 6.0), 1.8))
    if state.passed(8):
        blocks.append(Block("sphenoidal sinus", 14, (6.5, 28.0, 75.5), (3.2, 4.0, 3.0), 4.2))
        blocks.append(Block("sphenoidotomy", 14, (5.2, 29.5, 67.5), (2.4 * v.sphenoid_opening, 2.8, 3.0), 1.4))
        if state.passed(7):
            blocks.append(Block("transethmoidal way", 14, (9.0, 29.5, 65.0), (1.6, 2.0, 3.0), 1.2))
    if state.passed(10):
        blocks.append(Block("frontal sinus", 19, (9.5, roof + 11.0, 31.5), (3.0, 2.5, 1.5), 3.2))
    if v.onodi and state.begun(7):
        blocks.append(Block("sphenoethmoidal cell", 11, (12.0, 33.5, 62.0), (0.8, 0.8, 3.0), 2.2))
    return blocks


def _paints(v: Variant, state: SideState) -> list[Block]:
    roof = 37.5 + v.roof
    blocks = [
        Block("choana", 20, (6.5, 9.5, 79.0), (8.5, 9.5, 13.0), 0.8, colour=DEEP),
        Block("sphenoidal sinus", 14, (6.5, 28.0, 77.5), (8.0, 8.6, 8.2), 0.8, colour=(0.84, 0.60, 0.58)),
        Block(
            "opening of sphenoidal sinus",
            13,
            (3.9, 31.0, 69.0),
            (0.1, 0.3, 1.0),
            1.75 * v.sphenoid_opening,
            colour=HOLE,
        ),
        Block("maxillary sinus", 8, (29.5, 15.0, 46.0), (13.2, 14.2, 14.8), 0.8, colour=(0.88, 0.66, 0.52)),
        Block("opening of maxillary sinus", 7, (16.2, 19.0, 38.0), (1.2, 0.3, 0.5), 1.75 * v.opening, colour=HOLE),
        Block("frontal recess", 19, (10.4, roof + 5.0, 34.0), (3.4, 6.5, 3.6), 0.8, colour=(0.82, 0.54, 0.46)),
        Block("roof of ethmoid", 16, (10.5, roof + 1.5, 50.0), (4.6, 2.4, 12.0), 0.6, colour=BONE),
        Block("orbital plate", 15, (15.8, roof - 6.5, 50.0), (1.6, 6.5, 12.0), 0.6, colour=(0.92, 0.76, 0.56)),
        Block("anterior ethmoidal cells", 9, (11.6, roof - 5.0, 42.0), (3.0, 5.6, 6.4), 0.8, colour=(0.87, 0.60, 0.50)),
        Block("posterior ethmoidal cells", 11, (10.6, 30.5, 57.5), (4.4, 6.6, 6.0), 0.8, colour=(0.84, 0.57, 0.53)),
        Block("middle meatus", 4, (12.2, 20.0, 41.0), (3.0, 6.4, 9.5), 0.8, colour=(0.80, 0.46, 0.42)),
    ]
    return [b for b in blocks if available(b.landmark, state)]


def draw_variant(rng: np.random.Generator) -> Variant:
    """Sizes of one side before its findings are applied."""

    def near(mean: float, spread: float, limit: float) -> float:
        return float(np.clip(rng.normal(mean, spread), mean - limit, mean + limit))

    return Variant(
        width=near(1.0, 0.05, 0.1), concha=near(1.0, 0.08, 0.18), bulla=near(1.0, 0.08, 0.17), roof=near(0.0, 0.6, 1.2)
    )
