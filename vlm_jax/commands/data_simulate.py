"""`vlm-jax data simulate`."""

from __future__ import annotations

import argparse

HELP = """Make a data set of simulated sinus operations; the same seed gives the same bytes.

Fewer frames than 5 a second thin evenly: every activity stays. A run that was cut off goes on where it stopped.

example:
  vlm-jax data simulate --out DIR --procedures 30 --frames_per_procedure 4333 --image_size 224 --seed 0
"""

SETTINGS = {
    "procedures": (int, "operations"),
    "frames_per_procedure": (int, "mean number of frames kept of each operation"),
    "image_size": (int, "pixels, square"),
    "seed": (int, "of everything that is drawn"),
    "activities_per_procedure": (float, "mean number of activities of an operation"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command; their defaults are those of `SimulatorConfig`."""
    from vlm_jax.simulator.config import SimulatorConfig

    parser.add_argument("--out", required=True, metavar="DIR", help="the data set is written here")
    for name, (kind, text) in SETTINGS.items():
        default = getattr(SimulatorConfig, name)
        parser.add_argument(f"--{name}", type=kind, metavar="N", help=f"{text}; default: {default:g}")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the data set is whole."""
    from vlm_jax.data.store import write_dataset
    from vlm_jax.simulator import SimulatorConfig, dataset_info, make_procedure, procedure_ids

    given = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    config = SimulatorConfig(**given)
    write_dataset(args.out, dataset_info(config), procedure_ids(config), lambda id: make_procedure(config, id))
    return 0
