"""`vlm-jax bench train` on a data set: the pipeline beside a batch that lies on the device."""

from __future__ import annotations

import pytest

from vlm_jax.bench import train
from vlm_jax.config.load import load_config


@pytest.mark.slow
def test_a_step_can_be_fed_from_files(procedures):
    settings = {"train.batch_size": "2", "data.group_by": "procedure", **procedures}
    found = train.measure(load_config("configs/vlm.py:micro", settings), steps=2, warmup=1, peers=[])
    ours, files = found["rows"]
    assert files["name"] == "vlm-jax, from files"
    assert files["over_synthetic"] == pytest.approx(files["seconds"]["median"] / ours["seconds"]["median"])
    ceiling = found["setting"]["matmul_flops_per_second"]
    assert ours["share_of_matmul"] == pytest.approx(ours["flops_per_second"] / ceiling) and ceiling > 1e9
