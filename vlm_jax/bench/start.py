"""`bench start`: from the start of a process to its first step, without and with a warm compilation cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from vlm_jax.bench.results import OURS, result
from vlm_jax.config import load as config_io
from vlm_jax.config.schema import Config
from vlm_jax.errors import UserError

_CHILD = "from vlm_jax.bench.start import child; child()"


def measure(config: Config, *, rounds: int) -> dict[str, Any]:
    """Starts processes one after another: one with an empty compilation cache, `rounds` with what it left.

    Raises:
      UserError: a process failed; its last line says why.
    """
    from vlm_jax.bench.train import describe

    with tempfile.TemporaryDirectory() as folder:
        config_io.dump(config, Path(folder) / "config.json")
        cold, *warm = [_run(folder, i) for i in range(1 + rounds)]
    warm.sort(key=lambda row: row["first_step"])
    rows = [{"name": f"{OURS}, cold", **cold}, {"name": f"{OURS}, warm", **warm[len(warm) // 2]}]
    return result("start", {**describe(config), "rounds": rounds}, rows)


def _run(folder: str, i: int) -> dict[str, float]:
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "VLM_JAX_BENCH_START": f"{folder}\n{i}\n{time.time()!r}",
    }
    done = subprocess.run([sys.executable, "-c", _CHILD], env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"a process that was to be timed failed: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def child() -> None:
    """In the process that is timed: prints seconds since it was asked for, as one JSON object.

    imported, built (state on the device), compiled, first_step (done); save_blocks: for how long an asynchronous save
    of the whole state holds up the steps.
    """
    folder, i, began = os.environ["VLM_JAX_BENCH_START"].split("\n")
    seconds = {}

    def mark(name: str) -> None:
        seconds[name] = time.time() - float(began)

    import jax

    from vlm_jax.bench.trial import make_trial

    mark("imported")
    trial = make_trial(config_io.read(Path(folder) / "config.json"))
    jax.block_until_ready(trial.state)
    mark("built")
    with jax.set_mesh(trial.mesh):
        compiled = trial.train_step.lower(trial.state, trial.placed).compile()  # pyright: ignore[reportFunctionMemberAccess]
        mark("compiled")
        trial.state, metrics = compiled(trial.state, trial.placed)
        jax.block_until_ready(metrics)
        mark("first_step")
        seconds["save_blocks"] = _save(trial, Path(folder) / f"run-{i}")
    print(json.dumps(seconds))


def _save(trial: Any, workdir: Path) -> float:
    """Seconds until a save returns, the second of two: the first also starts threads. The disk is written meanwhile."""
    from etils import epath

    from vlm_jax.checkpoint.meta import Meta
    from vlm_jax.checkpoint.store import Store
    from vlm_jax.training.run import train_item

    state = trial.state
    store = Store(epath.Path(workdir), keep_last=2, keep_best=1)
    meta = Meta(config=trial.config, labels=(), tokenizer="", thresholds={})
    spent = 0.0
    try:
        for step in (1, 2):
            began = time.perf_counter()
            store.save(step, params=state.params, ema=state.ema, train=train_item(state), meta=meta)
            spent = time.perf_counter() - began
            store.finish()
    finally:
        store.close()
    return spent
