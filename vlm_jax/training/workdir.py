"""The work directory of a run: whose it is, and the step that it goes on from."""

from __future__ import annotations

import jax
from etils import epath

from vlm_jax.checkpoint import integrity
from vlm_jax.checkpoint.faults import disk_errors
from vlm_jax.checkpoint.store import DIRECTORY
from vlm_jax.config import load as config_io
from vlm_jax.config.schema import Config
from vlm_jax.errors import UserError
from vlm_jax.parallel import distributed
from vlm_jax.training.lock import WorkdirLock

CONFIG_FILE = "config.json"
# What may change between two runs in one work directory: how long, how often, how it is watched and where it runs.
MAY_DIFFER = (
    "train.steps",
    "train.log_every",
    "train.profile_steps",
    "train.tensorboard",
    "checkpoint.",
    "guard.sigma",
    "guard.max_",
    "guard.budget",
    "eval.",
    "parallel.",
    "data.path",  # another place of the same data: `check_same_data` compares what lies there
    "data.threads",
    "data.prefetch",
)


def check_config(config: Config, workdir: epath.Path) -> None:
    """A resumed run may differ only in `MAY_DIFFER`.

    Raises:
      UserError: the work directory was made with another configuration; names the keys that differ.
    """
    path = workdir / CONFIG_FILE
    if not path.exists():
        return
    keys = [k for k in config_io.diff(config_io.read(path), config) if not k.startswith(MAY_DIFFER)]
    if keys:
        raise UserError(
            f"{workdir} was started with another configuration ({', '.join(keys)} differ): "
            "use the same one, or another --workdir"
        )


def hold_workdir(config: Config, workdir: epath.Path, lock: WorkdirLock | None, start: int | None) -> None:
    """Takes a directory that was not there before, and could not be taken; comes before anything is written to it.

    Args:
      start: the step that was found before it was held.

    Raises:
      UserError: another start came between.
    """
    if jax.process_index() == 0:
        with disk_errors("making the work directory", workdir):
            workdir.mkdir(parents=True, exist_ok=True)
    if lock is not None:
        lock.take()
    if start is None:
        check_config(config, workdir)
        if (step := last_good_step(workdir)) is not None:
            raise UserError(
                f"another start of {workdir} came first and saved step {step}: run the same command again to go on"
            )


def claim_workdir(config: Config, workdir: epath.Path) -> None:
    """Writes config.json. Comes last, so that a run that could not start leaves no claim behind."""
    if jax.process_index() == 0:
        config_io.dump(config, workdir / CONFIG_FILE)
    distributed.barrier("work directory claimed")
    # Found together: a process that stopped alone would leave the others waiting for it.
    if blind := distributed.union([] if (workdir / CONFIG_FILE).exists() else [jax.process_index()]):
        raise UserError(
            f"process {', '.join(map(str, blind))} does not see what process 0 wrote to {workdir}: "
            "--workdir must be on a disk that all processes share"
        )


def last_good_step(workdir: epath.Path) -> int | None:
    """The newest step whose every file is as it was written, the same on all processes; None where none was saved.

    Damaged ones are set aside under another name, with a loud line each.

    Raises:
      UserError: steps were saved, and every one is damaged: starting anew would throw the run away.
    """
    directory = workdir / DIRECTORY
    found = integrity.survey(directory) if jax.process_index() == 0 else integrity.Survey(None, {})
    if distributed.union([0] if found.damaged and found.good is None else []):  # all stop alike, process 0 knows why
        lines = "; ".join(integrity.describe(step, lines) for step, lines in found.damaged.items())
        lines = lines or "process 0 names what is damaged"
        raise UserError(f"no checkpoint of {directory} is whole: {lines}. Bring back a copy, or use another --workdir")
    for step, lines in found.damaged.items():
        with disk_errors(f"setting step {step} aside", directory):
            place = integrity.set_aside(directory, step)
        integrity.warn(f"{integrity.describe(step, lines)}; kept as {place}, going back to step {found.good}")
    steps = distributed.union([] if found.good is None else [found.good])
    return steps[0] if steps else None
