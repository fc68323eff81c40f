"""What the benchmarks of several trained systems share: commands in processes of their own, and finished runs kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.config.load import load_config, read
from vlm_jax.evaluation.intervals import Samples
from vlm_jax.parallel.runtime import core_numbers


def vlm_jax(*words: str, env: Mapping[str, str] | None = None) -> None:
    """One command; what it says goes to stderr, `env` is set beside our environment. Where it fails, all ends in one
    line."""
    line = f"vlm-jax {' '.join(words)}"
    print(f"$ {line}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "vlm_jax", *words], stdout=sys.stderr, env={**os.environ, **(env or {})}, check=False
    )
    if done.returncode:
        sys.exit(f"{line} ended with exit code {done.returncode}; mend it, and run the same benchmark to go on")


def train_and_score(preset: str, folder: Path, settings: Mapping[str, str], contexts: str = "gold") -> None:
    """Trains and evaluates on test, unless that is done; a run that was cut off goes on."""
    if (folder / "eval" / "test" / "metrics.json").is_file():
        if read(folder / "config.json") != load_config(preset, dict(settings)):
            sys.exit(f"{folder} holds a finished run of other settings: remove it, or give another --workdir")
        return
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    vlm_jax("train", "--config", preset, "--workdir", str(folder), *overrides)
    vlm_jax("evaluate", "--workdir", str(folder), "--split", "test", "--contexts", contexts)


def on_shares(jobs: Iterable[Callable[[], None]], processes: int) -> None:
    """Every job, `processes` at a time, each with what it starts on its own share of this machine's cores."""
    shares = [core_numbers()[i::processes] for i in range(processes)]
    if not all(shares):
        sys.exit(f"--processes is {processes}: more than this machine's {len(core_numbers())} cores; give fewer")

    def keep_to_share() -> None:
        share = shares.pop()
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, share)  # of this thread: on Linux what it starts inherits it

    with ThreadPoolExecutor(processes, initializer=keep_to_share) as pool:
        try:
            for done in as_completed([pool.submit(job) for job in jobs]):
                done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what runs ends, nothing further begins
            raise


def predictions(folder: Path) -> list[dict[str, Any]]:
    """The rows of a finished run's predictions on the test part."""
    path = folder / "eval" / "test" / "predictions.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def estimates(samples: Samples) -> dict[str, list[float | None]]:
    """{name: [value, low, high]}."""
    found = {name: samples.estimate(name) for name in samples.names}
    return {name: [e.value, e.low, e.high] for name, e in found.items()}


def shown(estimate: list[float | None], form: str = ".3f") -> str:
    """`0.512 [0.480, 0.544]` of a value with its interval; n/a where it is undefined."""
    value, low, high = (float("nan") if x is None else x for x in estimate)
    if np.isnan(value):
        return "n/a"
    return f"{value:{form}}" if np.isnan(low) or np.isnan(high) else f"{value:{form}} [{low:{form}}, {high:{form}}]"


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, nan where nothing is to be recovered."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=np.abs(below) > 1e-9)


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Prints a result and writes it whole."""
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def write_page(page: Path, script: str, text: str, flags: str = "") -> None:
    """Puts what benchmarks/SCRIPT.py found when called with `flags` where the page keeps it; the rest of it stays."""
    begin, end = f"<!-- figures: benchmarks/{script}.py{flags and f' {flags}'} -->", "<!-- end of figures -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page} lacks the lines {begin} and {end}: bring them back, or give another --page")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
