"""The profiler: started once, whatever the steps do."""

from __future__ import annotations

import jax
from etils import epath

from vlm_jax.training.profiling import Profiler


def test_a_run_that_goes_back_while_it_is_traced_does_not_start_twice(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda place: calls.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    profiler = Profiler(epath.Path(tmp_path), 0, 3)
    for step in (10, 11, 12, 10, 11, 12, 13, 14):
        profiler.before(step)
    assert calls == ["start", "stop"]
