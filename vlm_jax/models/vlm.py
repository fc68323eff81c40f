"""The vision-language model: one image encoder, one text encoder, two-way fusion, landmark head, causal decoder.

Composition, ablations and tasks are described in docs/reference/model.md.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vlm_jax.config.schema import ModelConfig
from vlm_jax.contract import TASKS, TEXT_TASKS
from vlm_jax.models import initializers
from vlm_jax.models.absence import join_frames, null_prompts
from vlm_jax.models.backbones.networks import make_backbone
from vlm_jax.models.decoder import Decoder
from vlm_jax.models.fusion import CrossSublayer, masked_mean
from vlm_jax.models.heads import LandmarkHead, LandmarkTokens
from vlm_jax.models.image_encoder import ImageEncoder
from vlm_jax.models.layers import remat_of
from vlm_jax.models.regions import RegionHead, area_vote
from vlm_jax.models.state import Cache, Memory, Outputs
from vlm_jax.models.text_encoder import TextEncoder

PROMPT_ROWS = (0, 0, 2, 3)
"""Which row of the batch's prompt axis each task of contract.TASKS reads. `landmarks` and `describe` are asked the
same: the description of the previous activity; it is encoded once."""


class Vlm(nn.Module):
    """Image [B, F, H, W, 3] and K prompts in, landmark logits and R token streams out.

    Attributes:
      config: widths, depths, ablations.
      image_size: pixels.
      n_landmarks: C.
      n_tokens: the tokenizer's size; `config.vocab_size`, where larger, pads the vocabulary to V.
      tasks: those of contract.TASKS that are on. What no task needs has no parameters.
      n_frames: F, at most; from two on each place in the row of frames has an embedding.
      dtype: of activations; parameters, softmax, norms and logits are float32.
    """

    config: ModelConfig
    image_size: int
    n_landmarks: int
    n_tokens: int
    tasks: tuple[str, ...] = TASKS
    n_frames: int = 1
    dtype: jnp.dtype = jnp.float32

    # --- What is static -----------------------------------------------------------------------------------------------

    @property
    def text_tasks(self) -> tuple[str, ...]:
        """The enabled text tasks: the axis R of token logits, memory and cache."""
        return tuple(t for t in TEXT_TASKS if t in self.tasks)

    @property
    def vocab_size(self) -> int:
        """V: rows of the word embedding, padding included."""
        return max(self.config.vocab_size, self.n_tokens)

    @property
    def _task_rows(self) -> tuple[int, ...]:
        """Rows of the target axis K that R stands for."""
        return tuple(TASKS.index(t) for t in self.text_tasks)

    @property
    def _prompt_rows(self) -> tuple[int, ...]:
        """Rows of the prompt axis K that are encoded, each once."""
        return tuple(sorted({PROMPT_ROWS[TASKS.index(t)] for t in TASKS if t in self.tasks}))

    @property
    def _conditioned(self) -> bool:
        """Whether the decoder of `describe` sees the predicted landmarks."""
        return self.config.condition_on_landmarks and "describe" in self.tasks

    @property
    def _scores_landmarks(self) -> bool:
        return "landmarks" in self.tasks or self._conditioned

    @property
    def _has_regions(self) -> bool:
        return self.config.region_width > 0 and self._scores_landmarks

    # --- Parts --------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        c = self.config
        common = {"dtype": self.dtype, "dropout": c.dropout, "attention": c.attention}
        stack = {**common, "remat": remat_of(c), "scan": c.scan_layers}
        if c.image_encoder.stem == "backbone":
            self.backbone = make_backbone(c.backbone, self.dtype, None, finer=self._has_regions)
        self.image_encoder = ImageEncoder(c.image_encoder, self.image_size, **stack)
        self.text_encoder = TextEncoder(c.text_encoder, self.vocab_size, **stack)
        image_width, text_width = c.image_encoder.width, c.text_encoder.width
        self.null_image = self.param("null_image", initializers.weights(image_width), (image_width,))
        self.null_text = self.param("null_text", initializers.weights(text_width), (text_width,))
        if self.n_frames > 1:
            init = initializers.weights(image_width)
            self.frame_embedding = self.param("frame_embedding", init, (self.n_frames, image_width))
        if self._scores_landmarks:
            self.landmark_head = LandmarkHead(self.n_landmarks, c.head_bias)
            if c.fusion == "cross_attention":
                self.image_to_text = CrossSublayer(image_width, c.fusion_heads, **common)
        if self._has_regions:
            self.region_head = RegionHead(self.n_landmarks, c.region_width, self.dtype, c.dropout)
            self.region_vote = self.param("region_vote", initializers.ones, (self.n_landmarks,))
        if self._conditioned:
            self.landmark_tokens = LandmarkTokens(self.n_landmarks, text_width, self.dtype)
        if self.text_tasks:
            if c.fusion == "cross_attention":
                self.text_to_image = CrossSublayer(text_width, c.fusion_heads, **common)
            if image_width != text_width:
                init = initializers.weights(image_width)
                self.image_projection = nn.Dense(text_width, dtype=self.dtype, kernel_init=init)
            self.decoder = Decoder(c.decoder, text_width, **common, remat=remat_of(c))
            self.token_bias = self.param("token_bias", initializers.zeros, (self.vocab_size,))

    # --- Face ---------------------------------------------------------------------------------------------------------

    def __call__(
        self, image: jax.Array, frame_mask: jax.Array, prompt: jax.Array, target: jax.Array, *, train: bool = False
    ) -> Outputs:
        """Teacher-forced: target[..., :-1] goes in, the logits of target[..., 1:] come out.

        Args:
          image: uint8 (or float in 0-255) [B, F, H, W, 3], not normalised.
          frame_mask: bool[B, F]; False = no image there.
          prompt: int32[B, K, S], 0 = padding.
          target: int32[B, K, T].
          train: dropout and drop-path on; they draw from the rng stream `dropout`.
        """
        memory = self.encode(image, frame_mask, prompt, train=train)
        if not self.text_tasks:
            return Outputs(memory.landmark_logits, None, region_logits=memory.region_logits)
        tokens = jnp.asarray(target)[:, np.array(self._task_rows), :-1]
        hidden = self.decoder(self.text_encoder.embed(tokens), memory, train=train)
        return Outputs(memory.landmark_logits, self._token_logits(hidden), region_logits=memory.region_logits)

    def encode(self, image: jax.Array, frame_mask: jax.Array, prompt: jax.Array, *, train: bool = False) -> Memory:
        """All that does not depend on the targets, once: landmark logits, and keys and values for the decoder."""
        image_tokens, image_mask, regions = self._image_tokens(image, frame_mask, train)
        prompts, prompt_mask = self._prompt_tokens(prompt, train)
        logits = None
        if self._scores_landmarks:
            row = self._prompt_rows.index(PROMPT_ROWS[0])
            logits = self._landmark_logits(image_tokens, image_mask, prompts[:, row], prompt_mask[:, row], train)
            if regions is not None:  # without an image, places say nothing
                seen = jnp.asarray(frame_mask)[:, :1] & (not self.config.no_image)
                logits = logits + jnp.where(seen, self.region_vote * area_vote(regions), 0.0)
                regions = None if self.config.no_image else regions  # nothing was seen: there is nothing to say of it
        rows = np.array([self._prompt_rows.index(PROMPT_ROWS[k]) for k in self._task_rows], np.int32)
        prompts, prompt_mask = prompts[:, rows], prompt_mask[:, rows]
        if not self.text_tasks:
            return Memory(logits, (), prompt_mask, image_mask, regions)
        if self.config.fusion == "cross_attention":
            prompts = self._fuse_prompts(prompts, image_tokens, image_mask, train)
        elif self.config.fusion == "pooled":
            prompts, prompt_mask = _pool(prompts, prompt_mask)
            image_tokens, image_mask = _pool(image_tokens, image_mask)
        if self._conditioned and logits is not None:
            told = np.array([task == "describe" for task in self.text_tasks])
            prompts, prompt_mask = self.landmark_tokens(prompts, prompt_mask, logits, told)
        if self.config.image_encoder.width != self.config.text_encoder.width:
            image_tokens = self.image_projection(image_tokens)
        return Memory(logits, self.decoder.project(prompts, image_tokens), prompt_mask, image_mask, regions)

    @nn.nowrap
    def init_cache(self, memory: Memory, width: int, length: int) -> Cache:
        """An empty cache for `width` beams of up to `length` tokens. Needs no parameters."""
        c = self.config
        b, r = memory.prompt_mask.shape[:2]
        shape = (b, r, width, length, c.decoder.heads, c.text_encoder.width // c.decoder.heads)
        empty = tuple(jnp.zeros(shape, self.dtype) for _ in range(c.decoder.layers))
        return Cache(empty, tuple(jnp.zeros(shape, self.dtype) for _ in range(c.decoder.layers)))

    def decode_step(
        self, memory: Memory, cache: Cache, tokens: jax.Array, position: jax.Array | int
    ) -> tuple[jax.Array, Cache]:
        """One token of W beams.

        Args:
          memory: from `encode`.
          cache: from `init_cache` or the step before.
          tokens: int32[B, R, W], what stands at `position`.
          position: int32 scalar, 0 for the task token.

        Returns:
          logits f32[B, R, W, V] of the token at `position` + 1, and the cache with `position` written.
        """
        hidden, cache = self.decoder.step(self.text_encoder.embed(tokens), memory, cache, jnp.asarray(position))
        return self._token_logits(hidden), cache

    # --- Steps of encode ----------------------------------------------------------------------------------------------

    def _image_tokens(
        self, image: jax.Array, frame_mask: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Tokens of all frames side by side [B, F * P, D], what of them is seen, bool[B, F * P], and region logits."""
        frame_mask = jnp.asarray(frame_mask)
        image = image.reshape(-1, *image.shape[2:])
        maps: tuple[jax.Array, ...] = ()
        if self.config.image_encoder.stem == "backbone":
            found = self.backbone(image, train, frame_mask.reshape(-1))
            maps = found if self._has_regions else (found,)
            image = maps[-1]
        tokens = self.image_encoder(image, train=train)
        regions = self._regions(maps, tokens, frame_mask.shape[1], train) if self._has_regions else None
        if self.n_frames > 1:
            places = jnp.tile(self.frame_embedding[: frame_mask.shape[1]].astype(tokens.dtype), (len(frame_mask), 1))
            tokens = tokens + places[:, None]
        return *join_frames(tokens, frame_mask, self.null_image, self.config.no_image), regions

    def _regions(self, maps: tuple[jax.Array, ...], tokens: jax.Array, n_frames: int, train: bool) -> jax.Array:
        """f32[B, h, w, C] of each example's first frame, on the network's maps or on the patches."""
        if not maps:
            side = self.image_size // self.config.image_encoder.patch
            maps = (tokens[:, 1:].reshape(tokens.shape[0], side, side, tokens.shape[-1]),)
        return self.region_head([x.reshape(-1, n_frames, *x.shape[1:])[:, 0] for x in maps], train=train)

    def _prompt_tokens(self, prompt: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """The prompts that some task reads, encoded [B, U, S, D], and their mask [B, U, S]."""
        prompt = jnp.asarray(prompt)[:, np.array(self._prompt_rows)]
        b, u, s = prompt.shape
        tokens = self.text_encoder(prompt.reshape(b * u, s), train=train).reshape(b, u, s, -1)
        return null_prompts(tokens, self.null_text) if self.config.no_text else (tokens, prompt != 0)

    def _landmark_logits(
        self, image: jax.Array, image_mask: jax.Array, prompt: jax.Array, prompt_mask: jax.Array, train: bool
    ) -> jax.Array:
        """f32[B, C] from the mean of the patch tokens (no class token) and the landmarks prompt [B, S, D].

        With `separate` from the image alone (EndoViT's head).
        """
        image, image_mask = self._without_class_tokens(image), self._without_class_tokens(image_mask)
        if self.config.fusion == "cross_attention":
            fused = self.image_to_text(image, prompt, prompt_mask, train=train)
            return self.landmark_head(masked_mean(fused, image_mask))
        if self.config.fusion == "separate":
            return self.landmark_head(masked_mean(image, image_mask))
        pooled = [masked_mean(image, image_mask), masked_mean(prompt, prompt_mask)]
        return self.landmark_head(jnp.concatenate(pooled, axis=-1))

    def _without_class_tokens(self, x: jax.Array) -> jax.Array:
        """[B, F * P, ...] -> [B, F * (P - 1), ...]."""
        per_frame = 1 + (self.image_size // self.config.image_encoder.patch) ** 2
        split = x.reshape(x.shape[0], -1, per_frame, *x.shape[2:])
        return split[:, :, 1:].reshape(x.shape[0], -1, *x.shape[2:])

    def _fuse_prompts(self, prompts: jax.Array, image: jax.Array, image_mask: jax.Array, train: bool) -> jax.Array:
        """[B, R, S, D]: the R prompts as one long query, so that the image's keys are projected once."""
        b, r, s, d = prompts.shape
        fused = self.text_to_image(prompts.reshape(b, r * s, d), image, image_mask, train=train)
        return fused.reshape(b, r, s, d)

    def _token_logits(self, hidden: jax.Array) -> jax.Array:
        return self.text_encoder.token_logits(hidden, self.token_bias, self.n_tokens)


def _pool(tokens: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[..., L, D] and bool[..., L] -> their mean as a sequence of one, seen where anything was."""
    return masked_mean(tokens, mask)[..., None, :].astype(tokens.dtype), mask.any(-1, keepdims=True)
