"""launch/slurm.sbatch on a real Slurm: preempted twice, requeued, and done with the bits of an unbroken run."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("slurm_cluster", Path(__file__).with_name("slurm_cluster.py"))
slurm_cluster = importlib.util.module_from_spec(_spec)
sys.modules["slurm_cluster"] = slurm_cluster
_spec.loader.exec_module(slurm_cluster)

STEPS = 60


@pytest.fixture(scope="module")
def cluster():
    if lacking := slurm_cluster.missing():
        pytest.skip(f"no {', '.join(lacking)} on this machine: apt-get install slurm-wlm munge")
    place = Path(tempfile.mkdtemp(prefix="slurm"))
    try:
        with slurm_cluster.Cluster(place) as running:
            yield running
    finally:
        shutil.rmtree(place, ignore_errors=True)


def submit(cluster, data: dict[str, str], workdir: Path) -> str:
    """Submits launch/slurm.sbatch as a person would; the job's number."""
    settings = {"train.steps": STEPS, "checkpoint.every": 20, "eval.every": 0, "train.tensorboard": "false", **data}
    settings["data.group_by"] = "procedure"
    words = [f"--config.{key}={value}" for key, value in settings.items()]
    said = cluster.ask(
        "sbatch", "--parsable", "--nodes=2", f"--output={workdir}.log", str(ROOT / "launch" / "slurm.sbatch"),
        "--config", "configs/vlm.py:micro", "--workdir", str(workdir), *words,
        VLM_JAX=f"{sys.executable} -m vlm_jax",
        PYTHONPATH=str(ROOT),
        JAX_PLATFORMS="cpu",
        # On one machine the names of the nodes are nobody's address; on a cluster JAX takes the first node's.
        JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{slurm_cluster.free_ports(1)[0]}",
    )  # fmt: skip
    assert said.strip().isdigit(), said
    return said.strip()


def steps_of(workdir: Path) -> list[int]:
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [row["step"] for row in map(json.loads, lines) if "loss" in row]


def last_params(workdir: Path) -> dict[str, np.ndarray]:
    """As numpy arrays: two processes wrote them, and one reads."""
    import jax
    import orbax.checkpoint as ocp

    place, handler = workdir / "checkpoints" / str(STEPS) / "params", ocp.PyTreeCheckpointHandler()
    stored = handler.metadata(place).tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored)
    return handler.restore(place, args=ocp.args.PyTreeRestore(restore_args=as_numpy))


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.timeout(3600)
def test_a_preempted_job_is_requeued_and_ends_with_the_bits_of_an_unbroken_one(cluster, procedures, tmp_path):
    import jax

    unbroken = submit(cluster, procedures, tmp_path / "unbroken")
    cluster.wait(unbroken, lambda job: job["JobState"] in ("COMPLETED", "FAILED"))
    assert (tmp_path / "unbroken.log").read_text().count("exit code 0") == 1

    def more_than(step: int, job: dict[str, str]) -> bool:
        return job["JobState"] == "RUNNING" and max(steps_of(workdir), default=0) > step

    broken, workdir, log = (
        submit(cluster, procedures, tmp_path / "broken"),
        tmp_path / "broken",
        tmp_path / "broken.log",
    )
    cluster.wait(broken, lambda job: len(steps_of(workdir)) > 5 or job["JobState"] == "FAILED")
    cluster.ask("scancel", "--signal=TERM", broken)  # what --signal=TERM@300 does before the time limit: tasks only
    cluster.wait(broken, lambda job: job.get("Restarts") == "1" or job["JobState"] == "FAILED")
    first = max(steps_of(workdir))
    assert "exit code 3" in log.read_text() and 5 < first < STEPS

    # It starts again after two minutes: sooner, the node daemons still hold its credential for a revoked one.
    # By the log, too: a job that waits to start would be requeued without having trained again.
    cluster.wait(broken, lambda job: log.read_text().count("resuming from step") == 1 and more_than(first + 5, job))
    cluster.ask("scontrol", "requeue", broken)  # what preemption with PreemptMode=REQUEUE does: SIGTERM to all
    cluster.wait(broken, lambda job: job.get("Restarts") == "2" or job["JobState"] == "FAILED")
    job = cluster.wait(broken, lambda job: job["JobState"] in ("COMPLETED", "FAILED") or job["Restarts"] == "3")
    text = log.read_text()
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "2"), text[-3000:]
    assert text.count("resuming from step") == 2 and text.count("preempted: step") == 2

    assert steps_of(workdir) == steps_of(tmp_path / "unbroken")
    same = jax.tree.map(np.array_equal, last_params(workdir), last_params(tmp_path / "unbroken"))
    assert all(jax.tree.leaves(same))
