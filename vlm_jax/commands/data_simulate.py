"""`vlm-jax data simulate`."""

from __future__ import annotations

import argparse

from vlm_jax.commands import workers

HELP = """Make a data set of simulated sinus operations; the same seed gives the same bytes.

Fewer frames than 5 a second thin evenly: every activity stays. A run that was cut off goes on where it stopped.

Beside each set lies README.md, its card. Null worlds and the stress set: docs/reference/simulator.md.

example:
  vlm-jax data simulate --out DIR --procedures 30 --frames_per_procedure 4333 --image_size 224 --seed 0
"""

FLAGS = {
    "procedures": (int, "operations"),
    "frames_per_procedure": (int, "mean number of frames kept of each operation"),
    "image_size": (int, "pixels, square"),
    "seed": (int, "of everything that is drawn"),
    "activities_per_procedure": (float, "mean number of activities of an operation"),
    "unassessable_share": (float, "of all frames, between activities and showing nothing"),
    "world": (str, "normal, or a null world: reports_independent, previous_shuffled"),
    "information": (float, "share of visual sentences and descriptions that are true to the scene"),
}
SWITCHES = {
    "stress": "rare complications at high rates: the labelled stress set",
    "masks": "id masks beside the images (PNG)",
    "depth": "depth maps beside the images (PNG, hundredths of a millimetre)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command; their defaults are those of `SimulatorConfig`."""
    from vlm_jax.simulator.config import SimulatorConfig

    parser.add_argument("--out", required=True, metavar="DIR", help="the data set is written here")
    for name, (kind, text) in FLAGS.items():
        default = getattr(SimulatorConfig, name)
        shown = default if kind is str else f"{default:g}"
        parser.add_argument(
            f"--{name}", type=kind, metavar="NAME" if kind is str else "N", help=f"{text}; default: {shown}"
        )
    workers.add(parser)
    for name, text in SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the data set is whole."""
    from vlm_jax.data.store import write_dataset
    from vlm_jax.simulator import SimulatorConfig, dataset_info, make_procedure, procedure_ids

    given = {name: getattr(args, name) for name in FLAGS if getattr(args, name) is not None}
    config = SimulatorConfig(**given, **{name: getattr(args, name) for name in SWITCHES})
    write_dataset(
        args.out,
        dataset_info(config),
        procedure_ids(config),
        lambda id: make_procedure(config, id),
        workers=workers.given(args),
    )
    return 0
