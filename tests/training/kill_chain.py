"""Chains of runs that are killed at random points until one ends, and what must be the same afterwards, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from vlm_jax.checkpoint import integrity

ROOT = Path(__file__).resolve().parents[2]
STEPS, EPOCH = 14, 3  # 24 training records in batches of 8
CLOCKS = ("seconds_per_step", "data_wait")  # all else in metrics.jsonl must be the same
PHASES = (
    "step", "in step", "accumulation", "epoch", "row", "evaluation", "thresholds", "save", "saving", "arrays", "commit",
    "committed", "prune", "claim", "restored",
)  # fmt: skip
KINDS = ("SIGKILL", "SIGKILL", "SIGKILL", "SIGTERM", "SIGTERM", "disk")
SETTINGS = {
    "data.split": "kfold:3:0", "train.tensorboard": "false", "train.steps": str(STEPS), "checkpoint.every": "4",
    "eval.every": "3", "eval.calibration": "platt", "eval.max_units": "8", "optim.accumulate": "2", "optim.ema": "0.9",
    "checkpoint.keep_last": "2",
}  # fmt: skip


def _digest(array: Any) -> str:
    array = np.asarray(array)
    return hashlib.sha256(f"{array.shape}{array.dtype}".encode() + array.tobytes()).hexdigest()


def contents(step: Path) -> dict[str, str]:
    """{item/name: digest} of every array of a step, and of its meta without versions."""
    found = {}
    for item in ("params", "ema", "train"):
        place = epath.Path(step / item).resolve()
        handler = ocp.PyTreeCheckpointHandler()
        is_leaf = lambda leaf: hasattr(leaf, "shape")  # noqa: E731
        stored = handler.metadata(place).tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored, is_leaf=is_leaf)
        tree = handler.restore(place, args=ocp.args.PyTreeRestore(restore_args=as_numpy))  # of any number of processes
        found |= {f"{item}/{key}": _digest(leaf) for key, leaf in _flat(tree)}
    meta = json.loads((step / "meta/metadata").read_text())
    found["data position"] = str(meta["batches"])
    return found


def scores(step: Path) -> dict[str, Any]:
    """What validation made of a step."""
    meta = json.loads((step / "meta/metadata").read_text())
    keys = ("metrics", "thresholds", "calibration", "quarantine", "set_aside", "rollbacks", "tokenizer")
    return {key: meta[key] for key in keys}


def _flat(tree: Any, name: str = "") -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else None
    if items is None:
        return [(name, tree)] if tree is not None else []
    return [pair for key, value in items for pair in _flat(value, f"{name}/{key}")]


def rows(workdir: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without clocks."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]


class Server:
    """kill_server.py as a child; `ask` runs the processes of one run to their ends.

    `quick`: XLA leaves out its optimisations, for a run of a few steps is all compilation.
    """

    def __init__(self, folder: Path, data: Path, processes: int, spec: str, *, quick: bool = True):
        self.folder, self.processes, self.spec = folder, processes, spec
        self.settings = SETTINGS | {"data.path": str(data)}
        self.note_rows = False
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"}
        environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "xla"))
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quick))
        if quick:  # half of what is left, as in tests/conftest.py
            flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
            environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flags}".strip()
        script = Path(__file__).with_name("kill_server.py")
        self.child = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            cwd=ROOT,
        )  # fmt: skip

    def ask(
        self, workdir: Path, fault: dict[str, Any] | None, victims: tuple[int, ...] = (0,), **extra: str
    ) -> list[int]:
        """Exit codes of the run's processes; the fault is planted in the victims."""
        settings = self.settings | extra
        if self.processes > 1:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                settings |= {"parallel.coordinator": f"127.0.0.1:{free.getsockname()[1]}"}
            settings |= {"parallel.num_processes": str(self.processes), "parallel.peer_timeout": "20"}
        jobs = []
        for rank in range(self.processes):
            own = settings | ({"parallel.process_id": str(rank)} if self.processes > 1 else {})
            log = f"{workdir}.log{rank}"
            job = {"settings": list(own.items()), "workdir": str(workdir), "log": log, "spec": self.spec}
            if self.note_rows:
                job["rows"] = f"{workdir}.rows{rank}"
            jobs.append(job | {"fault": fault if rank in victims else None})
        assert self.child.stdin and self.child.stdout
        self.child.stdin.write(json.dumps({"jobs": jobs, "timeout": 600}) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())["codes"]

    def close(self) -> None:
        """Ends the child."""
        assert self.child.stdin
        self.child.stdin.close()
        self.child.wait()


@dataclass
class Reference:
    """The unbroken run, and one that saved every step."""

    final: dict[str, str]
    scores: dict[str, Any]
    rows: list[dict[str, Any]]
    steps: dict[int, dict[str, str]]

    @classmethod
    def make(cls, server: Server) -> Reference:
        whole, each = server.folder / "whole", server.folder / "each"
        assert set(server.ask(whole, None)) == {0}, log_of(whole)
        extra = {"checkpoint.every": "1", "checkpoint.keep_last": "99", "eval.every": "0", "eval.max_units": "1"}
        assert set(server.ask(each, None, **extra)) == {0}, log_of(each)
        last = whole / f"checkpoints/{STEPS}"
        steps = {step: contents(each / f"checkpoints/{step}") for step in range(1, STEPS + 1)}
        assert contents(last) == steps[STEPS], "saving more often changes nothing"
        return cls(contents(last), scores(last), rows(whole), steps)


def log_of(workdir: Path, last: int = 2500) -> str:
    """The end of what the processes said; 0 for all of it."""
    logs = sorted(workdir.parent.glob(f"{workdir.name}.log*"))
    return "\n".join(f"--- {path.name}\n{path.read_text()[-last:]}" for path in logs)


@dataclass
class Tally:
    """What was done: one entry a kill point."""

    points: list[dict[str, Any]] = field(default_factory=list)

    def counts(self, key: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for point in self.points:
            found[str(point[key])] = found.get(str(point[key]), 0) + 1
        return dict(sorted(found.items()))


def newest(workdir: Path) -> int:
    """The newest complete step, 0 where there is none."""
    return max(integrity.complete_steps(epath.Path(workdir / "checkpoints")), default=0)


def draw(rng: random.Random, at: int, phase: str, processes: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """A fault for a run that goes on from step `at`, and the processes that it befalls."""
    step = rng.randint(at + 1, min(at + 6, STEPS))
    if phase == "epoch":
        step = min((at // EPOCH + rng.randint(1, 2)) * EPOCH, STEPS)
    kind = rng.choice(KINDS)
    if phase in ("in step", "accumulation", "claim"):
        kind = "SIGKILL"
    fault = {"phase": phase, "kind": kind, "step": step, "delay": rng.uniform(0.0, 0.06), "call": 1}
    if phase == "commit":
        fault["call"] = rng.randint(1, 2)
    fault["bytes"] = rng.choice((64, 1024, 8192))
    first = ((0,), (1,), (0, 1)) if kind == "SIGKILL" else ((0,), (1,)) if kind == "SIGTERM" else ((0,),)
    only_zero = phase in ("arrays", "commit", "committed", "prune", "row")
    victims = (0,) if processes == 1 or only_zero else rng.choice(first)
    return fault, victims


def check_codes(fault: dict[str, Any], codes: list[int], victims: tuple[int, ...], workdir: Path) -> None:
    """How the processes must have ended."""
    context = f"{fault} {codes}\n{log_of(workdir)}"
    assert 999 not in codes, f"hangs: {context}"
    if fault["kind"] == "SIGKILL":
        assert all(codes[rank] in (-9, -6, 1) for rank in victims), context  # -6: the other one died first
        assert all(code in (1, -6, -9) for code in codes), context
    elif fault["kind"] == "SIGTERM":
        # Before the watch stands, the signal ends the process at once; at the last step it changes nothing.
        assert len(set(codes)) == 1 and codes[0] in (0, 3), context
    else:
        assert codes[0] in (0, 1, 2), context
        if codes[0]:
            # Behind it asyncio may say, a hundred times, that the loop of a save that failed is closed.
            said = log_of(workdir, last=0)
            assert re.search("a quota or file size limit|File too large|disk is full", said), context


def chain(server: Server, reference: Reference, seed: int, phases: list[str], tally: Tally) -> None:
    """Kills a run at one point after the other until it, or the phases, have ended; then lets it end and compares."""
    rng = random.Random(seed)
    workdir = Path(tempfile.mkdtemp(prefix=f"chain{seed}_", dir=server.folder)) / "run"
    while phases and newest(workdir) < STEPS:
        at = newest(workdir)
        phase = phases.pop(0)
        fault, victims = draw(rng, at, phase, server.processes)
        mark = workdir.parent / "mark"
        mark.unlink(missing_ok=True)
        codes = server.ask(workdir, fault | {"mark": str(mark)}, victims)
        if not mark.exists():  # the phase did not come before the run's end: no kill point
            assert set(codes) == {0}, (fault, codes, log_of(workdir))
            phases.append(phase)
            break
        check_codes(fault, codes, victims, workdir)
        step = newest(workdir)
        where = epath.Path(workdir / f"checkpoints/{step}")
        assert step >= at, (fault, "lost a checkpoint")
        if step:
            assert integrity.problems(where) == [], (fault, "the newest complete step is damaged")
            assert contents(Path(where)) == reference.steps[step], (seed, fault, f"step {step} differs")
        about = {"seed": seed, "processes": server.processes, "victims": victims, "codes": codes}
        tally.points.append(fault | about | {"at": at, "saved": step})
    codes = server.ask(workdir, None)
    assert set(codes) == {0}, (seed, codes, log_of(workdir))
    last = workdir / f"checkpoints/{STEPS}"
    assert contents(last) == reference.final, f"seed {seed}: the end differs"
    assert scores(last) == reference.scores, f"seed {seed}: scores differ"
    extra = [row for row in rows(workdir) if row not in reference.rows]
    missing = [row for row in reference.rows if row not in rows(workdir)]
    order = [row["step"] for row in rows(workdir)]
    assert rows(workdir) == reference.rows, f"seed {seed}: rows differ: {extra} {missing} {order} {tally.points[-9:]}"
    shutil.rmtree(workdir.parent)
