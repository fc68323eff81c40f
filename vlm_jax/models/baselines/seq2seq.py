"""Text in, text out, no image: the sequence baselines as systems with the model's face.

`navigation_seq2seq` (Bieck et al. 2020) goes from the current to the next navigation sentence, which is `anticipate`;
`describe` (previous to current) has the same form. `keyword_report` (Bieck et al. 2021) goes from keyword and previous
sentence to the next sentence of the report.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vlm_jax.config.schema import Config, Seq2SeqConfig
from vlm_jax.contract import TASKS, TEXT_TASKS
from vlm_jax.errors import UserError
from vlm_jax.models import initializers
from vlm_jax.models.baselines.recurrent import Recurrent, RecurrentMemory, recurrent_cache
from vlm_jax.models.baselines.transformer import Transformer, transformer_cache
from vlm_jax.models.products import word_logits
from vlm_jax.models.state import Outputs

NAVIGATION_TASKS = ("describe", "anticipate")
KEYWORD_TASKS = ("report",)


class Seq2Seq(nn.Module):
    """One network for all tasks: the target's first token says which is asked.

    Attributes:
      config: which network, and its sizes.
      n_tokens: the tokenizer's size; `vocab_size`, where larger, pads the vocabulary to V.
      tasks: those of contract.TEXT_TASKS that are on.
      positions: the longest prompt or target.
      dtype: of activations; parameters, softmax, norms and logits are float32.
    """

    config: Seq2SeqConfig
    n_tokens: int
    vocab_size: int
    tasks: tuple[str, ...]
    positions: int
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0

    @property
    def text_tasks(self) -> tuple[str, ...]:
        """The enabled text tasks: the axis R of token logits, memory and cache."""
        return tuple(t for t in TEXT_TASKS if t in self.tasks)

    @property
    def _rows(self) -> np.ndarray:
        """Rows of the axis K of prompts and targets that R stands for."""
        return np.array([TASKS.index(t) for t in self.text_tasks])

    def setup(self) -> None:
        width = self.config.width
        self.word_embedding = self.param("word_embedding", initializers.weights(width), (self.vocab_size, width))
        self.token_bias = self.param("token_bias", initializers.zeros, (self.vocab_size,))
        if self.config.kind == "transformer":
            self.network = Transformer(self.config, self.positions, self.dtype, self.dropout)
        else:
            self.network = Recurrent(self.config, self.dtype, self.dropout)

    def __call__(
        self, image: jax.Array, frame_mask: jax.Array, prompt: jax.Array, target: jax.Array, *, train: bool = False
    ) -> Outputs:
        """Teacher-forced: target[..., :-1] goes in, the logits of target[..., 1:] come out.

        Args:
          image, frame_mask: not looked at.
          prompt: int32[B, K, S], 0 = padding.
          target: int32[B, K, T].
          train: dropout on; it draws from the rng stream `dropout`.
        """
        memory = self.encode(image, frame_mask, prompt, train=train)
        tokens = jnp.asarray(target)[:, self._rows, :-1]
        return Outputs(None, self._token_logits(self.network(self._embed(tokens), memory, train=train)))

    def encode(self, image: jax.Array, frame_mask: jax.Array, prompt: jax.Array, *, train: bool = False) -> Any:
        """The prompts of the enabled tasks, encoded once."""
        del image, frame_mask
        tokens = jnp.asarray(prompt)[:, self._rows]
        return self.network.encode(self._embed(tokens), tokens != 0, train=train)

    @nn.nowrap
    def init_cache(self, memory: Any, width: int, length: int) -> Any:
        """The start of `width` hypotheses of up to `length` tokens; every array leaf begins [B, R, W]."""
        if isinstance(memory, RecurrentMemory):
            return recurrent_cache(memory, width)
        return transformer_cache(memory, width, length)

    def decode_step(
        self, memory: Any, cache: Any, tokens: jax.Array, position: jax.Array | int
    ) -> tuple[jax.Array, Any]:
        """int32[B, R, W] at `position` -> logits f32[B, R, W, V] of the next token, and the cache."""
        hidden, cache = self.network.step(self._embed(tokens), memory, cache, jnp.asarray(position))
        return self._token_logits(hidden), cache

    def _embed(self, tokens: jax.Array) -> jax.Array:
        return jnp.take(self.word_embedding, tokens, axis=0).astype(self.dtype)

    def _token_logits(self, hidden: jax.Array) -> jax.Array:
        """[..., D] -> f32[..., V]; see `word_logits`."""
        return word_logits(hidden, self.word_embedding, self.token_bias, self.n_tokens)


def make_seq2seq(config: Config, n_tokens: int, dtype: Any, tasks: tuple[str, ...]) -> Seq2Seq:
    """The system of a configuration.

    Args:
      config: of the run.
      n_tokens: the tokenizer's size.
      dtype: of activations.
      tasks: what the system can do.

    Raises:
      UserError: a task that the system has not, an ablation that leaves it nothing, or a vocabulary that is too small.
    """
    check_text_system(config, n_tokens, tasks)
    return Seq2Seq(
        config=config.model.seq2seq,
        n_tokens=n_tokens,
        vocab_size=max(config.model.vocab_size, n_tokens),
        tasks=tuple(t for t in TASKS if t in config.tasks),
        positions=max(config.data.prompt_length, config.data.target_length),
        dtype=dtype,
        dropout=config.model.dropout,
    )


def check_text_system(config: Config, n_tokens: int, tasks: tuple[str, ...]) -> None:
    """UserError where a system that reads nothing but text is asked for what it has not."""
    if lacking := [t for t in config.tasks if t not in tasks]:
        raise UserError(
            f"config.tasks asks {config.system} for {', '.join(lacking)}, but it has {', '.join(tasks)} only: "
            f"set --config.tasks={','.join(tasks)}"
        )
    if config.model.no_text:
        raise UserError(f"config.model.no_text leaves {config.system} nothing: set --config.model.no_text=false")
    if 0 < config.model.vocab_size < n_tokens:
        raise UserError(
            f"config.model.vocab_size is {config.model.vocab_size}, but the tokenizer has {n_tokens} words; "
            "raise it or set 0"
        )
