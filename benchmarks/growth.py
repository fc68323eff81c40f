"""How the cost of a training step grows with image size, batch, length, prompts and devices.

    python benchmarks/growth.py --config configs/vlm.py:tiny_vit --out benchmarks/results/growth/growth.json
    python benchmarks/growth.py --out benchmarks/results/growth/image.json --cases image -- data.image_size=224 ...

Each case is timed turn by turn with the config as it is, and its time compared with the ratio of counted operations.
Devices: the same global batch on eight of the CPU's fake devices and on one, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vlm_jax.bench.results import result, write
from vlm_jax.bench.timing import interleave, summary
from vlm_jax.bench.train import _step, describe
from vlm_jax.bench.trial import make_trial
from vlm_jax.config.load import load_config
from vlm_jax.parallel import runtime

ROOT = Path(__file__).resolve().parents[1]
CASES = ["image", "batch", "prompts", "targets", "one", "two", "devices"]
"""How the names of the rows begin."""


def cases(config: Any) -> dict[str, dict[str, str]]:
    """Name -> settings, each against the config itself. Prompts grow with the tasks: one, two and all of them."""
    size, batch, data = config.data.image_size, config.train.batch_size, config.data
    return {
        "image twice as wide": {"data.image_size": str(2 * size)},
        "batch twice as large": {"train.batch_size": str(2 * batch)},
        "prompts twice as long": {"data.prompt_length": str(2 * data.prompt_length)},
        "targets 1.5 times as long": {"data.target_length": str(3 * data.target_length // 2)},
        "one prompt (landmarks, describe)": {"tasks": "landmarks,describe"},
        "two prompts (and anticipate)": {"tasks": "landmarks,describe,anticipate"},
    }


def grow(spec: str, overrides: list[tuple[str, str]], rounds: int, only: list[str]) -> list[dict[str, Any]]:
    """One row a case whose name begins as one of `only` does: seconds, and how many times the operations and the time
    of the config itself."""
    config = load_config(spec, overrides)
    trials = {"the config itself": make_trial(config)}
    for name, settings in cases(config).items():
        if not name.startswith(tuple(only)):
            continue
        trials[name] = make_trial(load_config(spec, [*overrides, *settings.items()]))
    first = next(iter(trials.values()))
    with jax.set_mesh(first.mesh):
        seconds = interleave({name: _step(trial) for name, trial in trials.items()}, rounds=rounds, warmup=2)
    base_flops, base = first.flops(train=True), float(np.median(seconds["the config itself"].wall))
    return [
        {
            "name": name,
            "seconds": summary(values.wall),
            "flops_times": trials[name].flops(train=True) / base_flops,
            "times": float(np.median(values.wall)) / base,
        }
        for name, values in seconds.items()
    ]


def devices(spec: str, overrides: list[tuple[str, str]], rounds: int) -> list[dict[str, Any]]:
    """One and eight fake devices, the same global batch: what sharding costs where it can bring nothing."""
    rows = []
    for n in (1, 8):
        words = [sys.executable, "-m", "vlm_jax", "bench", "train", "--config", spec, "--steps", str(rounds), "--json"]
        words += [f"--config.{key}={value}" for key, value in overrides]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(n), "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout)["rows"][0]
        rows.append({"name": f"{n} fake devices", "seconds": row["seconds"]})
    base = rows[0]["seconds"]["median"]
    return [{**row, "flops_times": 1.0, "times": row["seconds"]["median"] / base} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/vlm.py:tiny_vit")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES, help="some of them; default: all")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the config")
    arguments = parser.parse_args()
    runtime.prepare()
    overrides = [tuple(setting.split("=", 1)) for setting in arguments.settings]
    rows = grow(arguments.config, overrides, arguments.rounds, arguments.cases)
    if "devices" in arguments.cases:
        rows += devices(arguments.config, overrides, arguments.rounds)
    config = load_config(arguments.config, overrides)
    write(result("growth", {**describe(config), "rounds": arguments.rounds}, rows), arguments.out)
    for row in rows:
        times = f"operations {row['flops_times']:.2f} times, time {row['times']:.2f} times"
        print(f"{row['name']:<36}{row['seconds']['median'] * 1e3:10.1f} ms  {times}")


if __name__ == "__main__":
    main()
