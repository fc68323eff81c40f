"""What was trained on is not scored as test, though it goes by another name; labels of another source."""

from __future__ import annotations

import dataclasses

import pytest

from vlm_jax.data.run_data import RunData
from vlm_jax.errors import UserError
from vlm_jax.evaluation.apart import check_apart, ids_of, namesakes, simulations
from vlm_jax.evaluation.run import _strangers


def of_world(data: RunData, world: str, seed: int) -> RunData:
    """The same data set as a simulation of a world and a seed, its groups renamed."""
    parts = []
    for part in data.parts:
        info = dataclasses.replace(part.info, world=world, generator={"config": {"seed": seed}})
        renamed = object.__new__(type(part))
        renamed.__dict__.update(part.__dict__ | {"info": info})
        parts.append(renamed)
    splits = [dataclasses.replace(s, groups=[f"{world}-{seed}-{g}" for g in s.groups.tolist()]) for s in data.splits]
    return dataclasses.replace(data, parts=parts, splits=splits)


def test_simulations_of_one_seed_are_one_another_s_training_data(run_data, monkeypatch):
    monkeypatch.setattr("vlm_jax.evaluation.apart.ids_of", lambda *_: {})  # other names: no shared group
    trained = of_world(run_data, "simulated", 0)
    sources = {source: {"simulations": simulations(trained, source)} for source in trained.sources}
    assert all(found["simulations"] == [["simulated", 0]] for found in sources.values())
    stress = of_world(run_data, "simulated, stress", 0)
    for meta in ({"sources": sources}, {"sources": {}, "inherited": [sources]}):
        with pytest.raises(UserError, match=r"simulated, stress.* with seed 0, as those .* with another --seed"):
            check_apart(stress, "all", meta)
        check_apart(of_world(run_data, "simulated, stress", 1), "all", meta)
        check_apart(of_world(run_data, "simulated", 0), "test", meta)  # the same data: their groups tell
    assert simulations(of_world(run_data, "real", 0), next(iter(run_data.sources))) == []


def test_groups_of_the_same_names_in_another_source_are_named(run_data):
    source = next(iter(run_data.sources))
    groups = ids_of(run_data, "test", {})[source]
    sources = {"older_folder": {"groups": {"train": groups[:1], "validation": ["nobody"]}}}
    for meta in ({"sources": sources}, {"inherited": [sources]}):
        (line,) = (said for said in namesakes(run_data, "test", meta) if said.startswith(f"{source}: "))
        assert f"{groups[0]} (older_folder). If they are the same people" in line and "nobody" not in line
        assert namesakes(run_data, "train", meta) == []
    together = {name: {"groups": {"train": groups}} for name in run_data.sources}
    assert namesakes(run_data, "test", {"sources": together}) == [], "of one run: check_apart's"


def test_labels_of_another_source_are_explained(run_data):
    assert _strangers(run_data) == ""
    names = tuple(f"elsewhere/{name.partition('/')[2]}" for name in run_data.labels.names)
    strange = dataclasses.replace(run_data, labels=dataclasses.replace(run_data.labels, names=names))
    assert "the model's are of elsewhere, these data of" in _strangers(strange)
