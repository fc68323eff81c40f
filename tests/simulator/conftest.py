"""Procedures drawn once for the whole folder."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vlm_jax.simulator import SimulatorConfig, make_procedure, procedure_ids
from vlm_jax.simulator.workflow import draw_plan


@pytest.fixture(scope="session")
def plans():
    """A hundred full-length procedures, nothing rendered."""
    return [draw_plan(SimulatorConfig(seed=3), index) for index in range(100)]


@pytest.fixture(scope="session")
def full():
    """Three full-length procedures, one small frame an activity: (plan, bundle) pairs.

    Their tests are slow ones: the simulator is frozen, and test_identity.py holds its code.
    """
    config = SimulatorConfig(seed=5, procedures=3, frames_per_procedure=1, image_size=16)
    pairs = []
    for index, id in enumerate(procedure_ids(config)):
        bundle = make_procedure(config, id)
        pairs.append((draw_plan(config, index), replace(bundle, frames=tuple(bundle.frames))))
    return pairs
