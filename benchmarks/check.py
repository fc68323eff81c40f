"""Is this commit slower than its base? `make bench-check`, outside `make test`.

    python benchmarks/check.py --base main [--config configs/vlm.py:tiny_vit] [--rounds 3] [--limit 15]

Both versions run in turn, base, commit, base, commit, ..., each in a process of its own, on this machine. The figure is
the median of the ratios of neighbours. Exit code 1 past the limit: 15 % on a CPU, where identical runs spread by 6 %,
5 % on a GPU. The base is checked out into a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"cpu": 15.0}
GPU_LIMIT = 5.0


def check_out(base: str, folder: Path) -> str:
    """The files of `base` in `folder`, by `git worktree`; returns the commit."""
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(folder), base], cwd=ROOT, check=True)
    if not (folder / "vlm_jax" / "bench").is_dir():
        sys.exit(f"{base} has no `vlm-jax bench`: there is nothing to compare with")
    done = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def measure(folder: Path, arguments: argparse.Namespace) -> tuple[float, str]:
    """(median seconds a step, platform) of the version in `folder`."""
    words = [sys.executable, "-m", "vlm_jax", "bench", arguments.what, "--config", arguments.config, "--json"]
    words += ["--steps", str(arguments.steps), *(f"--config.{setting}" for setting in arguments.settings)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the version in {folder.name} does not run: {done.stderr.strip().splitlines()[-1:]}")
    found = json.loads(done.stdout)
    return found["rows"][0]["seconds"]["median"], found["machine"]["platform"]


def verdict(base: list[float], commit: list[float], limit: float) -> tuple[bool, str]:
    """(passed, one line). A base and a commit of equal place were measured one after the other."""
    ratios = [ours / theirs for theirs, ours in zip(base, commit, strict=True)]
    change = 100 * (statistics.median(ratios) - 1)
    spread = ", ".join(f"{100 * (ratio - 1):+.1f} %" for ratio in ratios)
    passed = change <= limit
    return (
        passed,
        f"{'passed' if passed else 'FAILED'}: {change:+.1f} % against the base (rounds {spread}); limit {limit:g} %",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="HEAD~1", help="a commit or branch; default: HEAD~1")
    parser.add_argument("--what", default="train", help="a job of `vlm-jax bench`; default: train")
    parser.add_argument("--config", default="configs/vlm.py:tiny_vit", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each version; default: 3")
    parser.add_argument("--steps", type=int, default=50, help="timings a run; default: 50")
    parser.add_argument("--limit", type=float, help="percent; default: 15 on a CPU, 5 on a GPU")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the config")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp()) / "base"
    try:
        print(f"base {check_out(arguments.base, folder)}", flush=True)
        base, commit, platform = [], [], "cpu"
        for i in range(arguments.rounds):
            base.append(measure(folder, arguments)[0])
            seconds, platform = measure(ROOT, arguments)
            commit.append(seconds)
            print(f"round {i + 1}: base {base[-1] * 1e3:.1f} ms, commit {seconds * 1e3:.1f} ms", flush=True)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, capture_output=True)
        shutil.rmtree(folder.parent, ignore_errors=True)
    limit = LIMITS.get(platform, GPU_LIMIT) if arguments.limit is None else arguments.limit
    passed, line = verdict(base, commit, limit)
    print(line)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
