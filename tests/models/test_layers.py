"""What encoders are built of: GELU, drop-path, and a stack that is rematerialised or scanned."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from vlm_jax.models.layers import Stack, drop_branches, gelu


def test_gelu_is_torchs():
    x = np.linspace(-8, 8, 401, dtype=np.float32)
    np.testing.assert_allclose(gelu(jnp.asarray(x)), torch.nn.functional.gelu(torch.from_numpy(x)), atol=1e-6)


def stack_options(**changes):
    options = {"width": 8, "heads": 2, "mlp": 12, "pre_norm": True, "epsilon": 1e-6}
    return {**options, **changes}


@pytest.mark.parametrize("scan", [False, True])
def test_drop_path_drops_whole_branches_of_single_examples_in_training_only(scan):
    stack = Stack(2, stack_options(), drop_path=0.9, scan=scan)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 3, 8)), jnp.float32)
    params = jax.jit(stack.init)(jax.random.key(0), x)
    one = Stack(1, stack_options(), scan=scan)
    first = jax.tree.map(lambda p: p[:1], params) if scan else {"params": {"layer_0": params["params"]["layer_0"]}}
    after_one = np.asarray(one.apply(first, x))
    trained = np.asarray(stack.apply(params, x, train=True, rngs={"dropout": jax.random.key(1)}))
    dropped = np.isclose(trained, after_one, atol=1e-6).all(axis=(1, 2))
    assert 0.6 < dropped.mean() < 0.95, "both branches of the last layer drop together in 81 % of the examples"
    whole = np.asarray(stack.apply(params, x))
    assert not np.isclose(whole, after_one, atol=1e-6).all(axis=(1, 2)).any()


def test_drop_path_keeps_the_expectation():
    out = drop_branches(jax.random.key(0), jnp.ones((4000, 1, 1)), 0.25)
    assert set(np.unique(np.asarray(out).round(5))) == {0.0, np.float32(1 / 0.75).round(5)}
    assert abs(float(out.mean()) - 1.0) < 0.05


@pytest.mark.parametrize(("remat", "scan"), [("nothing", False), ("", True), ("nothing", True), ("products", True)])
def test_remat_and_scan_change_neither_outputs_nor_gradients(remat, scan):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 8)), jnp.float32)
    mask = jnp.asarray([[True, True, False], [True, True, True]])[:, None, None]
    plain, other = Stack(2, stack_options()), Stack(2, stack_options(), remat=remat, scan=scan)
    params = jax.jit(plain.init)(jax.random.key(0), x)["params"]

    def restack(tree):
        layers = [tree[f"layer_{i}"] for i in range(2)]
        return {"layers": jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)} if scan else tree

    def gradient(stack, params):
        return jax.jit(jax.value_and_grad(lambda p: (stack.apply({"params": p}, x, mask, train=True) ** 2).mean()))(
            params
        )

    value, expected = gradient(plain, params)
    other_value, ours = gradient(other, restack(params))
    np.testing.assert_allclose(other_value, value, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, restack(expected))
