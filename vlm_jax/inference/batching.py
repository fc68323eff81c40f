"""Requests into a `Batch`: what the model reads, and nothing to score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlm_jax.contract import TASKS, Batch
from vlm_jax.decoding.system import System
from vlm_jax.inference.request import Request
from vlm_jax.tasks import TASK_TABLE
from vlm_jax.text.prompts import encode_prompt


def make_prompt_batch(system: System, requests: Sequence[Request], images: Sequence[np.ndarray], rows: int) -> Batch:
    """A batch of `rows` rows, of which the first len(requests) are real; no labels, no targets.

    Args:
      system: gives tokenizer, label space and sizes.
      requests: n <= rows of them. images: n times uint8[H, W, 3] at the run's `data.image_size`.
    """
    config = system.config.data
    n, n_tasks, n_labels = len(requests), len(TASKS), len(system.labels)
    side = config.image_size
    image = np.zeros((rows, 1, side, side, 3), np.uint8)
    prompt = np.zeros((rows, n_tasks, config.prompt_length), np.int32)
    for i, request in enumerate(requests):
        image[i, 0] = images[i]
        record = request.record()
        for k, name in enumerate(TASKS):
            prompt[i, k] = encode_prompt(system.tokenizer, TASK_TABLE[name].prompt(record), config.prompt_length)
    # Padded rows repeat the first: a row without any text is one that no model was ever trained on.
    image[n:], prompt[n:] = image[0], prompt[0]
    return Batch(
        image=image,
        frame_mask=np.ones((rows, 1), bool),
        landmarks=np.zeros((rows, n_labels), np.int8),
        landmarks_mask=np.zeros((rows, n_labels), bool),
        prompt=prompt,
        target=np.zeros((rows, n_tasks, config.target_length), np.int32),
        task_mask=np.zeros((rows, n_tasks), bool),
        valid=np.arange(rows) < n,
        uid=np.where(np.arange(rows) < n, np.arange(rows), -1).astype(np.int32),
    )
