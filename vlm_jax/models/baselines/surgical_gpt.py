"""SurgicalGPT for many tasks (OURS; the published model answers questions by classes, see lv_gpt.py).

GPT-2 reads [prompt ; vision], whose average feeds a sigmoid head for the landmarks, and goes on with the target, whose
words it predicts through its own word embedding. Prompts are embedded by the published model's separate copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vlm_jax.config.schema import Config
from vlm_jax.contract import TASKS, TEXT_TASKS
from vlm_jax.errors import UserError
from vlm_jax.models import initializers
from vlm_jax.models.absence import join_frames, null_prompts
from vlm_jax.models.baselines.gpt2 import KeysValues, empty_cache
from vlm_jax.models.baselines.lv_gpt import WORD, ClassifierHead, LvGpt, n_vision_tokens
from vlm_jax.models.state import Cache, Outputs
from vlm_jax.models.vlm import PROMPT_ROWS


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PrefixMemory:
    """[prompt ; vision] of R text tasks, read once.

    Attributes:
      landmark_logits: f32[B, C], or None.
      prefix: keys and values [B, R, L, N, H] of each layer; empty without a text task.
      mask: bool[B, R, L].
      vision_mask: bool[B, F * P]; True where a frame was seen.
    """

    landmark_logits: jax.Array | None
    prefix: tuple[KeysValues, ...]
    mask: jax.Array
    vision_mask: jax.Array


class SurgicalGpt(LvGpt):
    """The system `surgical_gpt`, with the face of `Vlm`.

    Attributes:
      n_landmarks: C.
      n_tokens: the tokenizer's size; rows of the vocabulary beyond it are padding, their logits masked.
      tasks: those of contract.TASKS that are on.
    """

    n_landmarks: int = 1
    n_tokens: int = 1
    tasks: tuple[str, ...] = TASKS

    @property
    def text_tasks(self) -> tuple[str, ...]:
        """The enabled text tasks: the axis R."""
        return tuple(t for t in TEXT_TASKS if t in self.tasks)

    @property
    def _prompt_rows(self) -> tuple[int, ...]:
        return tuple(sorted({PROMPT_ROWS[TASKS.index(t)] for t in self.tasks}))

    def setup(self) -> None:
        super().setup()
        gpt = self.config.gpt
        init = initializers.weights(gpt.width)
        self.null_image = self.param("null_image", init, (gpt.width,))
        self.null_text = self.param("null_text", init, (gpt.width,))
        if "landmarks" in self.tasks:
            self.classifier_head = ClassifierHead(self.n_landmarks, gpt.head_width, gpt.head_dropout)

    def __call__(
        self, image: jax.Array, frame_mask: jax.Array, prompt: jax.Array, target: jax.Array, *, train: bool = False
    ) -> Outputs:
        """Teacher-forced, as `Vlm.__call__`."""
        memory = self.encode(image, frame_mask, prompt, train=train)
        if not self.text_tasks:
            return Outputs(memory.landmark_logits, None)
        rows = np.array([TASKS.index(t) for t in self.text_tasks])
        x = self.gpt.embed(jnp.asarray(target)[:, rows, :-1])
        x = self._place_target(x, jnp.arange(x.shape[2]), memory, train)
        hidden = self.gpt.extend(x, memory.prefix, memory.mask, train=train)
        return Outputs(memory.landmark_logits, self._token_logits(hidden))

    def encode(
        self, image: jax.Array, frame_mask: jax.Array, prompt: jax.Array, *, train: bool = False
    ) -> PrefixMemory:
        """Each prompt that some task reads, with the image behind it, through GPT-2."""
        vision, vision_mask = self._vision_tokens(image, jnp.asarray(frame_mask), train)
        prompt = jnp.asarray(prompt)[:, np.array(self._prompt_rows)]
        b, u, s = prompt.shape
        words, word_mask = self.words(prompt), prompt != 0
        if self.config.no_text:
            words, word_mask = null_prompts(words, self.null_text)
        width = words.shape[-1]
        hidden, prefix, mask = self.sequence(
            words.reshape(b * u, s, width),
            word_mask.reshape(b * u, s),
            jnp.repeat(vision, u, axis=0),
            jnp.repeat(vision_mask, u, axis=0),
            train,
        )
        hidden, prefix, mask = jax.tree.map(lambda x: x.reshape(b, u, *x.shape[1:]), (hidden, prefix, mask))
        logits = None
        if "landmarks" in self.tasks:
            row = self._prompt_rows.index(PROMPT_ROWS[0])
            seen = None if self.config.no_image else jnp.asarray(frame_mask).any(axis=1)
            logits = self.classifier_head(hidden[:, row].astype(jnp.float32).mean(axis=1), train, seen)
        rows = np.array([self._prompt_rows.index(PROMPT_ROWS[TASKS.index(t)]) for t in self.text_tasks], np.int32)
        kept = jax.tree.map(lambda x: x[:, rows], prefix) if self.text_tasks else ()
        return PrefixMemory(logits, kept, mask[:, rows], vision_mask)

    @nn.nowrap
    def init_cache(self, memory: PrefixMemory, width: int, length: int) -> Cache:
        """An empty cache for `width` beams of up to `length` tokens."""
        b, r = memory.mask.shape[:2]
        return empty_cache(self.config.gpt, (b, r, width, length), self.dtype)

    def decode_step(
        self, memory: PrefixMemory, cache: Cache, tokens: jax.Array, position: jax.Array | int
    ) -> tuple[jax.Array, Cache]:
        """One token of W beams, as `Vlm.decode_step`."""
        position = jnp.asarray(position)
        x = self._place_target(self.gpt.embed(tokens), position, memory, False)
        hidden, cache = self.gpt.step(x, memory.prefix, memory.mask, cache, position)
        return self._token_logits(hidden), cache

    def _vision_tokens(self, image: jax.Array, frame_mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Tokens of all frames [B, F * P, D] and what of them is seen; a missing frame is the null embedding."""
        tokens = self.vision(image.reshape(-1, *image.shape[2:]), train, frame_mask.reshape(-1))
        return join_frames(tokens, frame_mask, self.null_image, self.config.no_image)

    def _place_target(self, x: jax.Array, step: jax.Array, memory: PrefixMemory, train: bool) -> jax.Array:
        """Target words count on from the prompt's, or, without positions of its own for vision, from the image's."""
        length, n_vision = memory.mask.shape[-1], memory.vision_mask.shape[1]
        if self.config.gpt.vision_positions == "none":
            return self.gpt.place(x, length + step, None, train)
        return self.gpt.place(x, length - n_vision + step, jnp.asarray(WORD), train)

    def _token_logits(self, hidden: jax.Array) -> jax.Array:
        return self.gpt.token_logits(hidden, self.n_tokens)


def make_surgical_gpt(config: Config, n_landmarks: int, n_tokens: int, dtype: jnp.dtype) -> SurgicalGpt:
    """The system that `config.system` = surgical_gpt names.

    Raises:
      UserError: sizes that do not fit one another.
    """
    model, data = config.model, config.data
    if 0 < model.vocab_size < n_tokens:
        raise UserError(
            f"config.model.vocab_size is {model.vocab_size}, but the tokenizer has {n_tokens} words; raise it or set 0"
        )
    if model.scan_layers:
        raise UserError("config.model.scan_layers is set, but surgical_gpt is not scanned: set it false")
    vision = n_vision_tokens(model, data.image_size)
    needed = data.prompt_length + data.target_length
    needed = needed + vision if model.gpt.vision_positions == "none" else max(needed, vision)
    if needed > model.gpt.positions:
        raise UserError(
            f"prompt, {vision} vision tokens and target need {needed} positions, but config.model.gpt.positions is "
            f"{model.gpt.positions}: raise it, or shorten data.prompt_length or data.target_length"
        )
    return SurgicalGpt(
        config=model,
        image_size=data.image_size,
        vocab_size=max(model.vocab_size, n_tokens),
        dtype=dtype,
        n_landmarks=n_landmarks,
        n_tokens=n_tokens,
        tasks=tuple(t for t in TASKS if t in config.tasks),
    )
