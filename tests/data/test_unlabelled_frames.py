"""The adapter for folders of images without labels, and what pre-training reads of a data set."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_jax.config.load import load_config
from vlm_jax.contract import ProcedureBundle
from vlm_jax.data.run_data import RunData
from vlm_jax.data.sources import get_source
from vlm_jax.data.sources.unlabelled_frames import assessable, find_videos
from vlm_jax.data.store import open_dataset
from vlm_jax.errors import UserError

TISSUE, BLACK, DRAPE = (180, 90, 80), (5, 5, 5), (70, 110, 190)


def write(path: Path, colour: tuple[int, int, int] = TISSUE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 32, 3), colour, np.uint8)).save(path)


def built(folder: Path, out: Path):
    get_source("unlabelled_frames")(folder, out, progress=False)
    return open_dataset(out)


@pytest.fixture
def frames(tmp_path) -> Path:
    """Three videos of three frames, one of them black and one of a drape."""
    folder = tmp_path / "some frames"
    for video in ("a-1", "a-2", "b"):
        for number in (0, 30, 200):
            write(folder / "images" / f"{video}-frame-{number}.jpg")
    write(folder / "images" / "b-frame-30.jpg", BLACK)
    write(folder / "images" / "b-frame-200.png", DRAPE)
    (folder / "images" / "b-frame-200.jpg").unlink()
    (folder / "LICENSE").write_text("\nMIT License\n")
    return folder


def test_a_folder_becomes_a_data_set_without_labels(frames, tmp_path):
    dataset = built(frames, tmp_path / "data")
    assert (dataset.info.source, dataset.info.licence, dataset.info.labels) == ("some_frames", "MIT License", ())
    assert [row.id for row in dataset.tables.procedures] == ["a-1", "a-2", "b"]
    assert not dataset.tables.activities and not dataset.tables.sentences
    index = dataset.frames
    assert index.uid.tolist()[:3] == ["a-1/00000000", "a-1/00000030", "a-1/00000200"]
    assert index.pts_ms.tolist()[:3] == [0, 1200, 8000]
    left_out = [uid for uid, seen in zip(index.uid.tolist(), index.assessable.tolist(), strict=True) if not seen]
    assert left_out == ["b/00000030", "b/00000200"], "kept, and not assessable"
    assert dataset.read_image(0) == (frames / "images" / "a-1-frame-0.jpg").read_bytes()
    assert dataset.read_image(8).startswith(b"\xff\xd8"), "a PNG becomes a JPEG"


def test_videos_by_folder_and_by_name(tmp_path):
    for name in ("x/one/0001.png", "x/one/0002.tif", "x/two/clip_7.bmp"):
        write(tmp_path / name)
    assert {name: list(found) for name, found in find_videos(tmp_path / "x").items()} == {
        "one": [1, 2],
        "two/clip": [7],
    }
    assert list(find_videos(tmp_path / "x" / "one")) == ["one"], "frames of one video are called after their folder"


def test_bad_folders_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="has no images"):
        find_videos(tmp_path)
    write(tmp_path / "a" / "nameless.png")
    with pytest.raises(UserError, match=r"nameless.png.*number"):
        find_videos(tmp_path / "a")
    write(tmp_path / "b" / "v-1.png")
    write(tmp_path / "b" / "v_frame_01.jpg")
    with pytest.raises(UserError, match="the same frame"):
        find_videos(tmp_path / "b")
    write(tmp_path / "e" / "1753968000123456789.jpg")
    with pytest.raises(UserError, match="number of its frame is too large"):
        find_videos(tmp_path / "e")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "v-1.jpg").write_bytes(b"\xff\xd8 torn")
    with pytest.raises(UserError, match=r"v-1.jpg"):
        built(tmp_path / "c", tmp_path / "out")
    write(tmp_path / "d" / os.fsdecode(b"n\xe4se") / "1.png")
    with pytest.raises(UserError, match=r"udce4se/1.png' is not UTF-8: rename it"):
        built(tmp_path / "d", tmp_path / "out")


@pytest.mark.parametrize(("colour", "seen"), [(TISSUE, True), (BLACK, False), (DRAPE, False), ((128,) * 3, False)])
def test_the_rule_for_what_shows_the_inside_of_a_body(colour, seen):
    assert assessable(np.full((40, 50, 3), colour, np.uint8)) is seen


def run_data(paths, preset: str, *more: tuple[str, str]) -> RunData:
    settings = [("data.path", ",".join(map(str, paths))), *more]
    return RunData.open(load_config(f"configs/pretrain/{preset}", settings))


def test_unlabelled_frames_are_for_pre_training_alone(frames, tmp_path):
    out = tmp_path / "data"
    built(frames, out)
    data = run_data([out], "mae.py:micro", ("data.split", "kfold:3:0"))
    assert len(data.table) == 7 and not data.notices
    batch = next(data.train_batches())
    assert batch.task_mask[:, 0].all() and batch.frame_mask.all() and not batch.prompt.any()
    with pytest.raises(UserError, match="pre-train on it"):
        RunData.open(load_config("configs/vlm.py:micro", [("data.path", str(out))]))
    with pytest.raises(UserError, match="neither report sentences nor descriptions"):
        run_data([out], "mlm.py:micro")


def test_texts_are_read_once_and_without_their_frames(toy, tmp_path):
    out = toy.write(tmp_path / "toy")
    data = run_data([out], "mlm.py:micro", ("data.split", "kfold:3:0"))
    tables = open_dataset(out).tables
    assert len(data.table) == len(tables.sentences) + sum(a.description is not None for a in tables.activities)
    assert all(record.image is None for record in data.table)
    batch = next(data.train_batches())
    assert (batch.prompt[:, 0] != 0).any(axis=1).all() and not batch.frame_mask.any()
    assert not batch.prompt[:, 1:].any() and batch.task_mask[:, 0].all()

    def without_texts(name: str) -> ProcedureBundle:
        bundle = toy.bundle(name)
        bare = tuple(dataclasses.replace(row, description=None) for row in bundle.activities)
        return dataclasses.replace(bundle, activities=bare, sentences=())

    with pytest.raises(UserError, match="leave it out"):
        run_data([toy.write(tmp_path / "bare", without_texts)], "mlm.py:micro")


def test_no_frame_of_the_test_part_enters_pre_training(frames, real_data, tmp_path):
    """vocalfolds, one sequence of each patient held out: MAE's rows against those of the fine-tuning's test part."""
    out, larynx = tmp_path / "frames", tmp_path / "larynx"
    built(frames, out)
    get_source("vocalfolds")(real_data / "vocalfolds", larynx, progress=False)
    held = tmp_path / "split.json"
    held.write_text(json.dumps({"test": ["patient1/seq1", "patient2/seq5"]}))
    by = ("data.group_by", "vocalfolds=sequence")
    rule = f"vocalfolds=list:{held}"
    mae = run_data([out, larynx], "mae.py:micro", by, ("data.split", f"{rule},some_frames=kfold:3:0"))
    settings = [("data.path", str(larynx)), by, ("data.split", rule)]
    tuned = RunData.open(load_config("configs/vlm.py:micro,tasks=landmarks+describe", settings))
    test = {record.uid for record in tuned.records("test")}
    seen = {mae.table.record(mae.mixture.row(slot), image=False).uid for slot in range(5000)}
    assert len(test) == 58 and len(seen) > 200
    assert not test & seen and not test & {record.uid for record in mae.records("validation")}
    assert {r.uid for r in tuned.records("train")} <= seen, "and all of the training part is used"
