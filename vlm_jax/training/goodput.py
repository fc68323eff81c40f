"""The goodput ledger: where the wall time of a run went, one JSON object a line, one file a process.

WORKDIR/goodput/PROCESS.jsonl has five kinds of rows, each with `time` (Unix seconds) and `step`:
  start    a run begins or goes on at `step`; what `vlm-jax doctor` needs to know of it
  phase    `seconds` of init, restore, compile, save or evaluation; of compile also what was compiled
  lap      `steps` steps that took `seconds` in all, of which `data_wait` waiting for a batch, `dispatch` in the call of
           the step, `await` waiting for the device and `host` in between; `rows` read meanwhile, with the reading
           threads' seconds in `read`, `decode` and `prepare`
  rollback training goes back to `step`
  end      the run ends at `step`, as `status` says
Phases do not overlap: what runs inside another is taken out of it. A step that a later start or rollback goes back
behind was wasted; nobody writes that, the reader counts it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from vlm_jax.checkpoint.integrity import warn
from vlm_jax.config.schema import Config
from vlm_jax.training.lines import LineFile

DIRECTORY = "goodput"
_SHORTEST = 0.001
PHASES = ("init", "restore", "compile", "save", "evaluation")


class Ledger:
    """Writes one process's file. Rows wait in memory until `open`: a run that cannot start leaves nothing behind."""

    def __init__(self) -> None:
        self._file: LineFile | None = None
        self._waiting: list[dict[str, Any]] = []
        self._closed = False
        self._inner = [0.0]  # seconds of the phases inside each open one

    def open(self, workdir: epath.Path, step: int, **facts: Any) -> None:
        """Names the run and starts writing."""
        folder = workdir / DIRECTORY
        folder.mkdir(parents=True, exist_ok=True)
        self._file = LineFile(folder / f"{jax.process_index()}.jsonl")
        waiting, self._waiting = self._waiting, []
        self.write("start", step, process=jax.process_index(), processes=jax.process_count(), **facts)
        for row in waiting:
            self._put(row | {"step": step})

    def write(self, row: str, step: int | None = None, **values: Any) -> None:
        """One row, on a local disk when this returns (but for what the file system keeps back); see `LineFile`."""
        self._put({"row": row, "time": round(time.time(), 3), "step": step, **values})

    @contextlib.contextmanager
    def phase(self, name: str, step: int | None = None) -> Iterator[dict[str, Any]]:
        """Times what happens inside; what is put into the dict that it yields is written with it."""
        facts: dict[str, Any] = {}
        began = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield facts
        finally:
            whole = time.perf_counter() - began
            own = whole - self._inner.pop()
            self._inner[-1] += whole
            if own >= _SHORTEST or facts:  # every step looks whether a save has ended: no row for that
                self.write("phase", step, phase=name, seconds=round(own, 4), **facts)

    def close(self) -> None:
        """Closes the file; what is written later is dropped."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what could not be written is tried again here
                self._file.close()
        self._file, self._waiting, self._closed = None, [], True

    def _put(self, row: dict[str, Any]) -> None:
        if self._file is None:
            if not self._closed:
                self._waiting.append(row)
            return
        try:
            self._file.write(json.dumps(row))
        except OSError as error:  # a full disk is for the checkpoint to say; a ledger is not worth a run
            warn(f"the goodput ledger ends here: {error.strerror}")
            self.close()


def run_facts(config: Config) -> dict[str, Any]:
    """What the doctor must know of a run, for the row `start`."""
    return {
        "name": config.name,
        "backend": jax.default_backend(),
        "devices": jax.device_count(),
        "batch_size": config.train.batch_size,
        "accumulate": config.optim.accumulate,
        "scan_layers": config.model.scan_layers,
        "steps": config.train.steps,
        "log_every": config.train.log_every,
        "checkpoint_every": config.checkpoint.every,
        "eval_every": config.eval.every,
        "threads": config.data.threads,
        "image_size": config.data.image_size,
    }


def compiled_facts(compiled: Any, state: Any) -> dict[str, Any]:
    """What the doctor asks of a compiled step: FLOPs and bytes a device, bytes that no batch size changes, callbacks.

    Args:
      compiled: what `jax.jit(step).lower(...).compile()` gave.
      state: the training state, arrays or abstract, with shardings.
    """
    cost = compiled.cost_analysis() or {}
    n_bytes = {
        name: sum(_shard_bytes(leaf) for leaf in jax.tree.leaves(tree))
        for name, tree in (("params", state.params), ("state", state))
    }
    # The update reads and writes the state, and writes, sums and reads gradients as large as the parameters.
    fixed = 2 * n_bytes["state"] + 3 * n_bytes["params"]
    return {
        "flops": float(cost.get("flops", 0.0)),
        "bytes": float(cost.get("bytes accessed", 0.0)),
        "fixed_bytes": fixed,
        "callbacks": _callbacks(compiled.as_text() or ""),
    }


def _callbacks(hlo: str) -> int:
    """Calls back into Python, and transfers to or from the host, in the text of a compiled program."""
    signs = ("python_cpu_callback", "python_gpu_callback", "is_host_transfer=true", " outfeed(", " infeed(")
    return sum(any(sign in line for sign in signs) for line in hlo.splitlines())


def _shard_bytes(leaf: Any) -> int:
    size = 1
    for n in leaf.sharding.shard_shape(leaf.shape):
        size *= n
    return size * leaf.dtype.itemsize
