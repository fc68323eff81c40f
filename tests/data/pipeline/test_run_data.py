"""The data of a run: texts, labels, training and evaluation batches."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from vlm_jax.contract import END, START, Batch, LabelSpace
from vlm_jax.data import collate as collate_module
from vlm_jax.data import records, transforms
from vlm_jax.data.changes import NO_CHANGES, draw_changes
from vlm_jax.data.run_data import RunData
from vlm_jax.errors import UserError
from vlm_jax.parallel.mesh import make_mesh
from vlm_jax.text.tokenizer import Tokenizer


@pytest.fixture
def data(make_config) -> RunData:
    return RunData.open(make_config({"augment.flip": "0.5", "augment.drop_text": "0.3", "augment.drop_image": "0.2"}))


def take(batches, n):
    taken = list(itertools.islice(batches, n))
    batches.close()
    return taken


def same(one: Batch, other: Batch) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), one, other))


def test_what_is_opened(data, toy_path):
    assert list(data.sources) == ["toy", "notes"] and len(data.fingerprints) == 2
    assert data.labels.names == ("toy/left fold", "toy/right fold", "toy/tool")
    counts = [len(data.records(s)) for s in ("train", "validation", "test")]
    assert sum(counts) == len(data.records("all")) == 8 * 12 + 5 * 4 and min(counts) > 0
    with pytest.raises(UserError, match="expected train, validation, test or all, got 'dev'"):
        data.records("dev")


def test_training_texts_are_of_the_training_split_alone(data):
    texts = data.train_texts()
    assert texts == sorted(set(texts)) and START not in texts and END not in texts
    joined = " ".join(texts)
    held_out = {r.procedure for split in ("validation", "test") for r in data.records(split)}
    train = {r.procedure for r in data.records("train")}
    assert held_out and not any(f"{p}." in joined or f"{p}," in joined for p in held_out)
    assert all(p in joined for p in train) and "inspect" in texts


def test_a_corpus_sized_tokenizer_knows_the_mirrored_words_too(data):
    text = "right fold at 11 o'clock"
    assert data.tokenizer.decode(data.tokenizer.encode(text)) == text


def test_label_counts(data):
    positives, negatives = data.label_counts()
    labels = np.array([[-1 if v is None else v for v in r.landmarks] for r in data.records("train") if r.landmarks])
    assert positives.tolist() == (labels == 1).sum(axis=0).tolist()
    assert negatives.tolist() == (labels == 0).sum(axis=0).tolist()


@pytest.mark.parametrize("count", [2, 4])
def test_training_is_the_same_for_every_number_of_processes(data, count):
    whole = take(data.train_batches(), 3)
    parts = [take(data.train_batches(shard=(i, count)), 3) for i in range(count)]
    for step, batch in enumerate(whole):
        joined = jax.tree.map(lambda *xs: np.concatenate(xs), *(part[step] for part in parts))
        assert same(batch, joined)


def test_resuming_gives_the_batches_that_would_have_come(data, make_config):
    whole = take(data.train_batches(), 5)
    assert all(same(a, b) for a, b in zip(whole[3:], take(data.train_batches(start_step=3), 2), strict=True))
    again = RunData.open(data.config)
    assert same(whole[0], take(again.train_batches(), 1)[0])
    other = RunData.open(dataclasses.replace(data.config, seed=1), data.tokenizer)
    assert not same(whole[0], take(other.train_batches(), 1)[0])


def test_only_training_records_train(data):
    train = set(data.records("train").rows.tolist())
    rows = np.concatenate([b.uid for b in take(data.train_batches(), 20)])
    assert set(rows.tolist()) == train


def test_changes_are_drawn_at_their_rates(data, make_config):
    drawn = [draw_changes(data.config, slot) for slot in range(2000)]
    assert drawn == [draw_changes(data.config, slot) for slot in range(2000)]
    assert np.isclose(np.mean([c.flip for c in drawn]), 0.5, atol=0.04)
    assert np.isclose(np.mean([c.drop_image for c in drawn]), 0.2, atol=0.04)
    pictured = [c for c in drawn if not c.drop_image]
    assert np.isclose(np.mean([c.drop_text for c in pictured]), 0.3, atol=0.03)
    assert not any(any(c.drop_text) for c in drawn if c.drop_image)  # nothing would tell sentences apart
    unpictured = [draw_changes(data.config, slot, pictured=False) for slot in range(2000)]
    assert not any(any(c.drop_text) for c in unpictured)
    assert [c.flip for c in unpictured] == [c.flip for c in drawn]
    off = RunData.open(make_config({"augment.drop_text": "0"}), data.tokenizer)
    assert draw_changes(off.config, 0).drop_text == (False,) * 4


def test_only_records_with_an_image_lose_their_context(make_config):
    never, always = (RunData.open(make_config({"augment.drop_text": rate})) for rate in ("0", "1"))
    kept = {True: [], False: []}
    for slot in range(64):
        record = never.table.record(never.mixture.row(slot))
        rows = [data._train_row(slot) for data in (never, always)]
        kept[record.image is not None].append(np.array_equal(rows[0]["prompt"], rows[1]["prompt"]))
    assert all(kept[False]) and len(kept[False]) > 8
    assert not all(kept[True])


def test_a_flipped_frame_has_a_flipped_sentence(data):
    """In the stream itself: image and description of the same slot, against the record."""
    from vlm_jax.data.transforms import decode_image
    from vlm_jax.text.normalise import mirror

    found = 0
    for slot in range(64):
        changes, record = draw_changes(data.config, slot), data.table.record(data.mixture.row(slot))
        if not changes.flip or changes.drop_image or record.image is None or record.description is None:
            continue
        row = data._train_row(slot)
        assert (row["image"][0] == decode_image(record.image, 16)[:, ::-1]).all()
        decoded = data.tokenizer.decode(row["target"][1])
        assert mirror(record.description).startswith(decoded) and len(decoded) > 10
        found += 1
    assert found > 3


def test_global_arrays_over_a_mesh(data):
    mesh = make_mesh(data.config.parallel)
    (one,) = take(data.train_batches(mesh), 1)
    assert isinstance(one.image, jax.Array) and one.image.dtype == np.uint8 and one.image.shape[0] == 8
    assert same(one, take(data.train_batches(), 1)[0])
    evaluated = list(data.batches(data.records("test"), 8, mesh=mesh))
    assert all(isinstance(b.valid, jax.Array) for b in evaluated)


# --- Evaluation ------------------------------------------------------------------------------------------------------


def test_evaluation_goes_through_the_rows_in_order_and_pads_the_last_batch(data):
    view = data.records("test")
    batches = list(data.batches(view, 16))
    uids = np.concatenate([b.uid for b in batches])
    assert uids[: len(view)].tolist() == view.rows.tolist() and (uids[len(view) :] == -1).all()
    assert np.concatenate([b.valid for b in batches]).sum() == len(view)
    assert len({b.image.shape for b in batches}) == 1


def test_evaluation_of_some_rows(data):
    view = data.records("test")
    (by_position,) = data.batches(view, 4, rows=[3, 0])
    (by_row,) = data.batches(view.rows[[3, 0]], 4)
    assert same(by_position, by_row) and by_row.valid.tolist() == [True, True, False, False]


def test_overrides_replace_texts_and_images(data):
    view = data.records("test")
    record = view.record(2, image=False)
    changed = dataclasses.replace(record, previous="left left left")
    without = dataclasses.replace(record, image=None)
    (plain,) = data.batches(view, 3, rows=[2])
    (text,) = data.batches(view, 3, rows=[2], overrides={2: changed})
    (image,) = data.batches(view, 3, rows=[2], overrides={2: without})
    (given,) = data.batches(view, 3, rows=[2], overrides={2: view.record(3)})
    assert data.tokenizer.decode(text.prompt[0, 0]) == "left left left"
    assert (text.image == plain.image).all() and (text.target == plain.target).all()
    assert not image.frame_mask.any() and (given.image != plain.image).any()


def test_a_broken_record_keeps_its_slot(data, monkeypatch):
    view = data.records("test")
    broken = int(view.rows[1])
    part, place = data.table.locate(broken)
    read = type(part.dataset).read_frame

    def damaged(self, i):
        stored = read(self, i)
        return dataclasses.replace(stored, image=stored.image[:100]) if i == int(part.frame[place]) else stored

    monkeypatch.setattr(type(part.dataset), "read_frame", damaged)
    (batch,) = data.batches(view, 4, rows=[0, 1, 2])
    assert batch.valid.tolist() == [True, False, True, False] and batch.uid.tolist()[1] == broken
    assert list(data.broken) == [broken] and "JPEG" in data.broken[broken]


# --- What is given, and what is wrong --------------------------------------------------------------------------------


def test_a_checkpoints_tokenizer_and_labels_are_used(make_config):
    tokenizer = Tokenizer.train(["something else"], 300)
    labels = LabelSpace(("other/x", "toy/tool", "toy/left fold"))
    data = RunData.open(make_config(), tokenizer, labels)
    assert data.tokenizer is tokenizer and data.labels is labels
    assert data.columns["toy"].tolist() == [2, -1, 1]
    assert any("toy/right fold" in n for n in data.notices)
    (batch,) = data.batches(data.table, 2, rows=[0, 1])
    assert batch.landmarks[0].tolist() == [0, 0, 1] and batch.landmarks_mask[0].tolist() == [False, False, True]
    positives, negatives = data.label_counts()
    assert positives[0] == negatives[0] == 0 and positives[2] > 0


def test_a_tokenizer_file(make_config, tmp_path):
    file = tmp_path / "tokenizer.json"
    file.write_text(Tokenizer.train(["one two"] * 4, 300).to_json())
    data = RunData.open(make_config({"data.tokenizer": str(file)}))
    assert len(data.tokenizer.encode("two")) == 1


def test_no_path(make_config):
    config = make_config()
    empty = dataclasses.replace(config, data=dataclasses.replace(config.data, path=()))
    with pytest.raises(UserError, match="data.path is empty"):
        RunData.open(empty)


def test_the_same_data_set_twice(make_config, toy_path):
    with pytest.raises(UserError, match="procedure 'p0' of source 'toy' is in two data sets"):
        RunData.open(make_config({"data.path": f"{toy_path},{toy_path}"}))


def test_one_source_with_two_lists_of_labels(make_config, toy_path, tmp_path):
    from vlm_jax.contract import DatasetInfo, Procedure, ProcedureBundle
    from vlm_jax.data.store import write_dataset

    info = DatasetInfo(source="toy", world="simulated", labels=("tool",))
    bundle = ProcedureBundle(Procedure("q0", "q", "toy"))
    write_dataset(tmp_path / "d", info, ["q0"], lambda _: bundle, progress=False)
    with pytest.raises(UserError, match="different labels"):
        RunData.open(make_config({"data.path": f"{toy_path},{tmp_path / 'd'}"}))
    with pytest.raises(UserError, match="has no frame or sentence"):
        RunData.open(make_config({"data.path": str(tmp_path / "d")}))


@pytest.mark.parametrize(("what", "value"), [("world", "real"), ("keywords", ("inspect",))])
def test_one_source_with_two_truths(make_config, toy_path, tmp_path, what, value):
    from vlm_jax.contract import Procedure, ProcedureBundle
    from vlm_jax.data.store import open_dataset, write_dataset

    info = dataclasses.replace(open_dataset(toy_path).info, **{what: value})
    bundle = ProcedureBundle(Procedure("q0", "q", "toy"))
    write_dataset(tmp_path / "d", info, ["q0"], lambda _: bundle, progress=False)
    with pytest.raises(UserError, match=f"two data sets of source 'toy' have different {what}"):
        RunData.open(make_config({"data.path": f"{toy_path},{tmp_path / 'd'}"}))


def test_data_that_was_moved_can_be_named(make_config, tmp_path):
    with pytest.raises(UserError, match=r"gone' does not exist; .*--config.data.path=DIR, or with --data DIR"):
        RunData.open(make_config({"data.path": str(tmp_path / "gone")}))


def test_sentences_without_frames_and_group_levels_are_known(data):
    assert any("16 report sentences have no frame" in notice for notice in data.notices)
    assert data.group_levels == {"toy": "patient", "notes": "patient"}


def test_tasks_that_nothing_teaches_are_said(make_config, labels_only_path):
    def said(**settings):
        config = make_config({"data.path": str(labels_only_path), **settings})
        return [line for line in RunData.open(config).notices if "no training record" in line]

    (line,) = said()
    assert "target of describe, anticipate, report" in line and "`,tasks=landmarks` behind the preset" in line
    assert said(tasks="landmarks") == []
    assert "add texts to the data" in said(tasks="report")[0]
    assert not any("no training record" in line for line in RunData.open(make_config()).notices)


def test_an_unreadable_frame_before_does_not_break_the_next_record(make_config, toy_path, monkeypatch):
    config = make_config({"data.path": str(toy_path), "data.frames": "2"})
    data = RunData.open(config)
    bad = data.table.record(0).uid
    decode = transforms.decode_image

    def broken(source, size, name=""):
        if name == bad:
            raise UserError(f"{name}: truncated")
        return decode(source, size, name)

    for module in (records, collate_module):
        monkeypatch.setattr(module, "decode_image", broken)
    first, second = (data._row(data.table.record(i), i, i, NO_CHANGES) for i in (0, 1))
    assert not first["valid"] and set(data.broken) == {0}
    assert second["valid"] and second["frame_mask"].tolist() == [True, False]
