"""Systems without gradients: fitted once by the ordinary train command's function, and then like any other."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding

from vlm_jax.checkpoint.store import read_meta
from vlm_jax.decoding.system import System
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params
from vlm_jax.training import fit as fit_module
from vlm_jax.training.inspection import inspect_run
from vlm_jax.training.loop import train

HMM = "configs/baselines/hmm.py:tiny"
SMALL = (("model.hmm.states", "4"), ("model.hmm.sentences", "12"), ("data.vocab_size", "64"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hmm")


def test_a_fitted_system_is_saved_as_any_other_and_fitted_once(toy_config, place, capsys):
    config = toy_config(*SMALL, spec=HMM)
    assert train(config, str(place)) == 0
    assert "4 states over" in capsys.readouterr().err
    meta = read_meta(place / "checkpoints" / "1")
    assert meta.metrics["loss"] > 0
    assert meta.thresholds == {}
    assert json.loads((place / "metrics.jsonl").read_text())["validation/loss"] == meta.metrics["loss"]
    system = System.from_checkpoint(str(place))
    expected = jax.eval_shape(lambda: init_params(system.model, config, jax.random.key(0)))
    assert jax.tree.map(np.shape, system.params) == jax.tree.map(np.shape, expected)
    np.testing.assert_allclose(np.exp(system.params["hmm_transition"]).sum(axis=-1), 1.0, atol=1e-5)
    assert train(config, str(place)) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_all_of_a_fitted_state_lies_on_the_mesh(toy_config, tmp_path, monkeypatch):
    """An array of one process's own is saved by none of several."""
    seen = []
    monkeypatch.setattr(fit_module, "_save", lambda run: seen.append(run.state))
    assert train(toy_config(*SMALL, spec=HMM), str(tmp_path)) == 0
    assert all(isinstance(leaf.sharding, NamedSharding) for leaf in jax.tree.leaves(seen[0]))


def test_another_configuration_needs_another_directory(toy_config, tmp_path):
    assert train(toy_config(*SMALL, ("model.hmm.iterations", "0"), spec=HMM), str(tmp_path)) == 0
    with pytest.raises(UserError, match=r"model\.hmm\.states"):
        train(toy_config(*SMALL, ("model.hmm.states", "5"), spec=HMM), str(tmp_path))


def test_sentences_without_room_are_said(toy_config, tmp_path, capsys):
    assert train(toy_config(*SMALL, ("model.hmm.sentences", "2"), spec=HMM), str(tmp_path)) == 0
    assert "rarest sentences are never answered" in capsys.readouterr().err


def test_no_step_is_compiled_where_there_is_none(toy_config):
    config = toy_config(*SMALL, spec=HMM)
    with pytest.raises(UserError, match="hmm is fitted, not trained"):
        inspect_run(config, compile_step=True)
    assert inspect_run(config)["parameters"] > 0
    assert build_model(config, 0, 64).text_tasks == ("describe", "anticipate")
