"""One, two and four processes: the same rows in the same order, the same losses, and one step that all of them save."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vlm_jax.checkpoint.integrity import complete_steps


def _load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


kills = sys.modules.get("kill_chain") or _load("kill_chain")
QUICK = "configs/vlm.py:micro,tasks=landmarks"
WHOLE = "configs/vlm.py:micro"


@pytest.fixture
def servers(tmp_path, toy_path):
    """server(processes, spec) that notes the rows of every batch."""
    made = []

    def make(processes: int, spec: str):
        server = kills.Server(tmp_path, toy_path, processes, spec)
        server.note_rows = True
        made.append(server)
        return server

    yield make
    for server in made:
        server.close()


def rows_of(workdir: Path, processes: int) -> list[list[int]]:
    """The rows of every batch in order, put together from what the processes had."""
    lines = [Path(f"{workdir}.rows{rank}").read_text().split("\n")[:-1] for rank in range(processes)]
    found = []
    for batch in zip(*lines, strict=False):  # one that was killed may have read further than another
        whole = {int(slot): row for part in batch for slot, row in json.loads(part).items()}
        assert sorted(whole) == list(range(8)), "every slot once"
        found.append([whole[slot] for slot in range(8)])
    return found


def losses(workdir: Path) -> np.ndarray:
    """The losses of every step, in order."""
    rows = [row for row in kills.rows(workdir) if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return np.array([row["loss"] for row in rows])


def compare(servers, tmp_path, spec: str, steps: int, counts: tuple[int, ...], changes: tuple[int, ...] = ()):
    """Largest relative difference of any loss from one process's, for each way to run."""
    settings = {"train.steps": str(steps), "checkpoint.every": str(steps), "eval.every": "0", "optim.accumulate": "1"}
    found, rows = {}, {}
    server = servers(1, spec)  # its imports serve every number of processes
    for n in dict.fromkeys((1, *counts)):
        workdir, server.processes = tmp_path / f"run{n}", n
        assert set(server.ask(workdir, None, **settings)) == {0}, kills.log_of(workdir)
        found[n], rows[n] = losses(workdir), rows_of(workdir, n)
        assert rows[n][:steps] == rows[1][:steps], f"{n} processes read other rows"
    if changes:
        workdir = tmp_path / "changing"
        for end, n in zip((*changes, steps), (1, *counts, 1), strict=False):
            for old in tmp_path.glob("changing.rows*"):
                old.unlink()
            before = kills.newest(workdir)
            keep = settings | {"checkpoint.every": "1"}
            stop = {"phase": "step", "kind": "SIGKILL", "step": end + 1, "mark": str(tmp_path / "mark")}
            server.processes = n
            codes = server.ask(workdir, stop if end < steps else None, tuple(range(n)), **keep)
            assert set(codes) <= ({-9, -6} if end < steps else {0}), (codes, kills.log_of(workdir))
            after = kills.newest(workdir)
            read = rows_of(workdir, n)
            assert read[: after - before] == rows[1][before:after], f"other rows after going on with {n} processes"
        found["changing"] = losses(workdir)
    return {key: float(np.max(np.abs(value / found[1] - 1))) for key, value in found.items() if key != 1}


@pytest.mark.multiprocess
@pytest.mark.timeout(1800)
def test_losses_of_two_and_four_processes_over_20_steps(servers, tmp_path, record_property):
    """Also one run that changes from one process to two and four, at steps 4 and 10: in mid-epoch."""
    found = compare(servers, tmp_path, WHOLE, 20, (2, 4), (4, 10))
    record_property("differences", json.dumps(found))
    print(found)
    assert all(value <= 2e-6 for value in found.values()), found


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.timeout(3600)
def test_losses_of_two_and_four_processes_over_200_steps(servers, tmp_path, record_property):
    found = compare(servers, tmp_path, WHOLE, 200, (2, 4))
    record_property("differences", json.dumps(found))
    print(found)
    assert all(value <= 1e-4 for value in found.values()), found


@pytest.mark.timeout(1200)
def test_two_processes_read_the_rows_of_one(servers, tmp_path):
    found = compare(servers, tmp_path, QUICK, 6, (2,))
    assert all(value <= 2e-6 for value in found.values()), found


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n", [50])
def test_preemptions_save_one_step_by_all(servers, tmp_path, n):
    """SIGTERM to one process of two, again and again: all end with code 3, and one new step is there each time."""
    server = servers(2, QUICK)
    server.note_rows = False
    rng = random.Random(7)
    workdir = tmp_path / "run"
    settings = {"train.steps": "100000", "checkpoint.every": "100000", "eval.every": "40", "checkpoint.keep_last": "99"}
    saved: list[int] = []
    for i in range(n):
        step = (saved[-1] if saved else 0) + rng.randint(1, 6)
        phase = rng.choice(("in step", "step", "row", "evaluation"))
        victim = 0 if phase == "row" else rng.randrange(2)
        fault = {"phase": phase, "kind": "SIGTERM", "step": step, "delay": rng.uniform(0, 0.05)}
        codes = server.ask(workdir, fault | {"mark": str(tmp_path / f"mark{i}")}, (victim,), **settings)
        assert codes == [3, 3], (fault, codes, kills.log_of(workdir))
        steps = complete_steps(kills.epath.Path(workdir / "checkpoints"))
        assert len(steps) == i + 1 and steps[:-1] == saved, (fault, steps)
        saved = steps
        if log := os.environ.get("KILL_LOG"):
            with open(log, "a") as file:
                print(json.dumps(fault | {"preempted": i + 1, "victim": victim, "saved": steps[-1]}), file=file)


@pytest.mark.multiprocess
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("phase", "step", "rank"), [("saving", 4, 0), ("save", 40, 0), ("save", 40, 1)])
def test_a_full_disk_of_one_process_ends_both(servers, tmp_path, phase, step, rank):
    """It cannot write its row while a save is in flight, or the arrays of the last save: the other waits within it."""
    server = servers(2, QUICK)
    server.note_rows = False
    settings = {"train.steps": "40", "checkpoint.every": "4", "eval.every": "0"}
    fault = {"phase": phase, "kind": "disk", "step": step, "bytes": 64, "delay": 0.0, "call": step // 4}
    begin = time.monotonic()
    codes = server.ask(tmp_path / "run", fault | {"mark": str(tmp_path / "mark")}, (rank,), **settings)
    assert codes[rank] == 1 and codes[1 - rank] in (1, -6), (codes, kills.log_of(tmp_path / "run"))
    assert time.monotonic() - begin < 600, "orbax alone waits for twenty minutes"
    said = Path(f"{tmp_path / 'run'}.log{rank}").read_text()
    assert "error: " in said and "a quota or file size limit is reached" in said
