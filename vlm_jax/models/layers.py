"""What the encoders and the decoder are built of: norm, MLP, encoder block, and a stack of blocks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import ModelConfig
from vlm_jax.models import initializers
from vlm_jax.models.attention import Attention
from vlm_jax.models.products import dot_general
from vlm_jax.parallel.partition import constrain_batch

PRE_NORM_EPSILON = 1e-6  # ViT's
BERT_EPSILON = 1e-12


def layer_norm(epsilon: float, dtype: jnp.dtype, name: str | None = None) -> nn.LayerNorm:
    """Statistics in float32 whatever `dtype`; two passes, for at 1e-12 the one-pass variance may come out negative."""
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name)


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, x * Phi(x) (Hendrycks and Gimpel 2016).

    By erf, as torch has it: `jax.nn.gelu(approximate=False)` goes by erfc, which takes XLA twice as long on a CPU.
    """
    return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def remat_of(model: ModelConfig) -> str:
    """The `remat` of modules: nothing is recomputed (""), or all but what `model.remat_keep` names."""
    return model.remat_keep if model.remat else ""


def recomputed(block: Any, keep: str, **how: Any) -> Any:
    """A layer whose inside is computed anew in the backward pass (Chen et al. 2016), with what it keeps of it."""
    policies = {"nothing": None, "products": jax.checkpoint_policies.dots_saveable}
    return nn.remat(block, policy=policies[keep], **how)


def drop_branches(key: jax.Array, x: jax.Array, rate: jax.Array | float) -> jax.Array:
    """Zeros the branch x [B, ...] of a share `rate` of the examples, the others scaled to keep the mean."""
    keep = 1.0 - jnp.asarray(rate, jnp.float32)
    kept = jax.random.bernoulli(key, keep, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(kept, x / keep.astype(x.dtype), 0)


class Mlp(nn.Module):
    """Two linear layers, the exact (erf) GELU or another activation between them."""

    width: int
    hidden: int
    dtype: jnp.dtype = jnp.float32
    activation: Callable[[jax.Array], jax.Array] = gelu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = initializers.weights(self.width)
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=init, dot_general=dot_general)
        return dense(self.width, name="down")(self.activation(dense(self.hidden, name="up")(x)))


class EncoderBlock(nn.Module):
    """Self-attention and MLP, each with a residual: pre-norm (ViT) or post-norm (BERT).

    Attributes:
      dropout: of each sublayer's output.
      stochastic_depth: whether drop-path is on anywhere in the stack (static); its rate comes with the call.
    """

    width: int
    heads: int
    mlp: int
    pre_norm: bool
    epsilon: float
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0
    stochastic_depth: bool = False
    attention: str = "xla"

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array | None, drop_path: jax.Array | float, train: bool
    ) -> tuple[jax.Array, None]:
        """x [B, L, D]; mask bool broadcastable to [B, N, L, L]. Returns (x, None): the carry form of a scan."""
        attention = Attention(self.width, self.heads, self.dtype, self.attention, name="attention")
        mlp = Mlp(self.width, self.mlp, self.dtype, name="mlp")
        norm_1 = layer_norm(self.epsilon, self.dtype, name="norm_1")
        norm_2 = layer_norm(self.epsilon, self.dtype, name="norm_2")
        if self.pre_norm:
            x = x + self._drop(attention(norm_1(x), mask=mask), drop_path, train)
            x = x + self._drop(mlp(norm_2(x)), drop_path, train)
        else:
            x = norm_1(x + self._drop(attention(x, mask=mask), drop_path, train))
            x = norm_2(x + self._drop(mlp(x), drop_path, train))
        return constrain_batch(x), None

    def _drop(self, x: jax.Array, drop_path: jax.Array | float, train: bool) -> jax.Array:
        """Dropout, then drop-path (stochastic depth; Huang et al. 2016)."""
        if not train:
            return x
        x = nn.Dropout(self.dropout)(x, deterministic=self.dropout == 0.0)
        return drop_branches(self.make_rng("dropout"), x, drop_path) if self.stochastic_depth else x


class Stack(nn.Module):
    """`n_layers` blocks: unrolled (parameters `layer_0`, `layer_1`, ...) or scanned (`layers`, one leading axis more).

    Attributes:
      options: of the blocks, see `EncoderBlock`.
      drop_path: rate of the last block; the rates grow linearly from 0.
      remat: see `recomputed`.
      scan: compile one block and loop over it.
    """

    n_layers: int
    options: Mapping[str, Any]
    drop_path: float = 0.0
    remat: str = ""
    scan: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        options = {**self.options, "stochastic_depth": self.drop_path > 0.0}
        block: Any = EncoderBlock
        if self.remat:
            block = recomputed(block, self.remat, static_argnums=(4,), prevent_cse=not self.scan)
        rates = [self.drop_path * i / max(self.n_layers - 1, 1) for i in range(self.n_layers)]
        if not self.scan:
            for i, rate in enumerate(rates):
                x, _ = block(**options, name=f"layer_{i}")(x, mask, rate, train)
            return x
        scan: Any = nn.scan  # its annotations take no tuple for in_axes
        scanned = scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, 0, nn.broadcast),
            length=self.n_layers,
        )
        x, _ = scanned(**options, name="layers")(x, mask, jnp.asarray(rates, jnp.float32), train)
        return x
