"""The sequence baselines as systems: padding, cached decoding, beams, and what they refuse."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.config import schema
from vlm_jax.decoding.strategies import make_generate
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params
from vlm_jax.models.products import MASKED_LOGIT
from vlm_jax.parallel.partition import param_specs

N_TOKENS, TASKS = 23, ("describe", "anticipate")
KINDS = ("transformer", "lstm", "encoder_decoder")


def small(kind: str, system: str = "navigation_seq2seq", tasks: tuple[str, ...] = TASKS, **model: Any) -> schema.Config:
    network = schema.Seq2SeqConfig(kind=kind, width=16, layers=2, heads=4, mlp=24, bidirectional=kind == "lstm")
    return schema.Config(
        system=system,
        tasks=tasks,
        data=schema.DataConfig(image_size=16, prompt_length=6, target_length=6),
        model=schema.ModelConfig(seq2seq=network, vocab_size=24, **model),
    )


@pytest.fixture(scope="module", params=KINDS)
def made(request):
    """A model with random parameters and a batch with padding."""
    config = small(request.param)
    model: Any = build_model(config, 0, N_TOKENS)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_params(model, config, jax.random.key(0)))
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.4, leaf.shape), leaf.dtype), shapes)
    prompt = rng.integers(1, N_TOKENS, (2, 4, 6), dtype=np.int32)
    prompt[0, :, 3:] = 0
    images = np.zeros((2, 1, 16, 16, 3), np.uint8), np.zeros((2, 1), bool)
    target = rng.integers(1, N_TOKENS, (2, 4, 6), dtype=np.int32)
    apply = quick(lambda *batch: model.apply({"params": params}, *batch).token_logits)
    return SimpleNamespace(
        model=model, params=params, images=images, prompt=prompt, target=target, shapes=shapes, apply=apply
    )


def quick(fn: Any) -> Any:
    """Compiled without optimising: these models are called a few times."""
    return jax.jit(
        fn,
        compiler_options={
            "xla_backend_optimization_level": 0,
            "xla_llvm_disable_expensive_passes": True,
            "xla_cpu_use_fusion_emitters": False,
        },
    )


def logits(made, prompt=None, target=None) -> np.ndarray:
    given = (made.prompt if prompt is None else prompt, made.target if target is None else target)
    return np.asarray(made.apply(*made.images, *given))


def test_a_step_at_a_time_equals_the_whole_sequence(made):
    variables, rows = {"params": made.params}, [1, 2]
    whole = logits(made)
    memory = quick(lambda *batch: made.model.apply(variables, *batch, method="encode"))(*made.images, made.prompt)
    cache = made.model.init_cache(memory, 2, 6)
    assert all(leaf.shape[:3] == (2, 2, 2) for leaf in jax.tree.leaves(cache))
    step = quick(lambda cache, tokens, t: made.model.apply(variables, memory, cache, tokens, t, method="decode_step"))
    for t in range(5):
        said, cache = step(cache, np.repeat(made.target[:, rows, t, None], 2, axis=2), t)
        np.testing.assert_allclose(said[:, :, 0], whole[:, :, t], atol=1e-5)
        np.testing.assert_array_equal(said[:, :, 0], said[:, :, 1])
    assert (whole[..., N_TOKENS:] == MASKED_LOGIT).all()  # what pads the vocabulary


def test_neither_padding_nor_what_comes_later_is_read(made):
    base = logits(made)
    shorter = logits(made, made.prompt[:, :, :3])  # the first row has no more than three words
    np.testing.assert_allclose(shorter[0], base[0], atol=1e-5)
    assert np.abs(shorter[1] - base[1]).max() > 1e-3
    later = made.target.copy()
    later[:, :, 3] = 1 + later[:, :, 3] % (N_TOKENS - 1)
    changed = logits(made, target=later)
    np.testing.assert_allclose(changed[:, :, :3], base[:, :, :3], atol=1e-6)
    assert np.abs(changed[:, :, 3] - base[:, :, 3]).max() > 1e-3


def test_a_wide_beam_finds_the_most_probable_of_all_sentences(made):
    """Every sentence of two words is scored by the whole sequence: hypotheses must have taken their states along."""
    words, eos, task_ids = range(5, 9), 3, {"describe": 1, "anticipate": 2}
    allowed = np.zeros(N_TOKENS, bool)
    allowed[[*words, eos]] = True
    options = {"length": 3, "eos_id": eos, "task_ids": task_ids, "allowed": allowed, "length_penalty": 0.0}
    found = make_generate(made.model, "beam", beam=8, decay=0.3, **options)(made.params, *made.images, made.prompt)
    candidates = [(eos, 0), *((a, b) for a in words for b in (eos, *words))]
    target = np.zeros((len(candidates), 4, 3), np.int32)
    target[:, 1, 0], target[:, 2, 0] = 1, 2
    target[:, :, 1:] = np.array(candidates)[:, None]
    both = tuple(np.repeat(part, len(candidates), axis=0) for part in (*made.images, made.prompt))
    out = np.array(made.apply(*both, np.tile(target, (2, 1, 1))))[..., :N_TOKENS]
    every = np.array(jax.nn.log_softmax(np.where(allowed, out, -1e30), axis=-1))
    for b, log_probs in enumerate(np.split(every, 2)):
        for r in range(2):
            said = [log_probs[i, r, 0, first] for i, (first, _) in enumerate(candidates)]
            then = [np.exp(-0.3) * log_probs[i, r, 1, c] if c else 0.0 for i, (_, c) in enumerate(candidates)]
            best = candidates[int(np.argmax(np.array(said) + np.array(then)))]
            assert tuple(np.asarray(found.tokens)[b, r, 1:]) == best


def test_every_parameter_has_one_place_on_a_mesh(made):
    param_specs(made.shapes)


def test_dropout_is_on_in_training_only():
    config = small("lstm", dropout=0.5)
    model: Any = build_model(config, 0, N_TOKENS)
    params = quick(lambda key: init_params(model, config, key))(jax.random.key(0))
    batch = (np.zeros((1, 1, 16, 16, 3), np.uint8), np.zeros((1, 1), bool), *(np.ones((1, 4, 6), np.int32),) * 2)

    def outputs(train: bool) -> Any:
        rngs = {"dropout": jax.random.key(1)}
        return quick(lambda p: model.apply({"params": p}, *batch, train=train, rngs=rngs).token_logits)(params)

    still, dropped = outputs(False), outputs(True)
    assert np.abs(still - dropped).max() > 1e-4


@pytest.mark.parametrize(
    ("system", "tasks", "line"),
    [
        ("navigation_seq2seq", ("describe", "landmarks"), "asks navigation_seq2seq for landmarks"),
        ("keyword_report", ("anticipate",), "set --config.tasks=report"),
    ],
)
def test_a_task_that_it_has_not_is_refused(system, tasks, line):
    with pytest.raises(UserError, match=line):
        build_model(small("lstm", system, tasks), 0, N_TOKENS)


def test_learned_positions_are_parameters():
    config = schema.Config(
        system="navigation_seq2seq",
        tasks=("anticipate",),
        data=schema.DataConfig(image_size=16, prompt_length=6, target_length=9),
        model=schema.ModelConfig(seq2seq=schema.Seq2SeqConfig(width=16, heads=2, mlp=8, positions="learned")),
    )
    model = build_model(config, 0, N_TOKENS)
    shapes = jax.eval_shape(lambda: init_params(model, config, jax.random.key(0)))
    assert shapes["network"]["position_embedding"].shape == (9, 16)
    param_specs(shapes)
