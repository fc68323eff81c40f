"""Every figure of docs/performance.md for this machine, in one command: ten minutes on a GPU, an hour on two cores.

    python benchmarks/suite.py --machine cpu --out benchmarks/results/cpu
    python benchmarks/suite.py --machine gpu --out benchmarks/results/h200
    python benchmarks/suite.py --machine gpu --out /tmp/proof --small      the same jobs at the smallest size, anywhere

Each job is a `vlm-jax bench` of its own, in the order of what matters; one that does not fit into what is left of the
budget is left out and said to be. Peers run in the job's process, turn by turn. `--jobs NAME...` runs some of them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH = "benchmarks/peers/torch_vlm.py"
EAGER, COMPILE = f"{TORCH}:eager", f"{TORCH}:compile"
HUGGING_FACE = "benchmarks/peers/hugging_face.py"
INPUT = "benchmarks/peers/input.py"
FRAMES = "FRAMES"
"""In settings: the folder of frames that are rendered before the job that is fed from them."""


@dataclass(frozen=True)
class Job:
    """One run of `vlm-jax bench`.

    Attributes:
      preset: of configs/vlm.py; micro with --small.
      steps: timings of each case.
      seconds: what it needs at least; with less left it does not start.
    """

    name: str
    words: str
    preset: str
    steps: int
    seconds: int
    settings: str = ""
    peers: tuple[str, ...] = ()


def cpu_jobs() -> list[Job]:
    """Two cores, float32, batch 8, with the settings that a CPU runs fastest (docs/performance.md)."""
    eight, both = "train.batch_size=8 model.scan_layers=true", (EAGER, COMPILE)
    train = f"{eight} model.remat=true model.remat_keep=products"
    return [
        Job("train_light", "train", "light", 50, 900, train, both),
        Job("decode_light", "decode --beams 4", "light", 50, 300, eight, (EAGER, f"{HUGGING_FACE}:greedy")),
        Job("forward_light", "train --forward", "light", 50, 300, eight, both),
        Job("data", "data", "light", 50, 60, "", (f"{INPUT}:pil", f"{INPUT}:opencv", f"{INPUT}:torch")),
        Job("train_base", "train", "base", 10, 700, train, both),
        Job("forward_base", "train --forward", "base", 20, 400, eight, both),
        Job("decode_base", "decode", "base", 20, 300, eight, (EAGER,)),
        Job("predict_light", "predict", "light", 50, 60),
        Job("start_tiny", "start", "tiny", 2, 100),
    ]


def gpu_jobs() -> list[Job]:
    """One H100 or H200, bfloat16 activations; the attention's implementations and remat side by side."""
    both = (EAGER, COMPILE)
    generate = (f"{HUGGING_FACE}:greedy",)
    return [
        Job("train_base", "train", "base", 100, 80, "train.batch_size=256", both),
        Job("train_light", "train", "light", 100, 60, "train.batch_size=256", both),
        Job("train_base_cudnn", "train", "base", 100, 40, "train.batch_size=256 model.attention=cudnn"),
        Job("train_light_cudnn", "train", "light", 100, 30, "train.batch_size=256 model.attention=cudnn"),
        Job("train_base_scanned", "train", "base", 50, 30, "train.batch_size=256 model.scan_layers=true"),
        Job("train_base_remat", "train", "base", 50, 30, "train.batch_size=256 model.remat=true"),
        Job("forward_base", "train --forward", "base", 100, 30, "train.batch_size=256", (COMPILE,)),
        Job("decode_1", "decode --beams 4", "base", 50, 40, "train.batch_size=1", generate),
        Job("decode_64", "decode --beams 4", "base", 50, 40, "train.batch_size=64", generate),
        Job("predict_light", "predict", "light", 500, 20),
        Job("train_from_files", "train", "light", 60, 60, f"train.batch_size=256 data.path={FRAMES}"),
        Job("data", "data", "light", 50, 20, "", (f"{INPUT}:pil", f"{INPUT}:opencv", f"{INPUT}:torch")),
        Job("start_base", "start", "base", 2, 90, "train.batch_size=64"),
    ]


JOBS = {"cpu": cpu_jobs, "gpu": gpu_jobs}
BUDGETS = {"cpu": 5400.0, "gpu": 590.0}


def command(job: Job, out: Path, small: bool) -> list[str]:
    """The words of one job; `small` takes the smallest preset, two rows and three timings."""
    preset, steps = ("micro", 3) if small else (job.preset, job.steps)
    words = [sys.executable, "-m", "vlm_jax", "bench", *job.words.split(), "--config", f"configs/vlm.py:{preset}"]
    words += ["--steps", str(steps), "--warmup", "1" if small else "3", "--out", str(out / f"{job.name}.json")]
    settings = job.settings.replace(FRAMES, str(frames(small))).split() + (["train.batch_size=2"] if small else [])
    if small:
        settings = [s for s in settings if "cudnn" not in s]  # which needs a GPU
    words += [f"--config.{setting}" for setting in settings]
    return [*words, *(word for peer in job.peers for word in ("--peer", peer))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machine", choices=JOBS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="one JSON file a job")
    parser.add_argument("--budget", type=float, help="seconds; default: 590 for a GPU, 5400 for a CPU")
    parser.add_argument("--small", action="store_true", help="micro in place of the presets, to prove the script")
    parser.add_argument("--jobs", nargs="*", default=[], help="only these")
    arguments = parser.parse_args()
    jobs = JOBS[arguments.machine]()
    if unknown := set(arguments.jobs) - {job.name for job in jobs}:
        parser.error(f"no job {', '.join(sorted(unknown))}: choose from {', '.join(job.name for job in jobs)}")
    out = arguments.out.resolve()
    budget = BUDGETS[arguments.machine] if arguments.budget is None else arguments.budget
    ends, failed = time.monotonic() + budget, []
    for job in jobs:
        if arguments.jobs and job.name not in arguments.jobs:
            continue
        left = ends - time.monotonic()
        if not arguments.small and left < job.seconds:
            print(f"{job.name}: left out, it needs {job.seconds} s and {left:.0f} are left", flush=True)
            failed.append(job.name)
            continue
        if FRAMES in job.settings:
            render(frames(arguments.small), arguments.small)
        if not run(job, command(job, out, arguments.small), left):
            failed.append(job.name)
    print(f"not measured: {', '.join(failed)}" if failed else "all measured")
    return 1 if failed else 0


def run(job: Job, words: list[str], limit: float) -> bool:
    """Runs one job to its end or to the end of the budget; its lines go to stdout."""
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    print(f"--- {job.name}: {' '.join(words[1:])}", flush=True)
    try:
        done = subprocess.run(
            words, cwd=ROOT, env=environment, timeout=max(limit, 1), stderr=subprocess.PIPE, text=True
        )
    except subprocess.TimeoutExpired:
        print(f"{job.name}: stopped at the end of the budget", flush=True)
        return False
    if done.returncode:
        print(done.stderr[-2000:], flush=True)
    print(
        f"{job.name}: {'done' if not done.returncode else 'failed'} after {time.monotonic() - began:.0f} s", flush=True
    )
    return done.returncode == 0


def frames(small: bool) -> Path:
    """Where the simulated frames lie; git ignores it."""
    return ROOT / "runs" / ("bench-frames-small" if small else "bench-frames")


def render(folder: Path, small: bool) -> None:
    """A few simulated procedures as JPEGs, a procedure a core; what is there is kept."""
    size, n = (32, 24) if small else (224, 200)
    words = ["data", "simulate", "--out", str(folder), "--procedures", "12", "--frames_per_procedure", str(n)]
    words += ["--image_size", str(size), "--seed", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "vlm_jax", *words], cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
