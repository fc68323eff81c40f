"""Run by test_batch_norm.py in a process of its own: running statistics of a batch split over four devices.

Prints one JSON object: their largest difference from the whole batch's on one device, and how far they moved.
"""

from __future__ import annotations

import json

import jax

jax.config.update("jax_num_cpu_devices", 4)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from vlm_jax.config.schema import BackboneConfig, ParallelConfig  # noqa: E402
from vlm_jax.models.backbones.networks import make_backbone  # noqa: E402
from vlm_jax.parallel.mesh import make_mesh  # noqa: E402
from vlm_jax.parallel.partition import batch_sharding, param_shardings  # noqa: E402


def main() -> None:
    config = BackboneConfig(name="resnet18", width_factor=0.125, depths=(1, 1, 1, 1))
    model = make_backbone(config)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    image[:2] //= 4  # the first device's rows are darker: its own mean is not the batch's
    mask = np.arange(8) != 7
    params = jax.jit(model.init)(jax.random.key(0), jnp.asarray(image))["params"]

    def run(sizes, devices):
        mesh = make_mesh(ParallelConfig(*sizes), devices)
        placed = jax.device_put({"backbone": params}, param_shardings(mesh, {"backbone": params}))["backbone"]
        rows = jax.device_put((image, mask), batch_sharding(mesh))
        with jax.set_mesh(mesh):
            step = jax.jit(lambda p, i, m: model.apply({"params": p}, i, True, m, mutable=["batch_stats"])[1])
            return jax.device_get(step(placed, *rows)["batch_stats"])

    one, four = run((1, 1, 1), jax.devices()[:1]), run((2, 2, 1), jax.devices())
    difference = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), one, four)
    moved = jax.tree.map(lambda a: float(np.abs(a).max()), one)
    print(json.dumps({"difference": max(jax.tree.leaves(difference)), "moved": min(jax.tree.leaves(moved))}))


if __name__ == "__main__":
    main()
