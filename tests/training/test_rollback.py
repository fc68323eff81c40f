"""Which checkpoint training goes back to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from vlm_jax.errors import EnvironmentFault
from vlm_jax.training import rollback as rollback_module


class Kept:
    """The steps of a store, of which some are damaged."""

    def __init__(self, steps, damaged=()):
        self.directory, self._steps, self.damaged = Path("kept"), list(steps), damaged

    def steps(self):
        return self._steps


@pytest.mark.parametrize(
    ("every", "steps", "damaged", "first", "target"),
    [
        (100, [100, 200, 250], (), 260, 200),  # as the run that was not preempted at 250
        (100, [200, 250], (200,), 260, 250),
        (300, [10_000, 11_000], (), 11_010, 11_000),  # saved by another checkpoint.every
        (100, [], (), 90, 0),
        (100, [100], (), 90, 0),
        (100, [100, 200], (100, 200), 260, None),
        (100, [300], (), 260, None),
    ],
)
def test_training_goes_back_to_a_whole_checkpoint_and_never_begins_anew_over_one(
    every, steps, damaged, first, target, monkeypatch
):
    store = Kept(steps)
    run = SimpleNamespace(store=store, config=SimpleNamespace(checkpoint=SimpleNamespace(every=every)))
    monkeypatch.setattr(rollback_module, "_is_whole", lambda run, step: step not in damaged)
    if target is not None:
        assert rollback_module._target(run, first, "skipped") == target
        return
    with pytest.raises(EnvironmentFault, match=f"no whole checkpoint from before step {first} is left in kept"):
        rollback_module._target(run, first, "skipped")
