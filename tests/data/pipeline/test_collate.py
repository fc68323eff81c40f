"""Records to rows: fields, masks, and what augmentation on the host changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vlm_jax.contract import END, START, TASKS, LabelSpace, Record
from vlm_jax.data.changes import Changes
from vlm_jax.data.collate import Collator, make_batch
from vlm_jax.errors import UserError
from vlm_jax.text.tokenizer import Tokenizer

LABELS = LabelSpace.union({"a": ("left fold", "right fold", "tool"), "b": ("scar",)})
RECORD = Record(
    "u", "a", "p", "g", image=b"", landmarks=(1, 0, None), previous=START, description="left fold at 3 o'clock",
    next_description=END, keyword="look", context="the left side", report_sentence="tool on the left",
)  # fmt: skip
TOKENIZER = Tokenizer.train(["left right fold tool scar look the side on at 3 9 o'clock"] * 9, 400)
IMAGE = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)


@pytest.fixture
def collator(make_config) -> Collator:
    return Collator(TOKENIZER, LABELS, make_config())


def texts(row, name):
    return [TOKENIZER.decode(ids) for ids in row[name]]


def test_a_full_row(collator):
    row = collator.row(RECORD, IMAGE, row=5)
    assert (row["image"][0] == IMAGE).all() and row["frame_mask"].all()
    assert row["landmarks"].tolist() == [1, 0, 0, 0] and row["landmarks_mask"].tolist() == [True, True, False, False]
    assert texts(row, "prompt") == ["", "", "left fold at 3 o'clock", "look the left side"]
    assert texts(row, "target") == ["", "left fold at 3 o'clock", END, "tool on the left"]
    assert [int(t[0]) for t in row["target"]] == [TOKENIZER.task_id(t) if t != "landmarks" else 0 for t in TASKS]
    assert row["task_mask"].all() and row["valid"] and row["uid"] == 5
    assert (row["prompt"][0] == row["prompt"][1]).all()


def test_shapes_and_types_are_those_of_the_contract(collator, make_config):
    c = make_config()
    full, empty = collator.row(RECORD, IMAGE), collator.empty()
    for row in (full, empty):
        assert {k: (v.shape, v.dtype.name) for k, v in row.items()} == {
            "image": ((1, 16, 16, 3), "uint8"), "frame_mask": ((1,), "bool"), "landmarks": ((4,), "int8"),
            "landmarks_mask": ((4,), "bool"), "prompt": ((4, c.data.prompt_length), "int32"),
            "target": ((4, c.data.target_length), "int32"), "task_mask": ((4,), "bool"), "valid": ((), "bool"),
            "uid": ((), "int32"),
        }  # fmt: skip
    assert not empty["valid"] and empty["uid"] == -1


def test_what_a_source_lacks_is_masked(collator):
    note = Record("n", "c", "p", "g", keyword="look", context=START, report_sentence="tool")
    row = collator.row(note, None)
    assert row["task_mask"].tolist() == [False, False, False, True] and not row["frame_mask"].any()
    assert not row["landmarks_mask"].any() and not row["target"][:3].any()


def test_tasks_that_are_off_are_masked(make_config):
    row = Collator(TOKENIZER, LABELS, make_config({"tasks": "report"})).row(RECORD, IMAGE)
    assert row["task_mask"].tolist() == [False, False, False, True]
    assert not row["target"][1].any() and row["prompt"].any(axis=1).all()


def test_labels_go_to_the_columns_that_the_checkpoint_has(make_config):
    columns = {"a": np.array([2, -1, 0])}
    record = dataclasses.replace(RECORD, landmarks=(1, 1, 0))
    row = Collator(TOKENIZER, LABELS, make_config(), columns).row(record, None)
    assert row["landmarks"].tolist() == [0, 0, 1, 0] and row["landmarks_mask"].tolist() == [True, False, True, False]


def test_a_flip_flips_image_sentence_and_sided_labels(collator):
    row = collator.row(RECORD, IMAGE, changes=Changes(flip=True))
    assert (row["image"][0] == IMAGE[:, ::-1]).all()
    assert row["landmarks"].tolist()[:2] == [0, 1] and row["landmarks_mask"].tolist() == [True, True, False, False]
    assert texts(row, "target")[1:] == ["right fold at 9 o'clock", END, "tool on the right"]
    assert texts(row, "prompt")[2:] == ["right fold at 9 o'clock", "look the right side"]


def test_dropped_texts_become_null_and_targets_stay(collator):
    null = TOKENIZER.id("[NULL]")
    plain = collator.row(RECORD, IMAGE)
    row = collator.row(RECORD, IMAGE, changes=Changes(drop_text=(True, False, True, True)))
    assert [int(null in ids) for ids in row["prompt"]] == [1, 1, 1, 1]  # describe shares the landmarks prompt
    assert texts(row, "prompt")[3] == "look"  # the keyword stays
    assert (row["target"] == plain["target"]).all()
    kept = collator.row(RECORD, IMAGE, changes=Changes(drop_text=(False, True, False, False)))
    assert (kept["prompt"] == plain["prompt"]).all()


def test_a_dropped_image(collator):
    row = collator.row(RECORD, IMAGE, changes=Changes(drop_image=True))
    assert not row["frame_mask"].any() and not row["image"].any() and row["task_mask"].all()


def test_make_batch(make_config, toy_path):
    from vlm_jax.data.store import open_dataset

    encoded = open_dataset(toy_path).read_image(0)
    config = make_config()
    records = [dataclasses.replace(RECORD, image=encoded), None, dataclasses.replace(RECORD, image=None)]
    batch = make_batch(records, TOKENIZER, LABELS, config)
    assert batch.valid.tolist() == [True, False, True] and batch.uid.tolist() == [0, -1, 2]
    assert batch.frame_mask[:, 0].tolist() == [True, False, False]
    given = make_batch(records, TOKENIZER, LABELS, config, images=[IMAGE, None, None], rows=[7, -1, 9])
    assert (given.image[0, 0] == IMAGE).all() and given.uid.tolist() == [7, -1, 9]


def test_make_batch_names_the_image_that_is_broken(make_config):
    with pytest.raises(UserError, match="^u: not an image"):
        make_batch([dataclasses.replace(RECORD, image=b"no image")], TOKENIZER, LABELS, make_config())
