"""A toy recurrent decoder with the model's decoding face, and the same arithmetic in plain numpy."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    landmark_logits: jax.Array | None
    state: jax.Array  # f32[B, R, D]


@dataclass(frozen=True)
class ToyModel:
    """h_0 comes from image and prompt; h_{t+1} = tanh(h_t A + E[token] + position); logits = h_{t+1} U."""

    text_tasks: tuple[str, ...] = ("describe", "report")
    landmarks: bool = True

    def apply(self, variables, *args, method: str):
        return getattr(self, method)(variables["params"], *args)

    def encode(self, params, image, frame_mask, prompt):
        del frame_mask
        light = image.astype(jnp.float32).mean(axis=(1, 2, 3, 4)) / 255.0
        rows = prompt[:, : len(self.text_tasks)].sum(axis=-1)
        state = jnp.sin(light[:, None, None] + rows[..., None] * params["start"])
        return Memory(jnp.stack([light, -light], axis=-1) if self.landmarks else None, state)

    def init_cache(self, params, memory, width, length):
        del params, length
        return {"state": jnp.repeat(memory.state[:, :, None], width, axis=2), "calls": jnp.int32(0)}

    def decode_step(self, params, memory, cache, tokens, position):
        del memory
        state = jnp.tanh(cache["state"] @ params["mix"] + params["embed"][tokens] + 0.1 * position)
        return state @ params["out"], {"state": state, "calls": cache["calls"] + 1}


@dataclass(frozen=True)
class Toy:
    """One random toy problem: the model, its parameters, a batch, and `log_probs`, the numpy oracle."""

    model: ToyModel
    params: dict[str, np.ndarray]
    image: np.ndarray
    prompt: np.ndarray
    task_ids: dict[str, int]
    eos_id: int = 1

    @property
    def inputs(self):
        return self.params, self.image, np.ones(self.image.shape[:2], bool), self.prompt

    def log_probs(self, b: int, r: int, tokens: list[int], allowed: np.ndarray | None = None) -> np.ndarray:
        """f64[len(tokens), V]: log-probabilities of what follows each token of one row."""
        p = {k: np.asarray(v, np.float64) for k, v in self.params.items()}
        light = self.image[b].mean() / 255.0
        state = np.sin(light + self.prompt[b, r].sum() * p["start"])
        rows = []
        for t, token in enumerate(tokens):
            state = np.tanh(state @ p["mix"] + p["embed"][token] + 0.1 * t)
            logits = state @ p["out"]
            if allowed is not None:
                logits = np.where(allowed, logits, -np.inf)
            rows.append(logits - np.log(np.exp(logits).sum()))
        return np.stack(rows)


def make_toy(seed: int = 0, vocabulary: int = 7, batch: int = 3, width: int = 6, sharp: float = 2.0) -> Toy:
    rng = np.random.default_rng(seed)
    params = {
        "start": rng.normal(size=width),
        "mix": rng.normal(size=(width, width)),
        "embed": rng.normal(size=(vocabulary, width)),
        "out": sharp * rng.normal(size=(width, vocabulary)),
    }
    params = {k: v.astype(np.float32) for k, v in params.items()}
    image = rng.integers(0, 256, (batch, 1, 4, 4, 3), dtype=np.uint8)
    prompt = rng.integers(0, 5, (batch, 4, 3)).astype(np.int32)
    return Toy(ToyModel(), params, image, prompt, {"describe": 2, "report": 3})


@pytest.fixture
def toy() -> Toy:
    return make_toy()


@pytest.fixture
def toys():
    """A factory: toys(seed, vocabulary, batch, ...)."""
    return make_toy
