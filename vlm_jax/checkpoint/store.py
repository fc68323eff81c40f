"""Writing and reading checkpoints: items params, ema, train and meta of each step, kept by age and by quality."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from vlm_jax.checkpoint import manifest
from vlm_jax.checkpoint.compare import require_same
from vlm_jax.checkpoint.meta import Meta
from vlm_jax.errors import EnvironmentFault, UserError
from vlm_jax.parallel.distributed import barrier

DIRECTORY = "checkpoints"
ARRAY_ITEMS = ("params", "ema", "train")
TRAINING_ONLY = ("task_log_variance",)  # parameters of the loss, not of the model
_POLICY = ocp.checkpoint_managers
# Orbax deletes old steps before the new one has its manifest: with one alone, a kill in between would leave none.
_KEEP_LAST_AT_LEAST = 2


@contextlib.contextmanager
def _disk_errors(doing: str) -> Iterator[None]:
    """Turns a full, read-only or vanished disk into one line; tensorstore reports these as ValueError text."""
    try:
        yield
    except (OSError, ValueError) as error:
        text = str(error)
        for sign, what in (
            ("No space left", "the disk is full"),
            ("RESOURCE_EXHAUSTED", "the disk is full"),
            ("Read-only file system", "the disk is read-only"),
            ("Permission denied", "writing is not permitted"),
        ):
            if sign in text:
                raise EnvironmentFault(
                    f"{doing} failed: {what}. Earlier checkpoints are untouched; make room and run the same command"
                ) from error
        raise


def _handlers() -> dict[str, Any]:
    """One handler an item. OCDBT gathers small arrays in few files."""
    handlers: dict[str, Any] = {name: ocp.PyTreeCheckpointHandler() for name in ARRAY_ITEMS}
    return {**handlers, "meta": ocp.JsonCheckpointHandler()}


class Store:
    """The checkpoints of one work directory. Saves are asynchronous; `finish` makes them final."""

    def __init__(self, workdir: str | epath.Path, *, keep_last: int = 2, keep_best: int = 1):
        self.directory = epath.Path(workdir) / DIRECTORY
        if jax.process_index() == 0:
            _remove_incomplete(self.directory)
        barrier("incomplete checkpoints removed")
        keep: list[Any] = [_POLICY.LatestN(max(_KEEP_LAST_AT_LEAST, keep_last))]
        if keep_best:
            keep.append(
                _POLICY.BestN(get_metric_fn=lambda m: -m["loss"], n=keep_best, keep_checkpoints_without_metrics=False)
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_POLICY.AnyPreservationPolicy(keep),
            best_fn=lambda m: -m["loss"],
            create=True,
            cleanup_tmp_directories=True,
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

        A step without a finite validation loss is saved without metrics: it is never the best.

        Raises:
          UserError: a later step is there already.
          EnvironmentFault: the disk is full, read-only or gone.
        """
        self.finish()
        items = {
            "params": ocp.args.PyTreeSave(params),
            "train": ocp.args.PyTreeSave(train),
            "meta": ocp.args.JsonSave(meta.to_json()),
        }
        if ema is not None:
            items["ema"] = ocp.args.PyTreeSave(ema)
        with _disk_errors(f"saving step {step}"):
            saved = self._manager.save(step, args=ocp.args.Composite(**items), metrics=_ranking(meta))
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
        with _disk_errors(f"saving step {step}"):
            self._manager.wait_until_finished()
            if jax.process_index() == 0:
                manifest.write(self.directory / str(step))

    def poll(self) -> None:
        """Writes the manifest of a save that has ended meanwhile; never waits, not for other processes either."""
        if self._pending is not None and not self._manager.is_saving_in_progress():
            self._complete()

    def amend(self, step: int, meta: Meta) -> None:
        """Replaces the meta item of a complete step: scores and thresholds of one that was saved without."""
        self.finish()
        texts = {"meta/metadata": json.dumps(meta.to_json())}
        if (ranking := _ranking(meta)) is not None:
            texts["metrics/metrics"] = json.dumps(ranking)  # where orbax looks for them when it starts
        with _disk_errors(f"rewriting step {step}"):
            if jax.process_index() == 0:
                manifest.rewrite(self.directory / str(step), texts)
        barrier(f"checkpoint {step} amended")

    def restore(self, step: int, *, params: Any, ema: Any, train: Any) -> tuple[Any, Any, Any, Meta]:
        """Restores a training state onto the shardings of the given abstract trees.

        Args:
          step: a complete step.
          params: tree of jax.ShapeDtypeStruct with shardings; likewise `ema` (or None) and `train`.

        Raises:
          UserError: the stored trees, shapes or dtypes differ, or a file is damaged; names them.
        """
        expected = {"params": params, "train": train, **({} if ema is None else {"ema": ema})}
        directory = self.directory / str(step)
        meta = read_meta(directory)
        items = {}
        with _damage(directory):
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


def complete_steps(directory: epath.Path) -> list[int]:
    """Steps of a checkpoints directory that have their manifest, oldest first."""
    if not directory.exists():
        return []
    found = [child for child in directory.iterdir() if child.name.isdigit() and manifest.exists(child)]
    return sorted(int(child.name) for child in found)


def _remove_incomplete(directory: epath.Path) -> None:
    """Removes steps without a manifest: a save that was cut off, which orbax would take for the latest step."""
    if directory.exists():
        for child in directory.iterdir():
            if child.name.isdigit() and not manifest.exists(child):
                child.rmtree()


def _ranking(meta: Meta) -> dict[str, float] | None:
    """What `best` goes by; None where there is no finite loss."""
    loss = meta.metrics.get("loss", math.inf)
    return {"loss": loss} if math.isfinite(loss) else None


@contextlib.contextmanager
def _damage(directory: epath.Path) -> Iterator[None]:
    """Turns the many ways in which a damaged file fails to be read into one line that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        found = manifest.problems(directory)
        if not found:
            raise
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UserError(
            f"the checkpoint {directory} is damaged: {found[0]}{more}; restore another --step or train again"
        ) from error


def item_metadata(step_directory: epath.Path, item: str) -> Any:
    """The stored tree of one item as orbax describes it (shapes and dtypes, no arrays)."""
    handler = ocp.PyTreeCheckpointHandler()
    metadata = handler.metadata(step_directory.resolve() / item)
    return getattr(metadata, "tree", metadata)


def read_meta(step_directory: epath.Path) -> Meta:
    """The `meta` item of a step's directory."""
    path = step_directory / "meta" / "metadata"
    try:
        return Meta.from_json(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise UserError(f"{step_directory} holds no readable meta item: is it a vlm-jax checkpoint?") from error


def _resolve(path: epath.Path, step: int | str) -> epath.Path:
    """The step's directory for a work directory, its checkpoints/ or one step's directory."""
    if not path.exists():
        raise UserError(f"{path} does not exist; give a work directory that `vlm-jax train` wrote")
    if manifest.exists(path):
        own = read_meta(path).batches
        if str(step) not in ("best", "last", str(own)):
            raise UserError(f"{path} is step {own}, not {step}: leave out --step, or give the work directory")
        return path
    directory = path / DIRECTORY if (path / DIRECTORY).exists() else path
    steps = complete_steps(directory)
    if not steps:
        raise UserError(f"{path} holds no complete checkpoint; train with --workdir {path} first")
    if step == "last":
        return directory / str(steps[-1])
    if step == "best":
        rankings = {s: _ranking(read_meta(directory / str(s))) or {"loss": math.inf} for s in steps}
        return directory / str(min(steps, key=lambda s: (rankings[s]["loss"], -s)))
    if not str(step).isdigit() or int(step) not in steps:
        raise UserError(f"step {step} is not in {path}: it has {', '.join(map(str, steps))} (or best, or last)")
    return directory / str(int(step))


def restore_for_inference(path: str | epath.Path, step: int | str = "best") -> Restored:
    """Reads the parameters alone, with nothing of the optimiser.

    Args:
      path: a work directory, its checkpoints/, or one step's directory.
      step: `best` (lowest validation loss; the last where no step has one), `last`, or a number.

    Raises:
      UserError: nothing complete there, an unknown step, or a damaged file; names it.
    """
    directory = _resolve(epath.Path(path), step)
    with _damage(directory):
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
