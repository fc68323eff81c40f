"""`vlm-jax inspect`."""

from __future__ import annotations

import argparse

from vlm_jax.errors import UserError

HELP = """Show what a configuration means: parameters, shardings, bytes, FLOPs, one batch.

No parameter is allocated and no step is run: shapes are enough. With --config.data.path the data sets are read, for
label names and vocabulary; without it the model is built for the simulator's 20 landmarks. --devices N answers for N
devices that this machine need not have; --compile also compiles one training step and gives its peak memory
and the bytes that a device sends to others in it.

example:
  vlm-jax inspect --config configs/vlm.py:light --json
  vlm-jax inspect --config configs/vlm.py:base --devices 8 --config.parallel.fsdp=8
"""


SHOWN = 4
"""Names of parameters in one line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("--config", required=True, metavar="FILE:ARG", help="e.g. configs/vlm.py:light,no_text")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--compile", action="store_true", help="compile one training step; adds its peak memory")
    parser.add_argument("--devices", type=int, default=0, metavar="N", help="as if this machine had N CPU devices")


def run(args: argparse.Namespace) -> int:
    """Prints the report."""
    import json

    from vlm_jax.config.load import load_config

    config = load_config(args.config, args.overrides)
    if args.devices < 0:
        raise UserError(f"--devices {args.devices}: give how many CPU devices, 1 or more")
    if args.devices:
        import jax

        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", args.devices)
    from vlm_jax.training.inspection import inspect_run

    report = inspect_run(config, compile_step=args.compile)
    print(json.dumps(report) if args.json else _table(report))
    return 0


def _table(report: dict) -> str:
    """The same for a person."""
    lines = [f"{report['name']} ({report['system']})", "", f"{'part':<16}{'parameters':>14}"]
    lines += [f"{part:<16}{count:>14,}" for part, count in report["parts"].items()]
    lines += [f"{'total':<16}{report['parameters']:>14,}", ""]
    lines += [f"{'parameter':<60}{'shape':<20}{'sharded over':<24}{'bytes a device':>14}"]
    for row in report["shardings"]:
        axes = ", ".join("-" if axis is None else str(axis) for axis in row["spec"]) or "-"
        lines.append(f"{row['name']:<60}{'x'.join(map(str, row['shape'])):<20}{axes:<24}{row['bytes']:>14,}")
    mesh = ", ".join(f"{axis} {size}" for axis, size in report["mesh"].items())
    lines += ["", f"mesh             {mesh}", *_left_whole(report), "batch"]
    lines += [f"  {name:<15}{dtype}{shape}" for name, (shape, dtype) in report["batch"].items()]
    lines += [f"FLOPs an example {report['flops_per_example']:,} (forward; a training step is about three times that)"]
    lines += [f"bytes a device   {report['bytes_per_device']:,} (parameters, optimiser, moving average)"]
    if "compiled" in report:
        lines.append("compiled step    " + ", ".join(f"{k} {v:,} bytes" for k, v in report["compiled"].items()))
    for row in report.get("collectives", []):
        sent = f"{row['bytes']:,} bytes sent by a device in {row['count']} runs"
        lines.append(f"  {row['kind']} among {row['devices']}: {sent}")
    return "\n".join(lines)


def _left_whole(report: dict) -> list[str]:
    """A line where the mesh was to split parameters, and its size does not divide theirs."""
    names = report["left_whole"]["undivided"]
    if not names:
        return []
    sizes = ", ".join(f"{axis} {report['mesh'][axis]}" for axis in ("fsdp", "tensor") if report["mesh"][axis] > 1)
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more (--json: left_whole)" if names[SHOWN:] else "")
    return [f"left whole       {len(names)} parameters that {sizes} does not divide, on every device: {shown}"]
