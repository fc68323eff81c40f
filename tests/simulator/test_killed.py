"""A simulation that is killed within a shard and started again ends with the same bytes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time

from vlm_jax import cli

FLAGS = ["--procedures", "2", "--activities_per_procedure", "12", "--frames_per_procedure", "80", "--image_size", "32"]


def contents(directory):
    """Name -> digest of every file."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.rglob("*") if p.is_file()}


def test_killed_within_a_shard_and_started_again(tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "d"
    assert cli.main(["data", "simulate", "--out", str(whole), *FLAGS]) == 0
    one_by_one = ["--workers", "1"]  # the others take a thread a core: their number is not in the bytes
    command = [sys.executable, "-m", "vlm_jax", "data", "simulate", "--out", str(out), *FLAGS, *one_by_one]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob("*-00001-of-00002.partial")) and process.poll() is None:
            assert time.monotonic() < deadline, "the second shard was never begun"
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    assert not (out / "dataset.json").exists() and list(out.glob("*-00000-of-00002")), "a finished shard and a torn one"
    assert list(out.glob("*.partial"))
    assert cli.main(["data", "simulate", "--out", str(out), *FLAGS]) == 0
    assert contents(out) == contents(whole)
