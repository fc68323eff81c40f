"""Where a training step's time goes on a CPU, by kind of operation, from XLA's own profiler.

    python benchmarks/step_profile.py --config configs/vlm.py:light train.batch_size=8 model.scan_layers=true

Runs a step twice for warmth and twice under `jax.profiler`; adds up the time of operations by kind.
Operations that only hold others (while, call, conditional) are left out. Prints the table and the largest operations.
"""

from __future__ import annotations

import argparse
import collections
import re
import tempfile
from pathlib import Path

import jax

from vlm_jax.bench.train import _step
from vlm_jax.bench.trial import make_trial
from vlm_jax.config.load import load_config
from vlm_jax.parallel import runtime

STEPS = 2
HOLDERS = re.compile(r"^(while|call|conditional)\b")
KINDS = (
    ("products", re.compile(r"^(dot|ynn|onednn|custom-call|convolution)")),
    ("copies and transpositions", re.compile(r"^(copy|transpose|wrapped_(copy|transpose)|concatenate|slice|dynamic)")),
    ("sums over axes", re.compile(r"(reduce|sum)")),
    ("fused elementwise work", re.compile(r"fusion|wrapped")),
)
"""Kind -> the names of its operations; the first that fits counts."""


def seconds_by_operation(spec: str, settings: list[tuple[str, str]]) -> collections.Counter[str]:
    """Operation -> seconds a step, by the clock; an operation that several threads share counts once."""
    trial = make_trial(load_config(spec, settings))
    call = _step(trial)
    with tempfile.TemporaryDirectory() as folder, jax.set_mesh(trial.mesh):
        for _ in range(2):
            call()
        with jax.profiler.trace(folder):
            for _ in range(STEPS):
                call()
        file = next(Path(folder).rglob("*.xplane.pb"))
        return _totals(jax.profiler.ProfileData.from_file(str(file)))


def _totals(data: jax.profiler.ProfileData) -> collections.Counter[str]:
    total: collections.Counter[str] = collections.Counter()
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                if "hlo_op" in dict(event.stats) and not HOLDERS.match(event.name):
                    total[event.name] += event.duration_ns / 1e9 / STEPS
    return total


def by_kind(total: collections.Counter[str]) -> collections.Counter[str]:
    kinds: collections.Counter[str] = collections.Counter()
    for name, seconds in total.items():
        kinds[next((kind for kind, pattern in KINDS if pattern.search(name)), "other")] += seconds
    return kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/vlm.py:light")
    parser.add_argument("--largest", type=int, default=15, help="operations to print; default: 15")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the config")
    arguments = parser.parse_args()
    runtime.prepare()
    settings = [(key, value) for key, _, value in (word.partition("=") for word in arguments.settings)]
    total = seconds_by_operation(arguments.config, settings)
    whole = sum(total.values())
    print(f"{whole:.2f} s of operations a step")
    for kind, seconds in by_kind(total).most_common():
        print(f"{seconds:8.2f} s {seconds / whole:6.1%}  {kind}")
    for name, seconds in total.most_common(arguments.largest):
        print(f"{seconds * 1e3:8.0f} ms  {name}")


if __name__ == "__main__":
    main()
