"""Where the processes stand: who is late, who is dead, and the line that says so."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlm_jax.parallel import places as places_module
from vlm_jax.parallel.places import Places


class Store:
    """A key-value store of one process."""

    def __init__(self):
        self.values: dict[str, str] = {}

    def key_value_set(self, key, value, allow_overwrite=False):
        assert allow_overwrite
        self.values[key] = value

    def key_value_dir_get(self, prefix):
        return [(k, v) for k, v in self.values.items() if k.startswith(prefix)]


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(places_module.time, "monotonic", lambda: now[0])
    return now


def three(store, heartbeat=0.0):
    stopped: list[str] = []
    made = [Places(store, r, 3, peer_timeout=10, heartbeat=heartbeat, stop=stopped.append) for r in range(3)]
    return made, stopped


def test_the_late_one_is_named_and_where_each_stands(clock):
    (first, second, third), _ = three(Store())
    for process in (first, second):
        process.at("barrier 'saved'")
    third.at("step 7")
    second.beat()
    third.beat()
    clock[0] += 4
    assert first.describe("barrier 'saved'") == (
        "late: process 2; process 0: barrier 'saved' (heard 0 s ago); process 1: barrier 'saved' (heard 0 s ago); "
        "process 2: step 7 (heard 0 s ago)"
    )
    clock[0] += 3
    assert "process 2: step 7 (heard 3 s ago)" in first.describe()


def test_one_that_never_came_is_late(clock):
    (first, *_), _ = three(Store())
    first.at("barrier 'x'")
    assert (
        first.describe("barrier 'x'").startswith("late: process 1, 2; ") and "process 1: not heard" in first.describe()
    )


def test_silence_is_death_and_saying_goodbye_is_not(clock):
    (first, second, third), stopped = three(Store())
    for process in (second, third):
        process.at("step 3")
        process.beat()
    first.beat()
    second.close()
    clock[0] += 8
    first.beat()
    clock[0] += 1
    first.beat()
    assert not stopped
    clock[0] += 3
    first.beat()
    assert len(stopped) == 1 and "process 2 is dead or cut off (last heard at 'step 3'" in stopped[0]
    assert "\n" not in stopped[0]


def test_the_heartbeat_line_is_process_zeros(clock, capsys):
    (first, second, third), _ = three(Store(), heartbeat=60)
    for _ in range(31):
        clock[0] += 4
        for process in (first, second, third):
            process.at("step 9")
            process.beat()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("heartbeat: process 0: step 9")


def test_a_coordinator_that_does_not_answer_is_left_to_jax(clock):
    store = Store()
    (first, *_), stopped = three(store)
    store.key_value_dir_get = lambda _: (_ for _ in ()).throw(RuntimeError("UNAVAILABLE"))
    first.beat()
    assert not stopped


def test_beats_come_from_a_thread(monkeypatch):
    monkeypatch.setattr(places_module, "_BEAT", 0.01)
    store = Store()
    alone = Places(store, 0, 1, peer_timeout=10, heartbeat=0)
    alone.start()
    end = time.time() + 10
    while "beat" not in str(store.values) or json.loads(next(iter(store.values.values())))["beat"] < 3:
        assert time.time() < end
        time.sleep(0.01)
    alone.close()


PEER = """
import sys, time
from vlm_jax.config.schema import ParallelConfig
from vlm_jax.parallel import distributed, places
places._BEAT = 0.3
distributed.init(ParallelConfig(coordinator=sys.argv[1], num_processes=2, process_id=int(sys.argv[2]), peer_timeout=4))
distributed.barrier("all there")
distributed.at("step 5")
time.sleep(1)
if sys.argv[2] == "1":
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(100)
"""


@pytest.mark.multiprocess
def test_a_killed_peer_ends_the_others_with_one_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    peers = [
        subprocess.Popen(
            [sys.executable, "-c", PEER, address, str(i)], stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2], env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        for i in range(2)
    ]  # fmt: skip
    errors = [peer.communicate(timeout=200)[1] for peer in peers]
    assert [peer.returncode for peer in peers] == [1, -9]
    assert "vlm-jax: error: process 1 is dead or cut off (last heard at 'step 5'" in errors[0]
    assert "Traceback" not in errors[0] and "Check failure" not in errors[0]
