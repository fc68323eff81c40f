"""What the guard of updates costs: the same train step with it and without, interleaved, medians compared.

    python benchmarks/guard_cost.py --preset tiny --pairs 40

Prints one JSON object: the median over pairs of (with - without) / without in wall time, and both programs' FLOPs and
bytes as the compiler counts them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from etils import epath

from vlm_jax.commands import data_simulate
from vlm_jax.config.load import load_config
from vlm_jax.training import step as step_module
from vlm_jax.training.optim import make_schedule
from vlm_jax.training.run import Run, set_up
from vlm_jax.training.state import state_shardings


def compiled_step(run: Run, batch: Any) -> Any:
    """The step, compiled for the run's shapes."""
    schedule = make_schedule(run.config.optim, run.config.train.steps)
    shardings = state_shardings(run.mesh, run.abstract)
    fn = step_module.make_train_step(run.model, run.tx, run.config, run.context, run.mesh, shardings, schedule)
    return fn.lower(run.state, batch).compile()  # type: ignore[attr-defined]


def without_guard(run: Run, batch: Any) -> Any:
    """The same step, every update taken and nothing remembered."""
    judge, choose = step_module.judge, step_module.choose
    step_module.judge = lambda guard, *_: (None, guard)  # type: ignore[assignment]
    step_module.choose = lambda fine, update, old: update()  # type: ignore[assignment]
    try:
        return compiled_step(run, batch)
    finally:
        step_module.judge, step_module.choose = judge, choose


def cost(program: Any) -> dict[str, float]:
    """FLOPs and bytes accessed by the compiler's own count."""
    found = program.cost_analysis()
    found = found[0] if isinstance(found, list) else found
    return {"flops": found["flops"], "bytes": found["bytes accessed"]}


def measure(programs: dict[str, Any], state: Any, batch: Any, pairs: int) -> dict[str, list[float]]:
    """Seconds of each program, taken in turns; the state is copied first, since the step eats it."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for pair in range(pairs + 2):
        order = list(programs) if pair % 2 else list(programs)[::-1]
        for name in order:
            own = jax.block_until_ready(jax.tree.map(lambda x: x.copy(), state))
            began = time.perf_counter()
            jax.block_until_ready(programs[name](own, batch))
            if pair >= 2:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def main() -> None:
    """Simulates a few procedures, compiles both steps and takes turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--data", help="a data set; by default one is simulated")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or simulate(Path(folder) / "data")
        config = load_config(f"configs/vlm.py:{args.preset}", [("data.path", data), ("data.split", "kfold:3:0")])
        run = set_up(config, epath.Path(folder) / "run")
        batch = next(run.data.train_batches(run.mesh))
        with jax.set_mesh(run.mesh):
            programs = {"with": compiled_step(run, batch), "without": without_guard(run, batch)}
            seconds = measure(programs, run.state, batch, args.pairs)
        run.store.close()
    extra = [(a - b) / b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
    report = {
        "preset": args.preset,
        "pairs": args.pairs,
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "median_extra": statistics.median(extra),
        "quartiles_extra": statistics.quantiles(extra, n=4)[::2],
        "of_minima": min(seconds["with"]) / min(seconds["without"]) - 1,
        "cost": {name: cost(program) for name, program in programs.items()},
    }
    print(json.dumps(report, indent=1))


def simulate(path: Path) -> str:
    """A small simulated data set."""
    parser = argparse.ArgumentParser()
    data_simulate.add_arguments(parser)
    words = ["--out", str(path), "--procedures", "4", "--frames_per_procedure", "40", "--image_size", "64"]
    data_simulate.run(parser.parse_args(words))
    return str(path)


if __name__ == "__main__":
    main()
