"""`model.<part>.init` in the ordinary run: loaded at a fresh start, from another run too, not needed on resuming."""

from __future__ import annotations

import shutil
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath

from vlm_jax.errors import UserError
from vlm_jax.evaluation.apart import check_apart
from vlm_jax.training.provenance import describe_sources
from vlm_jax.training.run import Run, set_up, train_item


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
    with pytest.raises(UserError, match="a run that the checkpoint started from .* was trained or validated on"):
        check_apart(resumed.data, "test", meta)  # the other split
    check_apart(resumed.data, "test", {**meta, "inherited": ()})
