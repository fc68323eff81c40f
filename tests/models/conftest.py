"""A model small enough to run in every test: other widths for image and text, odd sizes, padded vocabulary."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.config import schema
from vlm_jax.models import build_model, init_params

N_TOKENS, N_LANDMARKS = 50, 5

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
"""Of compilation, not of the run: these models are compiled once and called twice."""


def small_config(
    tasks: tuple[str, ...] | None = None, frames: int = 1, image_size: int = 16, **model: Any
) -> schema.Config:
    base = schema.ModelConfig(
        image_encoder=schema.ImageEncoderConfig(width=24, layers=1, heads=2, mlp=40, patch=8),
        text_encoder=schema.TextEncoderConfig(width=16, layers=1, heads=2, mlp=24, positions=16),
        decoder=schema.DecoderConfig(layers=2, heads=4, mlp=24, positions=12),
        fusion_heads=4,
        vocab_size=56,
    )
    config = schema.Config(
        data=schema.DataConfig(image_size=image_size, prompt_length=7, target_length=6, frames=frames),
        model=dataclasses.replace(base, **model),
    )
    return config if tasks is None else dataclasses.replace(config, tasks=tasks)


def random_batch(seed: int = 0, size: int = 3, frames: int = 1, image_size: int = 16) -> SimpleNamespace:
    rng = np.random.default_rng(seed)
    prompt = rng.integers(1, N_TOKENS, (size, 4, 7), dtype=np.int32)
    prompt[0, :, 5:] = 0
    frame_mask = np.ones((size, frames), bool)
    return SimpleNamespace(
        image=rng.integers(0, 256, (size, frames, image_size, image_size, 3), dtype=np.uint8),
        frame_mask=frame_mask,
        prompt=prompt,
        target=rng.integers(1, N_TOKENS, (size, 4, 6), dtype=np.int32),
    )


class Small:
    """A model, its parameters (larger than at the start, so that nothing hides below a tolerance) and jitted calls."""

    def __init__(self, config: schema.Config, seed: int = 0) -> None:
        self.config = config
        self.model: Any = build_model(config, N_LANDMARKS, N_TOKENS)
        self.params = self._randomise(jax.eval_shape(self._init, jax.random.key(0)), seed)
        # The plain model is compiled as in production: what is bit-identical must be so there.
        apply_jit = jax.jit if config == small_config() else self.jit
        self._apply = apply_jit(lambda p, b: self.model.apply({"params": p}, *b))
        self._encode = self.jit(lambda p, b: self.model.apply({"params": p}, *b, method="encode"))
        self._step = self.jit(lambda p, m, c, t, i: self.model.apply({"params": p}, m, c, t, i, method="decode_step"))

        self._gradient = self.jit(jax.value_and_grad(self._loss))

    def _loss(self, params: Any, arguments: Any) -> jax.Array:
        out = self.model.apply({"params": params}, *arguments, train=True)
        return (out.landmark_logits**2).mean() + (out.token_logits[..., :N_TOKENS] ** 2).mean()

    def gradient(self, batch: Any, params: Any = None) -> Any:
        """A loss on all outputs and its gradient."""
        arguments = (batch.image, batch.frame_mask, batch.prompt, batch.target)
        return self._gradient(self.params if params is None else params, arguments)

    @staticmethod
    def jit(fn: Any) -> Any:
        return jax.jit(fn, compiler_options=QUICK)

    def _init(self, key: jax.Array) -> Any:
        return init_params(self.model, self.config, key)

    @staticmethod
    def _randomise(abstract: Any, seed: int) -> Any:
        rng = np.random.default_rng(seed)

        def draw(path: Any, leaf: Any) -> jax.Array:
            mean = 1.0 if "scale" in jax.tree_util.keystr(path) else 0.0
            return jnp.asarray(rng.normal(mean, 0.2, leaf.shape), leaf.dtype)

        return jax.tree_util.tree_map_with_path(draw, abstract)

    def __call__(self, batch: Any, params: Any = None) -> Any:
        arguments = (batch.image, batch.frame_mask, batch.prompt, batch.target)
        return self._apply(self.params if params is None else params, arguments)

    def encode(self, batch: Any) -> Any:
        return self._encode(self.params, (batch.image, batch.frame_mask, batch.prompt))

    def step(self, memory: Any, cache: Any, tokens: Any, position: int) -> Any:
        return self._step(self.params, memory, cache, jnp.asarray(tokens), jnp.asarray(position))


@pytest.fixture(scope="session")
def make_small():
    """Small models by their configuration, each built once."""
    made: dict[schema.Config, Small] = {}

    def make(tasks: tuple[str, ...] | None = None, frames: int = 1, image_size: int = 16, **model: Any) -> Small:
        config = small_config(tasks, frames, image_size, **model)
        if config not in made:
            made[config] = Small(config)
        return made[config]

    return make


@pytest.fixture
def make_batch():
    return random_batch
