"""The real model: cached decoding against the teacher-forced pass, token for token; and `System` on top of it."""

from __future__ import annotations

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.config.load import load_config
from vlm_jax.contract import END, TASKS, Batch, LabelSpace
from vlm_jax.decoding import system as system_module
from vlm_jax.decoding.constraints import FORBIDDEN, vocabulary_mask
from vlm_jax.decoding.strategies import make_generate
from vlm_jax.decoding.system import System, cast
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params
from vlm_jax.text.tokenizer import Tokenizer

TEXTS = ["the septum is in view at the centre", "a polyp fills the middle meatus", "no pus in the left nostril"]
LENGTH = 8


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, 80)


@pytest.fixture(scope="module")
def config():
    """Encoders of one layer, for the compiler's time is the test's time; the decoder keeps its own."""
    sizes = {"data.target_length": LENGTH, "data.prompt_length": 12, "model.region_width": 8,
             "model.image_encoder.layers": 1, "model.text_encoder.layers": 1}  # fmt: skip
    return load_config("configs/vlm.py:micro", {key: str(value) for key, value in sizes.items()})


@pytest.fixture(scope="module")
def labels():
    return LabelSpace(("fess/septum", "fess/polyp"))


def fresh(model, config):
    return jax.jit(lambda key: init_params(model, config, key))(jax.random.key(0))


@pytest.fixture(scope="module")
def parts(config, tokenizer, labels):
    model = build_model(config, len(labels), tokenizer.size)
    params = fresh(model, config)
    # Fresh parameters answer everything alike: larger ones make sentences differ between rows and tasks.
    params = jax.tree.map(lambda x: x * 2.5 if x.ndim > 1 else x, params)
    return model, params


@pytest.fixture(scope="module")
def system(parts, tokenizer, config, labels):
    return System.from_parts(config, parts[1], tokenizer, labels, {"fess/septum": 0.3}, model=parts[0])


def make_batch(config, tokenizer, n=3, seed=0):
    rng = np.random.default_rng(seed)
    side, k = config.data.image_size, len(TASKS)
    prompt = rng.integers(len(FORBIDDEN), tokenizer.size, (n, k, config.data.prompt_length)).astype(np.int32)
    return Batch(
        image=rng.integers(0, 256, (n, 1, side, side, 3), dtype=np.uint8),
        frame_mask=np.ones((n, 1), bool),
        landmarks=np.zeros((n, 2), np.int8),
        landmarks_mask=np.zeros((n, 2), bool),
        prompt=prompt,
        target=np.zeros((n, k, config.data.target_length), np.int32),
        task_mask=np.zeros((n, k), bool),
        valid=np.ones(n, bool),
        uid=np.arange(n, dtype=np.int32),
    )


@pytest.fixture(scope="module")
def generate(parts, tokenizer):
    """generate(batch, strategy, beam=...) -> texts of the model of `parts`: each way to decode is compiled once."""
    model, params = parts
    words = {"length": LENGTH, "eos_id": tokenizer.eos_id}
    words["task_ids"] = {t: tokenizer.task_id(t) for t in model.text_tasks}
    make = functools.cache(lambda strategy, **kwargs: make_generate(model, strategy, **words, **kwargs))

    def call(batch, strategy="greedy", **kwargs):
        fn = make(strategy, **kwargs)
        return jax.tree.map(np.asarray, fn(params, batch.image, batch.frame_mask, batch.prompt))

    return call


@pytest.fixture(scope="module")
def apply(parts):
    """apply(batch, target) -> Outputs, teacher-forced."""
    model, params = parts
    # The parameters are an argument, not constants that the compiler computes with.
    fn = jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs))
    return lambda batch, target: fn(params, batch.image, batch.frame_mask, batch.prompt, target)


def test_greedy_cached_equals_uncached(parts, tokenizer, config, generate, apply):
    model, _ = parts
    batch = make_batch(config, tokenizer)
    out = generate(batch)

    slots = [TASKS.index(t) for t in model.text_tasks]
    target = np.zeros_like(batch.target)
    target[:, slots, 0] = [tokenizer.task_id(t) for t in model.text_tasks]
    total = np.zeros(out.scores.shape)
    count = np.zeros(out.scores.shape)
    for t in range(LENGTH - 1):
        outputs = apply(batch, target)
        log_probs = np.asarray(jax.nn.log_softmax(outputs.token_logits))[:, :, t]
        ended = (target[:, slots, 1:] == tokenizer.eos_id).any(-1)
        token = np.where(ended, 0, log_probs.argmax(-1))
        target[:, slots, t + 1] = token
        total += np.where(ended, 0, log_probs.max(-1))
        count += ~ended
    np.testing.assert_array_equal(out.tokens, target[:, slots])
    np.testing.assert_allclose(out.scores, total / count, atol=1e-4)
    np.testing.assert_allclose(out.landmark_logits, np.asarray(outputs.landmark_logits), atol=1e-4)
    np.testing.assert_allclose(out.region_logits, np.asarray(outputs.region_logits), atol=1e-4)
    assert len({tuple(row) for row in out.tokens[..., 1:].reshape(-1, LENGTH - 1)}) > 3


def test_beams_scores_equal_the_teacher_forced_ones(parts, tokenizer, config, generate, apply):
    """If a beam kept another hypothesis's cache, its scores would not be those of its tokens."""
    model, _ = parts
    batch = make_batch(config, tokenizer, seed=1)
    out = generate(batch, "beam", beam=4)
    greedy = generate(batch)
    slots = [TASKS.index(t) for t in model.text_tasks]
    target = np.zeros_like(batch.target)
    target[:, slots] = out.tokens
    logits = apply(batch, target).token_logits
    log_probs = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), out.tokens[:, :, 1:, None], -1)[..., 0]
    ends = np.cumsum(out.tokens[..., 1:] == tokenizer.eos_id, -1) - (out.tokens[..., 1:] == tokenizer.eos_id)
    mean = np.where(ends == 0, log_probs, 0).sum(-1) / (ends == 0).sum(-1)
    np.testing.assert_allclose(out.scores, mean, atol=1e-4)
    np.testing.assert_array_equal(out.region_logits, greedy.region_logits)
    assert (out.tokens != greedy.tokens).any()
    assert (out.scores >= greedy.scores - 1e-4).mean() > 0.8


def test_vocabulary_mask_bans_specials_and_keeps_end_for_anticipate(tokenizer):
    mask = vocabulary_mask(tokenizer, ("describe", "anticipate", "report"))
    assert not mask[:, [tokenizer.id(t) for t in FORBIDDEN]].any()
    assert mask[:, tokenizer.id(END)].tolist() == [False, True, False]
    assert mask[:, tokenizer.eos_id].all()
    assert mask[:, len(FORBIDDEN) + 2 :].all()


def test_predict_gives_probabilities_texts_and_scores(system, tokenizer, config):
    batch = make_batch(config, tokenizer)
    raw = system.predict(batch)
    out = system.generate(system.params, batch.image, batch.frame_mask, batch.prompt)
    np.testing.assert_allclose(raw.probabilities, np.asarray(jax.nn.sigmoid(out.landmark_logits)), atol=1e-6)
    np.testing.assert_allclose(raw.shares, np.asarray(jax.nn.sigmoid(out.region_logits)), atol=1e-6)
    assert set(raw.texts) == {"describe", "anticipate", "report"}
    for r, task in enumerate(system.model.text_tasks):
        tokens = np.asarray(out.tokens[:, r])
        assert (tokens[:, 0] == tokenizer.task_id(task)).all()
        assert raw.texts[task] == [system.text(row) for row in tokens]
        np.testing.assert_array_equal(raw.scores[task], np.asarray(out.scores[:, r]))
        forbidden = [tokenizer.id(t) for t in FORBIDDEN if t != "[PAD]"]
        assert not np.isin(tokens[:, 1:], forbidden).any()


def test_with_params_shares_the_compiled_function(system, tokenizer, config):
    other = system.with_params(jax.tree.map(lambda x: x * 0.5, system.params))
    assert other.generate is system.generate and other.thresholds == {"fess/septum": 0.3}
    batch = make_batch(config, tokenizer)
    assert not np.allclose(system.predict(batch).probabilities, other.predict(batch).probabilities)
    assert system.generate._cache_size() == 1


@pytest.mark.parametrize("asked", [("report",), ("report", "describe")])
def test_a_part_of_the_tasks_is_answered_as_among_all(system, tokenizer, config, asked):
    batch = make_batch(config, tokenizer)
    whole, part = system.predict(batch), system.predict(batch, asked)
    assert set(part.texts) == set(part.scores) == set(asked) and part.probabilities is None
    for task in asked:
        assert part.texts[task] == whole.texts[task] and len(set(whole.texts[task])) > 1
        np.testing.assert_allclose(part.scores[task], whole.scores[task], atol=1e-5)
    part_function = system.narrow[tuple(t for t in system.model.text_tasks if t in asked)]
    assert system.with_params(system.params).predict(batch, asked).texts == part.texts
    assert part_function._cache_size() == 1


@pytest.mark.parametrize(("decode", "strategy"), [("greedy", "greedy"), ("beam", "beam"), ("mbr", "mbr")])
def test_the_config_says_how_to_decode(monkeypatch, parts, tokenizer, config, labels, decode, strategy):
    seen = {}
    monkeypatch.setattr(system_module, "make_generate", lambda *args, **kwargs: seen.update(kwargs, strategy=args[1]))
    settings = dataclasses.replace(config.eval, decode=decode, beam=3, beam_decay=0.2, beam_length_penalty=0.6)
    settings = dataclasses.replace(settings, samples=5, temperature=0.7)
    System.from_parts(dataclasses.replace(config, eval=settings), parts[1], tokenizer, labels, model=parts[0])
    assert seen["strategy"] == strategy and seen["length"] == LENGTH and seen["eos_id"] == tokenizer.eos_id
    assert (seen["beam"], seen["decay"], seen["length_penalty"]) == (3, 0.2, 0.6)
    assert (seen["samples"], seen["temperature"]) == (5, 0.7)
    assert seen["task_ids"] == {t: tokenizer.task_id(t) for t in ("describe", "anticipate", "report")}
    assert seen["allowed"].shape == (3, tokenizer.size)


@pytest.mark.parametrize(("tasks", "texts"), [(("landmarks",), set()), (("report",), {"report"})])
def test_systems_with_a_part_of_the_tasks(tokenizer, config, labels, tasks, texts):
    config = dataclasses.replace(config, tasks=tasks)
    params = fresh(build_model(config, 2, tokenizer.size), config)
    raw = System.from_parts(config, params, tokenizer, labels).predict(make_batch(config, tokenizer))
    assert set(raw.texts) == texts
    assert (raw.probabilities is None) == ("landmarks" not in tasks)


def test_landmarks_alone_are_those_of_the_whole_and_compile_once_a_system(system, tokenizer, config):
    batch = make_batch(config, tokenizer)
    np.testing.assert_allclose(system.probabilities(batch), system.predict(batch).probabilities, atol=1e-6)
    found, shares = system.places(batch)
    np.testing.assert_array_equal(found, system.probabilities(batch))
    np.testing.assert_allclose(shares, system.predict(batch).shares, atol=1e-6)
    again = system.with_params(system.params)
    assert again.encode is system.encode and again.generate is system.generate


def test_end_token_first_reads_end(system, tokenizer):
    task, end, eos = tokenizer.task_id("anticipate"), tokenizer.id(END), tokenizer.eos_id
    words = tokenizer.encode("a polyp fills")
    row = lambda *ids: np.array([task, *ids] + [0] * (LENGTH - 1 - len(ids)))  # noqa: E731
    assert system.text(row(end, eos)) == END
    assert system.text(row(end, *words, eos)) == END
    assert system.text(row(*words, eos)) == "a polyp fills"
    assert system.text(row(*words[:1], end, eos)) != END
    assert system.text(row(eos, *words)) == ""


def test_from_checkpoint(monkeypatch, system, tokenizer, config, labels):
    params = system.params
    meta = SimpleNamespace(
        config=config, labels=labels.names, tokenizer=tokenizer.to_json(), thresholds={"fess/septum": None},
        sources={}, metrics={"loss": 1.0}, versions={}, calibration={}, clauses=(), inherited=(),
    )  # fmt: skip
    restored = SimpleNamespace(params=jax.tree.map(np.asarray, params), meta=meta, step=7)
    monkeypatch.setattr(system_module, "restore_for_inference", lambda path, step: restored)
    batch = make_batch(config, tokenizer)
    here, there = system.predict(batch), System.from_checkpoint("somewhere")
    assert there.meta["step"] == 7 and there.thresholds == {"fess/septum": None}
    np.testing.assert_array_equal(there.predict(batch).probabilities, here.probabilities)
    assert there.predict(batch).texts == here.texts

    half = System.from_checkpoint("somewhere", dtype="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(half.params)} == {jnp.dtype("bfloat16")}
    assert half.model.dtype == jnp.bfloat16

    with pytest.raises(UserError, match="float32, bfloat16"):
        System.from_checkpoint("somewhere", dtype="int8")
    restored.params["landmark_head"] = {}
    with pytest.raises(UserError, match="is missing in the checkpoint"):
        System.from_checkpoint("somewhere")


def test_cast_leaves_integers():
    tree = cast({"a": np.ones(2, np.float32), "b": np.arange(2)}, "bfloat16")
    assert tree["a"].dtype == jnp.bfloat16 and tree["b"].dtype == np.arange(2).dtype


def test_rows_of_other_processes_are_gathered(monkeypatch):
    class Elsewhere(np.ndarray):
        is_fully_addressable = False

    monkeypatch.setattr(system_module.multihost_utils, "process_allgather", lambda x, tiled: np.concatenate([x, x]))
    far, near = system_module.to_host((np.ones((2, 3)).view(Elsewhere), jnp.zeros(2)))
    assert far.shape == (4, 3) and near.shape == (2,)
