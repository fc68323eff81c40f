"""Joining processes: who takes part, what happens when they don't, and barriers that end."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from vlm_jax.config.schema import ParallelConfig
from vlm_jax.errors import EnvironmentFault, UserError
from vlm_jax.parallel import distributed

VARIABLES = (
    "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_ID",
    "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES", "JAX_LOCAL_DEVICE_IDS", "TPU_WORKER_HOSTNAMES",
    "MEGASCALE_NUM_SLICES", "JOB_COMPLETION_INDEX",
)  # fmt: skip


@pytest.fixture
def calls(monkeypatch):
    """What `init` asks of JAX, without asking it; a clean environment."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    made = []
    monkeypatch.setattr(distributed, "client", lambda: None)
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: made.append(arguments))
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: bool(made))
    return made


def test_a_single_process_joins_nobody(calls):
    distributed.init(ParallelConfig())
    assert calls == []
    assert (distributed.process_index(), distributed.process_count()) == (0, 1)
    distributed.barrier("nothing to wait for", timeout=0.1)


def test_a_coordinator_in_the_configuration_joined_once(calls):
    parallel = ParallelConfig(coordinator="host:1234", num_processes=2, process_id=1, init_timeout=7)
    distributed.init(parallel)
    distributed.init(parallel)
    expected = {"coordinator_address": "host:1234", "num_processes": 2, "process_id": 1, "initialization_timeout": 7}
    assert calls == [expected | {"heartbeat_timeout_seconds": 130}]


def test_a_coordinator_in_the_environment(calls, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "host:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    distributed.init(ParallelConfig())
    assert calls[0]["num_processes"] == 4
    assert calls[0]["process_id"] == 0


def test_slurm_tells_the_place_of_a_given_coordinator(calls, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "3")
    monkeypatch.setenv("SLURM_PROCID", "2")
    distributed.init(ParallelConfig(coordinator="host:1"))
    assert (calls[0]["num_processes"], calls[0]["process_id"]) == (3, 2)


@pytest.mark.parametrize(
    ("environment", "joins"),
    [
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_NTASKS": "2"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a"}, False),
        ({"MEGASCALE_NUM_SLICES": "2"}, True),
    ],
)
def test_clusters_are_found_by_jax(calls, monkeypatch, environment, joins):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    distributed.init(ParallelConfig())
    assert calls == ([{"initialization_timeout": 900, "heartbeat_timeout_seconds": 130}] if joins else [])


@pytest.mark.parametrize(("tasks", "own", "devices"), [("4", "", []), ("8", "", None), ("4", "0,1", None)])
def test_one_task_a_node_takes_all_devices_of_the_node(calls, monkeypatch, tasks, own, devices):
    """By itself JAX gives every task of Slurm the one device of its local number."""
    settings = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": tasks, "SLURM_STEP_NUM_NODES": "4"}
    for name, value in (settings | {"JAX_LOCAL_DEVICE_IDS": own}).items():
        monkeypatch.setenv(name, value)
    distributed.init(ParallelConfig())
    assert calls[0].get("local_device_ids") == devices


def test_a_jobset_pod_has_its_place_from_its_number(calls, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "run-worker-0-0.run:1234")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    distributed.init(ParallelConfig())
    assert (calls[0]["num_processes"], calls[0]["process_id"]) == (4, 3)


@pytest.mark.parametrize(
    ("files", "environment", "expected"),
    [
        (["accel0"], {}, True),
        (["vfio/0"], {}, True),
        ([], {}, False),
        (["accel0"], {"JAX_PLATFORMS": "cpu"}, False),
        (["accel0"], {"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        (["accel0"], {"TPU_SKIP_MDS_QUERY": "1"}, False),
    ],
)
def test_a_tpu_vm_is_known_by_its_chips(calls, monkeypatch, tmp_path, files, environment, expected):
    for name in ("JAX_PLATFORMS", "TPU_SKIP_MDS_QUERY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "_has_libtpu", lambda: True)
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert distributed._on_tpu_vm(tmp_path) is expected


@pytest.mark.parametrize("place", [{}, {"num_processes": 2}, {"num_processes": 2, "process_id": 2}])
def test_a_coordinator_without_a_place_is_one_line(calls, place):
    with pytest.raises(UserError, match="parallel.num_processes"):
        distributed.init(ParallelConfig(coordinator="host:1", **place))


def test_a_variable_that_is_no_number_is_one_line(calls, monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(UserError, match="JAX_NUM_PROCESSES is 'two'"):
        distributed.init(ParallelConfig(coordinator="host:1"))


@pytest.mark.parametrize("message", ["DEADLINE_EXCEEDED: nobody came\nmore", ""])
def test_peers_that_do_not_come_are_a_fault_of_the_environment(calls, monkeypatch, message):
    def fail(**_):
        raise RuntimeError(message)

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(EnvironmentFault, match="host:1 within parallel.init_timeout=5 s") as caught:
        distributed.init(ParallelConfig(coordinator="host:1", num_processes=2, process_id=0, init_timeout=5))
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_a_barrier_names_itself_when_a_peer_is_missing(monkeypatch):
    from orbax.checkpoint import multihost

    waited = []

    def wait(*, key, timeout_ms):
        waited.append((key, timeout_ms))
        if len(waited) > 1:
            raise RuntimeError("DEADLINE_EXCEEDED")

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost, "get_barrier_sync_fn", lambda: wait)
    distributed.barrier("saved", timeout=2)
    assert waited == [("saved", 2000)]
    with pytest.raises(EnvironmentFault, match="waited 2 s at barrier 'saved'"):
        distributed.barrier("saved", timeout=2)


def test_union_of_one_process_is_its_own_sorted_once(calls):
    assert distributed.union([3, 1, 3]) == (1, 3)
    assert distributed.union({}) == ()


PEER = """
import sys
from vlm_jax.config.schema import ParallelConfig
from vlm_jax.errors import EnvironmentFault
from vlm_jax.parallel import distributed
rank = int(sys.argv[2])
distributed.init(ParallelConfig(coordinator=sys.argv[1], num_processes=2, process_id=rank, init_timeout=60))
assert (distributed.process_index(), distributed.process_count()) == (rank, 2)
for _ in range(2):
    distributed.barrier("same name twice", timeout=60)
if rank == 0:
    try:
        distributed.barrier("nobody else comes", timeout=1)
    except EnvironmentFault as error:
        print(error, flush=True)
assert distributed.union([]) == ()
assert distributed.union([5, 2] if rank else [2]) == (2, 5)
import os, signal, time
from vlm_jax.training.preemption import PreemptionWatch
with PreemptionWatch() as watch:
    stops = []
    for step in range(1, 200):
        if step == 3 and rank == 1:
            os.kill(os.getpid(), signal.SIGINT)  # handed to JAX as a SIGTERM
        if watch.reached(step):
            stops.append(step)
            break
        distributed.barrier("step", timeout=60)
        time.sleep(0.03)  # JAX looks for the signal once a second
assert len(stops) == 1 and distributed.union(stops) == tuple(stops), "all processes stop at one step"
distributed.barrier("end", timeout=60)
print("done", flush=True)
"""


@pytest.mark.multiprocess
def test_two_processes_meet_and_a_missing_one_is_reported():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    root = Path(__file__).parents[2]
    peers = [
        subprocess.Popen([sys.executable, "-c", PEER, address, str(i)], stdout=subprocess.PIPE, text=True, cwd=root)
        for i in range(2)
    ]
    outputs = [peer.communicate(timeout=150)[0] for peer in peers]
    assert [peer.returncode for peer in peers] == [0, 0]
    assert "barrier 'nobody else comes'" in outputs[0]
    assert "late: process 1; process 0: barrier 'nobody else comes'" in outputs[0], "who is late, where each stands"
    assert "process 1: barrier 'same name twice'" in outputs[0]
    assert all(output.endswith("done\n") for output in outputs)
