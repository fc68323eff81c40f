"""Masks on their way into batches: the run's own columns, mirrors, and what is wrong with them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vlm_jax.contract import NO_REGIONS, DatasetInfo, LabelSpace, Record
from vlm_jax.data.changes import Changes
from vlm_jax.data.collate import Collator, make_batch
from vlm_jax.data.run_data import RunData
from vlm_jax.data.run_sources import check_places
from vlm_jax.errors import UserError
from vlm_jax.text.tokenizer import Tokenizer

LABELS = LabelSpace.union({"a": ("left fold", "right fold", "tool"), "b": ("scar",)})
RECORD = Record("u", "a", "p", "g", image=b"", landmarks=(1, 0, None))
TOKENIZER = Tokenizer.train(["left right fold tool"], 100)
IMAGE = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
WIDTH = {"model.region_width": "8"}

MASK = np.zeros((16, 16), np.uint8)
MASK[:4, :4], MASK[8:, 10:], MASK[4:8, :] = 1, 2, 3


def test_regions_are_the_run_s_columns_and_swap_sides_in_a_mirror(make_config):
    config = make_config(WIDTH)
    collator = Collator(TOKENIZER, LABELS, config, {"a": np.array([2, 3, -1])})
    row = collator.row(RECORD, IMAGE, mask=MASK)
    assert row["regions"].dtype == np.uint8
    assert (row["regions"] == np.array([0, 3, 4, 0])[MASK]).all(), "what the model does not know is nothing"
    own = Collator(TOKENIZER, LABELS, config)
    flipped = own.row(RECORD, IMAGE, mask=MASK, changes=Changes(flip=True))["regions"]
    assert (flipped == np.array([0, 2, 1, 3])[MASK[:, ::-1]]).all(), "the left fold's pixels are the right one's"
    for known in (own.row(RECORD, IMAGE), own.row(RECORD, None, mask=MASK), own.empty()):
        assert (known["regions"] == NO_REGIONS).all()
    dropped = own.row(RECORD, IMAGE, mask=MASK, changes=Changes(drop_image=True))
    assert (dropped["regions"] == NO_REGIONS).all(), "what the model does not see is not asked of it"


def test_without_a_head_for_places_masks_are_not_looked_at(make_config):
    assert "regions" not in Collator(TOKENIZER, LABELS, make_config()).row(RECORD, IMAGE, mask=MASK)


def test_make_batch_decodes_masks(make_config, png):
    config = make_config(WIDTH)
    whole = dataclasses.replace(RECORD, image=png(IMAGE), mask=png(np.kron(MASK, np.ones((2, 2), np.uint8))))
    batch = make_batch([whole, None], TOKENIZER, LABELS, config)
    assert (batch.regions[0] == MASK).all() and (batch.regions[1] == NO_REGIONS).all()
    with pytest.raises(UserError, match="u: its mask is damaged"):
        make_batch([dataclasses.replace(whole, mask=b"\x89PNG")], TOKENIZER, LABELS, config)


def test_a_label_that_no_grey_value_names_is_nowhere(make_config):
    labels = LabelSpace.union({"a": tuple(f"l{i}" for i in range(3))})
    many = Collator(TOKENIZER, labels, make_config(WIDTH), {"a": np.array([2, *[-1] * 299])})
    record = dataclasses.replace(RECORD, landmarks=(1, *[None] * 299))
    assert (many.row(record, IMAGE, mask=np.full((16, 16), 255, np.uint8))["regions"] == 0).all()
    assert (many.row(record, IMAGE, mask=np.ones((16, 16), np.uint8))["regions"] == 3).all()


def test_more_landmarks_than_a_byte_holds_are_refused_before_any_batch(make_config):
    sources = {"a": DatasetInfo(source="a", world="real", labels=tuple(f"l{i}" for i in range(NO_REGIONS)))}
    check_places(sources, make_config())
    with pytest.raises(UserError, match="255 landmarks, of which at most 254 have places"):
        check_places(sources, make_config(WIDTH))


def test_a_damaged_mask_costs_training_the_record_and_evaluation_nothing(masked_path, make_config):
    """A frame that training would learn wrong is left out and counted; no answer hangs on a mask."""
    data = RunData.open(make_config({"data.path": str(masked_path), **WIDTH}))
    view = data.records("test")
    cut = [i for i, record in enumerate(view) if record.uid.endswith("/v0/0")]
    (batch,) = data.batches(view, len(view))
    assert cut and batch.valid.all() and not data.broken
    where = np.array([regions[0, 0] for regions in np.asarray(batch.regions)])
    assert (where[cut] == NO_REGIONS).all() and (
        np.delete(where, cut)[np.delete(batch.frame_mask[:, 0], cut)] == 2
    ).all()
    batches = data.train_batches()
    for _ in range(8):
        next(batches)
    batches.close()
    assert data.broken and all("its mask is damaged" in why for why in data.broken.values())
    assert all(data.table.record(row).uid.endswith("/v0/0") for row in data.broken)


def test_places_without_masks_to_learn_from_are_said(make_config, masked_path, notes_path):
    def said(**overrides):
        notices = RunData.open(make_config(overrides)).notices
        return [line for line in notices if "region_width" in line]

    assert not said()
    assert "no training set has masks" in said(**WIDTH)[0]
    masked = {"data.path": f"{masked_path},{notes_path}", **WIDTH}
    assert not said(**masked)
