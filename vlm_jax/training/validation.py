"""Validation while training: teacher-forced losses, and the thresholds that are saved with the parameters."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from vlm_jax.evaluation.thresholds import choose_thresholds
from vlm_jax.training.run import Run
from vlm_jax.training.step import flat_metrics, make_eval_step, task_weights

Scores = dict[str, float]
Thresholds = dict[str, float | None]


class Validator:
    """Scores the same validation rows every time: at most `eval.max_units`, evenly spread over the split."""

    def __init__(self, run: Run):
        self.run = run
        self.step_fn = make_eval_step(run.model, run.config, run.context, run.mesh)
        n = len(run.data.records("validation"))
        wanted = min(n, run.config.eval.max_units)
        self.rows = np.unique(np.linspace(0, n - 1, wanted).round().astype(int)) if n else np.zeros(0, int)

    def __call__(self, params: Any) -> tuple[Scores, Thresholds]:
        """({metric: mean}, {scoped label: threshold or None}); both empty where the split is."""
        if not len(self.rows):
            return {}, {}
        totals: dict[str, Any] = {}
        probabilities, truths, known = [], [], []
        view, config = self.run.data.records("validation"), self.run.config
        for batch in self.run.data.batches(view, config.eval.batch_size, rows=self.rows, mesh=self.run.mesh):
            states, probability, truth, mask = jax.device_get(self.step_fn(params, batch))
            totals = jax.tree.map(np.add, totals, states) if totals else states
            if probability is not None:
                probabilities.append(probability)
                truths.append(truth)
                known.append(mask)
        thresholds: Thresholds = {}
        if probabilities:
            activities = [view.activity(int(row)) or "" for row in self.rows]
            cut = slice(0, len(self.rows))
            thresholds = choose_thresholds(
                np.concatenate(probabilities)[cut],
                np.concatenate(truths)[cut],
                np.concatenate(known)[cut],
                activities,
                self.run.data.labels,
            )
        return self._scores(totals), thresholds

    def _scores(self, totals: dict[str, Any]) -> Scores:
        means = {name: state["loss"][0] / max(float(state["loss"][1]), 1.0) for name, state in totals.items()}
        weights = task_weights(self.run.config.loss, tuple(means))
        flat = {name: float(value) for name, value in flat_metrics(means, totals).items()}
        return {"loss": float(sum(weights[name] * value for name, value in means.items())), **flat}
