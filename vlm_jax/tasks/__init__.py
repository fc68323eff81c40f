"""The tasks: add one by adding a file and a row."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from vlm_jax.contract import Batch
from vlm_jax.tasks.anticipate import Anticipate
from vlm_jax.tasks.base import Hides, LossContext, MetricState, Task, loss, task_slot
from vlm_jax.tasks.describe import Describe
from vlm_jax.tasks.landmarks import Landmarks
from vlm_jax.tasks.mask_language import MaskLanguage
from vlm_jax.tasks.reconstruct import Reconstruct
from vlm_jax.tasks.report import Report

TASK_TABLE: dict[str, Task] = {
    task.name: task for task in (Landmarks(), Describe(), Anticipate(), Report(), Reconstruct(), MaskLanguage())
}


def hide(key: jax.Array, batch: Batch, tasks: Sequence[str], context: LossContext) -> Batch:
    """The batch of a step, with what its tasks hide from the model hidden."""
    for task in (TASK_TABLE[name] for name in tasks):
        if isinstance(task, Hides):
            batch = task.hide(key, batch, context)
    return batch


__all__ = ["TASK_TABLE", "LossContext", "MetricState", "Task", "hide", "loss", "task_slot"]
