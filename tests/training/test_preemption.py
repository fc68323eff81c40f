"""Where a signal finds the run, and what a start does with damaged steps."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from vlm_jax.checkpoint.integrity import complete_steps
from vlm_jax.checkpoint.meta import read_meta
from vlm_jax.checkpoint.store import restore_for_inference
from vlm_jax.errors import UserError
from vlm_jax.training import loop as loop_module
from vlm_jax.training.loop import train
from vlm_jax.training.preemption import EXIT_PREEMPTED, PreemptionWatch


@contextlib.contextmanager
def signalled_at_call(n: int):
    """The watch notes a signal at its n-th call, and keeps to it."""

    class Watch(PreemptionWatch):
        calls: list[int] = []

        def reached(self, step: int) -> bool:
            self.calls.append(step)
            return len(self.calls) >= n

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "PreemptionWatch", Watch)
        yield Watch.calls


@pytest.fixture(scope="module")
def config(toy_config):
    def make(*more):
        settings = (("train.steps", "4"), ("checkpoint.every", "2"), ("eval.every", "1"), ("eval.batch_size", "2"))
        return toy_config(*settings, ("eval.max_units", "6"), *more, labels=True)

    return make


def rows(path):
    """Without clocks."""
    found = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds_per_step", "data_wait")} for row in found]


def whole_steps(path):
    return complete_steps(epath.Path(path / "checkpoints"))


@pytest.fixture(scope="module")
def once(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("once") / "unbroken"
    assert train(config(), str(path)) == 0
    return path


@pytest.fixture
def unbroken(once, tmp_path):
    """A run that nobody disturbed: a copy, for a test may damage it."""
    return Path(shutil.copytree(once, tmp_path / "unbroken"))


@pytest.mark.slow
def test_a_signal_anywhere_is_saved_at_once_and_made_good_later(config, unbroken, tmp_path):
    """In the batches of a validation, in those of the thresholds, after a save; each time again at the next start."""
    calls = unbroken_calls(config, tmp_path)
    assert calls.count(1) > 1 and calls.count(2) > calls.count(1), "validations and thresholds look, too"
    validation, after_save = calls.index(2) + 3, calls.index(2) + calls.count(2)
    for n in (validation, after_save - 1, after_save):
        path = tmp_path / f"call{n}"
        with signalled_at_call(n):
            assert train(config(), str(path)) == EXIT_PREEMPTED
        assert whole_steps(path)[-1] == calls[n - 1], "the step that it was at"
        with signalled_at_call(1):  # and again at the very start
            assert train(config(), str(path)) == EXIT_PREEMPTED
        assert train(config(), str(path)) == 0
        assert rows(path) == rows(unbroken), n
        first, second = (restore_for_inference(p, "last") for p in (unbroken, path))
        jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
        assert first.meta.metrics == second.meta.metrics and first.meta.thresholds == second.meta.thresholds


def unbroken_calls(config, tmp_path) -> list[int]:
    """The step of each call of the watch in a run that nobody disturbs."""
    with signalled_at_call(10**6) as calls:
        assert train(config(), str(tmp_path / "count")) == 0
    return list(calls)


@pytest.mark.parametrize(("call", "step"), [(4, 1), (5, 2)], ids=["validation", "scheduled save"])
def test_a_signal_is_saved_at_once_and_made_good_later(config, unbroken, tmp_path, call, step):
    path = tmp_path / "parts"
    with signalled_at_call(call) as calls:
        assert train(config(), str(path)) == EXIT_PREEMPTED
    assert calls[-1] == step and whole_steps(path) == [step]
    assert not read_meta(epath.Path(path / f"checkpoints/{step}")).metrics, "no time for scores"
    assert train(config(), str(path)) == 0
    assert rows(path) == rows(unbroken)
    for saved in (2, 4):
        first, second = (read_meta(epath.Path(p / f"checkpoints/{saved}")) for p in (unbroken, path))
        assert second.metrics and first.metrics == second.metrics and first.thresholds == second.thresholds


def test_a_damaged_step_is_set_aside_and_done_again(config, unbroken, capsys):
    before = rows(unbroken)
    meta = unbroken / "checkpoints/4/meta/metadata"
    meta.write_text(meta.read_text().replace("0", "1", 1))
    assert train(config(), str(unbroken)) == 0
    said = capsys.readouterr().err
    assert "WARNING: step 4 is damaged: meta/metadata has changed" in said and "going back to step 2" in said
    assert (unbroken / "checkpoints/4.damaged").is_dir() and whole_steps(unbroken) == [2, 4]
    assert rows(unbroken) == before


def test_a_run_with_no_whole_step_is_not_begun_anew(config, unbroken):
    for step in (2, 4):
        (unbroken / f"checkpoints/{step}/params/_METADATA").unlink()
    with pytest.raises(UserError, match="no checkpoint of .* is whole: step 4 is damaged: params/_METADATA is missing"):
        train(config(), str(unbroken))
    assert read_meta(epath.Path(unbroken / "checkpoints/4")).batches == 4, "nothing was moved"


def test_another_cadence_of_signals_leaves_no_row_twice(config, unbroken, tmp_path, monkeypatch):
    """Killed after the row of a validation that is made good, before its scores are kept."""
    path = tmp_path / "twice"
    with signalled_at_call(3):
        assert train(config(), str(path)) == EXIT_PREEMPTED

    class Killed(Exception):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop_module.Loop, "_one_step", killed)
        with pytest.raises(Killed):
            train(config(), str(path))
    assert train(config(), str(path)) == 0
    assert rows(path) == rows(unbroken)
