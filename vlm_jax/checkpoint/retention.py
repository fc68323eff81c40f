"""Which steps stay on the disk: the last, the best, and always one that is whole.

Nothing is deleted before the step that takes its place has its manifest, that is before every file of it was read back.
(Orbax's own policies delete when the arrays are written, before the manifest is.)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

from etils import epath

from vlm_jax.checkpoint import manifest

KEEP_LAST_AT_LEAST = 2
"""One that can be fallen back on, should the disk damage the newest."""


def kept(losses: Mapping[int, float | None], *, last: int, best: int, every: int = 1, window: int = 0) -> set[int]:
    """The steps to keep.

    Args:
      losses: {complete step: validation loss, or None where it has none}.
      last: how many of the newest; at least two are kept.
      best: how many of the lowest loss; the later one of equals.
      every: steps between scheduled saves. A run that goes back goes to a scheduled one, so as many of these are kept,
        whatever was saved on preemption since.
      window: how many steps back the first skipped update may lie from where training goes back.
    """
    scheduled = [step for step in sorted(losses) if step % every == 0]
    before = [step for step in scheduled if step <= max(losses, default=0) - window]
    newest = sorted(losses)[-max(KEEP_LAST_AT_LEAST, last) :]
    ranked = sorted((loss, -step) for step, loss in losses.items() if loss is not None and math.isfinite(loss))
    return {*newest, *scheduled[-max(KEEP_LAST_AT_LEAST, last) :], *before[-1:], *(-step for _, step in ranked[:best])}


def delete(step_directory: epath.Path) -> None:
    """Deletes a step. Its manifest goes first: a step that is half deleted is none.

    A file that the system still holds is left behind, and removed when the next run starts.
    """
    with contextlib.suppress(OSError):
        (step_directory / manifest.NAME).unlink(missing_ok=True)
        step_directory.rmtree()
