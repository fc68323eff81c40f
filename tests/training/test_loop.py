"""The main job: train, stop, go on with the same bits, refuse another configuration."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from etils import epath

from vlm_jax.checkpoint.store import restore_for_inference
from vlm_jax.errors import UserError
from vlm_jax.training import loop as loop_module
from vlm_jax.training import run as run_module
from vlm_jax.training.lock import WorkdirLock
from vlm_jax.training.loop import train
from vlm_jax.training.preemption import EXIT_PREEMPTED, PreemptionWatch
from vlm_jax.training.program import StepProgram
from vlm_jax.training.run import set_up
from vlm_jax.training.writers import MetricWriter, rewind

STEPS = ("train.steps", "4")  # here and in test_run.py: the compiled step knows them, and is found in the cache again


def _rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def _losses(path):
    return [(row["step"], row["loss"]) for row in _rows(path) if "loss" in row]


@pytest.mark.slow  # the kill points show the same in the default tests
def test_train_then_resume_ends_with_the_same_bits(toy_config, tmp_path):
    settings = (("checkpoint.every", "3"), ("eval.every", "3"), ("train.steps", "6"), ("optim.ema", "0.9"))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(toy_config(*settings), str(whole)) == 0
    stopped = {"n": 0}

    class StopAtFour(PreemptionWatch):
        def reached(self, step: int) -> bool:
            stopped["n"] = step
            return step == 4

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "PreemptionWatch", StopAtFour)
        assert train(toy_config(*settings), str(parts)) == EXIT_PREEMPTED
    stopped_at = restore_for_inference(parts, "last")
    assert stopped["n"] == 4 == stopped_at.step and not stopped_at.meta.metrics
    assert restore_for_inference(parts).step == 3, "a step without scores is not the best"
    with (parts / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 5, "loss": 99.0}) + '\n{"step": 5, "lo')  # done, lost, and torn
    assert train(toy_config(*settings), str(parts)) == 0
    assert _losses(whole) == _losses(parts)
    first, second = restore_for_inference(whole, 6), restore_for_inference(parts, 6)
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    assert first.meta.thresholds == second.meta.thresholds and first.meta.thresholds
    assert train(toy_config(*settings), str(whole)) == 0  # nothing left to do


def test_validation_and_best(toy_config, tmp_path):
    config = toy_config(STEPS, ("checkpoint.every", "2"), ("eval.every", "1"), labels=True)
    assert train(config, str(tmp_path)) == 0
    rows = [row for row in _rows(tmp_path) if "validation/loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    meta = restore_for_inference(tmp_path).meta
    assert meta.metrics["loss"] == min(row["validation/loss"] for row in rows if row["step"] % 2 == 0)
    assert set(meta.thresholds) == {"toy/red", "toy/green", "toy/blue"} and meta.sources["toy"]["world"] == "simulated"


def test_tensorboard_profile_and_one_compilation(toy_config, tmp_path, monkeypatch):
    compile_step, threads = StepProgram._compile, []
    monkeypatch.setattr(
        StepProgram, "_compile", lambda *of: (threads.append(threading.current_thread().name), compile_step(*of))[1]
    )
    config = toy_config(("train.steps", "14"), ("train.tensorboard", "true"), ("train.profile_steps", "2"), labels=True)
    assert train(config, str(tmp_path)) == 0
    assert threads == ["step_0"], "for the shapes that the batches have"
    assert list((tmp_path / "tb").glob("events*")) and list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_another_configuration_is_refused_by_key(toy_config, tmp_path):
    set_up(toy_config(), epath.Path(tmp_path))
    set_up(toy_config(("train.steps", "40"), ("checkpoint.every", "7")), epath.Path(tmp_path))
    with pytest.raises(UserError, match="optim.lr"):
        set_up(toy_config(("optim.lr", "0.5")), epath.Path(tmp_path))


HOLD = """
import sys, time
from etils import epath
from vlm_jax.training.lock import WorkdirLock
with WorkdirLock(epath.Path(sys.argv[1])) as lock:
    lock.take()
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def held_elsewhere():
    """held(directory, seconds): another process holds it."""
    started = []

    def hold(directory, seconds):
        process = subprocess.Popen([sys.executable, "-c", HOLD, directory, str(seconds)], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout and process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_a_work_directory_in_which_another_trains_is_left_alone(toy_config, tmp_path, held_elsewhere, monkeypatch):
    config = toy_config(STEPS, labels=True)
    assert train(config, str(tmp_path)) == 0
    before = sorted(tmp_path.rglob("*"))
    other = held_elsewhere(tmp_path, 600)
    monkeypatch.setattr(WorkdirLock.__init__, "__defaults__", (0.5,))
    with pytest.raises(UserError, match="another training is at work in .*wait until it has ended"):
        train(config, str(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before
    other.kill()  # and whoever is killed holds nothing any more
    other.wait()
    assert train(config, str(tmp_path)) == 0


def test_a_start_waits_for_the_one_before_to_end(tmp_path, held_elsewhere, capsys):
    held_elsewhere(tmp_path, 1.5)
    with WorkdirLock(epath.Path(tmp_path)) as lock:
        lock.take()
        lock.take()  # held already
    assert capsys.readouterr().err.count("waiting for the training that is at work") == 1
    with WorkdirLock(epath.Path(tmp_path), patience=0) as lock:
        lock.take()  # released above


def test_of_two_starts_in_a_directory_that_was_not_there_the_second_touches_nothing(toy_config, tmp_path, monkeypatch):
    """The second had looked before the first had made the directory."""
    place, config = tmp_path / "run", toy_config(STEPS, labels=True)
    prepared = run_module.loss_context

    def first_comes_between(*args):
        monkeypatch.setattr(run_module, "loss_context", prepared)
        assert train(config, str(place)) == 0
        return prepared(*args)

    for seed, says in (("0", "came first and saved step"), ("7", r"another configuration \(seed differ\)")):
        shutil.rmtree(place, ignore_errors=True)
        monkeypatch.setattr(run_module, "loss_context", first_comes_between)
        with pytest.raises(UserError, match=says):
            train(toy_config(STEPS, ("seed", seed), labels=True), str(place))
        assert (place / "metrics.jsonl").read_text() and json.loads((place / "config.json").read_text())["seed"] == 0


def test_a_directory_that_is_not_there_or_has_no_locks_is_nobodys(tmp_path, monkeypatch):
    WorkdirLock(epath.Path(tmp_path / "new")).take()
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr("fcntl.flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks")))
    WorkdirLock(epath.Path(tmp_path)).take()


def test_a_checkpoint_of_another_shape_is_refused(toy_config, tmp_path):
    assert train(toy_config(STEPS, labels=True), str(tmp_path)) == 0
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match="mlp/up/kernel is"):
        train(toy_config(STEPS, ("model.image_encoder.mlp", "48"), labels=True), str(tmp_path))


def test_sigterm_is_noticed_and_handlers_return():
    before = signal.getsignal(signal.SIGTERM)
    with PreemptionWatch() as watch:
        assert not watch.reached(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert watch.reached(2)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_disk_that_fails_tensorboard_does_not_stop_the_rows(tmp_path, monkeypatch, capsys):
    writer = MetricWriter(epath.Path(tmp_path), step=0, tensorboard=True)
    events = writer._board.file_writer.event_writer
    monkeypatch.setattr(events._ev_writer, "flush", lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    monkeypatch.setattr(threading, "excepthook", lambda *_: None)
    writer.write(1, {"loss": 1.0})
    events._worker.join(timeout=40)
    for step in range(2, 40):  # more than the queue holds
        writer.write(step, {f"value {i}": float(i) for i in range(12)})
    writer.close()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 39
    assert capsys.readouterr().err.count("TensorBoard's file could not be written") == 1


def test_rewind_without_a_file_does_nothing(tmp_path):
    rewind(epath.Path(tmp_path / "metrics.jsonl"), 3)
    assert not (tmp_path / "metrics.jsonl").exists()
