"""`model.<part>.init` in the ordinary run: loaded at a fresh start, from another run too, not needed on resuming."""

from __future__ import annotations

import shutil

import jax
import numpy as np
from etils import epath

from vlm_jax.checkpoint.store import restore_for_inference
from vlm_jax.training.loop import train
from vlm_jax.training.run import set_up


def test_a_run_starts_from_another_s_encoders_and_resumes_without_them(toy_config, tmp_path, capsys):
    short = (("train.steps", "1"), ("eval.every", "0"), ("eval.max_units", "3"), ("checkpoint.every", "1"))
    first = tmp_path / "first"
    train(toy_config(*short), epath.Path(first))
    learned = restore_for_inference(first).params
    capsys.readouterr()
    inits = [(f"model.{part}.init", str(first)) for part in ("image_encoder", "text_encoder")]
    config = toy_config(*short, *inits, ("optim.ema", "0.9"), ("seed", "1"))
    run = set_up(config, epath.Path(tmp_path / "second"))
    for tree in jax.device_get((run.state.params, run.state.ema)):
        jax.tree.map(np.testing.assert_array_equal, tree["image_encoder"], learned["image_encoder"])
        jax.tree.map(np.testing.assert_array_equal, tree["text_encoder"]["blocks"], learned["text_encoder"]["blocks"])
        rows = tree["text_encoder"]["word_embedding"], learned["text_encoder"]["word_embedding"]
        assert not np.array_equal(*rows), "another seed, another split, another vocabulary: rows go by their token"
        np.testing.assert_array_equal(rows[0][:10], rows[1][:10])
    head = run.state.params["landmark_head"]["linear"]["kernel"]
    assert not np.array_equal(head, learned["landmark_head"]["linear"]["kernel"])
    run.store.close()
    said = capsys.readouterr().err
    assert "image_encoder starts from" in said
    assert "(step 1 of a run of micro); 0 of 140 vocabulary rows are new" in said
    train(config, epath.Path(tmp_path / "second"))
    shutil.rmtree(first)
    resumed = set_up(config, epath.Path(tmp_path / "second"))
    assert int(resumed.state.step) == 1
    resumed.store.close()
