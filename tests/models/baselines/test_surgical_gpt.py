"""SurgicalGPT for many tasks: decoding equals the teacher-forced pass, tasks keep apart, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.config.load import load_config
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params

N_TOKENS, N_LANDMARKS, BEAMS = 50, 5, 2
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
SMALL = {
    "data.image_size": "32",
    "data.prompt_length": "7",
    "data.target_length": "6",
    "model.image_encoder.width": "32",
    "model.image_encoder.heads": "2",
    "model.image_encoder.layers": "1",
    "model.image_encoder.mlp": "64",
    "model.fusion_heads": "2",
    "model.gpt.width": "32",
    "model.gpt.head_width": "16",
    "model.backbone.width_factor": "0.125",
    "model.vocab_size": "56",
}


def small(mode: str, **overrides: str):
    config = load_config(f"configs/baselines/surgical_gpt.py:tiny,positions={mode}", {**SMALL, **overrides})
    model = build_model(config, N_LANDMARKS, N_TOKENS)
    abstract = jax.eval_shape(lambda key: init_params(model, config, key), jax.random.key(0))
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = jax.tree_util.keystr(path)
        noise = rng.normal(0.0, 0.2, leaf.shape).astype(np.float32)
        return 1.0 + np.abs(noise) if "scale" in name or "running_variance" in name else noise

    return model, jax.tree_util.tree_map_with_path(draw, abstract)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    prompt = rng.integers(1, N_TOKENS, (3, 4, 7), dtype=np.int32)
    prompt[0, :, 5:] = 0
    frame_mask = np.array([[True], [True], [False]])
    image = rng.integers(0, 256, (3, 1, 32, 32, 3), dtype=np.uint8)
    return image, frame_mask, prompt, rng.integers(1, N_TOKENS, (3, 4, 6), dtype=np.int32)


def call(model, params, *inputs, method=None):
    fn = jax.jit(lambda p, *a: model.apply({"params": p}, *a, method=method), compiler_options=QUICK)
    return fn(params, *inputs)


@pytest.mark.parametrize("mode, vision", [("none", "vit"), ("zero", "resnet18"), ("ordered", "vit")])
def test_cached_decoding_equals_the_teacher_forced_pass(mode, vision, batch):
    model, params = small(mode, **{"model.gpt.vision": vision})
    out = call(model, params, *batch)
    assert out.landmark_logits.shape == (3, N_LANDMARKS) and out.token_logits.shape == (3, 3, 5, 56)
    assert (out.token_logits[..., N_TOKENS:] < -1e8).all()
    memory = call(model, params, *batch[:3], method="encode")
    np.testing.assert_allclose(memory.landmark_logits, out.landmark_logits, atol=1e-5)
    cache = model.init_cache(memory, BEAMS, 6)
    assert {leaf.shape[:3] for leaf in jax.tree.leaves(cache)} == {(3, 3, BEAMS)}
    step = jax.jit(
        lambda p, m, c, t, i: model.apply({"params": p}, m, c, t, i, method="decode_step"), compiler_options=QUICK
    )
    for t in range(5):
        tokens = jnp.repeat(batch[3][:, 1:, None, t], BEAMS, axis=2)
        logits, cache = step(params, memory, cache, tokens, jnp.int32(t))
        for beam in range(BEAMS):
            np.testing.assert_allclose(logits[:, :, beam], out.token_logits[:, :, t], atol=1e-4)


def test_no_prompt_changes_the_answer_of_another_task(batch):
    model, params = small("zero", **{"model.gpt.vision": "vit"})
    image, frame_mask, prompt, target = batch
    before = call(model, params, *batch)
    other = prompt.copy()
    other[:, 3] = other[:, 3] % (N_TOKENS - 1) + 1
    after = call(model, params, image, frame_mask, other, target)
    np.testing.assert_array_equal(before.landmark_logits, after.landmark_logits)
    np.testing.assert_array_equal(before.token_logits[:, :2], after.token_logits[:, :2])
    assert not np.allclose(before.token_logits[:, 2], after.token_logits[:, 2])
    unseen = np.where(frame_mask[:, :, None, None, None], image, 255 - image)
    np.testing.assert_array_equal(
        call(model, params, unseen, *batch[1:]).token_logits, call(model, params, *batch).token_logits
    )


@pytest.mark.parametrize("ablation", ["no_text", "no_image"])
def test_an_ablated_modality_is_one_token_that_tells_nothing(ablation, batch):
    model, params = small("zero", **{"model.gpt.vision": "vit", f"model.{ablation}": "true"})
    image, frame_mask, prompt, target = batch
    other = (255 - image, ~frame_mask, prompt) if ablation == "no_image" else (image, frame_mask, prompt[:, ::-1])
    before, after = call(model, params, *batch), call(model, params, *other, target)
    np.testing.assert_array_equal(before.landmark_logits, after.landmark_logits)
    np.testing.assert_array_equal(before.token_logits, after.token_logits)
    memory = call(model, params, *batch[:3], method="encode")
    words = np.asarray(memory.mask).sum(-1) - np.asarray(memory.vision_mask).sum(-1)[:, None]
    seen = memory.vision_mask if ablation == "no_image" else words
    np.testing.assert_array_equal(np.asarray(seen).sum(-1) if ablation == "no_image" else seen, 1)


def test_sizes_that_do_not_fit_are_refused():
    for overrides, match in (
        ({"model.gpt.positions": "12"}, "need 13 positions, but config.model.gpt.positions is 12"),
        ({"model.vocab_size": "20"}, "vocab_size is 20, but the tokenizer has 50 words"),
        ({"model.scan_layers": "true"}, "surgical_gpt is not scanned"),
    ):
        with pytest.raises(UserError, match=match):
            small("zero", **overrides)
    with pytest.raises(UserError, match="unknown option 'positions=some'"):
        load_config("configs/baselines/surgical_gpt.py:tiny,positions=some")
