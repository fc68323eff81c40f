"""Updates that must not be taken: skipped on the device, bounded, then gone back from, their records set aside."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vlm_jax.checkpoint.store import restore_for_inference
from vlm_jax.config.load import load_config
from vlm_jax.config.schema import GuardConfig
from vlm_jax.contract import DatasetInfo
from vlm_jax.data import collate as collate_module
from vlm_jax.data.run_data import RunData
from vlm_jax.data.store import write_dataset
from vlm_jax.errors import EnvironmentFault, UserError
from vlm_jax.training import guards
from vlm_jax.training import loop as loop_module
from vlm_jax.training import rollback as rollback_module
from vlm_jax.training import run as run_module
from vlm_jax.training import step as step_module
from vlm_jax.training.loop import train

CONFIG = GuardConfig(window=8, max_skips=2)
JUDGE = jax.jit(guards.judge, static_argnums=1)


def _run(norms, config=CONFIG, loss=1.0):
    """(which were taken, the guard at the end)."""
    guard, taken = guards.init_guard(config), []
    for step, norm in enumerate(norms):
        fine, guard = JUDGE(guard, config, jnp.float32(loss), jnp.float32(norm), jnp.int32(step))
        taken.append(bool(fine))
    return taken, guard


def test_before_the_window_is_half_full_only_what_is_not_finite_is_skipped():
    taken, guard = _run([1.0, 1e9, np.nan, 2.0, np.inf])
    assert taken == [True, True, False, True, False]
    assert guard.skipped[:3].tolist() == [5, 3, -1] and int(guard.total) == 2 and int(guard.taken) == 3


def test_a_loss_that_is_not_finite_is_skipped():
    assert _run([1.0], loss=np.nan)[0] == [False]


def test_the_limit_is_that_of_numpy():
    norms = np.random.default_rng(0).uniform(0.5, 6.0, 20).astype(np.float32)
    taken, guard = _run(norms)
    assert all(taken)
    window = np.log(norms[-8:])
    deviation = scipy.stats.median_abs_deviation(window, scale="normal")
    np.testing.assert_allclose(
        guards.limit(guard, CONFIG), np.exp(np.median(window) + 6 * max(deviation, 0.5)), rtol=1e-4
    )


def test_six_sigma_and_the_least_spread():
    steady = [1.0] * 8
    assert _run([*steady, 20.0])[0][-1] and not _run([*steady, 20.2])[0][-1], "e^(6 * 0.5)"
    assert all(_run([*steady, *np.geomspace(1.0, 8.0, 4), *[8.0] * 8, *[60.0] * 4])[0]), "a rise that stays is taken"
    assert not _run([*steady, 1e6])[0][-1]
    assert _run([*steady, 1e6, 1.0])[0][-1], "a skipped norm does not enter the window"
    assert _run([*steady, 1e6], GuardConfig(window=8, sigma=0))[0][-1]


def test_bad_steps_of_a_window_that_filled_up_do_not_hide_the_next():
    steady = [1.0, 1.2, 0.9, 1.1, 1.0, 0.8]
    assert _run([1e6, *steady, 1.0, 1e6])[0] == [True] * 8 + [False], "the first was taken: the window was empty"


def test_too_many_are_counted_in_the_window_alone():
    _, guard = _run([1.0, np.nan, 1.0, np.nan, 1.0])
    assert guards.too_many(guard, CONFIG, 0) == ()
    _, guard = _run([1.0, np.nan, 1.0, np.nan, 1.0, np.nan])
    assert guards.too_many(guard, CONFIG, 0) == (2, 4, 6)
    assert guards.too_many(guard, CONFIG, 6) == (), "that was seen"
    _, guard = _run([np.nan, *[1.0] * 4, np.nan, *[1.0] * 4, np.nan])
    assert guards.too_many(guard, CONFIG, 0) == (), "no window holds three of them"


def test_a_burst_is_seen_however_seldom_is_looked():
    _, guard = _run([1.0] * 4 + [np.nan] * 5 + [1.0] * 90)
    assert guards.too_many(guard, CONFIG, 0) == (5, 6, 7, 8, 9)


def test_batches_in_which_nothing_carries_a_task_say_nothing_of_norms():
    """A third of the batches of a rare task have a label: the others have no gradient, which is no norm to go by."""
    norms = [1.0 if step % 3 == 0 else 0.0 for step in range(60)]
    taken, guard = _run(norms)
    assert all(taken) and int(guard.taken) == 20 and float(guards.limit(guard, CONFIG)) == pytest.approx(np.exp(3.0))
    assert not _run([*norms, 25.0])[0][-1]


def test_offenders_are_those_that_come_again():
    assert guards.offenders({3: [1, 2, 3], 9: [7, 3, 8]}) == (3,)
    assert guards.offenders({3: [1, 2], 4: [5, 6]}) == (1, 2, 5, 6)


# --- Whole runs ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def poisoned(rows, factor):
    """Within it, every batch that holds one of these records has its loss and gradients multiplied."""
    make_loss = step_module.make_loss

    def make(model, config, context):
        loss = make_loss(model, config, context)

        def bad(params, batch, counts, key):
            value, aux = loss(params, batch, counts, key)
            hit = (jnp.isin(batch.uid, jnp.asarray(rows, jnp.int32)) & batch.valid).any()
            return value * jnp.where(hit, factor, 1.0), aux

        return bad

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_module, "make_loss", make)
        yield


@pytest.fixture
def said(monkeypatch):
    lines: list[str] = []
    for module in (loop_module, run_module, rollback_module):
        monkeypatch.setattr(module, "say", lambda *some: lines.extend(some))
    return lines


@pytest.fixture
def short(toy_config):
    """Landmarks alone: 16 steps of 8 of the 24 records."""

    def make(*more):
        settings = (("train.steps", "16"), ("checkpoint.every", "4"), ("eval.every", "0"), ("guard.budget", "0.5"))
        guard = (("guard.window", "16"), ("guard.max_skips", "1"))
        return toy_config(*settings, *guard, *more, labels=True)

    return make


def test_a_poisonous_record_is_skipped_then_set_aside_for_good(short, tmp_path, said):
    config = short()
    data = RunData.open(config)
    bad = data.rows_of_batch(5)[0]
    with poisoned([bad], np.nan):
        assert train(config, str(tmp_path / "whole")) == 0
        end = restore_for_inference(tmp_path / "whole", "last")
        uid = data.table.record(bad, image=False).uid
        assert bad in end.meta.quarantine and end.meta.set_aside[uid] == "its updates were skipped"
        assert end.meta.rollbacks == 1 and len(end.meta.quarantine) < 8, "not the whole batches"
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end.params))
        assert any("update skipped" in line and uid in line for line in said)
        assert any(line.startswith("WARNING: 2 updates were skipped") and uid in line for line in said)


@pytest.mark.slow
def test_killed_right_after_going_back_it_ends_with_the_same_bits(short, tmp_path):
    config = short()
    bad = RunData.open(config).rows_of_batch(5)[0]
    with poisoned([bad], np.nan):
        assert train(config, str(tmp_path / "whole")) == 0
        end = restore_for_inference(tmp_path / "whole", "last")

        class Killed(Exception):
            pass

        def killed(*_):
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop_module.MetricWriter, "rewind", killed)
            with pytest.raises(Killed):
                train(config, str(tmp_path / "parts"))
        assert train(config, str(tmp_path / "parts")) == 0
    again = restore_for_inference(tmp_path / "parts", "last")
    jax.tree.map(np.testing.assert_array_equal, end.params, again.params)
    assert again.meta.quarantine == end.meta.quarantine and again.meta.rollbacks == 1


def test_a_damaged_step_is_not_gone_back_to(short, tmp_path, monkeypatch, capsys):
    """And nothing is deleted before it is known to be whole."""
    config = short(("checkpoint.every", "2"))
    bad = RunData.open(config).rows_of_batch(5)[0]
    found = rollback_module.integrity.problems
    monkeypatch.setattr(
        rollback_module.integrity, "problems", lambda step: ["x has changed"] if step.name == "2" else found(step)
    )
    with (
        poisoned([bad], np.nan),
        pytest.raises(EnvironmentFault, match="no whole checkpoint from before step 3 is left"),
    ):
        train(config, str(tmp_path))
    assert "step 2 is damaged: x has changed; going back further" in capsys.readouterr().err
    assert {step.name for step in (tmp_path / "checkpoints").iterdir()} >= {"2", "4"}


def test_what_was_trained_is_saved_before_too_many_broken_records_end_it(short, tmp_path, said, monkeypatch):
    config = short(("guard.budget", "0.05"))
    opened = run_module.open_data

    def broken(*args):
        data = opened(*args)
        data.broken |= {int(row): "cut off" for row in data.records("train").rows[:6]}
        return data

    monkeypatch.setattr(run_module, "open_data", broken)
    for step in (4, 4):  # what was saved is not gone on from with the same budget
        with pytest.raises(UserError, match="Raise guard.budget, and the same command goes on"):
            train(config, str(tmp_path))
        assert restore_for_inference(tmp_path, "last").step == step
    assert train(short(("guard.budget", "0.9")), str(tmp_path)) == 0
    assert any("resuming from step 4" in line for line in said)


def test_a_run_whose_every_update_is_bad_ends_with_one_line(short, tmp_path, said):
    config = short(("guard.max_rollbacks", "0"))
    with poisoned(list(range(1000)), np.inf), pytest.raises(EnvironmentFault, match="it diverges. Lower optim.lr"):
        train(config, str(tmp_path))
    with poisoned(list(range(1000)), np.inf):
        tight = short(("guard.budget", "0.1"))
        with pytest.raises(UserError, match="more than guard.budget=0.1"):
            train(tight, str(tmp_path / "tight"))


# --- Five clean seeds ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """36 procedures like the toy's, of which 24 train: 192 records; and the same with 1 % of the images cut off."""
    spec = importlib.util.spec_from_file_location("toy", Path(__file__).with_name("conftest.py"))
    assert spec and spec.loader
    toy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(toy)
    toy.PROCEDURES = tuple(f"p{i}" for i in range(36))
    path = tmp_path_factory.mktemp("larger") / "data"
    info = DatasetInfo("toy", "simulated", toy.LABELS, keywords=("note",), generator={"name": "toy"})
    write_dataset(path, info, toy.PROCEDURES, toy.make_bundle, progress=False)
    return path


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_injected_faults_end_within_the_spread_of_five_clean_seeds(larger, tmp_path, said, record_property):
    """NaN, 1e6-fold gradients and 1 % broken images, each in the clean run that ended in the middle of the five."""

    def config(seed, *more):
        settings = [("data.path", str(larger)), ("data.split", "kfold:3:0"), ("train.tensorboard", "false")]
        settings += [("train.steps", "150"), ("checkpoint.every", "25"), ("eval.every", "0"), ("seed", str(seed))]
        settings += [("optim.lr", "0.003"), ("train.log_every", "5"), ("eval.max_units", "96")]
        return load_config("configs/vlm.py:micro", [*settings, *more])

    def run(name, seed):
        assert train(config(seed), str(tmp_path / name)) == 0
        return restore_for_inference(tmp_path / name, "last").meta

    clean = {seed: run(f"clean{seed}", seed).metrics["loss"] for seed in range(5)}
    middle = sorted(clean, key=lambda seed: clean[seed])[2]
    low, high = min(clean.values()), max(clean.values())
    data = RunData.open(config(middle))
    bad = data.rows_of_batch(40)[:2]
    found = {}
    for name, factor in (("nan", np.nan), ("large", 1e6)):
        with poisoned(bad, factor):
            meta = run(name, middle)
        found[name] = meta.metrics["loss"]
        assert set(bad) <= set(meta.quarantine) and meta.rollbacks >= 1
        assert set(meta.set_aside) == {data.table.record(row, image=False).uid for row in meta.quarantine}
    torn = {data.table.record(int(row), image=False).uid for row in bad}
    decode = collate_module.decode_image

    def broken(encoded, size, uid):
        return decode(encoded[: len(encoded) // 3] if uid in torn else encoded, size, uid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collate_module, "decode_image", broken)
        meta = run("broken", middle)
    found["broken"] = meta.metrics["loss"]
    assert set(meta.set_aside) == torn and set(meta.quarantine) == set(bad)
    for key, value in ({f"clean{s}": v for s, v in clean.items()} | found).items():
        record_property(key, value)
    print({"clean": clean, "found": found})
    assert all(low <= value <= high for value in found.values()), (clean, found)
