"""Products as one of two matrices: the same numbers as JAX's own, and gradients of the same."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.models import products


@pytest.mark.parametrize(
    ("x", "kernel", "n"), [((2, 3, 4), (4, 5), 1), ((6, 4), (4, 2, 3), 1), ((2, 3, 2, 4), (2, 4, 5), 2)]
)
def test_dot_general_is_jax_s(x, kernel, n):
    rng = np.random.default_rng(0)
    args = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in (x, kernel)]
    dimensions = ((tuple(range(len(x) - n, len(x))), tuple(range(n))), ((), ()))

    def total(product, *args):
        return (product(*args, dimensions) ** 2).sum()

    ours, theirs = (jax.value_and_grad(total, (1, 2))(p, *args) for p in (products.dot_general, jax.lax.dot_general))
    assert products.dot_general(*args, dimensions).shape == jax.lax.dot_general(*args, dimensions).shape
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, theirs)


@pytest.mark.parametrize(
    "dimensions", [(((0,), (0,)), ((), ())), (((1,), (1,)), ((), ())), (((1,), (1,)), ((0,), (0,)))]
)
def test_other_axes_are_refused(dimensions):
    with pytest.raises(ValueError, match="last axes by the first"):
        products.dot_general(jnp.ones((3, 3)), jnp.ones((3, 3)), dimensions)


def test_no_gradient_of_a_weight_needs_a_transposed_copy():
    """What it is for: the weight's gradient reads the activations as they lie."""

    def loss(product, x, kernel):
        return jnp.sin(product(jnp.exp(x), kernel, (((2,), (0,)), ((), ())))).sum()

    x, kernel = jnp.ones((4, 50, 64)), jnp.ones((64, 32))
    text = {
        p: jax.jit(jax.grad(lambda *a, p=p: loss(p, *a), 1)).lower(x, kernel).compile().as_text()
        for p in (products.dot_general, jax.lax.dot_general)
    }
    assert " copy(" in text[jax.lax.dot_general], "XLA needs no copy any more: products.dot_general has nothing to do"
    assert " copy(" not in text[products.dot_general]


@pytest.mark.parametrize("bias", [None, "some"])
def test_word_logits_are_the_product_with_the_table(bias, monkeypatch):
    monkeypatch.setattr(products, "TILE", 4)  # of 10 rows 7 are real, and 8 get a logit
    rng = np.random.default_rng(1)
    hidden, table, offset = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 3, 4, 8), (10, 8), (10,)))
    found = products.word_logits(hidden, table, None if bias is None else offset, 7)
    expected = np.einsum("brtd,vd->brtv", hidden, table) + (0 if bias is None else offset)
    np.testing.assert_allclose(found[..., :7], expected[..., :7], rtol=1e-5, atol=1e-5)
    assert found.shape[-1] == 8 and (found[..., 7:] == products.MASKED_LOGIT).all()


def test_where_a_mesh_splits_the_vocabulary_every_row_is_said(monkeypatch):
    assert products.rows_said(30720, 4097) == 4224 and products.rows_said(100, 97) == 100
    monkeypatch.setattr(products, "axis_size", lambda name: 2 if name == "tensor" else 1)
    assert products.rows_said(30720, 4097) == 30720
