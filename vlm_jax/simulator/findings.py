"""What the image alone can settle: findings a side, how often each value is drawn, and the trace each leaves.

Every slot of a report sentence is one of these; every value but the empty one leaves a visible trace on its landmark.
"""

from __future__ import annotations

from dataclasses import dataclass, field

RGB = tuple[float, float, float]
PALE: RGB = (0.86, 0.80, 0.72)
CLEAR: RGB = (0.80, 0.84, 0.90)
WHITE: RGB = (0.93, 0.92, 0.86)
YELLOW: RGB = (0.90, 0.78, 0.22)
GREEN: RGB = (0.58, 0.68, 0.20)
BROWN: RGB = (0.36, 0.25, 0.12)
BLOOD: RGB = (0.62, 0.04, 0.05)
FAT: RGB = (0.98, 0.86, 0.35)
DARK: RGB = (0.10, 0.04, 0.05)
SWOLLEN: RGB = (0.90, 0.62, 0.66)

EMPTY = "none"
"""The value that leaves no trace: its sentence states an absence."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A blob on a landmark: colour, offset and radii in the landmark's own radii, kind of shading."""

    colour: RGB
    dx: float = 0.0
    dy: float = 0.0
    rx: float = 0.5
    ry: float = 0.5
    kind: str = "bulge"


@dataclass(frozen=True, slots=True)
class Trace:
    """How a value looks: marks on the landmark, and what it changes of the side's `nose.Variant`."""

    marks: tuple[Mark, ...] = ()
    variant: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to find on one side.

    Attributes:
      anchor: landmark that bears the trace.
      values: value (as the report words it) -> (probability, trace).
      steps: steps during which the trace shows.
      phase: within the first of `steps`: any, before or after its turn.
    """

    name: str
    anchor: int
    values: dict[str, tuple[float, Trace]]
    steps: tuple[int, ...]
    phase: str = "any"


NOTHING = Trace()  # nothing to see


def _blobs(colour: RGB, spots: tuple[tuple[float, float], ...], size: float, kind: str = "bulge") -> Trace:
    return Trace(tuple(Mark(colour, x, y, size, size, kind) for x, y in spots))


def _mucosa() -> dict[str, tuple[float, Trace]]:
    return {
        "healthy mucosa": (0.35, NOTHING),
        "oedematous mucosa": (0.35, _blobs(SWOLLEN, ((-0.4, 0.3), (0.4, -0.3), (0.35, 0.4)), 0.42)),
        "polypoid mucosa": (0.30, _blobs(PALE, ((-0.4, 0.2), (0.35, 0.25), (0.0, -0.45)), 0.5)),
    }


def _content(fungus: float) -> dict[str, tuple[float, Trace]]:
    return {
        EMPTY: (0.45, NOTHING),
        "mucus": (0.2, _blobs(WHITE, ((0.0, -0.45), (0.35, -0.35)), 0.4)),
        "pus": (0.2 - fungus / 2, _blobs(GREEN, ((0.0, -0.45), (-0.35, -0.35)), 0.42)),
        "fungal debris": (fungus, _blobs(BROWN, ((0.1, -0.3), (-0.25, -0.2), (0.3, 0.1)), 0.36)),
        "a cyst": (0.15 - fungus / 2, _blobs(YELLOW, ((0.1, -0.25),), 0.5)),
    }


ALL_STEPS = tuple(range(12))
FINDINGS: dict[str, Finding] = {
    f.name: f
    for f in (
        Finding(
            "septum",
            1,
            {
                EMPTY: (0.4, NOTHING),
                "towards this side": (0.3, Trace(variant={"septum": 2.2})),
                "towards the other side": (0.3, Trace(variant={"septum": -1.8})),
            },
            ALL_STEPS,
        ),
        Finding("spur", 1, {EMPTY: (0.75, NOTHING), "spur": (0.25, Trace(variant={"spur": 1}))}, ALL_STEPS),
        Finding(
            "polyps",
            4,
            {
                EMPTY: (0.35, NOTHING),
                "grade 1": (0.25, Trace(variant={"polyps": 1})),
                "grade 2": (0.25, Trace(variant={"polyps": 2})),
                "grade 3": (0.15, Trace(variant={"polyps": 3})),
            },
            (0, 1),
            "before",
        ),
        Finding(
            "secretion",
            2,
            {
                EMPTY: (0.4, NOTHING),
                "clear": (0.15, _blobs(CLEAR, ((0.0, 0.4), (0.25, 0.1)), 0.32)),
                "mucoid": (0.25, _blobs(WHITE, ((0.0, 0.4), (-0.25, 0.15)), 0.34)),
                "purulent": (0.2, _blobs(GREEN, ((0.0, 0.4), (0.25, 0.15)), 0.34)),
            },
            (0, 1),
        ),
        Finding(
            "choana",
            20,
            {
                "free": (0.6, NOTHING),
                "narrowed": (0.25, _blobs(SWOLLEN, ((0.0, 0.65),), 0.75)),
                "filled with secretion": (0.15, _blobs(YELLOW, ((0.0, -0.2),), 0.8)),
            },
            ALL_STEPS,
        ),
        Finding(
            "concha bullosa",
            3,
            {
                EMPTY: (0.75, NOTHING),
                "concha bullosa": (0.25, Trace(variant={"bullosa": 1})),
            },
            (0, 1, 2),
        ),
        Finding(
            "maxillary opening",
            7,
            {
                "patent": (0.4, NOTHING),
                "oedematous": (0.35, _blobs(SWOLLEN, ((-0.3, 0.4), (0.4, -0.3)), 0.6)),
                "blocked by mucus": (0.25, _blobs(WHITE, ((0.0, 0.0),), 0.75)),
            },
            (3, 4),
        ),
        Finding(
            "accessory opening",
            4,
            {EMPTY: (0.8, NOTHING), "accessory opening": (0.2, Trace((Mark(DARK, 0.2, -0.75, 0.45, 0.28, "hole"),)))},
            (0, 1, 2, 3, 4),
        ),
        Finding(
            "antrostomy",
            8,
            {
                "wide": (0.6, Trace(variant={"antrostomy": 1.15})),
                "narrow": (0.4, Trace(variant={"antrostomy": 0.55})),
            },
            ALL_STEPS,
        ),
        Finding("maxillary content", 8, _content(0.06), (4,), "after"),
        Finding("bulla content", 6, _content(0.0), (5,)),
        Finding("anterior mucosa", 9, _mucosa(), (5,)),
        Finding(
            "orbital plate",
            15,
            {"intact": (0.9, NOTHING), "dehiscent": (0.1, Trace((Mark(FAT, -0.1, 0.15, 0.55, 0.18),)))},
            (5, 6, 7, 9, 10),
        ),
        Finding(
            "infraorbital cell",
            15,
            {
                EMPTY: (0.85, NOTHING),
                "infraorbital cell": (0.15, Trace(variant={"haller": 1})),
            },
            (4, 5),
        ),
        Finding("posterior mucosa", 11, _mucosa(), (6, 7)),
        Finding(
            "sphenoethmoidal cell",
            11,
            {
                EMPTY: (0.8, NOTHING),
                "sphenoethmoidal cell": (0.2, Trace(variant={"onodi": 1})),
            },
            (7,),
        ),
        Finding(
            "superior concha",
            12,
            {"preserved": (0.6, NOTHING), "trimmed at its lower third": (0.4, Trace(variant={"trimmed": 1}))},
            (8,),
            "after",
        ),
        Finding(
            "sphenoid opening",
            13,
            {
                "roomy": (0.5, Trace(variant={"sphenoid_opening": 1.3})),
                "narrow": (0.5, Trace(variant={"sphenoid_opening": 0.75})),
            },
            (8,),
            "before",
        ),
        Finding("sphenoid content", 14, _content(0.04), (8,), "after"),
        Finding(
            "roof",
            16,
            {
                "Keros I": (0.3, Trace((Mark((0.72, 0.62, 0.50), -0.6, 0.0, 0.12, 0.6),))),
                "Keros II": (0.5, Trace(tuple(Mark((0.60, 0.50, 0.40), x, 0.0, 0.12, 0.6) for x in (-0.6, -0.2)))),
                "Keros III": (
                    0.2,
                    Trace(tuple(Mark((0.46, 0.36, 0.30), x, 0.0, 0.12, 0.6) for x in (-0.6, -0.2, 0.2))),
                ),
            },
            (9,),
        ),
        Finding(
            "anterior artery",
            17,
            {"within its canal": (0.65, NOTHING), "hanging free": (0.35, Trace(variant={"anterior_artery": 1.8}))},
            ALL_STEPS,
        ),
        Finding(
            "posterior artery",
            18,
            {"under bone": (0.8, NOTHING), "dehiscent": (0.2, Trace(variant={"posterior_artery": 1.8}))},
            ALL_STEPS,
        ),
        Finding(
            "agger nasi",
            19,
            {EMPTY: (0.2, Trace(variant={"agger": 0})), "pneumatised agger nasi": (0.8, Trace(variant={"agger": 1}))},
            (10,),
        ),
        Finding("frontal mucosa", 19, _mucosa(), (10,), "before"),
        Finding(
            "frontal opening",
            19,
            {
                "wide": (0.6, Trace(variant={"frontal_opening": 1.5})),
                "narrow": (0.4, Trace(variant={"frontal_opening": 0.8})),
            },
            (10,),
            "after",
        ),
        Finding(
            "bleeding concha",
            3,
            {EMPTY: (0.6, NOTHING), "middle concha": (0.4, _blobs(BLOOD, ((0.3, -0.3), (0.2, -0.55)), 0.4))},
            (11,),
            "before",
        ),
        Finding(
            "bleeding turbinate",
            2,
            {EMPTY: (0.7, NOTHING), "inferior concha": (0.3, _blobs(BLOOD, ((-0.2, 0.1), (-0.3, -0.2)), 0.4))},
            (11,),
            "before",
        ),
        Finding(
            "orbital fat",
            15,
            {EMPTY: (1.0, NOTHING), "orbital fat": (0.0, Trace((Mark(FAT, -0.3, -0.2, 0.9, 0.4),)))},
            (5, 6, 7, 9, 10, 11),
            "after",
        ),
        Finding(
            "leak",
            16,
            {EMPTY: (1.0, NOTHING), "clear fluid": (0.0, Trace((Mark(CLEAR, 0.3, -0.2, 0.3, 0.9),)))},
            (9, 10, 11),
            "after",
        ),
    )
}
