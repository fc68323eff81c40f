"""The store: what is written is read, the same bytes each time, whole or not at all."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vlm_jax.contract import DatasetInfo, Procedure, ProcedureBundle, Sentence, Video
from vlm_jax.data import parts, store
from vlm_jax.data.store import open_dataset, write_dataset
from vlm_jax.errors import UserError


def test_what_is_written_is_read(toy, tmp_path):
    dataset = open_dataset(toy.write(tmp_path / "d"))
    made = [toy.bundle(id) for id in toy.IDS]
    assert dataset.info == toy.INFO
    assert dataset.tables.procedures == tuple(b.procedure for b in made)
    assert dataset.tables.videos == tuple(v for b in made for v in b.videos)
    assert dataset.tables.activities == tuple(a for b in made for a in b.activities)
    assert dataset.tables.sentences == tuple(s for b in made for s in b.sentences)
    frames = [f for b in made for f in b.frames]
    index = dataset.frames
    assert len(index) == len(frames) == 12
    for i, frame in enumerate(frames):
        assert (index.uid[i], index.procedure[i], index.video[i]) == (frame.uid, frame.procedure, frame.video)
        assert (index.pts_ms[i], index.activity[i], index.assessable[i]) == (
            frame.pts_ms,
            frame.activity,
            frame.assessable,
        )
        assert index.visible[i].tolist() == [-1 if v is None else v for v in frame.visible]
        np.testing.assert_array_equal(index.fractions[i], [np.nan if v is None else v for v in frame.fractions])
        assert dataset.read_image(i) == frame.image
    assert index.visible.dtype == np.int8 and index.fractions.dtype == np.float32 and index.pts_ms.dtype == np.int64
    with pytest.raises(IndexError):
        dataset.read_image(12)


def test_same_source_same_bytes_other_source_other_fingerprint(toy, tmp_path):
    one, two = toy.write(tmp_path / "1"), toy.write(tmp_path / "2")
    assert toy.contents(one) == toy.contents(two)
    prints = {open_dataset(one).fingerprint, open_dataset(two).fingerprint}
    assert len(prints) == 1

    def other_text(id):
        made = toy.bundle(id)
        return dataclasses.replace(made, sentences=(dataclasses.replace(made.sentences[0], text="Other."),))

    def other_image(id):
        made = toy.bundle(id)
        return dataclasses.replace(made, frames=(dataclasses.replace(f, image=toy.jpeg(1)) for f in made.frames))

    other_info = dataclasses.replace(toy.INFO, generator={"seed": 1})
    toy.write(tmp_path / "3", other_text)
    toy.write(tmp_path / "4", other_image)
    toy.write(tmp_path / "5", info=other_info)
    prints |= {open_dataset(tmp_path / name).fingerprint for name in "345"}
    assert len(prints) == 4


def test_tfds_reads_it_without_tensorflow(toy, tmp_path):
    def with_an_empty_one(id):
        made = toy.bundle(id)
        return dataclasses.replace(made, frames=()) if id == "p1" else made

    out = toy.write(tmp_path / "d", with_an_empty_one)
    script = """
import sys, json, tensorflow_datasets as tfds
source = tfds.builder_from_directory(sys.argv[1]).as_data_source('frames')
row = source[5]
assert 'tensorflow' not in sys.modules and 'torch' not in sys.modules
seen = [row['uid'].decode(), row['image'].shape, row['visible'].tolist(), bool(row['assessable'])]
print(json.dumps([len(source), *seen]))
"""
    done = subprocess.run([sys.executable, "-c", script, str(out)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [8, "p2/v/1", [24, 24, 3], [1, 1], True]
    assert open_dataset(out).read_image(5) == [f.image for f in toy.bundle("p2").frames][1]


def test_a_source_without_frames(tmp_path):
    info = DatasetInfo(source="notes", world="real", keywords=("a",))

    def make(id):
        return ProcedureBundle(Procedure(id, id, "notes"), sentences=(Sentence(f"{id}/0", id, "Text.", "a"),))

    write_dataset(tmp_path / "d", info, ["n1", "n2"], make)
    dataset = open_dataset(tmp_path / "d")
    assert len(dataset.frames) == 0 and dataset.frames.visible.shape == (0, 0)
    assert [s.text for s in dataset.tables.sentences] == ["Text.", "Text."]
    assert not list((tmp_path / "d").glob("*.array_record*"))


def test_reading_in_threads_and_from_a_copy(toy, tmp_path):
    dataset = open_dataset(toy.write(tmp_path / "d"))
    expected = [dataset.read_image(i) for i in range(12)]
    rows = list(np.random.default_rng(0).integers(0, 12, 200))
    again = copy.deepcopy(dataset)  # as pickling does: the open readers stay behind
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(again.read_image, rows)) == [expected[i] for i in rows]


class Stop(Exception):
    pass


@pytest.mark.parametrize("place", ["between procedures", "within frames", "while joining"])
def test_an_interrupted_build_goes_on(toy, tmp_path, monkeypatch, place):
    whole, out = toy.write(tmp_path / "whole"), tmp_path / "d"

    def stop_at_third(id):
        if id != "p2":
            return toy.bundle(id)
        if place == "between procedures":
            raise Stop
        made = toy.bundle(id)

        def frames():
            yield next(iter(made.frames))
            raise Stop

        return dataclasses.replace(made, frames=frames())

    if place == "while joining":
        with monkeypatch.context() as patch:
            patch.setattr(store.tfds_layout, "features_json", lambda *_: (_ for _ in ()).throw(Stop))
            with pytest.raises(Stop):
                toy.write(out)
    else:
        with pytest.raises(Stop):
            toy.write(out, stop_at_third)
        assert not list(out.rglob("*.partial"))
    with pytest.raises(UserError, match="not finished"):
        open_dataset(out)
    (out / "frames.npz.partial").write_bytes(b"torn")  # as a power cut would leave it

    made_now = []

    def count(id):
        made_now.append(id)
        return toy.bundle(id)

    toy.write(out, count)
    assert made_now == ([] if place == "while joining" else ["p2"])
    assert toy.contents(out) == toy.contents(whole)
    toy.write(out, stop_at_third)  # finished: nothing is made, nothing changes
    assert toy.contents(out) == toy.contents(whole)


@pytest.mark.parametrize("workers", [2, 5])
def test_threads_write_the_same_bytes(toy, tmp_path, workers):
    """Each waits for another to have begun, so that they do run side by side."""
    both = threading.Barrier(2, timeout=60)

    def slow(id):
        if id in toy.IDS[:2]:
            both.wait()
        return toy.bundle(id)

    write_dataset(tmp_path / "d", toy.INFO, toy.IDS, slow, progress=False, workers=workers)
    assert toy.contents(tmp_path / "d") == toy.contents(toy.write(tmp_path / "whole"))


@pytest.mark.parametrize("late", [False, True], ids=["under-way", "not-yet-begun"])
def test_one_of_two_threads_fails_and_nothing_is_lost(toy, tmp_path, monkeypatch, late):
    """What comes before is finished, what comes after is not begun, and the next call makes the rest alone."""
    failed, made = threading.Event(), []
    look = parts._finished_part

    def finished_part(stem, shard, n_labels):
        """Holds the first procedure's thread back, before it begins, until the second has failed."""
        if late and stem.name == "000000":
            assert failed.wait(60)
            time.sleep(0.1)
        return look(stem, shard, n_labels)

    def make(id):
        made.append(id)
        if id == toy.IDS[1]:
            failed.set()
            raise Stop
        assert failed.wait(60)
        return toy.bundle(id)

    monkeypatch.setattr(parts, "_finished_part", finished_part)
    with pytest.raises(Stop):
        write_dataset(tmp_path / "d", toy.INFO, toy.IDS, make, progress=False, workers=2)
    assert sorted(made) == sorted(toy.IDS[:2])
    made.clear()
    write_dataset(tmp_path / "d", toy.INFO, toy.IDS, lambda id: made.append(id) or toy.bundle(id), progress=False)
    assert made == list(toy.IDS[1:])
    assert toy.contents(tmp_path / "d") == toy.contents(toy.write(tmp_path / "whole"))


def test_a_shard_that_was_cut_is_made_again(toy, tmp_path):
    out = tmp_path / "d"

    def stop(id):
        if id == "p1":
            raise Stop
        return toy.bundle(id)

    with pytest.raises(Stop):
        toy.write(out, stop)
    shard = next(out.glob("*.array_record*"))
    shard.write_bytes(shard.read_bytes()[:100])
    toy.write(out)
    assert toy.contents(out) == toy.contents(toy.write(tmp_path / "whole"))


def test_other_arguments_are_refused(toy, tmp_path):
    out = toy.write(tmp_path / "d")
    with pytest.raises(UserError, match=r"another data set \(info.generator.seed differ"):
        toy.write(out, info=dataclasses.replace(toy.INFO, generator={"seed": 1}))
    with pytest.raises(UserError, match=r"\(ids differ"):
        write_dataset(out, toy.INFO, ["p0"], toy.bundle)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(UserError, match="not a data set"):
        toy.write(tmp_path / "mine")
    with pytest.raises(UserError, match="not a data set"):
        toy.write(tmp_path / "mine" / "thesis.txt")
    with pytest.raises(UserError, match="no procedures"):
        write_dataset(tmp_path / "e", toy.INFO, [], toy.bundle)
    with pytest.raises(UserError, match="remote"):
        toy.write("gs://bucket/d")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda b: dataclasses.replace(b, procedure=dataclasses.replace(b.procedure, id="x")), "asked for"),
        (lambda b: dataclasses.replace(b, videos=()), "names video"),
        (lambda b: replace_first(b, "sentences", procedure="x"), "belongs to"),
        (
            lambda b: dataclasses.replace(
                replace_first(b, "sentences", t0=0, t1=100), videos=(*b.videos, Video("more", b.procedure.id))
            ),
            "has 2 videos and a sentence names none",
        ),
        (lambda b: replace_first(b, "sentences", keyword="x"), "closed list"),
        (lambda b: replace_first(b, "activities", landmarks=(1,)), "1 landmarks, the data set has 2 labels"),
        (lambda b: replace_first(b, "activities", t1=0), "not after its start"),
        (lambda b: replace_frames(b, video="x"), "does not have"),
        (lambda b: replace_frames(b, activity="x"), "does not exist"),
        (lambda b: replace_frames(b, visible=(1,)), "1 labels"),
        (lambda b: replace_frames(b, image=b"\x89PNG"), "not a JPEG"),
        (lambda b: replace_frames(b, uid="twice"), "frame id 'twice' occurs twice"),
        (lambda b: replace_first(b, "sentences", id="twice"), "sentences id 'twice' occurs twice"),
    ],
)
def test_rows_that_break_the_contract(toy, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        toy.write(tmp_path / "d", lambda id: change(toy.bundle(id)))
    assert not (tmp_path / "d" / "dataset.json").exists()


def replace_first(bundle, table, **changes):
    rows = getattr(bundle, table)
    return dataclasses.replace(bundle, **{table: (dataclasses.replace(rows[0], **changes), *rows[1:])})


def replace_frames(bundle, **changes):
    return dataclasses.replace(bundle, frames=(dataclasses.replace(f, **changes) for f in bundle.frames))
