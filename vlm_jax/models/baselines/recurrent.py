"""LSTM encoder-decoder, with attention or without (the networks of the navigation and keyword baselines).

KNOWN of the baselines: an LSTM and a plain encoder-decoder were compared with the transformer (Bieck et al. 2020), and
reports came from a bidirectional two-layer LSTM encoder-decoder with attention (Bieck et al. 2021). OURS:
multiplicative attention of the top hidden state over the encoder's outputs (Luong et al. 2015, "general"), without
input feeding; the decoder starts from the encoder's last states (Sutskever et al. 2014), through one tanh layer each;
words tied with the output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import Seq2SeqConfig
from vlm_jax.models import initializers
from vlm_jax.models.attention import MASKED
from vlm_jax.models.baselines.lstm import Lstm, LstmEncoder, State


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RecurrentMemory:
    """What the decoder starts from. `D_e` is the encoder's output width.

    Attributes:
      landmark_logits: None, for this system has no such task.
      outputs: [B, R, S, D_e].
      scored: [B, R, S, H], the outputs as the attention scores them; empty (H = 0) without attention.
      mask: bool[B, R, S].
      start: one state [B, R, H] a layer.
    """

    landmark_logits: None
    outputs: jax.Array
    scored: jax.Array
    mask: jax.Array
    start: tuple[State, ...]


class Recurrent(nn.Module):
    """The network between embedded words and hidden states; see `seq2seq.Seq2Seq` for words and tasks."""

    config: Seq2SeqConfig
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0

    def setup(self) -> None:
        c = self.config
        self.encoder = LstmEncoder(c.width, c.layers, c.bidirectional, self.dropout, self.dtype)
        self.decoders = [Lstm(c.width, dtype=self.dtype, name=f"decoder_{i}") for i in range(c.layers)]
        init = initializers.weights(c.width)
        dense = {"dtype": self.dtype, "kernel_init": init}
        self.bridges = [
            tuple(nn.Dense(c.width, **dense, name=f"bridge_{part}_{i}") for part in ("hidden", "cell"))
            for i in range(c.layers)
        ]
        self.attends = c.kind == "lstm"
        if self.attends:
            self.score = nn.Dense(c.width, use_bias=False, **dense)
            self.combine = nn.Dense(c.width, **dense)
        self.drop = nn.Dropout(self.dropout)

    def encode(self, x: jax.Array, mask: jax.Array, *, train: bool = False) -> RecurrentMemory:
        """Embedded prompts [B, R, S, D] and their mask bool[B, R, S]."""
        outputs, last = self.encoder(self._drop(self._scale(x), train), mask, train=train)
        start = tuple(
            (jnp.tanh(hidden(h)), jnp.tanh(cell(c)).astype(jnp.float32))
            for (hidden, cell), (h, c) in zip(self.bridges, last, strict=True)
        )
        scored = self.score(outputs) if self.attends else outputs[..., :0]
        return RecurrentMemory(None, outputs, scored, mask, start)

    def __call__(self, x: jax.Array, memory: RecurrentMemory, *, train: bool = False) -> jax.Array:
        """Embedded targets [B, R, T, D] -> hidden states [B, R, T, H]."""
        x = self._drop(self._scale(x), train)
        for decoder, start in zip(self.decoders, memory.start, strict=True):
            x, _ = decoder(x, None, start)
            x = self._drop(x, train)
        return self._drop(self._attend(x, memory), train) if self.attends else x

    def step(
        self, x: jax.Array, memory: RecurrentMemory, cache: tuple[State, ...], position: jax.Array
    ) -> tuple[jax.Array, tuple[State, ...]]:
        """One embedded word of each hypothesis [B, R, W, D] -> [B, R, W, H] and the new states."""
        del position
        x, states = self._scale(x), []
        for decoder, state in zip(self.decoders, cache, strict=True):
            states.append(decoder.step(x, state))
            x = states[-1][0]
        return self._attend(x, memory) if self.attends else x, tuple(states)

    def _attend(self, hidden: jax.Array, memory: RecurrentMemory) -> jax.Array:
        """tanh(W [context ; hidden]) with the context of each query [B, R, Q, H] (Luong et al. 2015, eq. 5)."""
        scores = jnp.einsum("brqh,brsh->brqs", hidden, memory.scored, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(jnp.where(memory.mask[:, :, None], scores, MASKED), axis=-1).astype(self.dtype)
        context = jnp.einsum("brqs,brsd->brqd", weights, memory.outputs)
        return jnp.tanh(self.combine(jnp.concatenate([context, hidden], axis=-1)))

    def _scale(self, x: jax.Array) -> jax.Array:
        """Words tied with the output start small, for its sake; a gate reads them at about unit size."""
        return x * math.sqrt(self.config.width)

    def _drop(self, x: jax.Array, train: bool) -> jax.Array:
        return self.drop(x, deterministic=not train or self.dropout == 0.0)


def recurrent_cache(memory: RecurrentMemory, width: int) -> tuple[State, ...]:
    """The start of `width` hypotheses: every leaf [B, R, W, H]."""

    def spread(leaf: jax.Array) -> jax.Array:
        return jnp.repeat(leaf[:, :, None], width, axis=2)

    return tuple((spread(hidden), spread(cell)) for hidden, cell in memory.start)
