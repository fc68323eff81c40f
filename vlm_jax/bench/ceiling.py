"""What this device reaches at its best: one large product of matrices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.bench.timing import interleave

SIDES = {"cpu": 2048}
SIDE = 8192
"""Of the square matrices: large enough for the arithmetic to hide everything else."""
TIMINGS = 10


def matmul_flops(dtype: str) -> float:
    """Operations a second, two a multiply-add: the median of TIMINGS products in `dtype`."""
    n = SIDES.get(jax.default_backend(), SIDE)
    a, b = (jax.random.normal(key, (n, n), jnp.dtype(dtype)) for key in jax.random.split(jax.random.key(0)))
    product = jax.jit(jnp.matmul)
    seconds = interleave({"product": lambda: jax.block_until_ready(product(a, b))}, rounds=TIMINGS, warmup=2)
    return 2 * n**3 / float(np.median(seconds["product"].wall))
