"""What `vlm-jax checkpoint verify` finds."""

from __future__ import annotations

from etils import epath

from vlm_jax.checkpoint import integrity, manifest
from vlm_jax.checkpoint.store import DIRECTORY
from vlm_jax.errors import UserError


def verify(path: epath.Path, step: int | None = None) -> dict[str, list[str]]:
    """{step: one line a problem, none where it is whole}, oldest first; steps that were not written to the end, too.

    Args:
      path: a work directory, its checkpoints/, or one step's directory.
      step: this one alone.

    Raises:
      UserError: there is no checkpoint, or not this step.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; give a work directory that `vlm-jax train` wrote")
    if manifest.exists(path) or (path.name.isdigit() and path.parent.name == DIRECTORY):
        if step is not None and str(step) != path.name:
            raise UserError(f"{path} is one step: leave out --step, or give the work directory")
        return {path.name: integrity.problems(path)}
    directory = path / DIRECTORY if (path / DIRECTORY).exists() else path
    steps = sorted(int(child.name) for child in directory.iterdir() if child.name.isdigit())
    if not steps:
        raise UserError(f"{path} holds no checkpoint; give a work directory that `vlm-jax train` wrote")
    if step is not None and step not in steps:
        raise UserError(f"step {step} is not in {path}: it has {', '.join(map(str, steps))}")
    wanted = steps if step is None else [step]
    return {str(s): integrity.problems(directory / str(s)) for s in wanted}
