"""How well a trained model with places (model.region_width) says where landmarks are, on the masks of its test split.

    python benchmarks/places.py --workdir runs/lite0 --out FILE.json

Places are those of the model's finest map. IoU is of the places that a landmark covers by half or more, over all test
frames together; the area error is the mean absolute difference of area, a share of the image. Beside both stands a
constant answer: at each place the mean share of the training frames.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.config.parts import asks_for_places
from vlm_jax.data.run_data import RunData
from vlm_jax.decoding.system import System
from vlm_jax.errors import UserError
from vlm_jax.tasks.losses import region_shares

COVERED = 0.5


def shares(system: System, data: RunData, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(said, true) f32[N, h, w, C] of the split's frames that have masks, a batch at a time."""
    view = data.records(split)
    rows = [i for i, record in enumerate(view) if record.mask is not None]

    @jax.jit
    def answer(params: Any, *inputs: Any) -> jax.Array:
        return jax.nn.sigmoid(system.model.apply({"params": params}, *inputs, method="encode").region_logits)

    for batch in data.batches(view, system.config.eval.batch_size, rows=rows):
        said = answer(system.params, batch.image, batch.frame_mask, batch.prompt)
        true, known = region_shares(jnp.asarray(batch.regions), said.shape)
        keep = np.asarray(known) & np.asarray(batch.valid)
        yield np.asarray(said)[keep], np.asarray(true)[keep]


def scores(said: np.ndarray, true: np.ndarray) -> list[dict[str, float | None]]:
    """IoU (None where nobody sees the landmark) and area error of each landmark."""
    a, b = said >= COVERED, true >= COVERED
    both, either = (a & b).sum((0, 1, 2)), (a | b).sum((0, 1, 2))
    error = np.abs(said.mean((1, 2)) - true.mean((1, 2))).mean(0)
    return [
        {"iou": round(float(i / u), 3) if u else None, "area_error": round(float(e), 3)}
        for i, u, e in zip(both, either, error, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    system = System.from_checkpoint(arguments.workdir)
    if not asks_for_places(system.config):
        raise UserError(f"{arguments.workdir} marks no places: train with --config.model.region_width=64")
    data = RunData.open(system.config, system.tokenizer, system.labels)
    if not any(record.mask is not None for record in data.records(arguments.split)):
        raise UserError(f"no frame of the {arguments.split} split has a mask: build a data set with masks")
    said, true = (np.concatenate(part) for part in zip(*shares(system, data, arguments.split), strict=True))
    prior = np.concatenate([t for _, t in shares(system, data, "train")]).mean(0)
    constant = np.broadcast_to(prior, true.shape)
    worlds = sorted(info.full_world for info in data.sources.values() if info.labels)
    report = {"split": arguments.split, "frames": len(true), "world": ", ".join(worlds), "landmarks": {}}
    for name, own, fixed, area in zip(
        system.labels.names, scores(said, true), scores(constant, true), true.mean((0, 1, 2)), strict=True
    ):
        report["landmarks"][name] = {**own, "constant": fixed, "mean_area": round(float(area), 3)}
        print(f"{name:32s} {report['landmarks'][name]}")
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
