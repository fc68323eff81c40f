"""Runs `train` in processes of their own that are killed at a chosen moment; imports are paid once, by forking.

Reads one JSON object a line from stdin, {"jobs": [job, ...], "timeout": s}, and answers {"codes": [...]}. A job is
{"settings": [[key, value], ...], "workdir": DIR, "log": FILE, "fault": {...} or null}. Nothing of JAX has started in
the process that forks.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np

import vlm_jax.training.loop as loop
from vlm_jax.checkpoint import manifest, retention
from vlm_jax.checkpoint.store import Store
from vlm_jax.config.load import load_config
from vlm_jax.data.run_data import RunData
from vlm_jax.errors import UserError
from vlm_jax.training.validation import Validator
from vlm_jax.training.writers import MetricWriter


def die(fault: dict[str, Any]) -> None:
    """SIGKILL, SIGTERM, or a disk that takes no more than a few bytes a file from now on."""
    with open(fault["mark"], "w") as file:
        file.write("hit")
    if fault["kind"] == "disk":
        pipe = subprocess.Popen(["sh", "-c", 'cat >> "$0"', fault["log"]], stdin=subprocess.PIPE)  # logs have room
        assert pipe.stdin
        os.dup2(pipe.stdin.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.get("bytes", 256), resource.RLIM_INFINITY))
    else:
        os.kill(os.getpid(), getattr(signal, fault["kind"]))


def wrap(owner: Any, name: str, fault: dict[str, Any], *, after: bool = False, when: Any = None) -> None:
    """Calls `die` before (or after) the n-th call of owner.name for which `when` holds."""
    inner = getattr(owner, name)
    calls = {"n": 0}

    def outer(*args: Any, **keywords: Any) -> Any:
        hit = when is None or when(*args)
        calls["n"] += hit
        mine = hit and calls["n"] == fault.get("call", 1)
        if mine and not after:
            die(fault)
        out = inner(*args, **keywords)
        if mine and after:
            die(fault)
        return out

    setattr(owner, name, outer)


def in_step(fault: dict[str, Any]) -> None:
    """A moment after the step's program was dispatched, by a thread: while the device computes."""
    inner = loop.Loop._one_step
    delay = fault["delay"]

    def outer(self: Any, step: int, *rest: Any) -> None:
        if step == fault["step"]:
            timer = threading.Timer(delay, die, (fault,))
            timer.daemon = True
            timer.start()
        inner(self, step, *rest)
        if step == fault["step"] and not os.path.exists(fault["mark"]):
            timer.cancel()
            die(fault)

    loop.Loop._one_step = outer  # type: ignore[method-assign]


def plant(fault: dict[str, Any]) -> None:
    """Puts the fault where its phase says."""
    at = fault["step"]
    phases = {
        "step": lambda: wrap(loop.Loop, "_one_step", fault, when=lambda _, step, *r: step == at),
        "epoch": lambda: wrap(loop.Loop, "_one_step", fault, after=True, when=lambda _, step, *r: step == at),
        "row": lambda: wrap(MetricWriter, "write", fault, after=True, when=lambda _, step, v: step == at),
        "evaluation": lambda: wrap(Validator, "__call__", fault),
        "thresholds": lambda: wrap(Validator, "decisions", fault),
        "save": lambda: wrap(Store, "save", fault),
        "saving": lambda: wrap(Store, "save", fault, after=True),
        "arrays": lambda: wrap(manifest, "write", fault),
        "commit": lambda: wrap(manifest, "_replace", fault),
        "committed": lambda: wrap(manifest, "write", fault, after=True),
        "prune": lambda: wrap(retention, "delete", fault),
        "claim": lambda: wrap(loop, "set_up", fault),
        "restored": lambda: wrap(loop, "set_up", fault, after=True),
    }
    in_step(fault) if fault["phase"] in ("in step", "accumulation") else phases[fault["phase"]]()


def note_rows(path: str) -> None:
    """Writes which rows this process had in which slot of each batch, one JSON object a batch."""
    inner = RunData.train_batches

    def outer(self: Any, *args: Any, **keywords: Any) -> Any:
        with open(path, "a") as file:
            for batch in inner(self, *args, **keywords):
                found = {}
                for shard in batch.uid.addressable_shards:
                    begin = shard.index[0].start or 0
                    found |= {begin + i: int(uid) for i, uid in enumerate(np.asarray(shard.data))}
                print(json.dumps(found), file=file, flush=True)
                yield batch

    RunData.train_batches = outer  # type: ignore[method-assign]


def run(job: dict[str, Any]) -> None:
    """The child: never returns."""
    code = 1
    try:
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if job.get("rows"):
            note_rows(job["rows"])
        if job.get("fault"):
            plant(job["fault"] | {"log": job["log"]})
        config = load_config(job.get("spec", "configs/vlm.py:micro"), [tuple(s) for s in job["settings"]])
        try:
            code = loop.train(config, job["workdir"])
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            code = error.exit_code
        if config.parallel.num_processes > 1 and code in (0, 3):
            import jax

            jax.distributed.shutdown()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """One request after the other."""
    for line in sys.stdin:
        request = json.loads(line)
        pids = []
        for job in request["jobs"]:
            pid = os.fork()
            if pid == 0:
                run(job)
            pids.append(pid)
        codes: dict[int, int] = {}
        end = time.monotonic() + request.get("timeout", 120)
        while len(codes) < len(pids):
            for pid in set(pids) - codes.keys():
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    codes[pid] = os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                for pid in set(pids) - codes.keys():
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    codes[pid] = 999
            time.sleep(0.02)
        print(json.dumps({"codes": [codes[pid] for pid in pids]}), flush=True)


if __name__ == "__main__":
    serve()
