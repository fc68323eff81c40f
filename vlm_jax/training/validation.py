"""Validation while training: teacher-forced losses, and the thresholds that are saved with the parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vlm_jax.evaluation.thresholds import choose_thresholds
from vlm_jax.evaluation.units import activity_key
from vlm_jax.metrics.calibration import Calibration, calibrate, fit_calibration
from vlm_jax.tasks import TASK_TABLE
from vlm_jax.training.run import Run
from vlm_jax.training.step import flat_metrics, make_eval_step, make_label_step, task_weights

Scores = dict[str, float]
Thresholds = dict[str, float | None]
Poll = Callable[[], None]


def _no_poll() -> None:
    """Nobody can be interrupted."""


class Validator:
    """Scores the same validation rows every time: at most `eval.max_units`, evenly spread over the split."""

    def __init__(self, run: Run):
        self.run = run
        self.view = run.data.records("validation")
        self.step_fn = make_eval_step(run.model, run.config, run.context, run.mesh)
        n = len(self.view)
        wanted = min(n, run.config.eval.max_units)
        self.rows = np.unique(np.linspace(0, n - 1, wanted).round().astype(int)) if n else np.zeros(0, int)

    def __call__(self, params: Any, poll: Poll = _no_poll) -> Scores:
        """{metric: mean}; empty where the split is. `poll` is called before every batch."""
        totals: dict[str, Any] = {}
        for batch in self._batches(self.rows):
            poll()
            states = jax.device_get(self.step_fn(params, batch))
            totals = jax.tree.map(np.add, totals, states) if totals else states
        return self._scores(totals) if totals else {}

    def decisions(self, params: Any, poll: Poll = _no_poll) -> tuple[Thresholds, Calibration]:
        """({scoped label: threshold or None}, calibration), from every labelled frame, as `vlm-jax evaluate` would.

        Thresholds are of calibrated scores.
        """
        rows, activities = self._labelled
        if not len(rows):
            return {}, {}
        parts = []
        for batch in self._batches(rows):
            poll()
            parts.append(jax.device_get(self._label_fn(params, batch)))
        score, truth, known = (np.concatenate(part)[: len(rows)] for part in zip(*parts, strict=True))
        data, names = self.run.data, self.run.data.labels.names
        kind = self.run.config.eval.calibration
        calibration = fit_calibration(score, truth, known, activities, names, kind)
        score = calibrate(score, names, calibration)
        return choose_thresholds(score, truth, known, activities, data.labels, data.label_counts()), calibration

    @functools.cached_property
    def _labelled(self) -> tuple[np.ndarray, list[str]]:
        """Rows with a known label, and the activity of each; none where the model has no landmarks."""
        if "landmarks" not in self.run.config.tasks:
            return np.zeros(0, int), []
        records = ((i, self.view.record(i, image=False)) for i in range(len(self.view)))
        found = [(i, activity_key(record)) for i, record in records if TASK_TABLE["landmarks"].carried(record)]
        return np.array([i for i, _ in found], int), [key for _, key in found]

    @functools.cached_property
    def _label_fn(self) -> Any:
        return make_label_step(self.run.model, self.run.mesh)

    def _batches(self, rows: np.ndarray) -> Any:
        if not len(rows):
            return ()
        return self.run.data.batches(self.view, self.run.config.eval.batch_size, rows=rows, mesh=self.run.mesh)

    def _scores(self, totals: dict[str, Any]) -> Scores:
        means = {name: state["loss"][0] / max(float(state["loss"][1]), 1.0) for name, state in totals.items()}
        weights = task_weights(self.run.config.loss, tuple(means))
        flat = {name: float(value) for name, value in flat_metrics(means, totals).items()}
        return {"loss": float(sum(weights[name] * value for name, value in means.items())), **flat}
