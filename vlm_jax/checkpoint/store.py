"""Writing and reading checkpoints: items params, ema, train and meta of each step, kept by age and by quality."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import sys
import threading
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from vlm_jax.checkpoint import integrity, manifest, retention
from vlm_jax.checkpoint.compare import require_same
from vlm_jax.checkpoint.faults import disk_errors
from vlm_jax.checkpoint.integrity import complete_steps
from vlm_jax.checkpoint.meta import Meta, read_meta
from vlm_jax.errors import UserError
from vlm_jax.parallel.distributed import abandon, barrier

DIRECTORY = "checkpoints"
ARRAY_ITEMS = ("params", "ema", "train")
TRAINING_ONLY = ("task_log_variance",)  # parameters of the loss, not of the model
META = "meta/metadata"


def _handlers() -> dict[str, Any]:
    """One handler an item. OCDBT gathers small arrays in few files."""
    handlers: dict[str, Any] = {name: ocp.PyTreeCheckpointHandler() for name in ARRAY_ITEMS}
    return {**handlers, "meta": ocp.JsonCheckpointHandler()}


def _meet(*, key: str, timeout_ms: int) -> None:
    """Orbax's barrier for the threads that end a save; whoever comes to it with a failed save ends its process.

    The others wait within that save for what will not come, twenty minutes long: they end when they hear no more of it.
    """
    failed = sys.exc_info()[1]  # the barrier stands in a `finally`; in the main thread it may be anyone's `except`
    if isinstance(failed, Exception) and threading.current_thread() is not threading.main_thread():
        try:
            with disk_errors("saving"):
                raise failed
        except Exception as error:
            abandon(error)
    ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)


class Store:
    """The checkpoints of one work directory. Saves are asynchronous; `finish` makes them final."""

    def __init__(
        self, workdir: str | epath.Path, *, keep_last: int = 2, keep_best: int = 1, every: int = 1, window: int = 0
    ):
        self.directory = epath.Path(workdir) / DIRECTORY
        if jax.process_index() == 0:
            _remove_incomplete(self.directory)
        barrier("incomplete checkpoints removed")
        self._keep = {"last": keep_last, "best": keep_best, "every": every, "window": window}
        # Orbax keeps every step; what goes is decided in `_prune`.
        options = ocp.CheckpointManagerOptions(
            create=True, cleanup_tmp_directories=True, async_options=ocp.AsyncOptions(barrier_sync_fn=_meet)
        )
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._manager = ocp.CheckpointManager(self.directory.resolve(), item_handlers=_handlers(), options=options)
        self._pending: int | None = None  # saved, without a manifest yet
        self._unmet: int | None = None  # its manifest is not known to every process yet

    def steps(self) -> list[int]:
        """Complete steps, oldest first."""
        return complete_steps(self.directory)

    def save(self, step: int, *, params: Any, ema: Any, train: Any, meta: Meta) -> None:
        """Starts saving a step; returns as soon as the arrays were copied.

        A step without a finite validation loss is never the best. `meta.batches` is the step, whatever was given.

        Raises:
          UserError: a later step is there already.
          EnvironmentFault: the disk is full, read-only or gone.
        """
        self.finish()
        items = {
            "params": ocp.args.PyTreeSave(params),
            "train": ocp.args.PyTreeSave(train),
            "meta": ocp.args.JsonSave(dataclasses.replace(meta, batches=step).to_json()),
        }
        if ema is not None:
            items["ema"] = ocp.args.PyTreeSave(ema)
        with disk_errors(f"saving step {step}", self.directory):
            saved = self._manager.save(step, args=ocp.args.Composite(**items))
        if not saved:
            raise UserError(
                f"step {step} was not saved: {self.directory} is at step {self._manager.latest_step()} already; "
                "use another --workdir"
            )
        self._pending = self._unmet = step

    def finish(self) -> None:
        """Waits for the save in flight and its manifest; every process calls it at the same place."""
        self._complete()
        if self._unmet is not None:
            step, self._unmet = self._unmet, None
            barrier(f"checkpoint {step} complete")

    def _complete(self) -> None:
        """Waits for the arrays, then process 0 writes the manifest."""
        if self._pending is None:
            return
        step, self._pending = self._pending, None
        with disk_errors(f"saving step {step}", self.directory):
            self._manager.wait_until_finished()
            if jax.process_index() == 0:
                manifest.write(self.directory / str(step))
                self._prune()

    def _prune(self) -> None:
        """Deletes what is neither among the last nor among the best."""
        losses = {step: read_loss(self.directory / str(step)) for step in self.steps()}
        for step in sorted(losses.keys() - retention.kept(losses, **self._keep)):
            retention.delete(self.directory / str(step))

    def drop_after(self, step: int) -> None:
        """Deletes the steps after `step`, when training goes back to it; every process calls it."""
        self.finish()
        if jax.process_index() == 0:
            for later in [s for s in self.steps() if s > step]:
                retention.delete(self.directory / str(later))
        barrier(f"steps after {step} dropped")
        self._manager.reload()

    def poll(self) -> None:
        """Writes the manifest of a save that has ended meanwhile; never waits, not for other processes either."""
        if self._pending is not None and not self._manager.is_saving_in_progress():
            self._complete()

    def amend(self, step: int, meta: Meta) -> None:
        """Replaces the meta item of a complete step: scores and thresholds of one that was saved without."""
        self.finish()
        with disk_errors(f"rewriting step {step}", self.directory):
            if jax.process_index() == 0:
                manifest.rewrite(self.directory / str(step), META, json.dumps(meta.to_json()))
        barrier(f"checkpoint {step} amended")

    def restore(
        self, step: int, *, params: Any, ema: Any, train: Any, read_back: bool = False
    ) -> tuple[Any, Any, Any, Meta]:
        """Restores a training state onto the shardings of the given abstract trees.

        Args:
          step: a complete step.
          read_back: its files were compared with their digests a moment ago (`integrity.survey`).
          params: tree of jax.ShapeDtypeStruct with shardings; likewise `ema` (or None) and `train`.

        Raises:
          UserError: the stored trees, shapes or dtypes differ, or a file is damaged; names them.
        """
        expected = {"params": params, "train": train, **({} if ema is None else {"ema": ema})}
        directory = self.directory / str(step)
        if not read_back:
            require_whole(directory)
        meta = read_meta(directory)
        items = {}
        for name, tree in expected.items():
            require_same(item_metadata(directory, name), tree, item=name, where=f"of step {step}")
            arguments = ocp.checkpoint_utils.construct_restore_args(tree)
            items[name] = ocp.args.PyTreeRestore(tree, restore_args=arguments)
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        return restored["params"], restored.get("ema"), restored["train"], meta

    def close(self) -> None:
        """Completes a save in flight and releases the manager's threads; waits for no other process."""
        try:
            self._complete()
        finally:
            self._manager.close()


@dataclass(frozen=True)
class Restored:
    """Parameters for evaluation and inference: ema where present, else params, as numpy arrays."""

    params: dict[str, Any]
    meta: Meta
    step: int
    directory: epath.Path


def _remove_incomplete(directory: epath.Path) -> None:
    """Removes steps without a manifest: a save that was cut off, which orbax would take for the latest step."""
    if directory.exists():
        for child in directory.iterdir():
            if child.name.isdigit() and not manifest.exists(child):
                child.rmtree()


def read_loss(step_directory: epath.Path) -> float | None:
    """The validation loss that `best` goes by; None where the step has no finite one, or its meta item is damaged."""
    if manifest.problems_of(step_directory, [META]):
        return None
    loss = read_meta(step_directory).metrics.get("loss", math.inf)
    return loss if math.isfinite(loss) else None


def require_whole(directory: epath.Path) -> None:
    """Raises UserError, naming the first file, unless every file of the step is as it was written."""
    if found := integrity.problems(directory):
        what = integrity.shortened(found)
        raise UserError(f"the checkpoint {directory} is damaged: {what}; restore another --step or train again")


def item_metadata(step_directory: epath.Path, item: str) -> Any:
    """The stored tree of one item as orbax describes it (shapes and dtypes, no arrays)."""
    handler = ocp.PyTreeCheckpointHandler()
    metadata = handler.metadata(step_directory.resolve() / item)
    return getattr(metadata, "tree", metadata)


def _resolve(path: epath.Path, step: int | str) -> epath.Path:
    """The step's directory for a work directory, its checkpoints/ or one step's directory; read back and whole."""
    if not path.exists():
        raise UserError(f"{path} does not exist; give a work directory that `vlm-jax train` wrote")
    if manifest.exists(path):
        require_whole(path)
        own = read_meta(path).batches
        if str(step) not in ("best", "last", str(own)):
            raise UserError(f"{path} is step {own}, not {step}: leave out --step, or give the work directory")
        return path
    directory = path / DIRECTORY if (path / DIRECTORY).exists() else path
    steps = complete_steps(directory)
    if not steps:
        raise UserError(f"{path} holds no complete checkpoint; train with --workdir {path} first")
    if step in ("best", "last"):
        return _first_whole(directory, _candidates(directory, steps, str(step)), str(step))
    if not str(step).isdecimal() or int(step) not in steps:
        raise UserError(f"step {step} is not in {path}: it has {', '.join(map(str, steps))} (or best, or last)")
    require_whole(directory / str(int(step)))
    return directory / str(int(step))


def _candidates(directory: epath.Path, steps: list[int], rule: str) -> list[int]:
    """Every complete step, the wanted one first. One whose loss can't be read comes first: it might be the best."""
    newest = sorted(steps, reverse=True)
    if rule == "last":
        return newest
    unreadable = [s for s in newest if manifest.problems_of(directory / str(s), [META])]
    losses = {s: read_loss(directory / str(s)) for s in newest if s not in unreadable}
    return unreadable + sorted(losses, key=lambda s: math.inf if (loss := losses[s]) is None else loss)


def _first_whole(directory: epath.Path, candidates: list[int], rule: str) -> epath.Path:
    """The first candidate that is whole; says so where it is not the first."""
    damaged: dict[int, list[str]] = {}
    for step in candidates:
        found = integrity.problems(directory / str(step))
        if not found:
            for bad, lines in damaged.items():
                integrity.warn(f"{directory}: {integrity.describe(bad, lines)}; step {step} is used as {rule}")
            return directory / str(step)
        damaged[step] = found
    require_whole(directory / str(candidates[0]))
    raise AssertionError("a damaged step was whole a moment later")


def restore_for_inference(path: str | epath.Path, step: int | str = "best") -> Restored:
    """Reads the parameters alone, with nothing of the optimiser.

    Args:
      path: a work directory, its checkpoints/, or one step's directory.
      step: `best` (lowest validation loss; the last where no step has one), `last`, or a number.

    Raises:
      UserError: nothing complete there, an unknown step, or a damaged file; names it.
    """
    directory = _resolve(epath.Path(path), step)
    params = _read_params(directory)
    meta = read_meta(directory)
    named = directory.name if directory != epath.Path(path) else ""  # a step's own directory may have any name
    return Restored(params, meta, int(named or meta.batches), directory)


def _read_params(directory: epath.Path) -> dict[str, Any]:
    """The parameters to run with, as numpy arrays."""
    item = "ema" if (directory / "ema").exists() else "params"
    stored = item_metadata(directory, item)
    is_leaf = lambda x: hasattr(x, "shape")  # noqa: E731
    abstract = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype), stored, is_leaf=is_leaf)
    arguments = jax.tree.map(lambda m: ocp.RestoreArgs(restore_type=np.ndarray, dtype=m.dtype), stored, is_leaf=is_leaf)
    params = ocp.PyTreeCheckpointHandler().restore(
        directory.resolve() / item, args=ocp.args.PyTreeRestore(abstract, restore_args=arguments)
    )
    return {name: value for name, value in params.items() if name not in TRAINING_ONLY}
