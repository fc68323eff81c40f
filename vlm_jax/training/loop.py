"""The main job: set up, step, log, validate, save. Running the same command again goes on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath
from tqdm import tqdm

from vlm_jax.checkpoint.meta import Meta
from vlm_jax.checkpoint.store import read_meta
from vlm_jax.config.pretraining import PRETRAINED_PART
from vlm_jax.config.schema import Config
from vlm_jax.contract import Batch
from vlm_jax.parallel import distributed
from vlm_jax.training.clock import StepClock
from vlm_jax.training.fit import FIT_SYSTEMS, fit
from vlm_jax.training.optim import make_schedule
from vlm_jax.training.preemption import EXIT_PREEMPTED, PreemptionWatch
from vlm_jax.training.profiling import Profiler
from vlm_jax.training.run import Run, say, set_up, train_item
from vlm_jax.training.state import state_shardings
from vlm_jax.training.step import TrainStep, make_train_step
from vlm_jax.training.validation import Validator
from vlm_jax.training.writers import MetricWriter

# On CPU with several devices, more than about 24 un-awaited steps hang for ever (8 with two processes).
_CPU_AWAIT_EVERY = 8


def train(config: Config, workdir: str) -> int:
    """Trains to `train.steps`, or fits a system without gradients; the exit code: 0 done, 3 preempted and saved."""
    distributed.init(config.parallel)
    if config.system in FIT_SYSTEMS:
        return fit(config, workdir)
    with PreemptionWatch() as watch:
        run = set_up(config, epath.Path(workdir))
        with contextlib.closing(run.store), contextlib.closing(Loop(run, watch)) as loop:
            return loop.run_to_end()


class Loop:
    """Holds what outlives a step; each method is one paragraph of the story."""

    def __init__(self, run: Run, watch: PreemptionWatch):
        self.run, self.watch, self.config = run, watch, run.config
        shardings = state_shardings(run.mesh, run.abstract)
        schedule = make_schedule(run.config.optim, run.config.train.steps)
        self.step_fn: TrainStep = make_train_step(
            run.model, run.tx, run.config, run.context, run.mesh, shardings, schedule
        )
        self.validator = Validator(run)
        self.start = int(run.state.step)
        self.clock = StepClock(self.start)
        self.writer = MetricWriter(run.workdir, step=self.start, tensorboard=run.config.train.tensorboard)
        self.profiler = Profiler(run.workdir, self.start, run.config.train.profile_steps)
        self._told_of_broken = False

    def run_to_end(self) -> int:
        """Steps until done or preempted; a signal at the very last step changes nothing."""
        steps = self.config.train.steps
        if self.start >= steps:
            self._score_last()
            say(f"nothing to do: {self.run.workdir} is at step {self.start} of {steps}")
            return 0
        batches = self.run.data.train_batches(self.run.mesh, start_step=self.start)
        with self._bar(steps) as bar, jax.set_mesh(self.run.mesh):
            for step in range(self.start + 1, steps + 1):
                self._one_step(step, batches, bar)
                done = step == steps
                stop = self.watch.reached(step) and not done
                if stop or done or step % self.config.checkpoint.every == 0:
                    self._save(step, validate=not stop)
                elif self.config.eval.every and step % self.config.eval.every == 0:
                    self._validate(step)
                if stop:
                    self.run.store.finish()
                    say(f"preempted: step {step} is saved; run the same command to go on")
                    return EXIT_PREEMPTED
        with self.clock.paused():
            self.run.store.finish()
        self._tell_of_broken(again=True)
        say(f"done: step {steps}; {self._what_next()}")
        return 0

    def _what_next(self) -> str:
        if part := PRETRAINED_PART.get(self.config.tasks[0]):
            return f"--config.model.{part}.init={self.run.workdir} starts another model's {part} from it"
        return f"`vlm-jax evaluate --workdir {self.run.workdir} --split test` scores it"

    def close(self) -> None:
        """Releases the profiler and the metrics files."""
        self.profiler.stop()
        self.writer.close()

    def _one_step(self, step: int, batches: Iterator[Batch], bar: tqdm) -> None:
        self.profiler.before(step)
        self.clock.waiting()
        batch = next(batches)
        self.clock.working()
        self.run.state, metrics = self.step_fn(self.run.state, batch)
        log = step % self.config.train.log_every == 0 or step in (self.start + 1, self.config.train.steps)
        if log or (jax.default_backend() == "cpu" and step % _CPU_AWAIT_EVERY == 0):
            jax.block_until_ready(metrics["loss"])
        bar.update(1)
        if log:
            self._log(step, metrics, bar)
        with self.clock.paused():  # digests of a finished save are computed here
            self.run.store.poll()

    def _log(self, step: int, metrics: Any, bar: tqdm) -> None:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        values |= self.clock.lap(step)
        self.writer.write(step, values)
        self._tell_of_broken()
        bar.set_postfix_str(f"loss {values['loss']:.4f}", refresh=False)
        if bar.disable and (step % (10 * self.config.train.log_every) == 0 or step == self.config.train.steps):
            say(
                f"step {step}/{self.config.train.steps}  loss {values['loss']:.4f}  "
                f"{values['seconds_per_step']:.2f} s a step, {values['data_wait']:.0%} waiting for data"
            )

    def _validate(self, step: int) -> dict[str, float]:
        with self.clock.paused():
            scores = self.validator(self.run.state.inference_params)
        self.writer.write(step, {f"validation/{name}": value for name, value in scores.items()})
        return scores

    def _scored_meta(self, step: int) -> Meta:
        scores = self._validate(step)
        with self.clock.paused():
            thresholds, calibration = self.validator.decisions(self.run.state.inference_params)
        return self.run.meta(scores, thresholds, calibration)

    def _save(self, step: int, *, validate: bool) -> None:
        """Saves with validation scores and thresholds; a preempted run has no time for them."""
        meta = self._scored_meta(step) if validate else self.run.meta({}, {})
        state = self.run.state
        with self.clock.paused():
            self.run.store.save(step, params=state.params, ema=state.ema, train=train_item(state), meta=meta)

    def _score_last(self) -> None:
        """Gives the last step its scores and thresholds, if it was saved when preempted; the arrays stay."""
        last = read_meta(self.run.store.directory / str(self.start))
        if last.metrics or not len(self.validator.rows):
            return
        with jax.set_mesh(self.run.mesh):
            found = self._scored_meta(self.start)
        kept = {name: getattr(found, name) for name in ("metrics", "thresholds", "calibration")}
        meta = dataclasses.replace(last, **kept)
        self.run.store.amend(self.start, meta)
        say(f"step {self.start} was saved when preempted: it has its validation scores and thresholds now")

    def _tell_of_broken(self, *, again: bool = False) -> None:
        """One line when the first records turn out to be unreadable, and one at the end."""
        n = len(self.run.data.broken)
        if n and (again or not self._told_of_broken):
            self._told_of_broken = True
            say(f"{n} broken record{'s' if n > 1 else ''} left out so far; `vlm-jax data check DIR` names them")

    def _bar(self, steps: int) -> tqdm:
        shown = sys.stderr.isatty() and jax.process_index() == 0
        return tqdm(total=steps, initial=self.start, desc="train", unit="step", disable=not shown, dynamic_ncols=True)
