"""Never lose a step: killed anywhere, the same command ends with the same bits as a run that nobody disturbed."""

from __future__ import annotations

import importlib.util
import json
import os
import random
from pathlib import Path

import pytest


def _load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


kills = _load("kill_chain")
QUICK = "configs/vlm.py:micro,tasks=landmarks"
WHOLE = "configs/vlm.py:micro"


def kill(folder, data, *, processes: int, spec: str, n: int, seed: int, quick: bool = True):
    """At least n kill points; the tally. KILL_LOG names a file that every chain's points are added to."""
    server = kills.Server(folder, data, processes, spec, quick=quick)
    tally = kills.Tally()
    try:
        reference = kills.Reference.make(server)
        while len(tally.points) < n:
            rng = random.Random(seed)
            phases = list(kills.PHASES)
            rng.shuffle(phases)
            before = len(tally.points)
            kills.chain(server, reference, seed, phases[: n - before], tally)
            seed += 1
            if log := os.environ.get("KILL_LOG"):
                with open(log, "a") as file:
                    file.writelines(json.dumps(point | {"spec": spec}) + "\n" for point in tally.points[before:])
    finally:
        server.close()
    return tally


@pytest.mark.timeout(1200)  # a chain starts a run a dozen times: on a machine that others share that can take long
def test_a_run_that_is_killed_ends_with_the_same_bits(toy_path, tmp_path):
    tally = kill(tmp_path, toy_path, processes=1, spec=QUICK, n=2, seed=100)
    assert len(tally.points) == 2


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("processes", "spec", "n", "seed"),
    [(1, QUICK, 100, 1000), (1, WHOLE, 40, 2000), (2, QUICK, 40, 3000), (2, WHOLE, 20, 4000)],
)
def test_two_hundred_kill_points(toy_path, tmp_path, processes, spec, n, seed):
    tally = kill(tmp_path, toy_path, processes=processes, spec=spec, n=n, seed=seed, quick=False)
    assert len(tally.points) >= n
    assert set(tally.counts("phase")) >= set(kills.PHASES) or n < 100
    assert set(tally.counts("kind")) == set(kills.KINDS)
    print(tally.counts("phase"), tally.counts("kind"))
