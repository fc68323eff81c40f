"""`vlm-jax data information`."""

from __future__ import annotations

import argparse

from vlm_jax.commands import workers

HELP = """How much there is to know in the simulator's world: ceilings of the text tasks, information in bits.

Forks the generator at many states and writes one JSON file. A run that was cut off goes on where it stopped. By the
defaults two cores take minutes for each of the parts labels and report, two hours for anticipate, four for describe.

example:
  vlm-jax data information --out runs/information.json --states 200 --futures 50
"""

COUNTS = {
    "states": "states of each task",
    "futures": "futures of each state",
    "pool": "procedures among which moments that look alike are sought",
    "seed": "of states and futures",
}
WORLD = {
    "world": (str, "NAME", "normal, reports_independent or previous_shuffled"),
    "information": (float, "N", "share of visual sentences and descriptions that are true to the scene"),
    "activities_per_procedure": (float, "N", "mean number of activities of an operation"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    from vlm_jax.evaluation.information import PARTS, Settings
    from vlm_jax.simulator.config import SimulatorConfig

    parser.add_argument("--out", required=True, metavar="FILE", help="the result (JSON)")
    for name, text in COUNTS.items():
        default = getattr(Settings, name)
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text}; default: {default}")
    for name, (kind, value, text) in WORLD.items():
        default = getattr(SimulatorConfig, name)
        shown = default if kind is str else f"{default:g}"
        parser.add_argument(f"--{name}", type=kind, default=default, metavar=value, help=f"{text}; default: {shown}")
    parser.add_argument(
        "--parts", nargs="+", default=PARTS, metavar="NAME", help=f"some of {', '.join(PARTS)}; default: all"
    )
    workers.add(parser)
    parser.add_argument("--stress", action="store_true", help="rare complications at high rates")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the result is written."""
    from vlm_jax.evaluation.information import Settings, measure
    from vlm_jax.simulator.config import SimulatorConfig

    settings = Settings(parts=tuple(args.parts), **{name: getattr(args, name) for name in COUNTS})
    config = SimulatorConfig(stress=args.stress, **{name: getattr(args, name) for name in WORLD})
    result = measure(config, settings, args.out, workers=workers.given(args))
    for task, found in result["tasks"].items():
        if not found["states"]:
            continue
        shown = {m: [found[m][f"ceiling_{k}"] for k in ("state", "inputs")] for m in ("exact", "bleu2")}
        cells = ", ".join(f"{m} {a:.3f} given the state, {b:.3f} given the inputs" for m, (a, b) in shown.items())
        print(f"{task}: {cells} ({found['states']} states, {result['world']}, {result['simulator']})")
    return 0
