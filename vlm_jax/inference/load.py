"""`vlm_jax.load`: a trained model from its checkpoint, which holds all it needs."""

from __future__ import annotations

import os

from vlm_jax.checkpoint.work_directory import work_directory
from vlm_jax.config.load import Overrides
from vlm_jax.decoding.system import System
from vlm_jax.inference.predictor import Predictor


def load(
    path: str | os.PathLike[str],
    step: str | int = "best",
    dtype: str | None = None,
    batch_size: int | None = None,
    settings: Overrides = (),
) -> Predictor:
    """Loads a model for prediction.

    Args:
      path: a work directory of `vlm-jax train`, its checkpoints/, a step's directory, or what `vlm-jax weights export`
        wrote.
      step: `best` (lowest validation loss), `last` or a number.
      dtype: float32 or bfloat16; None = as the run was configured.
      batch_size: rows of every batch; None = fitted to the number of images (`Predictor`).
      settings: how answers are written, over the run's own: {"eval.decode": "beam", "eval.beam": "8"}; the keys are
        those of `vlm_jax.config.answering`.

    Raises:
      UserError: no complete checkpoint there, or an argument that is not possible; one line.
    """
    place = str(work_directory(path, "checkpoint"))
    return Predictor(System.from_checkpoint(place, step, dtype, settings), batch_size)
