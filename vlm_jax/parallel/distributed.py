"""Processes: joining them, counting them, and barriers that end. With one process everything here is a no-op."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np

from vlm_jax.config.schema import ParallelConfig
from vlm_jax.errors import EnvironmentFault, UserError
from vlm_jax.parallel.places import Places, client, end

_places: Places | None = None  # of this process, once it has joined others
_timeout = 1800.0  # parallel.barrier_timeout
_JAX_IS_SLOWER = 30  # seconds that JAX's own abort, with its stack trace, comes after our line


def init(parallel: ParallelConfig) -> None:
    """Joins the processes of this run; call it before anything touches a device. Joining twice is a no-op.

    Who takes part is found, in this order, from `parallel.coordinator` (with num_processes and process_id), from the
    environment (JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID; a JobSet's pod number stands for the last),
    from Slurm, from a Cloud TPU slice or several; otherwise there is a single process.

    Raises:
      UserError: a coordinator without the number of processes or this one's place among them.
      EnvironmentFault: the processes did not find one another within `parallel.init_timeout` seconds.
    """
    if jax.distributed.is_initialized():
        return
    arguments = _explicit(parallel) or ({} if _cluster() else None)
    if arguments is None:
        return
    if _task_a_node():
        arguments["local_device_ids"] = []  # no restriction; None would be the one device of Slurm's local number, 0
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=parallel.init_timeout,
            heartbeat_timeout_seconds=parallel.peer_timeout + _JAX_IS_SLOWER,
        )
    except (RuntimeError, ValueError) as error:
        where = arguments.get("coordinator_address", "the cluster's coordinator")
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EnvironmentFault(
            f"could not join the processes at {where} within parallel.init_timeout={parallel.init_timeout} s "
            f"({reason}); check that every process runs and reaches the coordinator's port"
        ) from error
    _begin(parallel)


def _begin(parallel: ParallelConfig) -> None:
    """Starts telling the others where this process stands."""
    global _places, _timeout
    _timeout = float(parallel.barrier_timeout)
    store = client()
    if store is None or jax.process_count() == 1:
        return
    _places = Places(
        store,
        jax.process_index(),
        jax.process_count(),
        peer_timeout=parallel.peer_timeout,
        heartbeat=parallel.heartbeat,
    )
    _places.start()


def at(place: str) -> None:
    """Notes where this process is, for heartbeat lines and late barriers; free, and nothing with one process."""
    if _places is not None:
        _places.at(place)


def leave() -> None:
    """Says that this process ends on purpose; the others then do not take its silence for death."""
    global _places
    if _places is not None:
        gone, _places = _places, None
        try:
            gone.close()
        except Exception:  # the coordinator is gone already: there is nobody to tell
            return


def abandon(error: Exception) -> None:
    """Ends this process at once, with exit code 1, where others take part; with one process it returns.

    The others wait in a collective or a barrier that this one will not come to, and closing the checkpoints would wait
    for them. They end when they hear no more of it. What every process finds alike (a plain UserError) is no such case.
    """
    if jax.process_count() == 1 or (isinstance(error, UserError) and not isinstance(error, EnvironmentFault)):
        return
    if not isinstance(error, EnvironmentFault):
        traceback.print_exception(error)
    end(str(error) or type(error).__name__)


def _explicit(parallel: ParallelConfig) -> dict | None:
    """Arguments from the configuration, or else from JAX's own environment variables."""
    address = parallel.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    if not address:
        return None
    n = parallel.num_processes or _integer("JAX_NUM_PROCESSES") or _integer("SLURM_NTASKS") or 0
    i = parallel.process_id if parallel.process_id >= 0 else _integer("JAX_PROCESS_ID")
    i = _integer("SLURM_PROCID") if i is None else i
    i = _integer("JOB_COMPLETION_INDEX") if i is None else i  # of an indexed Kubernetes job, as JobSet makes them
    if n < 1 or i is None or not 0 <= i < n:
        raise UserError(
            f"parallel.coordinator={address} needs parallel.num_processes (got {n}) and a parallel.process_id below it "
            f"(got {i}); give both, or JAX_NUM_PROCESSES and JAX_PROCESS_ID in the environment"
        )
    return {"coordinator_address": address, "num_processes": n, "process_id": i}


def _integer(variable: str) -> int | None:
    value = os.environ.get(variable, "")
    if not value:
        return None
    if not value.isdigit():
        raise UserError(f"the environment variable {variable} is {value!r}; expected a number")
    return int(value)


def _cluster() -> bool:
    """Whether Slurm or Cloud TPU says that there are several processes; JAX finds the rest itself.

    Slurm counts only inside a step (srun): a batch script alone has SLURM_NTASKS too, but no peers. GKE names a slice's
    hosts and the number of slices in the environment; a TPU VM has only its chips, and a metadata server that JAX asks.
    """
    slurm = "SLURM_STEP_ID" in os.environ and (_integer("SLURM_STEP_NUM_TASKS") or 1) > 1
    slices = (_integer("MEGASCALE_NUM_SLICES") or 1) > 1
    return slurm or slices or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "") or _on_tpu_vm()


def _task_a_node() -> bool:
    """Whether Slurm runs one task on every node: it takes all devices of it, unless JAX_LOCAL_DEVICE_IDS says which."""
    tasks, nodes = _integer("SLURM_STEP_NUM_TASKS"), _integer("SLURM_STEP_NUM_NODES")
    return tasks is not None and tasks == nodes and not os.environ.get("JAX_LOCAL_DEVICE_IDS")


def _on_tpu_vm(devices: Path = Path("/dev")) -> bool:
    """Whether this host has TPU chips and is to use them, and nobody said that it is alone (TPU_WORKER_HOSTNAMES)."""
    if os.environ.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu" or "TPU_WORKER_HOSTNAMES" in os.environ:
        return False
    if os.environ.get("TPU_SKIP_MDS_QUERY"):
        return False
    return any(devices.glob("accel[0-9]*")) or (_has_libtpu() and any(devices.glob("vfio/[0-9]*")))


def _has_libtpu() -> bool:
    import importlib.util

    return importlib.util.find_spec("libtpu") is not None


def process_index() -> int:
    """This process's number, from 0."""
    return jax.process_index()


def process_count() -> int:
    """How many processes the run has."""
    return jax.process_count()


def barrier(name: str, timeout: float | None = None) -> None:
    """Waits until every process is here.

    Args:
      name: says what for, in the error and to JAX; the same on every process.
      timeout: seconds; by default `parallel.barrier_timeout`.

    Raises:
      EnvironmentFault: some process did not come in time; says which, and where each stands.
    """
    if jax.process_count() == 1:
        return
    from orbax.checkpoint import multihost  # its barrier has a timeout; the one of jax.experimental has none

    seconds = _timeout if timeout is None else timeout
    here = f"barrier {name!r}"
    at(here)
    try:
        multihost.get_barrier_sync_fn()(key=name, timeout_ms=int(seconds * 1000))
    except Exception as error:  # jaxlib raises XlaRuntimeError or JaxRuntimeError by version
        raise EnvironmentFault(
            f"process {jax.process_index()} waited {seconds:g} s at {here} for its peers ({_standing(here)}); "
            "one of them has died or hangs: see its log, then start all again"
        ) from error


def _standing(here: str) -> str:
    try:
        return _places.describe(here) if _places is not None else "nothing is known of them"
    except Exception:  # the coordinator itself is gone
        return "process 0, the coordinator, does not answer"


def union(numbers: Iterable[int]) -> tuple[int, ...]:
    """The sorted union of every process's non-negative numbers, the same on all; all call it at the same place."""
    own = sorted(set(numbers))
    if jax.process_count() == 1:
        return tuple(own)
    from jax.experimental import multihost_utils

    width = int(np.max(multihost_utils.process_allgather(np.int32(len(own)))))
    padded = np.full(width, -1, np.int32)
    padded[: len(own)] = own
    gathered = np.asarray(multihost_utils.process_allgather(padded)) if width else padded
    return tuple(sorted({int(n) for n in gathered.ravel()} - {-1}))
