"""The first losses of micro, on record: whoever changes what training computes sees it here, and says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from vlm_jax.training.loop import train

GOLDEN = Path(__file__).parent / "golden" / "micro_losses.json"


def test_the_first_losses_of_micro_are_those_on_record(toy_config, tmp_path):
    """UPDATE_GOLDEN=1 rewrites the file; say in the commit why the losses changed.

    To 1e-4: another processor adds in another order.
    """
    config = toy_config(("train.steps", "8"), ("eval.every", "4"), ("checkpoint.every", "8"), ("eval.max_units", "8"))
    assert train(config, str(tmp_path)) == 0
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = {
        "loss": [row["loss"] for row in rows if "loss" in row],
        "grad_norm": [row["grad_norm"] for row in rows if "loss" in row],
        "validation/loss": [row["validation/loss"] for row in rows if "validation/loss" in row],
    }
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert {key: len(values) for key, values in golden.items()} == {"loss": 8, "grad_norm": 8, "validation/loss": 2}
    for key, values in golden.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-4, err_msg=key)
