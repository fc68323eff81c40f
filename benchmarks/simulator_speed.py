"""How fast the simulator renders, and where the time goes: a profile by stage, and whole data sets.

    python benchmarks/simulator_speed.py

Stages are timed in turn on chunks of frames of one operation, at the size of the full set; beside them a plain march of
every pixel over 40 steps, which is what coarse-to-fine replaces. Then `data simulate` makes a few procedures as long as
those of the full set, as many at a time as there are cores. Writes benchmarks/simulator_speed.json and the figures in
docs/reference/simulator.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from runs import vlm_jax, write_page, write_result

from vlm_jax.bench.machine import describe
from vlm_jax.bench.timing import interleave, summary
from vlm_jax.data.store import open_dataset
from vlm_jax.simulator import SimulatorConfig, field, nuisance, pictures, render, shade, trace
from vlm_jax.simulator.procedure import reference_frames
from vlm_jax.simulator.scene import build_scene, endoscope
from vlm_jax.simulator.version import identity
from vlm_jax.simulator.workflow import draw_plan

ROOT = Path(__file__).resolve().parents[1]
FULL = SimulatorConfig(procedures=30, frames_per_procedure=4333, image_size=224, seed=0)
PLAIN_STEPS = 40
CHUNKS = 24


def chunks(config: SimulatorConfig) -> list[list[render.Shot]]:
    """The reference frames of activities that are spread over one operation."""
    plan, out = draw_plan(config, 0), []
    for activity in plan.activities[:: max(1, len(plan.activities) // CHUNKS)][:CHUNKS]:
        scene = build_scene(config, plan, activity)
        path = endoscope(config, plan, activity, scene)
        out.append([(scene, path, k) for k in reference_frames(activity.frames)])
    return out


def plain(scene: field.Packed, size: int) -> jax.Array:
    """Depth f32[F, P] by marching every pixel."""
    rays = trace.world_rays(scene, size)

    def step(_: int, t: jax.Array) -> jax.Array:
        d = field.field(trace.along(scene, rays, t), scene)
        return jnp.where((d > 0.0008 * t) & (t < trace.FAR), t + trace.RELAX * d, t)

    return jax.lax.fori_loop(0, PLAIN_STEPS, step, jnp.full(rays[0].shape, trace.NEAR))


def stages(config: SimulatorConfig) -> dict[str, Callable[[], Any]]:
    """Name -> one chunk of render.CHUNK frames through one stage; every call takes the next chunk."""
    shots, size = chunks(config), config.image_size
    ready = []
    for some in shots:
        packed, look = render.pack(some), render.look(some)
        hits = trace.trace(packed, size)
        ready.append((some, packed, look, hits, np.asarray(shade.shade(hits, packed, look)[0])))
    march = field.program(plain, "size")

    def call(stage: Callable[..., Any]) -> Callable[[], Any]:
        turn = itertools.cycle(ready)
        return lambda: jax.block_until_ready(stage(*next(turn)))

    return {
        "plain march, 40 steps": call(lambda some, packed, look, hits, rgb: march(packed, size)),
        "march, coarse to fine": call(lambda some, packed, look, hits, rgb: trace.march_fn(packed, size)),
        "march, names, normals, openness": call(lambda some, packed, look, hits, rgb: trace.trace(packed, size)),
        "light and mucosa": call(lambda some, packed, look, hits, rgb: shade.shade(hits, packed, look)),
        "camera, noise, JPEG": call(lambda some, packed, look, hits, rgb: _recorded(some, rgb, config)),
        "labels of a frame (56 pixels)": call(lambda some, packed, look, hits, rgb: render.sights([_as_view(some)])),
    }


def _recorded(some: list[render.Shot], rgb: np.ndarray, config: SimulatorConfig) -> list[bytes]:
    rng = np.random.Generator(np.random.SFC64(0))
    images = [nuisance.record(rgb[k], p.strengths[n], s.centre, rng) for k, (s, p, n) in enumerate(some)]
    return [pictures.jpeg(image, config.jpeg_quality) for image in images]


def _as_view(some: list[render.Shot]) -> tuple[Any, Any, list[int]]:
    return some[0][0], some[0][1], [number for _, _, number in some]


def whole(procedures: int, frames: int) -> dict[str, Any]:
    """`data simulate` as a user calls it for the first time: nothing that was compiled before is at hand."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        words = ["--procedures", str(procedures), "--frames_per_procedure", str(frames), "--image_size", "224"]
        env = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"}
        vlm_jax("data", "simulate", "--out", f"{folder}/d", "--seed", "0", *words, env=env)
        seconds = time.perf_counter() - began
        data = open_dataset(Path(folder) / "d")
        n = len(data.frames.uid)
        found = {"procedures": procedures, "frames": n, "activities": len(data.tables.activities), "seconds": seconds}
    return {**found, "frames_per_second": n / seconds}


def page(found: dict[str, Any]) -> str:
    """The table by stage, and the whole."""
    lines = ["| stage | milliseconds a frame (quartiles) |", "|---|---|"]
    lines += [
        f"| {name} | {ms['median']:.2f} ({ms['low']:.2f} to {ms['high']:.2f}) |"
        for name, ms in ((row["name"], row["milliseconds"]) for row in found["rows"])
    ]
    w, m = found["whole"], found["machine"]
    size = f"{w['procedures']} procedures ({w['frames']:,} frames, {w['activities']} activities)"
    where = f"{m['cpu']}, {m['cores']} cores, {m['device']}"
    return "\n".join(
        [
            *lines,
            "",
            f"`data simulate` with {size}: {w['seconds']:.0f} s, **{w['frames_per_second']:.0f} frames/s**, "
            "compilation in it.",
            "",
            f"Simulator {found['simulator']}; {found['date']}, commit {found['commit']}; {where}; medians "
            f"of {found['rows'][0]['milliseconds']['n']}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50, help="timings of each stage")
    parser.add_argument("--procedures", type=int, default=os.cpu_count() or 1, help="of the whole run")
    parser.add_argument("--frames", type=int, default=FULL.frames_per_procedure, help="a procedure of the whole run")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "simulator_speed.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "reference" / "simulator.md")
    arguments = parser.parse_args()
    seconds = interleave(stages(FULL), rounds=arguments.rounds, warmup=2)
    rows = [{"name": name, "milliseconds": summary(1e3 * s.wall / render.CHUNK)} for name, s in seconds.items()]
    found = {
        "simulator": identity(FULL),
        "per": "frame",
        "rows": rows,
        "whole": whole(arguments.procedures, arguments.frames),
        **describe(),
    }
    write_result(arguments.json, found)
    write_page(arguments.page, "simulator_speed", page(found))


if __name__ == "__main__":
    main()
