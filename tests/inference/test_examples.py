"""Test frames of a run as files for `vlm-jax predict`."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_jax.config.load import dump, load_config
from vlm_jax.contract import Activity, DatasetInfo, Frame, Procedure, ProcedureBundle, Sentence, Video
from vlm_jax.data import files
from vlm_jax.data.store import Dataset, write_dataset
from vlm_jax.errors import EnvironmentFault, UserError
from vlm_jax.inference.examples import read_predictions, write_examples


def bundle(name: str, image: bytes) -> ProcedureBundle:
    """Eight frames, of which the sentence sees the middle four; odd procedures are notes without a video."""
    if int(name[1:]) % 2:
        return ProcedureBundle(Procedure(name, name, "toy"), sentences=(Sentence(f"{name}-s", name, "Noted.", "look"),))
    video, activity = f"{name}-v", f"{name}-a"
    frames = [Frame(f"{name}-{i}", name, video, i * 100, activity, True, image, (1,), (0.5,)) for i in range(8)]
    sentences = (Sentence(f"{name}-s", name, "Seen.", "look", 200, 600),)
    activities = (Activity(activity, name, video, 0, 800, (1,), description="one"),)
    return ProcedureBundle(Procedure(name, name, "toy"), (Video(video, name),), activities, sentences, frames)


@pytest.fixture
def make_run(tmp_path):
    """make_run(procedures) -> a work directory of which the first is the test split."""

    def make(*procedures: str) -> Path:
        file = tmp_path / "image.jpg"
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(file)
        info = DatasetInfo("toy", "simulated", ("septum",), keywords=("look",))
        image = file.read_bytes()
        write_dataset(tmp_path / "d", info, procedures, lambda name: bundle(name, image), progress=False)
        (tmp_path / "run").mkdir()
        rule = {"data.path": str(tmp_path / "d"), "data.split": f"loo:{procedures[0]}"}
        dump(load_config("configs/vlm.py:micro", rule), tmp_path / "run" / "config.json")
        return tmp_path / "run"

    return make


def test_frames_with_a_sentence_go_first_and_only_what_is_taken_is_read(make_run, monkeypatch):
    read, seen = Dataset.read_frame, []
    monkeypatch.setattr(Dataset, "read_frame", lambda self, i: seen.append(i) or read(self, i))
    run = make_run("p0", "p2", "p4")
    path = write_examples(run, 2)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"image": f"frames/{i}.jpg", "keyword": "look", "context": "[START]", "previous": "[START]"}
                    for i in range(2)]  # fmt: skip
    assert seen == [2, 4]
    assert Image.open(run / rows[1]["image"]).size == (8, 8)


def test_a_test_split_without_images_is_one_line_and_writes_nothing(make_run):
    run = make_run("p1", "p2", "p4")
    with pytest.raises(UserError, match="has no image to predict on: choose another data.split"):
        write_examples(run, 2)
    assert [p.name for p in run.iterdir()] == ["config.json"]


def test_what_goes_wrong_is_one_line(make_run, tmp_path, monkeypatch):
    with pytest.raises(UserError) as caught:
        write_examples(tmp_path / "nowhere", 2)
    assert "\n" not in str(caught.value)
    run = make_run("p0", "p2", "p4")

    def full(temporary, final):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "publish", full)
    with pytest.raises(EnvironmentFault, match="no space left on the disk .* run the same command again$"):
        write_examples(run, 2)
    (run / "frames").rmdir()
    (run / "frames").write_text("")
    with pytest.raises(UserError, match="a part of its path is a file"):
        write_examples(run, 2)
    with pytest.raises(UserError, match="predictions.jsonl does not exist"):
        read_predictions(run / "predictions.jsonl")
