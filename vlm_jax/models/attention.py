"""Multi-head attention: masks True = keep, softmax in float32, a row with nothing to keep gives zeros.

Layout is [B, L, N, H] (batch, length, heads, head width) throughout, which is what `jax.nn.dot_product_attention`
and cuDNN read without a transpose.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.models import initializers
from vlm_jax.models.products import dot_general
from vlm_jax.parallel.copies import TensorCopies, heads_of_copies, tensor_copies

MASKED = -1e30  # in place of a masked score; finite, so that a fully masked row stays free of NaN


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None = None, implementation: str = "xla"
) -> jax.Array:
    """softmax(QK'/sqrt(H))V (Vaswani et al. 2017, eq. 1).

    Args:
      query: [..., Q, N, H]; with `cudnn` exactly [B, Q, N, H].
      key: [..., L, N, H].
      value: [..., L, N, H].
      mask: bool, broadcastable to [..., N, Q, L]; True = keep; None = keep all.
      implementation: `xla` (any device) or `cudnn` (fused kernel on NVIDIA GPUs; needs bfloat16 activations).

    Returns:
      [..., Q, N, H] in the queries' dtype; zeros for a query whose keys are all masked.
    """
    if implementation == "cudnn":
        return _attend_cudnn(query, key, value, mask)
    scores = _masked(jnp.einsum("...qnh,...lnh->...nql", _scaled(query), key, preferred_element_type=jnp.float32), mask)
    weights = jax.nn.softmax(scores, axis=-1).astype(query.dtype)
    return _zero_empty_rows(jnp.einsum("...nql,...lnh->...qnh", weights, value), mask)


def attend_to_both(
    query: jax.Array,
    prompt: tuple[jax.Array, jax.Array],
    prompt_mask: jax.Array,
    image: tuple[jax.Array, jax.Array],
    image_mask: jax.Array,
) -> jax.Array:
    """Each query attends to [its own prompt ; the image of its example] under one softmax.

    Equals attention over the concatenation, without repeating the image's keys and values R times.

    Args:
      query: [B, R, Q, N, H].
      prompt: keys and values [B, R, S, N, H].
      prompt_mask: bool[B, R, S].
      image: keys and values [B, P, N, H].
      image_mask: bool[B, P].

    Returns:
      [B, R, Q, N, H]; zeros where prompt and image are masked altogether.
    """
    query_scaled = _scaled(query)
    f32 = jnp.float32
    of_prompt = jnp.einsum("brqnh,brsnh->bnrqs", query_scaled, prompt[0], preferred_element_type=f32)
    of_image = jnp.einsum("brqnh,bpnh->bnrqp", query_scaled, image[0], preferred_element_type=f32)
    of_prompt = _masked(of_prompt, prompt_mask[:, None, :, None, :])
    of_image = _masked(of_image, image_mask[:, None, None, None, :])
    weights = jax.nn.softmax(jnp.concatenate([of_prompt, of_image], axis=-1), axis=-1).astype(query.dtype)
    s = prompt_mask.shape[-1]
    out = jnp.einsum("bnrqs,brsnh->brqnh", weights[..., :s], prompt[1])
    out = out + jnp.einsum("bnrqp,bpnh->brqnh", weights[..., s:], image[1])
    kept = prompt_mask.any(-1) | image_mask.any(-1)[:, None]
    return jnp.where(kept[:, :, None, None, None], out, 0)


def _scaled(query: jax.Array) -> jax.Array:
    return query * query.shape[-1] ** -0.5


def _masked(scores: jax.Array, mask: jax.Array | None) -> jax.Array:
    return scores if mask is None else jnp.where(mask, scores, MASKED)


def _zero_empty_rows(out: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Zeros where no key is kept: a softmax over equal logits would average what was masked."""
    if mask is None:
        return out
    kept = mask.any(axis=-1)  # broadcastable to [..., N, Q]
    return jnp.where(jnp.swapaxes(kept, -1, -2)[..., None], out, 0)


def _attend_cudnn(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The fused kernel. Its backward pass takes no odd length (a patch grid with its class token is one), so that odd
    ones get one row more: a query that is cut off again, a key that the mask leaves out."""
    lengths = query.shape[1], key.shape[1]
    odd = [length % 2 for length in lengths]
    full = mask
    if odd[1] and mask is None:
        full = jnp.ones((1, 1, 1, lengths[1]), bool)
    if full is not None:
        full = jnp.broadcast_to(full, (query.shape[0], 1, *lengths))
        full = jnp.pad(full, ((0, 0), (0, 0), (0, odd[0]), (0, odd[1])))
    query, key, value = (_lengthened(x, more) for x, more in ((query, odd[0]), (key, odd[1]), (value, odd[1])))
    out = jax.nn.dot_product_attention(query, key, value, mask=full, implementation="cudnn")
    return _zero_empty_rows(out[:, : lengths[0]], mask)


def _lengthened(x: jax.Array, more: int) -> jax.Array:
    """[B, L, N, H] -> [B, L + more, N, H], with zeros."""
    return jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0))) if more else x


class HeadsProjection(nn.Module):
    """[..., D_in] or copies of it -> [..., N, H]: kernel f32[D_in, N, H] and bias, as `nn.DenseGeneral` has them."""

    heads: int
    head_width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array | TensorCopies) -> jax.Array:
        d = (x.array if isinstance(x, TensorCopies) else x).shape[-1]
        shape = (self.heads, self.head_width)
        kernel = self.param("kernel", self._init, (d, *shape)).astype(self.dtype)
        bias = self.param("bias", initializers.zeros, shape).astype(self.dtype)
        if isinstance(x, TensorCopies):
            return heads_of_copies(TensorCopies(x.array.astype(self.dtype)), kernel) + bias
        return dot_general(x.astype(self.dtype), kernel, (((x.ndim - 1,), (0,)), ((), ()))) + bias

    def _init(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        flat = (shape[0], self.heads * self.head_width)  # DenseGeneral draws a matrix, and a seed means the same
        return initializers.weights(flat[1])(key, flat).reshape(shape)


def heads_projection(width: int, heads: int, dtype: jnp.dtype, name: str | None = None) -> HeadsProjection:
    """[..., D_in] -> [..., heads, width / heads]; kernel f32[D_in, N, H]."""
    return HeadsProjection(heads, width // heads, dtype, name=name)


class Attention(nn.Module):
    """Multi-head attention with biases. `width` is the queries' and the output's; keys may come from another width."""

    width: int
    heads: int
    dtype: jnp.dtype = jnp.float32
    implementation: str = "xla"

    def setup(self) -> None:
        self.query = heads_projection(self.width, self.heads, self.dtype)
        self.key = heads_projection(self.width, self.heads, self.dtype)
        self.value = heads_projection(self.width, self.heads, self.dtype)
        init = initializers.weights(self.width)
        self.out = nn.DenseGeneral(
            self.width, axis=(-2, -1), dtype=self.dtype, kernel_init=init, dot_general=dot_general
        )

    def keys_values(self, memory: jax.Array | TensorCopies) -> tuple[jax.Array, jax.Array]:
        """[..., L, D_memory] -> keys and values [..., L, N, H]."""
        memory = tensor_copies(memory)
        return self.key(memory), self.value(memory)

    def __call__(self, x: jax.Array, memory: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
        """x [B, Q, D] attends to memory [B, L, D_memory] (itself if None); mask broadcastable to [B, N, Q, L]."""
        shared = tensor_copies(x) if memory is None else x
        key, value = self.keys_values(shared if memory is None else memory)
        return self.out(attend(self.query(shared), key, value, mask, self.implementation))
