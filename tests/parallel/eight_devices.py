"""Run by test_eight_devices.py in a process of its own: loss and gradients on 2 x 2 x 2 fake devices and on one.

Prints one JSON object: the losses, the largest difference of any gradient, and how the parameters lay.
"""

from __future__ import annotations

import json

import jax

jax.config.update("jax_num_cpu_devices", 8)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from vlm_jax.config.load import load_config  # noqa: E402
from vlm_jax.models import build_model, init_params  # noqa: E402
from vlm_jax.parallel.mesh import make_mesh  # noqa: E402
from vlm_jax.parallel.partition import batch_sharding, param_name, param_shardings  # noqa: E402

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


def main() -> None:
    config = load_config(
        "configs/vlm.py:micro", [("model.vocab_size", "64"), ("data.prompt_length", "8"), ("model.region_width", "8")]
    )
    model = build_model(config, 5, 60)
    rng = np.random.default_rng(0)
    abstract = jax.eval_shape(lambda key: init_params(model, config, key), jax.random.key(0))
    params = jax.tree.map(lambda a: rng.normal(0, 0.1, a.shape).astype(np.float32), abstract)
    size, k = config.data.image_size, 4
    batch = (
        rng.integers(0, 256, (8, 1, size, size, 3), dtype=np.uint8),
        rng.random((8, 1)) < 0.8,
        rng.integers(1, 60, (8, k, 8), dtype=np.int32),
        rng.integers(1, 60, (8, k, 6), dtype=np.int32),
    )

    def loss(params, batch):
        out = model.apply({"params": params}, *batch)
        labels = jax.nn.one_hot(batch[3][:, 1:, 1:], 64)
        tokens = -(jax.nn.log_softmax(out.token_logits) * labels).sum(-1).mean()
        return tokens + jnp.mean(jax.nn.softplus(out.landmark_logits)) + jnp.mean(jax.nn.softplus(out.region_logits))

    def run(sizes, devices):
        mesh = make_mesh(config.parallel.__class__(*sizes), devices)
        shardings = param_shardings(mesh, abstract)
        on_mesh = jax.device_put(params, shardings)
        rows = jax.device_put(batch, batch_sharding(mesh))
        with jax.set_mesh(mesh):
            step = jax.jit(jax.value_and_grad(loss), out_shardings=(None, shardings), compiler_options=QUICK)
            value, gradient = step(on_mesh, rows)
        return float(value), jax.tree.map(np.asarray, gradient), on_mesh, rows

    one, expected, _, _ = run((1, 1, 1), jax.devices()[:1])
    eight, gradient, on_mesh, rows = run((2, 2, 2), jax.devices())
    flat = {param_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(on_mesh)[0]}
    name = "image_encoder/blocks/layer_0/mlp/up/kernel"
    difference = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), expected, gradient)
    report = {
        "devices": len(jax.devices()),
        "one": one,
        "eight": eight,
        "gradient": max(jax.tree.leaves(difference)),
        "largest": max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected)),
        "shard": list(flat[name].addressable_shards[0].data.shape),
        "whole": list(flat[name].shape),
        "rows": rows[0].addressable_shards[0].data.shape[0],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
