"""The hidden Markov model of navigation sentences as a system: fitted, not trained.

KNOWN: an HMM was compared with the sequence networks (Bieck et al. 2020). OURS: its states emit sentences as bags of
words and are fitted by Baum-Welch (`baum_welch`); the next sentence is one of the training descriptions, weighed by

    P(m | prompt) = sum_z sum_z' P(z | prompt) P(z' | z) P(m | z').

As a language model over that closed list it decodes like any other system: the next word's probability is that of the
listed sentences that begin as the words so far. The closed list is its limit: it never writes a new sentence.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vlm_jax.config.schema import Config
from vlm_jax.contract import TASKS, TEXT_TASKS
from vlm_jax.models import initializers
from vlm_jax.models.baselines.seq2seq import NAVIGATION_TASKS, check_text_system
from vlm_jax.models.state import Outputs

NEVER = -1e30
"""Log-probability of what cannot be; finite, so that sums of it never become NaN."""
FLOOR = 1e-6
"""Share of the probability spread over all words, so that a sentence outside the list has a finite loss."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HmmMemory:
    """log P(m | prompt) of each listed sentence, f32[B, R, M]."""

    landmark_logits: None
    answers: jax.Array


class Hmm(nn.Module):
    """The fitted tables and how they answer.

    Parameters, all logarithms in float32 but the last: `hmm_prior` [N] (how often a state is visited), `hmm_transition`
    [N, N], `hmm_emission` [V, N] (0 for words that say nothing), `hmm_answer` [N, M], `hmm_sentences` int32[M, T - 1]
    (words, [EOS], padding). Rows of unused states and sentences are `NEVER`.

    Attributes:
      states: N. sentences: M. n_tokens: V. length: T.
      tasks: those of contract.TEXT_TASKS that are on.
    """

    states: int
    sentences: int
    n_tokens: int
    length: int
    tasks: tuple[str, ...]

    @property
    def text_tasks(self) -> tuple[str, ...]:
        """The enabled text tasks: the axis R."""
        return tuple(t for t in TEXT_TASKS if t in self.tasks)

    def setup(self) -> None:
        zeros = initializers.zeros
        n, m = self.states, self.sentences
        self.prior = self.param("hmm_prior", zeros, (n,))
        self.transition = self.param("hmm_transition", zeros, (n, n))
        self.emission = self.param("hmm_emission", zeros, (self.n_tokens, n))
        self.answer = self.param("hmm_answer", zeros, (n, m))
        self.listed = self.param("hmm_sentences", zeros, (m, self.length - 1), jnp.int32)

    def __call__(
        self, image: jax.Array, frame_mask: jax.Array, prompt: jax.Array, target: jax.Array, *, train: bool = False
    ) -> Outputs:
        """Log-probabilities of target[..., 1:] f32[B, R, T - 1, V]; the image is not looked at."""
        memory = self.encode(image, frame_mask, prompt, train=train)
        rows = np.array([TASKS.index(t) for t in self.text_tasks])
        tokens = jnp.asarray(target)[:, rows, :-1]
        cache, logits = self.init_cache(memory, 1, self.length), []
        for t in range(tokens.shape[-1]):
            said, cache = self.decode_step(memory, cache, tokens[:, :, t, None], t)
            logits.append(said[:, :, 0])
        return Outputs(None, jnp.stack(logits, axis=2))

    def encode(self, image: jax.Array, frame_mask: jax.Array, prompt: jax.Array, *, train: bool = False) -> HmmMemory:
        """What the prompts int32[B, K, S] say of the next sentence."""
        del image, frame_mask, train
        rows = np.array([TASKS.index(t) for t in self.text_tasks])
        seen = jnp.take(self.emission, jnp.asarray(prompt)[:, rows], axis=0).sum(axis=2)
        now = jax.nn.log_softmax(seen + self.prior, axis=-1)
        following = jax.nn.logsumexp(now[..., :, None] + self.transition, axis=-2)
        return HmmMemory(None, jax.nn.logsumexp(following[..., :, None] + self.answer, axis=-2))

    @nn.nowrap
    def init_cache(self, memory: HmmMemory, width: int, length: int) -> jax.Array:
        """f32[B, R, W, M]: log-weight of each listed sentence that begins as the words so far."""
        del length
        return jnp.repeat(memory.answers[:, :, None], width, axis=2)

    def decode_step(
        self, memory: HmmMemory, cache: jax.Array, tokens: jax.Array, position: jax.Array | int
    ) -> tuple[jax.Array, jax.Array]:
        """int32[B, R, W] at `position` (0: the task's token) -> log-probabilities f32[B, R, W, V], and the cache."""
        del memory
        place = jnp.asarray(position)
        last = jax.lax.dynamic_index_in_dim(self.listed, jnp.maximum(place - 1, 0), axis=1, keepdims=False)
        cache = jnp.where((place == 0) | (last == tokens[..., None]), cache, NEVER)
        following = jax.lax.dynamic_index_in_dim(self.listed, place, axis=1, keepdims=False)
        highest = cache.max(axis=-1, keepdims=True)
        weights = jnp.where(highest > NEVER / 2, jnp.exp(cache - highest), 0.0)
        mass = jnp.zeros((*tokens.shape, self.n_tokens)).at[..., following].add(weights)
        share = mass / jnp.maximum(mass.sum(axis=-1, keepdims=True), 1e-30)
        return jnp.log((1.0 - FLOOR) * share + FLOOR / self.n_tokens), cache


def make_hmm(config: Config, n_tokens: int) -> Hmm:
    """The system of a configuration, its tables empty.

    Raises:
      UserError: a task that it has not, or no text to read.
    """
    check_text_system(config, n_tokens, NAVIGATION_TASKS)
    hmm = config.model.hmm
    tasks = tuple(t for t in TASKS if t in config.tasks)
    return Hmm(hmm.states, hmm.sentences, n_tokens, config.data.target_length, tasks)
