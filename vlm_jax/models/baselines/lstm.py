"""Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000): layers and a bidirectional encoder.

Gates lie side by side in the order of torch: input, forget, cell, output. A masked position changes no state and puts
out zeros, which is what packed sequences do in torch: a backward direction starts at the last real word.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.models import initializers

State = tuple[jax.Array, jax.Array]
"""Hidden and cell state, each [..., H]; the cell state is float32."""


def _input_bias(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Zeros, and 1 for the forget gate: a cell that begins by remembering (Jozefowicz et al. 2015)."""
    del key
    width = shape[0] // 4
    return jnp.zeros(shape, dtype).at[width : 2 * width].set(1.0)


class Lstm(nn.Module):
    """One layer in one direction.

    Attributes:
      width: H.
      reverse: reads from the end.
      dtype: of products; gates and cell state are float32.
    """

    width: int
    reverse: bool = False
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        init = initializers.weights(self.width)
        self.input = nn.Dense(4 * self.width, dtype=self.dtype, kernel_init=init, bias_init=_input_bias)
        self.recurrent = self.param("recurrent", nn.initializers.orthogonal(), (self.width, 4 * self.width))

    def __call__(self, x: jax.Array, mask: jax.Array | None, start: State) -> tuple[jax.Array, State]:
        """Reads a sequence.

        Args:
          x: [..., L, D].
          mask: bool[..., L], True = a word; None = all.
          start: state before the first word read.

        Returns:
          hidden states [..., L, H], zeros where masked, and the state after the last word read.
        """
        seen = jnp.ones(x.shape[:-1], bool) if mask is None else mask
        over_time = jnp.moveaxis(self.input(x), -2, 0), jnp.moveaxis(seen, -1, 0)

        def read(state: State, step: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
            projected, word = step
            new = self._advance(projected, state)
            kept = tuple(jnp.where(word[..., None], n, s) for n, s in zip(new, state, strict=True))
            return (kept[0], kept[1]), jnp.where(word[..., None], new[0], 0)

        last, hidden = jax.lax.scan(read, start, over_time, reverse=self.reverse)
        return jnp.moveaxis(hidden, 0, -2), last

    def step(self, x: jax.Array, state: State) -> State:
        """One word [..., D]."""
        return self._advance(self.input(x), state)

    def _advance(self, projected: jax.Array, state: State) -> State:
        hidden, cell = state
        gates = projected + hidden.astype(self.dtype) @ self.recurrent.astype(self.dtype)
        enter, forget, new, leave = jnp.split(gates.astype(jnp.float32), 4, axis=-1)
        cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
        return (jax.nn.sigmoid(leave) * jnp.tanh(cell)).astype(self.dtype), cell


def zero_state(shape: tuple[int, ...], dtype: jnp.dtype) -> State:
    """The state of a layer that has read nothing; `shape` ends in H."""
    return jnp.zeros(shape, dtype), jnp.zeros(shape, jnp.float32)


class LstmEncoder(nn.Module):
    """A stack of layers; with `bidirectional` each reads both ways and hands on both halves side by side.

    Attributes:
      width: H of each direction.
      dropout: of the input of every layer but the first, as torch has it.
    """

    width: int
    layers: int
    bidirectional: bool = False
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @property
    def directions(self) -> tuple[str, ...]:
        """Names of the directions."""
        return ("forward", "backward") if self.bidirectional else ("forward",)

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool = False) -> tuple[jax.Array, list[State]]:
        """x [..., L, D], mask bool[..., L] -> outputs [..., L, n * H] and each layer's last state [..., n * H].

        n = 2 with `bidirectional`, else 1.
        """
        last: list[State] = []
        start = zero_state((*x.shape[:-2], self.width), self.dtype)
        for i in range(self.layers):
            if i:
                x = nn.Dropout(self.dropout)(x, deterministic=not train or self.dropout == 0.0)
            read = [
                Lstm(self.width, d == "backward", self.dtype, name=f"encoder_{i}_{d}")(x, mask, start)
                for d in self.directions
            ]
            x = jnp.concatenate([hidden for hidden, _ in read], axis=-1)
            states = [state for _, state in read]
            last.append((jnp.concatenate([h for h, _ in states], -1), jnp.concatenate([c for _, c in states], -1)))
        return x, last
