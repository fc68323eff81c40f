"""A toy data set for the tests of store, check and stats: the fixture `toy` is its maker."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_jax.contract import Activity, DatasetInfo, Frame, Procedure, ProcedureBundle, Sentence, Video
from vlm_jax.data.store import write_dataset


class Toy:
    """Three procedures of four frames."""

    LABELS = ("septum", "middle concha")
    IDS = ("p0", "p1", "p2")
    INFO = DatasetInfo(
        source="toy", world="simulated", labels=LABELS, licence="none", citation="us", keywords=("inspect",)
    )

    @staticmethod
    def bundle(procedure: str, frames: int = 4) -> ProcedureBundle:
        return _bundle(procedure, frames)

    @staticmethod
    def jpeg(seed: int) -> bytes:
        return _jpeg(seed)

    def write(self, out: Path, make: Callable[[str], ProcedureBundle] | None = None, info: DatasetInfo = INFO) -> Path:
        """The example written into `out`."""
        write_dataset(out, info, self.IDS, make or self.bundle, progress=False)
        return out

    @staticmethod
    def contents(directory: Path) -> dict[str, bytes]:
        """Name -> bytes of every file."""
        return {p.name: p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


@pytest.fixture
def toy() -> Toy:
    return Toy()


def _jpeg(seed: int, size: int = 24) -> bytes:
    """A noisy image, another one for another seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((size, size)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _bundle(procedure: str, frames: int) -> ProcedureBundle:
    """Two activities of half the frames each, one sentence, one unknown label and fraction."""
    video = f"{procedure}/v"
    half = frames // 2 * 100

    def make_frames():
        for i in range(frames):
            yield Frame(
                uid=f"{video}/{i}",
                procedure=procedure,
                video=video,
                pts_ms=i * 100,
                activity=f"{video}/a{int(i * 100 >= half)}",
                assessable=i > 0,
                image=_jpeg(_seed(procedure) + i),
                visible=(int(i < 3), None if i == 0 else i % 2),  # type: ignore[arg-type]
                fractions=(0.5 * (i < 3), None if i == 0 else 0.25 * (i % 2)),
            )

    activities = (
        Activity(f"{video}/a0", procedure, video, 0, half or 1, (1, 0), description="septum centre"),
        Activity(f"{video}/a1", procedure, video, half or 1, 2 * half + 100, (1, None), side="left"),
    )
    sentence = Sentence(f"{procedure}/s0", procedure, "Septum déviated.", "inspect", 0, 100, references=("Bent.",))
    return ProcedureBundle(
        Procedure(procedure, f"patient {procedure}", "toy", side_order=("left",)),
        (Video(video, procedure, 5.0),),
        activities,
        (sentence,),
        make_frames(),
    )


def _seed(text: str) -> int:
    """A seed from an id, the same in every process."""
    return sum(ord(c) * 1000**i for i, c in enumerate(text))
