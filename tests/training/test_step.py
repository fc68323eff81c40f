"""One step: accumulation, learned weights, the moving average, what changes and what must not."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from vlm_jax.config.schema import LossConfig
from vlm_jax.parallel.partition import param_name
from vlm_jax.training import step as step_module
from vlm_jax.training.run import Run, set_up
from vlm_jax.training.state import update_ema

STILL = (
    ("augment.rotate", "0"),
    ("augment.scale", "0"),
    ("augment.translate", "0"),
    ("augment.brightness", "0"),
    ("augment.contrast", "0"),
    ("augment.saturation", "0"),
    ("augment.hue", "0"),
)


def _run(config, tmp_path) -> Run:
    return set_up(config, epath.Path(tmp_path))


def _steps(run: Run, n: int = 2):
    assert run.program is not None
    state, history = run.state, []
    with jax.set_mesh(run.mesh):
        for batch, _ in zip(run.data.train_batches(run.mesh), range(n), strict=False):
            state, metrics = run.program.step(state, batch)
            history.append(jax.device_get(metrics))
    return state, history


def _flat(tree):
    return {param_name(p): np.asarray(v) for p, v in jax.tree_util.tree_flatten_with_path(tree)[0]}


@pytest.mark.parametrize("weighting", ["fixed", pytest.param("learned", marks=pytest.mark.slow)])
def test_accumulated_gradients_equal_those_of_the_whole_batch(toy_config, masked_path, tmp_path, weighting):
    """Some images are dropped, and their masks with them: parts of a batch have unequal numbers of what is known."""
    common = (*STILL, ("loss.weighting", weighting), ("optim.lr", "0.01"), ("optim.warmup_steps", "0"))
    common += (("data.path", str(masked_path)), ("model.region_width", "16"), ("augment.drop_image", "0.4"))
    whole, first = _steps(_run(toy_config(*common), tmp_path / "a"))
    parts, second = _steps(_run(toy_config(*common, ("optim.accumulate", "4")), tmp_path / "b"))
    for a, b in zip(first, second, strict=True):
        for name in (
            "loss",
            "grad_norm",
            "loss/report",
            "accuracy/landmarks",
            "regions/landmarks",
            "area_error/landmarks",
        ):
            np.testing.assert_allclose(a[name], b[name], rtol=2e-5, err_msg=name)
    for (name, a), b in zip(_flat(whole.params).items(), _flat(parts.params).values(), strict=True):
        # Adam divides by the gradient's own size: where that is rounding noise, so is the step.
        if not name.endswith("key/bias"):
            np.testing.assert_allclose(a, b, atol=2e-4, err_msg=name)


@pytest.fixture(scope="module")
def plain(toy_config, tmp_path_factory):
    """(parameters before, after, what was measured) of 30 steps with the plain loss."""
    run = _run(toy_config(("train.steps", "30"), ("optim.lr", "0.01")), tmp_path_factory.mktemp("plain"))
    before = _flat(jax.device_get(run.state.params))
    state, history = _steps(run, 30)
    return before, _flat(state.params), history


def test_losses_fall_and_every_parameter_that_has_a_gradient_moves(plain):
    before, after, history = plain
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    still = {name for name in before if np.array_equal(before[name], after[name])}
    assert still <= {"null_image", "null_text"}  # no image and no prompt was missing


def test_learned_weights_move_and_enter_the_loss(toy_config, tmp_path):
    state, _ = _steps(_run(toy_config(("loss.weighting", "learned"), ("optim.lr", "0.01")), tmp_path), 3)
    assert np.abs(state.params["task_log_variance"]).min() > 0
    means = {"landmarks": jnp.asarray(2.0), "report": jnp.asarray(3.0)}
    variance = jnp.array([0.5, -0.5])
    expected = np.exp(-0.5) * 2 + 0.25 + 2 * (np.exp(0.5) * 3 - 0.25)
    loss = dataclasses.replace(LossConfig(weighting="learned"), report_weight=2.0)
    np.testing.assert_allclose(step_module.combine(means, loss, variance), expected, rtol=1e-6)
    np.testing.assert_allclose(step_module.combine(means, loss, None), 8.0)
    counts = {"landmarks": jnp.asarray(8.0), "report": jnp.asarray(0.0)}  # a batch without reports
    means["report"] = jnp.asarray(0.0)
    slope = jax.grad(lambda s: step_module.combine(means, loss, s, counts=counts))(variance)
    assert slope[0] != 0 and slope[1] == 0


def test_average_follows_the_parameters(toy_config, tmp_path):
    run = _run(
        toy_config(("optim.ema", "0.9"), ("optim.lr", "0.01"), ("optim.warmup_steps", "0"), labels=True), tmp_path
    )
    start = _flat(jax.device_get(run.state.ema))
    state, _ = _steps(run, 1)
    name = "landmark_head/linear/kernel"
    rate = min(0.9, 1 / 10)
    expected = rate * start[name] + (1 - rate) * _flat(state.params)[name]
    np.testing.assert_allclose(_flat(state.ema)[name], expected, rtol=1e-5)
    assert state.inference_params is state.ema
    late = update_ema({"a": jnp.zeros(1)}, {"a": jnp.ones(1)}, 0.9, jnp.asarray(1000))
    np.testing.assert_allclose(late["a"], 0.1, rtol=1e-5)


def test_moments_lie_where_their_parameters_lie(toy_config, tmp_path):
    run = _run(toy_config(), tmp_path)
    placed = {param_name(p): s.sharding.spec for p, s in jax.tree_util.tree_flatten_with_path(run.abstract)[0]}
    moments = [name for name in placed if "/mu/" in name]
    assert moments
    for name in moments:
        assert placed[name] == placed["params/" + name.split("/mu/")[1]]


def test_the_hybrid_trains_with_the_network_before_its_transformer(toy_config, tmp_path):
    stem = (("model.image_encoder.stem", "backbone"), ("model.image_encoder.patch", "32"))
    network = (("model.backbone.name", "resnet18"), ("model.backbone.width_factor", "0.125"))
    run = _run(toy_config(*stem, *network, ("model.backbone.depths", "1,1,1,1"), labels=True), tmp_path)
    before = _flat(jax.device_get(run.state.params))
    state, history = _steps(run, 2)
    after = _flat(jax.device_get(state.params))
    assert all(np.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in history)
    moved = {name for name, value in after.items() if not np.array_equal(value, before[name])}
    assert {"backbone/conv_stem/kernel", "backbone/norm_stem/running_mean"} < moved
    assert after["image_encoder/position_embedding"].shape[0] == 2, "the class token, and one place of 32 pixels"


@pytest.mark.parametrize(
    "loss", ["class_balanced", *(pytest.param(name, marks=pytest.mark.slow) for name in ("focal", "asymmetric"))]
)
def test_every_landmark_loss_trains(toy_config, tmp_path, plain, loss):
    _, history = _steps(_run(toy_config(("loss.landmarks", loss)), tmp_path), 2)
    assert all(np.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in history)
    ours, bce = history[0], plain[-1][0]  # of the same batch and the same fresh parameters
    assert abs(ours["loss/landmarks"] / bce["loss/landmarks"] - 1) > 0.01, "another loss by its name alone"
    np.testing.assert_allclose(ours["loss/report"], bce["loss/report"], rtol=1e-5)


def test_one_task_alone_trains(toy_config, tmp_path):
    """Landmarks alone: many a test's run."""
    _, history = _steps(_run(toy_config(spec="configs/vlm.py:micro,tasks=report"), tmp_path), 1)
    assert set(history[0]) >= {"loss", "loss/report"} and not {"loss/describe", "loss/landmarks"} & set(history[0])


def test_places_are_learned_from_masks(toy_config, masked_path, tmp_path):
    """The bars of the toy images lie where their masks say, whatever the warp; without a mask nothing is asked."""
    places = (("model.region_width", "16"), ("optim.lr", "0.003"), ("optim.warmup_steps", "0"), ("train.steps", "60"))
    run = _run(toy_config(("data.path", str(masked_path)), *places, labels=True), tmp_path / "masks")
    batch = next(run.data.train_batches())
    assert batch.regions is not None and set(np.unique(batch.regions)) == {0, 1, 2, 3}
    state, history = _steps(run, 60)
    errors = [row["area_error/landmarks"] for row in history]
    assert np.mean(errors[-5:]) < 0.05 < 0.07 < np.mean(errors[:5]), "a bar is 0.19 of the image, or not there"
    assert np.abs(np.asarray(state.params["region_vote"]) - 1).max() > 1e-3, "the labels move the votes"
    _, unasked = _steps(_run(toy_config(*places, labels=True), tmp_path / "none"), 1)
    assert unasked[0]["regions/landmarks"] == 0 and unasked[0]["loss/landmarks"] > 0
