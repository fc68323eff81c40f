"""Processes: joining them, counting them, and barriers that end. With one process everything here is a no-op."""

from __future__ import annotations

import os
from collections.abc import Iterable

import jax
import numpy as np

from vlm_jax.config.schema import ParallelConfig
from vlm_jax.errors import EnvironmentFault, UserError


def init(parallel: ParallelConfig) -> None:
    """Joins the processes of this run; call it before anything touches a device. Joining twice is a no-op.

    Who takes part is found, in this order, from `parallel.coordinator` (with num_processes and process_id), from the
    environment (JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID), from Slurm, from a Cloud TPU slice of
    several hosts; otherwise there is a single process.

    Raises:
      UserError: a coordinator without the number of processes or this one's place among them.
      EnvironmentFault: the processes did not find one another within `parallel.init_timeout` seconds.
    """
    if jax.distributed.is_initialized():
        return
    arguments = _explicit(parallel) or ({} if _cluster() else None)
    if arguments is None:
        return
    try:
        jax.distributed.initialize(**arguments, initialization_timeout=parallel.init_timeout)
    except (RuntimeError, ValueError) as error:
        where = arguments.get("coordinator_address", "the cluster's coordinator")
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EnvironmentFault(
            f"could not join the processes at {where} within parallel.init_timeout={parallel.init_timeout} s "
            f"({reason}); check that every process runs and reaches the coordinator's port"
        ) from error


def _explicit(parallel: ParallelConfig) -> dict | None:
    """Arguments from the configuration, or else from JAX's own environment variables."""
    address = parallel.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    if not address:
        return None
    n = parallel.num_processes or _integer("JAX_NUM_PROCESSES") or _integer("SLURM_NTASKS") or 0
    i = parallel.process_id if parallel.process_id >= 0 else _integer("JAX_PROCESS_ID")
    i = _integer("SLURM_PROCID") if i is None else i
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
    """Whether Slurm or a Cloud TPU slice says that there are several processes; JAX finds the rest itself.

    Slurm counts only inside a step (srun): a batch script alone has SLURM_NTASKS too, but no peers.
    """
    slurm = "SLURM_STEP_ID" in os.environ and (_integer("SLURM_STEP_NUM_TASKS") or 1) > 1
    return slurm or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def process_index() -> int:
    """This process's number, from 0."""
    return jax.process_index()


def process_count() -> int:
    """How many processes the run has."""
    return jax.process_count()


def barrier(name: str, timeout: float = 300.0) -> None:
    """Waits until every process is here.

    Args:
      name: says what for, in the error and to JAX; the same on every process.
      timeout: seconds.

    Raises:
      EnvironmentFault: some process did not come in time.
    """
    if jax.process_count() == 1:
        return
    from orbax.checkpoint import multihost  # its barrier has a timeout; the one of jax.experimental has none

    try:
        multihost.get_barrier_sync_fn()(key=name, timeout_ms=int(timeout * 1000))
    except Exception as error:  # jaxlib raises XlaRuntimeError or JaxRuntimeError by version
        raise EnvironmentFault(
            f"process {jax.process_index()} waited {timeout:g} s at barrier {name!r} for its peers; "
            "one of them has died or hangs: see its log, then start all again"
        ) from error


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
