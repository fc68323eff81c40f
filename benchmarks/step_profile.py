"""Where a training step's time goes on a CPU, by kind of operation, from XLA's own profiler.

    python benchmarks/step_profile.py --config configs/vlm.py:light train.batch_size=8 model.scan_layers=true

Runs a step twice for warmth and twice under `jax.profiler`, and adds up the time of operations by kind. The kind of a
fused operation is read from the compiled program, by what is fused in it, and not from its name. Operations that only
hold others (while, call, conditional) are left out. Prints the table and the largest operations.
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
HOLDERS = {"while", "call", "conditional"}
MOVES = {"copy", "transpose", "concatenate", "slice", "dynamic-slice", "dynamic-update-slice", "pad"}
MOVES |= {"gather", "scatter"}
SILENT = {"parameter", "constant", "bitcast", "reshape", "tuple", "get-tuple-element", "iota", "broadcast", "convert"}
"""What may stand beside moves without being work of its own."""
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*?\{\n(.*?)^\}", re.DOTALL | re.MULTILINE)
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = .*? ([a-z][a-z\-]*)\((.*)$", re.MULTILINE)
_CALLED = re.compile(r"calls=%?([\w.\-]+)")


def kinds(program: str) -> dict[str, str]:
    """Instruction -> its kind, or "holder", of a compiled program's text."""
    inside = {name: _INSTRUCTION.findall(body) for name, body in _COMPUTATION.findall(program)}
    result = {}
    for instructions in inside.values():
        for name, opcode, rest in instructions:
            called = _CALLED.search(rest)
            fused = inside.get(called[1], []) if called else []
            result[name] = _kind({opcode} if not fused else {inner for _, inner, _ in fused})
    return result


def _kind(opcodes: set[str]) -> str:
    if opcodes & HOLDERS:
        return "holder"
    if opcodes & {"dot", "convolution"}:
        return "products"
    if opcodes & {"reduce", "reduce-window"}:
        return "sums over axes"
    return "copies and moves" if opcodes & MOVES and opcodes <= MOVES | SILENT else "elementwise work"


def profile(spec: str, settings: list[tuple[str, str]]) -> tuple[collections.Counter[str], dict[str, str]]:
    """(operation -> seconds a step by the clock, one that several threads share once; operation -> kind)."""
    trial = make_trial(load_config(spec, settings))
    call = _step(trial)
    with tempfile.TemporaryDirectory() as folder, jax.set_mesh(trial.mesh):
        for _ in range(2):
            call()
        with jax.profiler.trace(folder):
            for _ in range(STEPS):
                call()
        program = trial.train_step.lower(trial.state, trial.placed).compile().as_text()
        file = next(Path(folder).rglob("*.xplane.pb"))
        return _totals(jax.profiler.ProfileData.from_file(str(file))), kinds(program)


def _totals(data: jax.profiler.ProfileData) -> collections.Counter[str]:
    total: collections.Counter[str] = collections.Counter()
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                if "hlo_op" in dict(event.stats):
                    total[event.name] += event.duration_ns / 1e9 / STEPS
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/vlm.py:light", help="default: %(default)s")
    parser.add_argument("--largest", type=int, default=15, help="operations to print; default: %(default)s")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the config")
    arguments = parser.parse_args()
    runtime.prepare()
    settings = [(key, value) for key, _, value in (word.partition("=") for word in arguments.settings)]
    total, kind = profile(arguments.config, settings)
    work = {name: seconds for name, seconds in total.items() if kind.get(name) != "holder"}
    by_kind: collections.Counter[str] = collections.Counter()
    for name, seconds in work.items():
        by_kind[kind.get(name, "not found in the program")] += seconds
    whole = sum(work.values())
    print(f"{whole:.2f} s of operations a step")
    for name, seconds in by_kind.most_common():
        print(f"{seconds:8.2f} s {seconds / whole:6.1%}  {name}")
    for name, seconds in collections.Counter(work).most_common(arguments.largest):
        print(f"{seconds * 1e3:8.0f} ms  {name}, {kind.get(name, 'not found in the program')}")


if __name__ == "__main__":
    main()
