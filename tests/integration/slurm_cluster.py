"""A Slurm of one controller and two nodes on this machine, as one user, in one folder."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
_SBIN = "/usr/sbin"

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={place}/munge/socket
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool/%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
KillWait=240
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=all Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The programs that this machine lacks (Debian's packages slurm-wlm and munge)."""
    return [name for name in PROGRAMS if not _program(name)]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SBIN}")


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens at, for now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL")


class Cluster:
    """A context: the daemons run inside it. `place` must be a short path (sockets)."""

    def __init__(self, place: Path):
        self.place = place
        self._daemons: list[subprocess.Popen] = []
        self.environment = {**os.environ, "SLURM_CONF": str(place / "slurm.conf")}

    def __enter__(self) -> Cluster:
        for name in ("munge", "state", "spool/node1", "spool/node2", "log"):
            (self.place / name).mkdir(parents=True, mode=0o700)
        key = self.place / "munge" / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        text = CONFIGURATION.format(
            host=socket.gethostname(), user=getpass.getuser(), place=self.place, ports=free_ports(3)
        )
        (self.place / "slurm.conf").write_text(text)
        munge = {name: self.place / "munge" / name for name in ("key", "socket", "pid", "log", "seed")}
        self._start(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge['socket']}",
            f"--pid-file={munge['pid']}", f"--log-file={munge['log']}", f"--seed-file={munge['seed']}",
        )  # fmt: skip
        self._until(munge["socket"].exists, "munged")
        self._start("slurmctld", "-D")
        for node in ("node1", "node2"):
            self._start("slurmd", "-D", "-N", node)
        self._until(lambda: self.ask("sinfo", "-h", "-o", "%D %t").strip() == "2 idle", "two idle nodes")
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            daemon.kill()

    def ask(self, *words: str, **environment: str) -> str:
        """Runs one of Slurm's commands; what it says."""
        done = subprocess.run(
            words, env=self.environment | environment, cwd=self.place, capture_output=True, text=True, timeout=60
        )
        return done.stdout if done.returncode == 0 else f"{done.stdout}{done.stderr}"

    def job(self, number: str) -> dict[str, str]:
        """What `scontrol show job` says of a job."""
        words = self.ask("scontrol", "show", "job", number, "--oneliner").split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, number: str, done, timeout: float = 1500.0) -> dict[str, str]:
        """Waits until done(job); returns it. A job that ends otherwise is not waited for."""
        end = time.monotonic() + timeout
        while not done(job := self.job(number)):
            if job["JobState"] in ENDED:
                raise AssertionError(f"job {number} ended: {job}")
            if time.monotonic() > end:
                raise TimeoutError(f"job {number} after {timeout:g} s: {job}")
            time.sleep(0.5)
        return job

    def _start(self, program: str, *words: str) -> None:
        out = (self.place / "log" / f"{len(self._daemons)}-{program}.log").open("w")
        command = [str(_program(program)), *words]
        self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=out, stderr=out))

    def _until(self, there, what: str) -> None:
        end = time.monotonic() + 120
        while not there():
            if time.monotonic() > end:
                logs = {path.name: path.read_text()[-500:] for path in (self.place / "log").iterdir()}
                raise TimeoutError(f"no {what} in time: {logs}")
            time.sleep(0.2)
