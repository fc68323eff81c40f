"""Scale without the chips: train steps compiled for hundreds of devices, what they send against the least possible.

    python benchmarks/scale.py                        every row that benchmarks/scale.json lacks; some minutes a row
    python benchmarks/scale.py --rows light-data-256  these, anew
    python benchmarks/scale.py --table                only docs/scale.md, from the JSON file

Nothing is allocated and no step is run: each row is a process of its own that compiles the step of `vlm-jax train` from
shapes. Rows of GPUs are compiled for as many fake CPU devices, in float32; rows of TPUs by libtpu, in bfloat16 (pip
install libtpu; no TPU is needed). A row that is done is in the JSON file, and is not compiled again.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scale_page
from runs import write_page

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "scale.json"
PAGE = ROOT / "docs" / "scale.md"


@dataclass(frozen=True)
class Chip:
    """Published figures of one device (NVIDIA's H100 SXM data sheet; Google's pages of TPU v5e).

    Attributes:
      flops: dense peak a second, of the dtype that the row is compiled in (float32 on GPUs: TF32, JAX's default).
      memory: bytes. bandwidth: bytes a second to it.
      network: bytes a second that a device sends, and inside a host (or a slice's one axis) `near`.
      host: devices that `near` joins.
    """

    flops: float
    memory: float
    bandwidth: float
    network: float
    near: float
    host: int


CHIPS = {
    "H100": Chip(flops=494.5e12, memory=80e9, bandwidth=3.35e12, network=50e9, near=450e9, host=8),
    # 1,600 Gbit/s over four links; a mesh axis is given the half of them that one side of the torus has.
    "v5e": Chip(flops=197e12, memory=16e9, bandwidth=819e9, network=100e9, near=100e9, host=256),
}


@dataclass(frozen=True)
class Row:
    """One step to compile.

    Attributes:
      records: of a batch, for each copy of the model (what data and fsdp count).
      topology: of TPUs, as libtpu names it, with the number of slices behind "*"; "" = fake devices.
      settings: what differs from the preset.
    """

    preset: str
    data: int
    fsdp: int
    tensor: int
    records: int
    chip: str = "H100"
    topology: str = ""
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def devices(self) -> int:
        """All of them."""
        return self.data * self.fsdp * self.tensor

    @property
    def name(self) -> str:
        """As `--rows` takes it: light-data-256, base-data-64-tensor-4-v5e."""
        axes = [f"{axis}-{n}" for axis in ("data", "fsdp", "tensor") if (n := getattr(self, axis)) > 1]
        return "-".join([self.preset, *axes, *([self.chip] if self.topology else [])])


TPU_SETTINGS = (
    ("model.scan_layers", "true"),
    ("augment.rotate", "0"),
    ("augment.scale", "0"),
    ("augment.translate", "0"),
)
"""What lets libtpu end within minutes on one core."""

ROWS = (
    Row("light", 256, 1, 1, 64),
    Row("light", 1, 256, 1, 64),
    Row("light", 128, 1, 2, 64),
    Row("base", 256, 1, 1, 64),
    Row("base", 1, 256, 1, 64),
    Row("base", 64, 1, 4, 64),
    Row("light", 512, 1, 1, 64),
    Row("base", 2, 256, 1, 64),
    Row("light", 256, 1, 1, 8, "v5e", "v5e:16x16", TPU_SETTINGS),
    Row("light", 512, 1, 1, 8, "v5e", "v5e:16x16*2", TPU_SETTINGS),
)


def compile_row(row: Row) -> dict[str, Any]:
    """Everything about one row, in this process, whose devices it sets."""
    devices = tpu_devices(row.topology) if row.topology else fake_devices(row.devices)
    from vlm_jax.bench.machine import describe
    from vlm_jax.config.load import load_config
    from vlm_jax.parallel.collectives import collectives
    from vlm_jax.parallel.partition import left_whole
    from vlm_jax.parallel.planned import axes_of, unplanned_gathers
    from vlm_jax.training import inspection
    from vlm_jax.training.minimum import minimum
    from vlm_jax.training.program import abstract_batch

    dtype = "bfloat16" if row.topology else "float32"
    sizes = {f"parallel.{axis}": str(getattr(row, axis)) for axis in ("data", "fsdp", "tensor")}
    config = load_config(f"vlm:{row.preset}", {**sizes, "model.dtype": dtype, **dict(row.settings)})
    subject = inspection.make_subject(config, devices)
    batch_size, mesh = row.records * row.data * row.fsdp, dict(subject.mesh.shape)
    began = time.monotonic()
    compiled = inspection.compile_train_step(subject, abstract_batch(config, batch_size, subject.n_landmarks))
    seconds = time.monotonic() - began
    text = compiled.as_text()
    found = collectives(text)
    sent = total((axes_of(one.groups, mesh), one.kind, one.sent) for one in found)
    least = total((term.axes, term.kind, term.sent) for term in minimum(subject, batch_size))
    about = describe()
    cost = {key: compiled.cost_analysis()[key] for key in ("flops", "bytes accessed")}
    result = {
        "row": dataclasses.asdict(row) | {"devices": row.devices, "dtype": dtype, "batch_size": batch_size},
        "sent": sent,
        "minimum": least,
        "ratio": sum(sent.values()) / sum(least.values()),
        "unplanned_gathers": unplanned_gathers(found, subject.abstract.params, mesh),
        "left_whole": left_whole(subject.mesh, subject.abstract.params),
        "parameters": inspection.parameter_table(subject.abstract.params)["total"],
        "memory": inspection.compiled_memory(compiled),
        "cost": cost,
        "model_flops": 3 * inspection.flops_per_example(subject) * row.records // row.tensor,
        "compile_seconds": seconds,
        "date": about["date"],
        "commit": about["commit"],
        "machine": {key: about["machine"][key] for key in ("cpu", "cores")},
        "versions": {key: about["versions"][key] for key in ("jax", "jaxlib", "flax", "python")} | libtpu_version(),
    }
    share = {"memory_share": result["memory"]["peak"] / CHIPS[row.chip].memory}
    if config.model.scan_layers:  # the compiler counts the operations of a loop once, however often it runs
        return result | {"estimate": share}
    return result | {"estimate": share | estimate(result, CHIPS[row.chip], row)}


def estimate(result: dict[str, Any], chip: Chip, row: Row) -> dict[str, float]:
    """Roofline of one device (Williams et al. 2009): the slower of arithmetic and memory, and then the network.

    Nothing overlaps with the network here, and everything else does: neither is quite so on a device.
    """
    arithmetic = result["cost"]["flops"] / chip.flops
    memory = result["cost"]["bytes accessed"] / chip.bandwidth
    near = "tensor" if row.tensor <= chip.host else ""
    speed = {key: chip.near if key.split(" ")[1] == near else chip.network for key in result["sent"]}
    network = sum(n / speed[key] for key, n in result["sent"].items())
    step = max(arithmetic, memory) + network
    return {
        "arithmetic": arithmetic,
        "memory": memory,
        "network": network,
        "step": step,
        "mfu": result["model_flops"] / step / chip.flops,
    }


def total(parts: Iterable[tuple[str, str, float]]) -> dict[str, float]:
    """{"all-reduce data": bytes}, of (axes, kind, bytes)."""
    sums: Counter[str] = Counter()
    for axes, kind, sent in parts:
        sums[f"{kind} {axes or '?'}"] += sent
    return dict(sorted(sums.items()))


def fake_devices(n: int) -> None:
    """Has JAX see n CPU devices."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", n)


def tpu_devices(topology: str) -> list[Any]:
    """Devices of a TPU that is not there, from libtpu's description of it."""
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # there is no metadata server to ask
    import jax
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")
    name, _, slices = topology.partition("*")
    more = {"num_slices": int(slices)} if slices else {}
    return topologies.get_topology_desc(platform="tpu", topology_name=name, **more).devices


def libtpu_version() -> dict[str, str]:
    """Its version where it is installed."""
    try:
        return {"libtpu": importlib.metadata.version("libtpu")}
    except importlib.metadata.PackageNotFoundError:
        return {}


def in_a_process(row: Row) -> dict[str, Any] | None:
    """The row compiled in a process of its own; None, with a line, where that fails."""
    command = [sys.executable, __file__, "--one", row.name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"{row.name} ended with exit code {done.returncode}; the same command goes on here", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def load(path: Path) -> dict[str, Any]:
    """{row's name: its result} of rows that are done, in the order of ROWS."""
    done = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {row.name: done[row.name] for row in ROWS if row.name in done}


def save(path: Path, results: dict[str, Any]) -> None:
    """Writes it whole."""
    ordered = {row.name: results[row.name] for row in ROWS if row.name in results}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def main() -> int:
    """Compiles what is missing, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="names, joined by commas: these anew; default: all that are missing")
    parser.add_argument("--table", action="store_true", help="only write the page again")
    parser.add_argument("--out", type=Path, default=OUT, help="the JSON file, default benchmarks/scale.json")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page, default docs/scale.md")
    parser.add_argument("--one", metavar="ROW", help="compile this row here, and print its JSON")
    args = parser.parse_args()
    known = {row.name: row for row in ROWS}
    names = [args.one] if args.one else args.rows.split(",") if args.rows else list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown row {unknown[0]!r}: choose from {', '.join(known)}")
    if args.one:
        print(json.dumps(compile_row(known[args.one])))
        return 0
    results, failed = load(args.out), 0
    wanted = [] if args.table else [name for name in names if args.rows or name not in results]
    for i, name in enumerate(wanted):
        if known[name].topology and importlib.util.find_spec("libtpu") is None:
            print(f"[{i + 1}/{len(wanted)}] {name}: left out, for libtpu is not installed", file=sys.stderr)
            continue
        print(f"[{i + 1}/{len(wanted)}] {name}: compiling for {known[name].devices} devices", file=sys.stderr)
        found = in_a_process(known[name])
        if found is None:
            failed += 1
            continue
        results[name] = found
        save(args.out, results)
        said = f"{found['ratio']:.4f} of the minimum, {len(found['unplanned_gathers'])} unplanned gathers"
        print(f"  {said}, {found['compile_seconds']:.0f} s", file=sys.stderr, flush=True)
    write_page(args.page, "scale", scale_page.figures(results))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
