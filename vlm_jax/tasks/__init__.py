"""The tasks: add one by adding a file and a row."""

from __future__ import annotations

from vlm_jax.tasks.anticipate import Anticipate
from vlm_jax.tasks.base import LossContext, MetricState, Task, loss, task_slot
from vlm_jax.tasks.describe import Describe
from vlm_jax.tasks.landmarks import Landmarks
from vlm_jax.tasks.report import Report

TASK_TABLE: dict[str, Task] = {task.name: task for task in (Landmarks(), Describe(), Anticipate(), Report())}

__all__ = ["TASK_TABLE", "LossContext", "MetricState", "Task", "loss", "task_slot"]
