"""The data doctor: each kind of fault is found in a data set that has it, and none in one that has none."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from vlm_jax import cli
from vlm_jax.contract import DatasetInfo, Procedure, ProcedureBundle, Video
from vlm_jax.data import check, check_rows, tfds_layout
from vlm_jax.data.check import check_dataset
from vlm_jax.data.store import open_dataset, write_dataset


def found(path, **kwargs):
    """{(level, code, where)}"""
    diagnosis = check_dataset(path, progress=False, **kwargs)
    return {(f.level, f.code, f.where) for f in diagnosis.findings}


def with_frames(toy, change):
    """A maker whose frames went through `change(frame, i)`."""

    def make(id):
        made = toy.bundle(id)
        return dataclasses.replace(made, frames=(change(frame, i) for i, frame in enumerate(made.frames)))

    return make


@pytest.fixture
def sound(toy, tmp_path):
    return toy.write(tmp_path / "sound")


def test_a_sound_data_set_has_no_findings(sound):
    assert found(sound) == set()


def test_shards_that_are_missing_or_changed(toy, tmp_path):
    missing, changed = toy.write(tmp_path / "a"), toy.write(tmp_path / "b")
    next(missing.glob("*00000-of*")).unlink()
    shard = next(changed.glob("*00001-of*"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert ("error", "shard", tfds_layout.shard_name(0, 3)) in found(missing)
    assert ("error", "shard", tfds_layout.shard_name(1, 3)) in found(changed)


def test_tables_that_were_changed_after_they_were_written(toy, tmp_path):
    path = toy.write(tmp_path / "d")
    lines = (path / "sentences.jsonl").read_text().splitlines(keepends=True)
    (path / "sentences.jsonl").write_text("".join(lines[:-1]))
    (path / "procedures.jsonl").write_text((path / "procedures.jsonl").read_text() * 2)
    said = [(f.level, f.code, f.where) for f in check_dataset(path, progress=False).findings]
    assert ("warning", "table", "sentences.jsonl") in said and ("warning", "table", "procedures.jsonl") in said
    assert ("error", "id", "toy") in said
    assert not any(where == "videos.jsonl" for _, _, where in said)


def test_broken_images(toy, tmp_path):
    def cut(frame, i):
        return dataclasses.replace(frame, image=frame.image[:200]) if i == 2 else frame

    out = toy.write(tmp_path / "d", with_frames(toy, cut))
    broken = {("error", "image", f"{id}/v/2") for id in toy.IDS}
    assert broken <= found(out)
    assert not broken & found(out, images=False)


def test_shards_in_another_order(sound, monkeypatch):
    real = open_dataset

    def shuffled(path):
        dataset = real(path)
        frames = dataclasses.replace(dataset.frames, uid=np.roll(dataset.frames.uid, 1))
        return dataclasses.replace(dataset, frames=frames)

    monkeypatch.setattr(check, "open_dataset", shuffled)
    assert ("error", "order", "p0/v/0") in found(sound)


def test_duplicates_are_errors_across_patients_only(toy, tmp_path):
    def same_first(frame, i):
        return dataclasses.replace(frame, image=toy.jpeg(7)) if i == 1 else frame

    def same_within(frame, i):
        return dataclasses.replace(frame, image=toy.jpeg(ord(frame.uid[1]))) if i in (1, 2) else frame

    def unassessable(frame, i):  # the first frame of each: a black one is alike everywhere
        return dataclasses.replace(frame, image=toy.jpeg(7)) if i == 0 else frame

    assert found(toy.write(tmp_path / "a", with_frames(toy, same_first))) == {
        ("error", "duplicate", "p1/v/1"),
        ("error", "duplicate", "p2/v/1"),
    }
    assert found(toy.write(tmp_path / "b", with_frames(toy, same_within))) == {
        ("warning", "duplicate", f"{id}/v/2") for id in toy.IDS
    }
    assert found(toy.write(tmp_path / "c", with_frames(toy, unassessable))) == set()


def test_near_duplicates_and_black_frames(toy, tmp_path):
    import io

    from PIL import Image

    def again(frame, i):
        source = toy.jpeg(7) if i == 1 else frame.image
        quality = 85 + 5 * toy.IDS.index(frame.procedure)
        buffer = io.BytesIO()
        picture = Image.new("RGB", (24, 24)) if i == 2 else Image.open(io.BytesIO(source))
        picture.save(buffer, "JPEG", quality=quality)
        return dataclasses.replace(frame, image=buffer.getvalue())

    assert found(toy.write(tmp_path / "d", with_frames(toy, again))) == {
        ("warning", "near-duplicate", "p1/v/1"),
        ("warning", "near-duplicate", "p2/v/1"),
    }


def test_round_fields_of_view_alone_are_no_near_duplicates(toy, tmp_path):
    """Bright in the middle, dark at the border, each patient a little darker: alike to a hash."""
    import cv2

    axis = np.linspace(-1, 1, 48)
    light = np.clip(1 - np.hypot(axis[None], axis[:, None]), 0, 1)[..., None]

    def lit(frame, i):
        colour = np.array([120, 140, 230]) * (1 - 0.25 * toy.IDS.index(frame.procedure))
        picture = (light * (colour - 4 * i)).astype(np.uint8)
        return dataclasses.replace(frame, image=cv2.imencode(".jpg", picture)[1].tobytes())

    assert found(toy.write(tmp_path / "d", with_frames(toy, lit))) == set()


def test_an_empty_set_and_unused_rows(toy, tmp_path):
    info = DatasetInfo(source="toy", world="real")
    write_dataset(tmp_path / "d", info, ["p"], lambda id: ProcedureBundle(Procedure(id, id, "toy")), progress=False)
    assert {("error", "empty", "toy"), ("warning", "unused", "p"), ("warning", "few patients", "toy")} == found(
        tmp_path / "d"
    )
    out = toy.write(tmp_path / "e", lambda id: dataclasses.replace(toy.bundle(id), frames=()))
    assert ("warning", "unused", "p0/v/a0") in found(out)


def rows(dataset, **changes):
    """{(level, code, where)} of the tables alone, after `changes` to the data set's parts."""
    for part, change in changes.items():
        dataset = dataclasses.replace(dataset, **{part: dataclasses.replace(getattr(dataset, part), **change)})
    return {(f.level, f.code, f.where) for f in check_rows.row_findings(dataset)}


def first(table, **changes):
    return (dataclasses.replace(table[0], **changes), *table[1:])


def test_orphans(sound):
    dataset = open_dataset(sound)
    tables = dataset.tables
    lost = rows(dataset, tables={"procedures": tables.procedures[1:]})
    assert {("error", "orphan", name) for name in ("p0/v", "p0/v/a0", "p0/s0", "p0/v/0")} <= lost
    assert ("error", "orphan", "p0/v/a0") in rows(dataset, tables={"activities": first(tables.activities, video="x")})
    gone = rows(dataset, tables={"activities": tables.activities[1:]})
    assert {("error", "orphan", "p0/v/0"), ("error", "orphan", "p0/v/1")} <= gone


def test_labels_and_fractions(sound):
    dataset = open_dataset(sound)
    visible, share = dataset.frames.visible.copy(), dataset.frames.fractions.copy()
    visible[3, 0], share[4, 0], share[5, 0] = 2, 1.5, 0.0
    got = rows(dataset, frames={"visible": visible, "fractions": share})
    assert got == {("error", "label", "p0/v/3"), ("error", "fraction", "p1/v/0"), ("warning", "fraction", "p1/v/1")}
    bad = first(dataset.tables.activities, landmarks=(3, 0))
    assert ("error", "label", "p0/v/a0") in rows(dataset, tables={"activities": bad})
    assert ("error", "label", "toy") in rows(dataset, info={"labels": ("septum", "septum")})


def test_windows(sound):
    dataset = open_dataset(sound)
    activities = dataset.tables.activities

    def with_first(**changes):
        return rows(dataset, tables={"activities": first(activities, **changes)})

    assert ("error", "window", "p0/v/a0") in with_first(t1=0)
    assert with_first(t1=201) == {("error", "window", "p0/v/a1")}  # overlaps by a millisecond
    assert ("error", "window", "p0/v/a1") in with_first(t0=300, t1=400)  # out of order
    assert ("error", "window", "p0/v/1") in with_first(t1=100)  # a frame outside
    pts = dataset.frames.pts_ms.copy()
    pts[1] = 0
    assert rows(dataset, frames={"pts_ms": pts}) == {("warning", "order", "p0/v/1")}


def test_descriptions_that_name_what_is_not_there(sound):
    dataset = open_dataset(sound)

    def described(text):
        return rows(dataset, tables={"activities": first(dataset.tables.activities, description=text)})

    assert described(None) == described("Septum, tissue.") == set()
    assert described("septum left of the middle concha") == {("warning", "description", "p0/v/a0")}
    assert described("left view of middle concha, septum visible") == set(), "a region, not a landmark in view"
    assert described("a clear view of the middle concha") == {("warning", "description", "p0/v/a0")}
    assert described("left view of septum, middle concha visible") == {("warning", "description", "p0/v/a0")}
    assert described(" ") == {("error", "description", "p0/v/a0")}
    names = ("maxillary sinus", "opening of maxillary sinus", "septum")
    assert check_rows.named_labels("The opening of maxillary sinus; septal spur.", names) == {1}
    assert check_rows.named_labels("Opening of maxillary sinus, maxillary sinus", names) == {0, 1}


def test_sentences_and_keywords(sound):
    dataset = open_dataset(sound)

    def said(**changes):
        return rows(dataset, tables={"sentences": first(dataset.tables.sentences, **changes)})

    assert said(text=" ") == {("error", "sentence", "p0/s0")}
    assert said(t1=None) == said(t0=200) == {("error", "window", "p0/s0")}
    assert said(t0=None, t1=None) == said(keyword=None) == set()
    more = (*dataset.tables.videos, Video("another", "p0"))
    assert ("error", "window", "p0/s0") in rows(dataset, tables={"videos": more})
    assert said(keyword="other") == {("error", "keyword", "p0/s0")}
    assert rows(dataset, info={"keywords": ("inspect", "left side")}) == {("warning", "keyword", "left side")}
    assert rows(dataset, info={"keywords": ("inspect", "large_polyp")}) == {("warning", "keyword", "large_polyp")}
    # A step that is named by a negation, and one that tells which of two findings it is.
    assert rows(dataset, info={"keywords": ("inspect", "no complication", "without_packing")}) == set()
    told = rows(dataset, info={"keywords": ("inspect", "polyp", "no_polyp", "Polyp  absent")})
    assert told == {("warning", "keyword", "no_polyp"), ("warning", "keyword", "Polyp  absent")}


def test_prevalence(sound):
    dataset = open_dataset(sound)
    assert rows(dataset) == set()
    visible = np.where(dataset.frames.visible == 0, 1, dataset.frames.visible)
    assert ("warning", "prevalence", "middle concha") in rows(dataset, frames={"visible": visible})
    visible = np.where(visible == 1, -1, visible)
    assert ("warning", "prevalence", "septum") in rows(dataset, frames={"visible": visible})


def test_the_command(toy, tmp_path, capsys, sound):
    assert cli.main(["data", "check", str(sound)]) == 0
    assert capsys.readouterr().out.endswith("12 frames, 3 sentences: 0 errors, 0 warnings\n")

    out = toy.write(tmp_path / "d", with_frames(toy, lambda f, i: dataclasses.replace(f, image=f.image[:200])))
    assert cli.main(["data", "check", str(out)]) == 2
    text = capsys.readouterr().out
    assert "error: image (12)\n  p0/v/0: " in text and "... and 7 more" in text

    assert cli.main(["data", "check", str(out), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert (answer["errors"], answer["frames"], len(answer["findings"])) == (12, 12, 12)
    assert answer["findings"][0] == {"level": "error", "code": "image", "where": "p0/v/0"} | {
        "message": answer["findings"][0]["message"]
    }

    assert cli.main(["data", "check", str(tmp_path / "nowhere")]) == 2
    assert "is not a data set" in capsys.readouterr().err


def test_masks_that_say_nothing_or_another_thing(toy, tmp_path):
    """No other command looks at all of them."""
    import io

    from PIL import Image

    def png(values):
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "PNG")
        return buffer.getvalue()

    good = png(np.full((24, 24), 2, np.uint8))
    bad = {
        0: good,
        1: good[:30],
        2: png(np.zeros((24, 24, 3), np.uint8)),
        3: png(np.eye(24, 48, dtype=np.uint8) * 3),
    }
    info = dataclasses.replace(toy.INFO, extras=("mask",))
    sound = toy.write(tmp_path / "a", with_frames(toy, lambda f, i: dataclasses.replace(f, mask=good)), info)
    assert found(sound) == set()
    out = toy.write(tmp_path / "b", with_frames(toy, lambda f, i: dataclasses.replace(f, mask=bad[i])), info)
    said = {(f.level, f.message) for f in check_dataset(out, progress=False).findings if f.code == "mask"}
    assert said == {
        ("error", "its mask is damaged; build the data set again"),
        ("error", "its mask is a RGB image, not one label a pixel; build the data set again"),
        ("error", "its mask holds the value 3: the 2 labels count from 1, anything else is 0"),
        ("warning", "its mask is 48 x 24 pixels, the image 24 x 24: give both one shape"),
    }
    assert {f for f in found(out) if f[1] == "mask" and f[2].endswith("/0")} == set()
    assert not any(code == "mask" for _, code, _ in found(out, images=False))
