"""Two small data sets on disk, one with frames and one of notes alone, and a run's configuration over them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_jax.config.load import load_config
from vlm_jax.config.schema import Config
from vlm_jax.contract import Activity, DatasetInfo, Frame, Procedure, ProcedureBundle, Sentence, Video
from vlm_jax.data.store import write_dataset

LABELS = ("left fold", "right fold", "tool")
PLACES = ("left", "right", "middle")


def jpeg(seed: int, size: int = 16) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((size, size)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def as_png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def png() -> Callable[[np.ndarray], bytes]:
    return as_png


def frame_bundle(procedure: str) -> ProcedureBundle:
    """Six activities of two frames each, then in each video a frame outside and one not assessable; three sentences.

    Even procedures have two videos, and their sentences no time; odd ones have one.
    """
    number = int(procedure.removeprefix("p"))
    timed, per_video = number % 2 == 1, 6 if number % 2 else 3
    videos = tuple(Video(f"{procedure}/v{v}", procedure, 5.0) for v in range(6 // per_video))
    activities = tuple(
        Activity(
            f"{video.id}/a{a}", procedure, video.id, 200 * a, 200 * a + 200, (int(a == 0), int(a == 1), None),
            description=f"{PLACES[a % 3]} fold at {a + 1} o'clock in video {video.id[-1]} of {procedure}",
        )
        for video in videos
        for a in range(per_video)
    )  # fmt: skip
    sentences = (
        Sentence(
            f"{procedure}/s0", procedure, f"Left fold seen in {procedure}.", "inspect", *(0, 300) if timed else ()
        ),
        Sentence(f"{procedure}/s1", procedure, "History of hoarseness.", "history"),
        Sentence(
            f"{procedure}/s2",
            procedure,
            "Tool used.",
            "tool",
            *(200, 300) if timed else (),
            references=("A tool on the left.",),
        ),
    )

    def frames():
        for v, video in enumerate(videos):
            for i in range(2 * per_video + 2):
                activity = f"{video.id}/a{i // 2}" if i < 2 * per_video else None
                seed = 100 * number + 10 * v + i
                yield Frame(
                    f"{video.id}/{i}", procedure, video.id, 100 * i, activity, i != 2 * per_video + 1, jpeg(seed),
                    (i % 2, None, 1), (None, None, None),
                )  # fmt: skip

    return ProcedureBundle(
        Procedure(procedure, f"patient{number // 2}", "toy"), videos, activities, sentences, frames()
    )


def note_bundle(procedure: str) -> ProcedureBundle:
    texts = [f"Sentence {i} of {procedure}, left side." for i in range(4)]
    sentences = tuple(Sentence(f"{procedure}/{i}", procedure, t, f"step {i}") for i, t in enumerate(texts))
    return ProcedureBundle(Procedure(procedure, f"cluster {procedure}", "notes"), (), (), sentences, ())


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source `toy`: 8 procedures of 4 patients."""
    out = tmp_path_factory.mktemp("toy")
    info = DatasetInfo(source="toy", world="simulated", labels=LABELS, keywords=("inspect", "history", "tool"))
    write_dataset(out / "d", info, [f"p{i}" for i in range(8)], frame_bundle, progress=False)
    return out / "d"


@pytest.fixture(scope="session")
def labels_only_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source `mine`: the frames and labels of `toy`, no texts."""
    out = tmp_path_factory.mktemp("mine")

    def labels_only(id: str) -> ProcedureBundle:
        bundle = frame_bundle(id)
        activities = tuple(dataclasses.replace(a, description=None) for a in bundle.activities)
        return dataclasses.replace(bundle, activities=activities, sentences=())

    info = DatasetInfo(source="mine", world="real", labels=LABELS)
    write_dataset(out / "d", info, [f"p{i}" for i in range(8)], labels_only, progress=False)
    return out / "d"


@pytest.fixture(scope="session")
def masked_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source `toy` again, a mask beside each image: label 2 everywhere. That of each procedure's first frame is cut."""
    out = tmp_path_factory.mktemp("masked")
    mask = as_png(np.full((16, 16), 2, np.uint8))

    def masked(id: str) -> ProcedureBundle:
        bundle = frame_bundle(id)
        frames = (dataclasses.replace(f, mask=mask if f.uid != f"{id}/v0/0" else mask[:20]) for f in bundle.frames)
        return dataclasses.replace(bundle, frames=frames)

    keywords = ("inspect", "history", "tool")
    info = DatasetInfo(source="toy", world="simulated", labels=LABELS, keywords=keywords, extras=("mask",))
    write_dataset(out / "d", info, [f"p{i}" for i in range(8)], masked, progress=False)
    return out / "d"


@pytest.fixture(scope="session")
def notes_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source `notes`: 5 notes of 4 sentences, no frames."""
    out = tmp_path_factory.mktemp("notes")
    info = DatasetInfo(source="notes", world="real", keywords=tuple(f"step {i}" for i in range(4)))
    write_dataset(out / "d", info, [f"n{i}" for i in range(5)], note_bundle, progress=False)
    return out / "d"


@pytest.fixture
def make_config(toy_path: Path, notes_path: Path) -> Callable[..., Config]:
    """make_config({key: raw value}) -> the micro preset over both data sets, or over those of data.path."""

    def make(overrides: Mapping[str, str] | None = None) -> Config:
        base = {
            "data.path": f"{toy_path},{notes_path}", "data.split": "kfold:4:0", "data.image_size": "16",
            "train.batch_size": "8", "model.image_encoder.patch": "8", "data.vocab_size": "400",
        }  # fmt: skip
        return load_config("configs/vlm.py:micro", {**base, **(overrides or {})})

    return make
