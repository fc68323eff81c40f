"""Attention against torch's scaled_dot_product_attention."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from vlm_jax.models.attention import attend, attend_to_both


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def torch_attend(query, key, value, mask=None):
    """[B, L, N, H] in and out; mask broadcastable to [B, N, Q, L]."""
    q, k, v = (torch.from_numpy(np.ascontiguousarray(x)).transpose(1, 2) for x in (query, key, value))
    keep = None if mask is None else torch.from_numpy(np.array(mask))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=keep).transpose(1, 2).numpy()


@pytest.fixture
def arrays():
    query, key, value = draw(3, 5, 2, 8), draw(3, 7, 2, 8, seed=1), draw(3, 7, 2, 8, seed=2)
    padding = np.ones((3, 1, 1, 7), bool)
    padding[1, ..., 4:] = False
    padding[2] = False  # nothing to attend to
    return query, key, value, padding


def test_equals_torch_without_mask(arrays):
    query, key, value, _ = arrays
    np.testing.assert_allclose(attend(query, key, value), torch_attend(query, key, value), atol=1e-6)


def test_equals_torch_with_padding_and_a_fully_masked_row(arrays):
    query, key, value, padding = arrays
    ours = np.asarray(attend(query, key, value, padding))
    theirs = torch_attend(query, key, value, np.broadcast_to(padding, (3, 2, 5, 7)))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert not ours[2].any()


def test_equals_torch_when_causal():
    x = draw(2, 6, 2, 4)
    causal = np.tril(np.ones((6, 6), bool))[None, None]
    np.testing.assert_allclose(attend(x, x, x, causal), torch_attend(x, x, x, causal), atol=1e-6)


def test_gradient_is_finite_through_a_fully_masked_row(arrays):
    query, key, value, padding = arrays
    gradients = jax.grad(lambda *a: (attend(*a, padding) ** 2).sum(), argnums=(0, 1, 2))(query, key, value)
    assert all(np.isfinite(g).all() for g in gradients)
    assert not np.asarray(gradients[2])[2].any(), "a masked value got a gradient"


def test_both_memories_equal_torch_over_their_concatenation():
    b, r, q, s, p, n, h = 3, 2, 4, 5, 6, 2, 8
    query, key, value = draw(b, r, q, n, h), draw(b, r, s, n, h, seed=1), draw(b, r, s, n, h, seed=2)
    image_key, image_value = draw(b, p, n, h, seed=3), draw(b, p, n, h, seed=4)
    prompt_mask, image_mask = np.ones((b, r, s), bool), np.ones((b, p), bool)
    prompt_mask[0, 1, 2:] = image_mask[1, 3:] = False
    prompt_mask[2, 0] = image_mask[2] = False  # all masked for one task of one example
    ours = attend_to_both(query, (key, value), prompt_mask, (image_key, image_value), image_mask)
    for i in range(r):
        keep = np.concatenate([prompt_mask[:, i], image_mask], axis=1)[:, None, None]
        keys = np.concatenate([key[:, i], image_key], axis=1)
        values = np.concatenate([value[:, i], image_value], axis=1)
        theirs = torch_attend(query[:, i], keys, values, np.broadcast_to(keep, (b, n, q, s + p)))
        np.testing.assert_allclose(ours[:, i], theirs, atol=1e-6)


def test_softmax_is_float32_whatever_the_activations():
    """Scores 256 apart by steps of 0.5: in bfloat16 (8 bits) the two largest would tie."""
    query, key = jnp.full((1, 1, 1, 4), 16.0, jnp.bfloat16), jnp.full((1, 2, 1, 4), 8.0, jnp.bfloat16)
    key = key.at[0, 0].add(0.0625)  # a score of 258 against 256, which bfloat16 would keep 2 apart at best
    value = jnp.asarray([1.0, 0.0], jnp.bfloat16).reshape(1, 2, 1, 1) * jnp.ones((1, 2, 1, 4), jnp.bfloat16)
    key = key.at[0, 0, 0, 1:].add(-0.0625)  # leaves 0.5 between the two
    out = attend(query, key, value)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(out, np.float32), 1 / (1 + np.exp(-0.5)), atol=0.01)


def test_cudnn_gets_full_masks_and_its_masked_rows_are_zeroed(arrays, monkeypatch):
    query, key, value, padding = arrays
    seen = {}
    original = jax.nn.dot_product_attention

    def fake(*args, implementation, mask=None):
        seen.update(implementation=implementation, mask=None if mask is None else mask.shape)
        return original(*args, mask=mask, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", fake)
    out = attend(query, key, value, padding, "cudnn")
    assert seen == {"implementation": "cudnn", "mask": (3, 1, 6, 8)}  # of odd lengths there is no backward pass
    np.testing.assert_allclose(out, attend(query, key, value, padding), atol=1e-6)
    np.testing.assert_allclose(attend(query, key, value, None, "cudnn"), attend(query, key, value), atol=1e-6)


@pytest.mark.parametrize("lengths", [(197, 197), (39, 39), (39, 236), (1, 39)])
@pytest.mark.parametrize("masked", [False, True])
def test_cudnn_has_a_backward_pass_at_every_length(lengths, masked, monkeypatch):
    """JAX's own checks of shapes, without a GPU: what is asked of the machine alone is answered for it."""
    from jax._src.cudnn import fused_attention_stablehlo as fused

    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91100)
    monkeypatch.setattr(fused, "check_compute_capability", lambda *args: True)
    monkeypatch.setattr(fused, "is_cuda_compute_capability_equal", lambda *args: False)
    query, key = (jax.ShapeDtypeStruct((2, n, 4, 64), jnp.bfloat16) for n in lengths)
    mask = jnp.ones((2, 1, 1, lengths[1]), bool) if masked else None

    def loss(query, key, value):
        return attend(query, key, value, mask, "cudnn").astype(jnp.float32).sum()

    gradients = jax.eval_shape(jax.grad(loss, argnums=(0, 1, 2)), query, key, key)
    assert [g.shape for g in gradients] == [(2, n, 4, 64) for n in (*lengths, lengths[1])]


@pytest.mark.gpu
@pytest.mark.parametrize("length", [64, 197, 39])
def test_cudnn_equals_xla_on_a_gpu(length):
    q, k, v = (jnp.asarray(draw(2, length, 4, 64, seed=i), jnp.bfloat16) for i in range(3))
    mask = jnp.arange(length)[None, None, None, :] < jnp.asarray([30, 0])[:, None, None, None]

    def both(query, key, value, implementation):
        def loss(*args):
            out = attend(*args, mask, implementation).astype(jnp.float32)
            return jnp.square(out).sum(), out

        (_, out), gradients = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(query, key, value)
        return out, gradients

    (fused, gradients), (plain, expected) = (both(q, k, v, name) for name in ("cudnn", "xla"))
    np.testing.assert_allclose(np.asarray(fused, np.float32), np.asarray(plain, np.float32), atol=2e-2)
    for a, b in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), atol=5e-2)
