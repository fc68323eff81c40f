"""The tables, Record, Batch, LabelSpace and Prediction: what the rooms hand to one another.

Units: times are milliseconds from the start of the procedure's video, fractions are of the image's area, image sizes
are pixels. A label is 1 (present), 0 (absent) or None (not known; never to be counted).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

Label = Literal[0, 1] | None
World = str  # real, or simulated, which may be followed by what sets it apart: `simulated, stress`

TASKS = ("landmarks", "describe", "anticipate", "report")
"""The order of the prompt axis K in every batch."""
TEXT_TASKS = ("describe", "anticipate", "report")
PRETRAIN_TASKS = ("reconstruct", "mask_language")
"""Objectives of pre-training: each stands alone in a run and takes the first column of the prompt axis."""

IGNORE_LABEL, NO_REGIONS = -1, 255  # how a label, or a pixel's landmark, that is not known is written in arrays
Box = tuple[float, float, float, float]  # left, top, right and bottom, as shares of the image's width and height

# --- The five tables -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Procedure:
    """One operation. `patient` is the strictest group that the source knows; a cluster of near-duplicate notes, too."""

    id: str
    patient: str
    source: str
    centre: str | None = None
    surgeon: str | None = None
    side_order: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Video:
    """One recording, or one sequence of frames. `timebase` is seconds per tick of the original container, if known."""

    id: str
    procedure: str
    fps: float | None = None
    timebase: float | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """A contiguous window with one anatomical configuration. `landmarks` follows the data set's label names."""

    id: str
    procedure: str
    video: str
    t0: int
    t1: int
    landmarks: tuple[Label, ...]
    side: str | None = None
    step: str | None = None
    scope: int | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a report; [t0, t1) is the window of its evidence, None where the source has no video.

    Attributes:
      keyword: step code from a closed list; never holds what the sentence says (finding, side, size).
      status: seen, done, absent or history.
      grounding: visual (the image alone can settle it), procedural or none.
      references: further acceptable wordings.
    """

    id: str
    procedure: str
    text: str
    keyword: str | None = None
    t0: int | None = None
    t1: int | None = None
    status: str | None = None
    grounding: str | None = None
    language: str = "en"
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `image` is JPEG bytes; `visible` and `fractions` follow the data set's label names.

    `mask`: PNG bytes, uint8: label (from 1) of each pixel, 0 for anything else. `depth`: PNG bytes, uint16: hundredths
    of a millimetre, 0 where not known.
    """

    uid: str
    procedure: str
    video: str
    pts_ms: int
    activity: str | None
    assessable: bool
    image: bytes
    visible: tuple[Label, ...]
    fractions: tuple[float | None, ...]
    mask: bytes | None = None
    depth: bytes | None = None


@dataclass(frozen=True, slots=True)
class Tables:
    """The small tables of one data set; frames are read one at a time from the store."""

    procedures: tuple[Procedure, ...]
    videos: tuple[Video, ...]
    activities: tuple[Activity, ...]
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True, slots=True)
class ProcedureBundle:
    """All rows of one procedure, as a simulator or an adapter yields them; `frames` may be a generator."""

    procedure: Procedure
    videos: tuple[Video, ...] = ()
    activities: tuple[Activity, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    frames: Iterable[Frame] = ()


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What is true of a whole data set: written as dataset.json beside the tables.

    Attributes:
      source: short name that scopes labels and metrics (`fess`, `vocalfolds`, `operative_notes`).
      labels: landmark names, in the order of every label tuple.
      keywords: the closed list of step codes.
      generator: what made it (adapter or simulator, its settings, its version), for the fingerprint.
      extras: what every frame carries beside its image: `mask`, `depth`.
    """

    source: str
    world: World
    labels: tuple[str, ...] = ()
    licence: str = ""
    citation: str = ""
    keywords: tuple[str, ...] = ()
    generator: dict[str, Any] = dataclasses.field(default_factory=dict)
    extras: tuple[str, ...] = ()

    @property
    def simulator(self) -> str:
        """Version, and hash of code and settings (`v1-1a2b3c4d5e6f`); empty for data that is not simulated."""
        return str(self.generator.get("simulator", ""))

    @property
    def full_world(self) -> str:
        """The world with the simulator's identity, as titles of tables and plots name it."""
        return ", ".join(filter(None, (self.world, self.simulator)))


def is_simulated(world: World) -> bool:
    """Whether a world is a simulated one, of whatever kind."""
    return world.partition(",")[0] == "simulated"


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """The landmark axis C of a run: names scoped by source (`fess/nasal septum`), in a fixed order."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"label names repeat: {sorted(n for n in self.names if self.names.count(n) > 1)}")

    def __len__(self) -> int:
        return len(self.names)

    def slots(self, source: str) -> np.ndarray:
        """int[n]: the columns that belong to `source`, in the order of that source's own names."""
        return np.array([i for i, n in enumerate(self.names) if n.startswith(source + "/")], dtype=np.int64)

    @staticmethod
    def union(sources: dict[str, tuple[str, ...]]) -> LabelSpace:
        """The space of several sources: {source: bare label names} in the given order."""
        return LabelSpace(tuple(f"{s}/{n}" for s, names in sources.items() for n in names))


START, END = "[START]", "[END]"


@dataclass(frozen=True, slots=True)
class Record:
    """The join of the tables for one frame (or for one sentence of a source without images).

    What a source does not carry is None. `previous` is START for the first activity of a procedure, `context` for the
    first sentence, `next_description` END for the last: an unknown text, a start and an end are three different things.
    """

    uid: str
    source: str
    procedure: str
    group: str
    video: str | None = None
    activity: str | None = None
    sentence: str | None = None
    image: bytes | None = None
    mask: bytes | None = None
    landmarks: tuple[Label, ...] | None = None
    visible: tuple[Label, ...] | None = None
    previous: str | None = None
    description: str | None = None
    next_description: str | None = None
    keyword: str | None = None
    context: str | None = None
    report_sentence: str | None = None
    references: tuple[str, ...] = ()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """What a step sees. B batch, F frames, K = len(TASKS) prompts, S prompt length, T target length, C landmarks.

    Attributes:
      image: uint8[B, F, H, W, 3], not normalised.
      frame_mask: bool[B, F]; False where the source has no image.
      landmarks: int8[B, C], 0 or 1 (arbitrary where masked).
      landmarks_mask: bool[B, C]; True = known.
      prompt: int32[B, K, S], zero-padded.
      target: int32[B, K, T]; the first token names the task, then the text, then [EOS], zero-padded.
      task_mask: bool[B, K]; True where the record carries this task.
      valid: bool[B]; False for a padded, broken or quarantined record, which keeps its slot.
      uid: int32[B]; row of the run's record table (-1 = padding).
      regions: uint8[B, H, W]: 1 + the landmark's column at each pixel of the frame itself, 0 = none of them,
        `NO_REGIONS` everywhere = not known. None: the run has no use for it.
    """

    image: jax.Array | np.ndarray
    frame_mask: jax.Array | np.ndarray
    landmarks: jax.Array | np.ndarray
    landmarks_mask: jax.Array | np.ndarray
    prompt: jax.Array | np.ndarray
    target: jax.Array | np.ndarray
    task_mask: jax.Array | np.ndarray
    valid: jax.Array | np.ndarray
    uid: jax.Array | np.ndarray
    regions: jax.Array | np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class LandmarkPrediction:
    """One landmark: `score` in [0, 1]; `present` is None where the model abstains (no threshold could be chosen).

    Of a model with places: `area` is the landmark's share of the image, `box` holds the places that it half covers.
    """

    name: str
    score: float
    threshold: float | None
    present: bool | None
    abstained: bool = False
    area: float | None = None
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class TextPrediction:
    """One generated sentence: `score` is its mean log-probability a token; evidence is (frame uid, region or None).

    `context` says where the prompt came from: gold (given by the caller), rolled_out (the model's own) or empty.
    """

    text: str
    score: float
    threshold: float | None = None
    abstained: bool = False
    context: str = "gold"
    evidence: tuple[tuple[str, Box | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one image. A task that the checkpoint does not have, or that lacks its input, is None."""

    input: str
    landmarks: tuple[LandmarkPrediction, ...] | None = None
    describe: TextPrediction | None = None
    anticipate: TextPrediction | None = None
    report: TextPrediction | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict, ready for `json.dumps`."""
        return dataclasses.asdict(self)
