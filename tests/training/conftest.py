"""A small data set with everything in it: colours are landmarks, and every text follows from the colours."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_jax.config.load import load_config
from vlm_jax.config.schema import Config
from vlm_jax.contract import Activity, DatasetInfo, Frame, Procedure, ProcedureBundle, Sentence, Video
from vlm_jax.data.store import write_dataset

LABELS = ("red", "green", "blue")
PROCEDURES = tuple(f"p{i}" for i in range(6))


def _jpeg(landmarks: tuple[int, ...]) -> bytes:
    image = np.full((32, 32, 3), 30, np.uint8)
    for place, present in enumerate(landmarks):
        image[4:28, 10 * place + 2 : 10 * place + 10, place] = 230 if present else 30
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()


def _describe(landmarks: tuple[int, ...]) -> str:
    seen = [name for name, present in zip(LABELS, landmarks, strict=True) if present]
    return "view of " + (" and ".join(seen) or "nothing")


def make_bundle(name: str) -> ProcedureBundle:
    """Four activities of two frames, one sentence an activity."""
    rng = np.random.default_rng(PROCEDURES.index(name))
    activities, sentences, frames = [], [], []
    for i in range(4):
        code = (int(rng.integers(8)) + i) % 8
        landmarks = tuple(code >> bit & 1 for bit in range(3))
        t0, uid = 1000 * i, f"{name}-a{i}"
        activities.append(Activity(uid, name, f"{name}-v", t0, t0 + 1000, landmarks, description=_describe(landmarks)))
        text = f"noted {LABELS[code % 3]} finding {code}"
        sentences.append(Sentence(f"{name}-s{i}", name, text, "note", t0, t0 + 1000, "seen", "visual"))
        for j in range(2):
            frames.append(
                Frame(
                    f"{uid}-f{j}", name, f"{name}-v", t0 + 400 * j, uid, True, _jpeg(landmarks), landmarks, (0.2,) * 3
                )
            )
    procedure = Procedure(name, f"patient-{name}", "toy")
    return ProcedureBundle(procedure, (Video(f"{name}-v", name),), tuple(activities), tuple(sentences), frames)


@pytest.fixture(scope="session")
def toy_bundle():
    return make_bundle


def _png(landmarks: tuple[int, ...]) -> bytes:
    """The mask of `_jpeg`'s bars."""
    mask = np.zeros((32, 32), np.uint8)
    for place, present in enumerate(landmarks):
        mask[4:28, 10 * place + 2 : 10 * place + 10] = present * (place + 1)
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


def masked_bundle(name: str) -> ProcedureBundle:
    """As `make_bundle`, with masks."""
    bundle = make_bundle(name)
    frames = [dataclasses.replace(frame, mask=_png(frame.visible)) for frame in bundle.frames]
    return dataclasses.replace(bundle, frames=frames)


@pytest.fixture(scope="session")
def masked_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("masked") / "data"
    info = DatasetInfo("toy", "simulated", LABELS, keywords=("note",), generator={"name": "toy"}, extras=("mask",))
    write_dataset(path, info, PROCEDURES, masked_bundle, progress=False)
    return path


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "data"
    info = DatasetInfo("toy", "simulated", LABELS, keywords=("note",), generator={"name": "toy"})
    write_dataset(path, info, PROCEDURES, make_bundle, progress=False)
    return path


MICRO = "configs/vlm.py:micro"


@pytest.fixture(scope="session")
def toy_config(toy_path):
    """`labels`: landmarks alone, which compiles in half of the time, where a test has nothing to do with texts."""

    def make(*overrides: tuple[str, str], spec: str = MICRO, labels: bool = False) -> Config:
        base = [("data.path", str(toy_path)), ("data.split", "kfold:3:0"), ("train.tensorboard", "false")]
        return load_config(f"{spec},tasks=landmarks" if labels else spec, [*base, *overrides])

    return make
