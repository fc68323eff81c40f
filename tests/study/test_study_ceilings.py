"""Ceilings beside a data set: read where they are of its world, refused with the right command where they are not."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from vlm_jax import cli
from vlm_jax.config.study import Simulate, StudyData
from vlm_jax.contract import DatasetInfo, Procedure, ProcedureBundle
from vlm_jax.data.store import write_dataset
from vlm_jax.errors import UserError
from vlm_jax.simulator import SimulatorConfig, dataset_info
from vlm_jax.study.ceilings import read_ceilings
from vlm_jax.study.variants import variants_of

WORLD = {"information": 0.5, "activities_per_procedure": 48.0, "stress": True}
CELL = {"ceiling_state": 0.9, "ceiling_inputs": 0.8}


@pytest.fixture
def beside(tmp_path):
    """beside(info, **config): a data set without a frame and the ceilings of a world beside it; its path."""

    def write(info, **config):
        path = tmp_path / "data"
        bare = ProcedureBundle(Procedure("p0", "patient", info.source))
        write_dataset(path, info, ["p0"], lambda _: bare, progress=False)
        found = {"config": SimulatorConfig(**config).to_json(), "tasks": {"report": {"states": 4, "bleu2": CELL}}}
        (path / "information.json").write_text(json.dumps(found))
        return str(path)

    return write


def test_ceilings_of_the_same_world_are_read(beside):
    path = beside(dataset_info(SimulatorConfig(**WORLD, seed=3, image_size=32)), **WORLD)
    assert read_ceilings((path,)) == {"fess/report/bleu2": CELL}


@pytest.mark.parametrize(
    "other",
    [{"world": "previous_shuffled"}, {"information": 1.0}, {"activities_per_procedure": 144.0}, {"stress": False}],
)
def test_ceilings_of_another_world_are_refused_with_the_command_for_this_one(beside, other):
    path = beside(dataset_info(SimulatorConfig(**WORLD)), **{**WORLD, **other})
    with pytest.raises(UserError, match=f"another world than its data set \\({next(iter(other))} differ\\)") as error:
        read_ceilings((path,))
    _, given = cli.parse(shlex.split(str(error.value).split("`")[1])[1:])
    assert given.out == str(Path(path) / "information.json") and given.world == "normal"
    assert (given.information, given.activities_per_procedure, given.stress) == (0.5, 48.0, True)


def test_beside_data_that_no_simulator_made_there_are_none(beside):
    with pytest.raises(UserError, match="no simulator's settings are kept of this data set: remove the file"):
        read_ceilings((beside(DatasetInfo("own", "real")),))


def test_a_study_refuses_them_before_it_trains(beside, make_study, tmp_path, monkeypatch):
    path = Path(beside(dataset_info(SimulatorConfig()), information=0.5))
    (tmp_path / "study" / "data").mkdir(parents=True)
    path.rename(tmp_path / "study" / "data" / "normal")
    monkeypatch.setattr("vlm_jax.study.variants.simulate", lambda *_: None)
    with pytest.raises(UserError, match="information differ"):
        variants_of(make_study(data=StudyData(), simulate=Simulate()), tmp_path / "study")
