"""Going back to the checkpoint before updates began to be skipped, without the records that they came from."""

from __future__ import annotations

import jax

from vlm_jax.checkpoint import integrity
from vlm_jax.errors import EnvironmentFault
from vlm_jax.parallel import distributed
from vlm_jax.training.guards import SHOWN, offenders
from vlm_jax.training.run import Run, check_budget, restore_last, say

SKIPPED = "its updates were skipped"


def _is_whole(run: Run, step: int) -> bool:
    """Whether every file of a step is as it was written, by process 0's reading; every process calls it."""
    directory = run.store.directory
    found = integrity.problems(directory / str(step)) if jax.process_index() == 0 else []
    if found:
        integrity.warn(f"{directory}: {integrity.describe(step, found)}; going back further")
    return not distributed.union([step] if found else [])


def _target(run: Run, first: int, where: str) -> int:
    """The step to go back to: the last whole scheduled one before `first`, as in an unbroken run; else another that is
    whole (saved on preemption, or by another `checkpoint.every`); 0 where there was none yet."""
    every = run.config.checkpoint.every
    before = [s for s in reversed(run.store.steps()) if s < first]
    ordered = [s for s in before if s % every == 0] + [s for s in before if s % every]
    target = next((s for s in ordered if _is_whole(run, s)), 0)
    if not target and (before or first > every):  # to begin anew would throw the run away
        raise EnvironmentFault(
            f"{where}, and no whole checkpoint from before step {first} is left in {run.store.directory}: bring back a "
            "copy, or use another --workdir"
        )
    return target


def roll_back(run: Run, skipped: tuple[int, ...]) -> int:
    """Restores a checkpoint from before the first skipped step and sets the records of those steps aside.

    Everything that is decided here follows from the state and the configuration: every process decides alike, and so
    does a run that was killed and does it again.

    Args:
      run: its state, data and checkpoints are changed in place.
      skipped: steps, oldest first.

    Returns:
      The step that the run is at now; 0 = it begins anew.

    Raises:
      EnvironmentFault: it has gone back too often already, or no whole checkpoint is left to go back to.
      UserError: more records would be set aside than `guard.budget` allows.
    """
    guard = run.config.guard
    where = f"{len(skipped)} updates were skipped up to step {skipped[-1]} (guard.max_skips={guard.max_skips})"
    if run.rollbacks >= guard.max_rollbacks:
        raise EnvironmentFault(
            f"{where}, and training went back {run.rollbacks} times already: it diverges. Lower optim.lr, look at the "
            f"records set aside in {run.workdir}, or raise guard.sigma or guard.max_rollbacks"
        )
    rows = offenders({step: run.data.rows_of_batch(step - 1) for step in skipped})
    run.data.set_aside |= dict.fromkeys(rows, SKIPPED)
    check_budget(run, tuple(run.data.set_aside))
    run.rollbacks += 1
    run.store.finish()
    target = _target(run, skipped[0], where)
    run.store.drop_after(target)
    shown = ", ".join(run.names(rows[:SHOWN])) + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
    say(f"WARNING: {where}: back to step {target}; records set aside: {shown}")
    if target:
        restore_last(run, target)
    elif run.fresh is not None:
        run.state = run.fresh()
    return target
