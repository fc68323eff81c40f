"""The main job: set up, step, log, validate, save. Running the same command again goes on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
from etils import epath
from tqdm import tqdm

from vlm_jax.checkpoint.meta import Meta, read_meta
from vlm_jax.config.pretraining import PRETRAINED_PART
from vlm_jax.config.schema import Config
from vlm_jax.contract import Batch
from vlm_jax.parallel import distributed
from vlm_jax.training.clock import StepClock
from vlm_jax.training.fit import FIT_SYSTEMS, fit
from vlm_jax.training.goodput import Ledger, compiled_facts, run_facts
from vlm_jax.training.guards import SHOWN, too_many
from vlm_jax.training.lock import WorkdirLock
from vlm_jax.training.preemption import EXIT_PREEMPTED, Preempted, PreemptionWatch
from vlm_jax.training.profiling import Profiler
from vlm_jax.training.rollback import roll_back
from vlm_jax.training.run import Run, check_budget, say, set_up, train_item
from vlm_jax.training.validation import Validator
from vlm_jax.training.writers import VALIDATION, MetricWriter

# On CPU with several devices, more than about 24 un-awaited steps hang for ever (8 with two processes).
_CPU_AWAIT_EVERY = 8


def train(config: Config, workdir: str) -> int:
    """Trains to `train.steps`, or fits a system without gradients; the exit code: 0 done, 3 preempted and saved."""
    ledger = Ledger()
    with ledger.phase("init"):
        distributed.init(config.parallel)
    place = epath.Path(workdir)
    with WorkdirLock(place) as lock:
        try:
            code = fit(config, place, lock) if config.system in FIT_SYSTEMS else _train(config, place, lock, ledger)
        except Exception as error:
            distributed.abandon(error)
            raise
    distributed.leave()
    return code


def _train(config: Config, place: epath.Path, lock: WorkdirLock, ledger: Ledger) -> int:
    with PreemptionWatch() as watch:
        with ledger.phase("init"):
            run = set_up(config, place, lock, ledger, ahead=True)
        with contextlib.closing(run.store), contextlib.closing(Loop(run, watch, ledger)) as loop:
            try:
                code = loop.run_to_end()
            except Exception as error:  # before the store waits for the others
                distributed.abandon(error)
                raise
            loop.clock.close()
            ledger.write("end", int(run.state.step), status="preempted" if code == EXIT_PREEMPTED else "done")
    return code


class Loop:
    """Holds what outlives a step; each method is one paragraph of the story."""

    def __init__(self, run: Run, watch: PreemptionWatch, ledger: Ledger):
        self.run, self.watch, self.config, self.ledger = run, watch, run.config, ledger
        self.validator = Validator(run)
        self.start = int(run.state.step)
        ledger.open(run.workdir, self.start, **run_facts(self.config))
        self.clock = StepClock(self.start, ledger, run.data.timings)
        self._step: Any = None  # compiled for the first batch
        self.writer = MetricWriter(run.workdir, step=self.start, tensorboard=run.config.train.tensorboard)
        self.profiler = Profiler(run.workdir, self.start, run.config.train.profile_steps)
        self._told_of_broken = False
        self._told_of_skips = int(run.state.guard.total)

    def run_to_end(self) -> int:
        """Steps until done or preempted; a signal at the very last step changes nothing."""
        steps = self.config.train.steps
        with jax.set_mesh(self.run.mesh):
            try:
                self._score_start()
            except Preempted:
                return self._preempted(self.start)
        if self.start >= steps:
            say(f"nothing to do: {self.run.workdir} is at step {self.start} of {steps}")
            return 0
        with self._bar(steps) as bar, jax.set_mesh(self.run.mesh):
            step, batches = self.start, self._batches(self.start)
            while step < steps:
                step += 1
                self._one_step(step, batches, bar)
                if skipped := self._too_many_skipped(step):
                    batches.close()
                    step = self._go_back(skipped, bar)
                    batches = self._batches(step)
                    continue
                if self._boundary(step):
                    batches.close()
                    return self._preempted(step)
            batches.close()
        with self.clock.paused("save"):
            self.run.store.finish()
        self._tell_of_broken(again=True)
        say(f"done: step {steps}; {self._what_next()}")
        return 0

    def _batches(self, step: int) -> Any:
        return self.run.data.train_batches(self.run.mesh, start_step=step)

    def _boundary(self, step: int) -> bool:
        """Validates and saves where it is time to; whether to stop here, saved."""
        done = step == self.config.train.steps
        stop = self.watch.reached(step) and not done
        saves = done or step % self.config.checkpoint.every == 0
        try:
            if stop:
                raise Preempted
            if saves:
                self._save(step, self._scored_meta(step, done))
                stop = not done and self.watch.reached(step)
            elif self._scheduled(step):
                self._validate(step, done)
        except Preempted:
            self._save(step, self.run.meta({}, {}))  # a preempted run has no time for scores
            return True
        return stop

    def _scheduled(self, step: int) -> bool:
        """Whether the unbroken run validates at this step."""
        every = (self.config.checkpoint.every, self.config.eval.every)
        return step == self.config.train.steps or any(n and step % n == 0 for n in every)

    def _preempted(self, step: int) -> int:
        self.run.store.finish()
        say(f"preempted: step {step} is saved; run the same command to go on")
        return EXIT_PREEMPTED

    def _too_many_skipped(self, step: int) -> tuple[int, ...]:
        """The steps that the guard skipped, where they are too many; looked at where the loop waits anyway."""
        if not (self._logs(step) or step % self.config.checkpoint.every == 0):
            return ()
        since = max(
            (step - 1) // every * every for every in (self.config.train.log_every, self.config.checkpoint.every)
        )
        return too_many(jax.device_get(self.run.state.guard), self.config.guard, since)

    def _go_back(self, skipped: tuple[int, ...], bar: tqdm) -> int:
        self.clock.close()
        with self.clock.paused("restore"):
            step = roll_back(self.run, skipped)
            self._told_of_skips = int(self.run.state.guard.total)
            self.writer.rewind(step)
            self.ledger.write("rollback", step)
            self.clock = StepClock(step, self.ledger, self.run.data.timings)
            bar.reset()
            bar.update(step)
        return step

    def _what_next(self) -> str:
        place = shlex.quote(str(self.run.workdir))
        if part := PRETRAINED_PART.get(self.config.tasks[0]):
            return f"--config.model.{part}.init={place} starts another model's {part} from it"
        return f"`vlm-jax evaluate --workdir {place} --split test` scores it"

    def close(self) -> None:
        """Releases the profiler and the metrics files."""
        self.profiler.stop()
        self.writer.close()
        self.clock.close()
        self.ledger.close()

    def _one_step(self, step: int, batches: Iterator[Batch], bar: tqdm) -> None:
        self.profiler.before(step)
        self.clock.waiting()
        distributed.at(f"data of step {step}")
        batch = next(batches)
        distributed.at(f"step {step}")
        self.clock.working()
        self._compile(batch)
        self.run.state, metrics = self._step(self.run.state, batch)
        self.clock.dispatched()
        log = self._logs(step)
        if log or (jax.default_backend() == "cpu" and step % _CPU_AWAIT_EVERY == 0):
            jax.block_until_ready(metrics["loss"])
            self.clock.awaited()
        bar.update(1)
        if log:
            self._log(step, metrics, bar)
        with self.clock.paused("save"):  # digests of a finished save are computed here
            self.run.store.poll()

    def _compile(self, batch: Batch) -> None:
        """Compiles the step before its first call, so that compiling is timed apart and the program can be read."""
        if self._step is not None:
            return
        assert self.run.program is not None
        with self.clock.paused("compile") as facts:
            self._step = self.run.program.compiled(batch)
            facts |= compiled_facts(self._step, self.run.state)

    def _logs(self, step: int) -> bool:
        """Whether this step has a row; the same steps, however often the run was broken off."""
        return step % self.config.train.log_every == 0 or step in (1, self.config.train.steps)

    def _log(self, step: int, metrics: Any, bar: tqdm) -> None:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        values |= self.clock.lap(step)
        self.writer.write(step, values)
        self._tell_of_broken()
        self._tell_of_skips(int(values["skipped"]))
        bar.set_postfix_str(f"loss {values['loss']:.4f}", refresh=False)
        if bar.disable and (step % (10 * self.config.train.log_every) == 0 or step == self.config.train.steps):
            say(
                f"step {step}/{self.config.train.steps}  loss {values['loss']:.4f}  "
                f"{values['seconds_per_step']:.2f} s a step, {values['data_wait']:.0%} waiting for data"
            )

    def _validate(self, step: int, done: bool = False) -> dict[str, float]:
        distributed.at(f"validation at step {step}")
        with self.clock.paused("evaluation"):
            scores = self.validator(self.run.state.inference_params, self._poll(step, done))
        self.writer.write(step, {f"{VALIDATION}{name}": value for name, value in scores.items()})
        return scores

    def _scored_meta(self, step: int, done: bool = False) -> Meta:
        scores = self._validate(step, done)
        with self.clock.paused("evaluation"):
            poll = self._poll(step, done)
            thresholds, calibration = self.validator.decisions(self.run.state.inference_params, poll)
        return self.run.meta(scores, thresholds, calibration)

    def _poll(self, step: int, done: bool) -> Callable[[], None]:
        """What validation calls between batches: raises Preempted where the run must stop."""

        def poll() -> None:
            if not done and self.watch.reached(step):
                raise Preempted

        return poll

    def _save(self, step: int, meta: Meta) -> None:
        state = self.run.state
        distributed.at(f"save of step {step}")
        self.writer.sync()
        with self.clock.paused("save"):
            self.run.store.save(step, params=state.params, ema=state.ema, train=train_item(state), meta=meta)
        check_budget(self.run, meta.quarantine)  # after the save: closing the store completes it

    def _score_start(self) -> None:
        """Gives the step that is resumed from the scores it lacks because it was saved when preempted."""
        step = self.start
        if not step or not self._scheduled(step) or not len(self.validator.rows):
            return
        last = read_meta(self.run.store.directory / str(step))
        if last.metrics:
            return
        self.writer.rewind(step, validation=False)  # killed after its row, before its scores were kept
        if step != self.config.train.steps and step % self.config.checkpoint.every:
            self._validate(step)
            return
        found = self._scored_meta(step, step == self.config.train.steps)
        kept = {name: getattr(found, name) for name in ("metrics", "thresholds", "calibration")}
        self.run.store.amend(step, dataclasses.replace(last, **kept))
        say(f"step {step} was saved when preempted: it has its validation scores and thresholds now")

    def _tell_of_broken(self, *, again: bool = False) -> None:
        """One line when the first records turn out to be unreadable, and one at the end."""
        broken = self.run.data.broken
        n = len(distributed.union([*broken]) if again else broken)  # together at the end alone: nobody waits in between
        if n and (again or not self._told_of_broken):
            self._told_of_broken = True
            say(f"{n} broken record{'s' if n > 1 else ''} left out so far; `vlm-jax data check DIR` names them")

    def _tell_of_skips(self, total: int) -> None:
        """One line for updates that the guard did not take since the last row, with the records they came from."""
        if total <= self._told_of_skips:
            self._told_of_skips = total
            return
        n, self._told_of_skips = total - self._told_of_skips, total
        steps = [int(step) for step in jax.device_get(self.run.state.guard.skipped)[: min(n, SHOWN)]]
        for step in reversed(steps):
            names = ", ".join(self.run.names(self.run.data.rows_of_batch(step - 1)))
            say(f"step {step}: update skipped, its gradient was not finite or out of proportion; records {names}")

    def _bar(self, steps: int) -> tqdm:
        shown = sys.stderr.isatty() and jax.process_index() == 0
        return tqdm(total=steps, initial=self.start, desc="train", unit="step", disable=not shown, dynamic_ncols=True)
