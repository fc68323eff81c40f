"""A small simulated data set for whole runs."""

from __future__ import annotations

import json

import pytest

from vlm_jax.data.store import write_dataset
from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.procedure import dataset_info, make_procedure, procedure_ids


@pytest.fixture(scope="session")
def procedures(tmp_path_factory):
    """Three short simulated operations, one a split: the settings that a run on them needs."""
    root = tmp_path_factory.mktemp("procedures")
    simulator = SimulatorConfig(procedures=3, frames_per_procedure=16, image_size=32, activities_per_procedure=16)
    ids = procedure_ids(simulator)
    write_dataset(root / "data", dataset_info(simulator), ids, lambda i: make_procedure(simulator, i), progress=False)
    split = {"train": [ids[0]], "validation": [ids[1]], "test": [ids[2]]}
    (root / "split.json").write_text(json.dumps(split))
    return {"data.path": str(root / "data"), "data.split": f"list:{root / 'split.json'}"}
