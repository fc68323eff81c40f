"""`model.<part>.init` in the ordinary run: loaded at a fresh start, from another run too, not needed on resuming."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath

from vlm_jax.checkpoint.store import restore_for_inference
from vlm_jax.contract import DatasetInfo, ProcedureBundle
from vlm_jax.data.store import write_dataset
from vlm_jax.errors import UserError
from vlm_jax.evaluation.apart import check_apart
from vlm_jax.study.systems import started_from
from vlm_jax.training.inspection import sizes
from vlm_jax.training.provenance import describe_sources
from vlm_jax.training.run import Run, set_up, train_item
from vlm_jax.weights.export import write_export
from vlm_jax.weights.fit import match_rows
from vlm_jax.weights.vocabulary import tokens_of
from vlm_jax.weights.whole import match_labels


def save(run: Run) -> Any:
    """One checkpoint of a run that has not learned anything yet; returns its parameters."""
    state = run.state
    run.store.save(1, params=state.params, ema=state.ema, train=train_item(state), meta=run.meta({}, {}))
    run.store.close()
    return jax.device_get(state.params)


def test_a_run_starts_from_another_s_encoders_and_resumes_without_them(toy_config, tmp_path, capsys):
    first, second = tmp_path / "first", epath.Path(tmp_path / "second")
    theirs = save(set_up(toy_config(), epath.Path(first)))
    capsys.readouterr()
    inits = [(f"model.{part}.init", str(first)) for part in ("image_encoder", "text_encoder")]
    config = toy_config(*inits, ("optim.ema", "0.9"), ("seed", "1"))  # another split: the vocabulary's order differs
    run = set_up(config, second)
    said = capsys.readouterr().err
    assert "image_encoder starts from" in said
    assert "run of micro); 0 of 140 vocabulary rows are new" in said
    for tree in jax.device_get((run.state.params, run.state.ema)):
        jax.tree.map(np.testing.assert_array_equal, tree["image_encoder"], theirs["image_encoder"])
        jax.tree.map(np.testing.assert_array_equal, tree["text_encoder"]["blocks"], theirs["text_encoder"]["blocks"])
        rows = tree["text_encoder"]["word_embedding"], theirs["text_encoder"]["word_embedding"]
        assert not np.array_equal(*rows), "rows go by their token, not by their number"
        np.testing.assert_array_equal(rows[0][:10], rows[1][:10])
        assert not np.array_equal(tree["decoder"]["position_embedding"], theirs["decoder"]["position_embedding"])
    ours = save(run)
    shutil.rmtree(first)
    resumed = set_up(config, second)
    assert "starts from" not in capsys.readouterr().err
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed.state.params), ours)
    resumed.store.close()
    assert [set(one["toy"]["groups"]) for one in resumed.meta({}, {}).inherited] == [{"train", "validation"}]
    meta = {"sources": describe_sources(resumed.data), "inherited": resumed.inherited}
    with pytest.raises(UserError, match="a run that the checkpoint started from was trained or validated on"):
        check_apart(resumed.data, "test", meta)  # the other split
    check_apart(resumed.data, "test", {**meta, "inherited": ()})


@pytest.fixture(scope="module")
def clinic_path(tmp_path_factory, toy_bundle):
    """The toy images of another source: two of its landmarks are called so there, too, the third is not."""
    path = tmp_path_factory.mktemp("clinic") / "data"
    info = DatasetInfo("clinic", "real", ("blue", "red", "violet"), keywords=("note",), generator={"name": "clinic"})

    def bundle(name: str) -> ProcedureBundle:
        whole = toy_bundle(name)
        return dataclasses.replace(whole, procedure=dataclasses.replace(whole.procedure, source="clinic"))

    write_dataset(path, info, [f"p{i}" for i in range(6)], bundle, progress=False)
    return path


@pytest.mark.parametrize("exported", [False, True])
def test_a_run_starts_from_a_whole_model_on_other_data(toy_config, clinic_path, tmp_path, capsys, exported):
    first, second = tmp_path / "first", epath.Path(tmp_path / "second")
    places = ("model.region_width", "8")
    theirs = save(set_up(toy_config(("seed", "1"), places), epath.Path(first)))
    start = first
    if exported:
        start = tmp_path / "export"
        whole = restore_for_inference(first)
        write_export(whole.params, whole.meta, whole.step, start)
    capsys.readouterr()
    clinic = [("data.path", str(clinic_path)), ("train.start_from", str(start)), ("data.vocab_size", "300")]
    run = set_up(toy_config(*clinic, places), second)
    said = capsys.readouterr().err
    assert f"train.start_from: all starts from {start} (step 1 of a run of micro)" in said
    assert "new landmarks, which start at random: clinic/violet" in said and "0 of 140 vocabulary rows are new" in said
    ours = jax.device_get(run.state.params)
    labelled = [tree["landmark_head"].pop("linear")["kernel"] for tree in (ours, theirs)]
    regions = [tree["region_head"].pop("linear")["kernel"] for tree in (ours, theirs)]
    votes = [tree.pop("region_vote") for tree in (ours, theirs)]
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    for mine, source in (labelled, regions, votes):
        np.testing.assert_array_equal(mine[..., :2], source[..., [2, 0]])  # blue, red
    for mine, source in (labelled, regions):
        assert not np.isin(mine[:, 2], source).any()
    assert run.inherited[0]["toy"]["groups"]["train"]
    run.store.close()


def test_a_whole_model_with_new_words(toy_config, clinic_path, tmp_path, capsys):
    theirs = save(set_up(toy_config(), epath.Path(tmp_path / "first")))
    config = toy_config(
        ("data.path", str(clinic_path)), ("train.start_from", str(tmp_path / "first")), ("data.tokenizer", "new"),
        ("data.vocab_size", "300"), ("seed", "1"),
    )  # fmt: skip
    run = set_up(config, epath.Path(tmp_path / "second"))
    ours = jax.device_get(run.state.params)
    ids = {token: i for i, token in enumerate(tokens_of(restore_for_inference(tmp_path / "first").meta.tokenizer))}
    rows = [(i, ids[token]) for i, token in enumerate(tokens_of(run.data.tokenizer.to_json())) if token in ids]
    here, there = (list(part) for part in zip(*rows, strict=True))
    assert here != there, "another split: the order differs"
    np.testing.assert_array_equal(ours["token_bias"][here], theirs["token_bias"][there])
    words = [tree["text_encoder"]["word_embedding"] for tree in (ours, theirs)]
    np.testing.assert_array_equal(words[0][here], words[1][there])
    run.store.close()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ([("train.start_from", "{nowhere}")], "nowhere does not exist; give the work directory of a run"),
        (
            [("model.decoder.layers", "2")],
            "another model (model.decoder.layers is 2 here and 1 there): take its preset",
        ),
        ([("model.fusion", "pooled")], "model.fusion is pooled here and cross_attention there"),
        ([("data.frames", "2")], "data.frames is 2 here and 1 there"),
        ([("model.image_encoder.patch", "16")], "model.image_encoder.patch is 16 here and 8 there"),
    ],
)
def test_a_whole_model_that_does_not_fit_is_one_line(toy_config, tmp_path, settings, says):
    save(set_up(toy_config(), epath.Path(tmp_path / "first")))
    given = [(key, value.format(nowhere=tmp_path / "nowhere")) for key, value in settings]
    config = toy_config(("train.start_from", str(tmp_path / "first")), *given)
    with pytest.raises(UserError) as caught:
        set_up(config, epath.Path(tmp_path / "second"))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_said_of_a_whole_model(toy_config, tmp_path, capsys):
    first = toy_config(spec="configs/vlm.py:micro,learned_weights,landmark_tokens")
    save(set_up(first, epath.Path(tmp_path / "first")))
    capsys.readouterr()
    mean = ("model.image_encoder.mean", "0.5,0.5,0.5")
    config = toy_config(
        ("train.start_from", str(tmp_path / "first")), mean, spec="configs/vlm.py:micro,learned_weights"
    )
    assert sizes(config)[1] == sizes(first)[1] and started_from(config) == "all: first"
    set_up(config, epath.Path(tmp_path / "second")).store.close()
    said = capsys.readouterr().err
    assert "landmark_tokens of it has no place here" in said and "task_log_variance" not in said
    assert "its images were normalised otherwise: --config.model.image_encoder.mean=0." in said


def test_a_whole_model_of_another_system_is_refused(toy_config, tmp_path):
    save(set_up(toy_config(labels=True), epath.Path(tmp_path / "first")))
    config = toy_config(("train.start_from", str(tmp_path / "first")), spec="configs/baselines/landmark_cnn.py:tiny")
    with pytest.raises(UserError, match="is of system vlm, this run of landmark_cnn: both must be vlm"):
        set_up(config, epath.Path(tmp_path / "second"))


def test_words_of_something_else_are_refused():
    tokens, table = [f"new {i}" for i in range(20)], np.zeros((5, 3), np.float32)
    with pytest.raises(UserError, match=r"train.start_from: RUN knows 1 of .* 20 tokens.*; leave data.tokenizer out"):
        match_rows(table, ["new 0", "a", "b", "c", "d"], 20, tokens, "train.start_from: RUN")


def test_labels_are_the_same_by_source_and_name_else_by_name():
    known = ("a/x", "a/y", "b/y")
    assert match_labels(("b/y", "c/x", "c/y", "a/z"), known) == [2, 0, -1, -1]
