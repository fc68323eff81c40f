"""Decoder layers against torch's, and cached decoding against the teacher-forced pass."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import torch

from vlm_jax.models.decoder import DecoderLayer

WIDTH, HEADS, MLP = 16, 4, 24
H = WIDTH // HEADS


def torch_layer() -> torch.nn.TransformerDecoderLayer:
    torch.manual_seed(0)
    layer = torch.nn.TransformerDecoderLayer(
        WIDTH, HEADS, MLP, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            noise = torch.randn(parameter.shape) * 0.3
            parameter.copy_(noise + 1.0 if "norm" in name and "weight" in name else noise)
    return layer.eval()


def converted(layer: torch.nn.TransformerDecoderLayer) -> dict:
    state = {k: v.numpy() for k, v in layer.state_dict().items()}

    def attention(name):
        weights = np.split(state[f"{name}.in_proj_weight"], 3)
        biases = np.split(state[f"{name}.in_proj_bias"], 3)
        tree = {
            part: {"kernel": w.T.reshape(WIDTH, HEADS, H), "bias": b.reshape(HEADS, H)}
            for part, w, b in zip(("query", "key", "value"), weights, biases, strict=True)
        }
        out = {"kernel": state[f"{name}.out_proj.weight"].T.reshape(HEADS, H, WIDTH)}
        return {**tree, "out": {**out, "bias": state[f"{name}.out_proj.bias"]}}

    def linear(name):
        return {"kernel": state[f"{name}.weight"].T, "bias": state[f"{name}.bias"]}

    def norm(name):
        return {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}

    return {
        "self_attention": attention("self_attn"),
        "cross_attention": attention("multihead_attn"),
        "mlp": {"up": linear("linear1"), "down": linear("linear2")},
        "norm_self": norm("norm1"),
        "norm_cross": norm("norm2"),
        "norm_mlp": norm("norm3"),
    }


def test_layer_equals_torch_with_prompt_and_image_as_one_memory():
    rng = np.random.default_rng(0)
    b, r, t, s, p = 2, 3, 5, 4, 6
    x, prompts, image = (
        rng.normal(size=shape).astype(np.float32) for shape in ((b, r, t, WIDTH), (b, r, s, WIDTH), (b, p, WIDTH))
    )
    prompt_mask, image_mask = np.ones((b, r, s), bool), np.ones((b, p), bool)
    prompt_mask[0, 1, 2:] = image_mask[1, 4:] = False
    theirs = torch_layer()
    ours = DecoderLayer(WIDTH, HEADS, MLP)
    variables = {"params": converted(theirs)}

    @jax.jit
    def run(x, prompts, image):
        joined = jnp.concatenate([prompts.reshape(b, r * s, WIDTH), image], axis=1)
        memory = ours.apply(variables, joined, r, s, method="project")
        return ours.apply(variables, x, memory, prompt_mask, image_mask)

    out = np.asarray(run(x, prompts, image))
    causal = torch.nn.Transformer.generate_square_subsequent_mask(t) < 0
    for i in range(r):
        memory = torch.from_numpy(np.concatenate([prompts[:, i], image], axis=1))
        masked = torch.from_numpy(~np.concatenate([prompt_mask[:, i], image_mask], axis=1))
        with torch.no_grad():
            expected = theirs(torch.from_numpy(x[:, i]), memory, tgt_mask=causal, memory_key_padding_mask=masked)
        np.testing.assert_allclose(out[:, i], expected.numpy(), atol=1e-5)


def test_cached_decoding_equals_teacher_forcing_token_by_token(make_small, make_batch):
    small, batch = make_small(), make_batch()
    expected = np.asarray(small(batch).token_logits)
    memory = small.encode(batch)
    cache = small.model.init_cache(memory, 1, 5)
    for t in range(5):
        logits, cache = small.step(memory, cache, batch.target[:, 1:, t : t + 1], t)
        np.testing.assert_allclose(logits[:, :, 0], expected[:, :, t], atol=1e-5)


def test_beams_do_not_see_one_another(make_small, make_batch):
    small = make_small()
    first, second = make_batch(0), make_batch(1)
    memory = small.encode(first)
    second.image, second.prompt = first.image, first.prompt
    expected = [np.asarray(small(b).token_logits) for b in (first, second)]
    cache = small.model.init_cache(memory, 2, 8)  # longer than the targets: what is not yet written is not seen
    for t in range(5):
        tokens = np.stack([first.target[:, 1:, t], second.target[:, 1:, t]], axis=-1)
        logits, cache = small.step(memory, cache, tokens, t)
        for beam in range(2):
            np.testing.assert_allclose(logits[:, :, beam], expected[beam][:, :, t], atol=1e-5)


def test_a_beam_is_reordered_along_axis_2_of_every_cache_array(make_small, make_batch):
    small, batch = make_small(), make_batch()
    memory = small.encode(batch)
    tokens = np.stack([batch.target[:, 1:, 0], batch.target[:, 1:, 1]], axis=-1)
    _, cache = small.step(memory, small.model.init_cache(memory, 2, 4), tokens, 0)
    swapped = jax.tree.map(lambda a: a[:, :, ::-1], cache)
    follow = np.full_like(tokens, 7)
    straight, _ = small.step(memory, cache, follow, 1)
    reversed_, _ = small.step(memory, swapped, follow, 1)
    np.testing.assert_allclose(straight, np.asarray(reversed_)[:, :, ::-1], atol=1e-6)
    assert not np.allclose(straight[:, :, 0], straight[:, :, 1])


def test_the_cache_is_empty_typed_and_needs_no_parameters(make_small, make_batch):
    small = make_small()
    memory = small.encode(make_batch())
    cache = small.model.init_cache(memory, 3, 4)
    bound = small.model.apply({"params": small.params}, memory, 3, 4, method="init_cache")
    assert [k.shape for k in cache.keys] == [(3, 3, 3, 4, 4, 4)] * 2
    assert jax.tree.structure(cache) == jax.tree.structure(bound)
    assert {leaf.dtype for leaf in jax.tree.leaves(cache)} == {jnp.dtype("float32")}
    assert not any(leaf.any() for leaf in jax.tree.leaves(cache))


def test_memory_holds_the_image_once_a_frame(make_small, make_batch):
    memory = make_small().encode(make_batch())
    layer = memory.layers[0]
    assert layer.image_keys.shape == (3, 5, 4, 4), "[B, P, N, H]: no axis of tasks"
    assert layer.prompt_keys.shape == (3, 3, 7, 4, 4)
