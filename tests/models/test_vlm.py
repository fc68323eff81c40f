"""The whole model: what each output may depend on, ablations, subsets of tasks, remat and scan."""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.config.schema import DecoderConfig
from vlm_jax.contract import TASKS

ONE_LAYER = DecoderConfig(layers=1, heads=4, mlp=24, positions=12)
"""Half of what the gradient of the plain model takes to compile."""


def changed(batch: Any, **fields: Any) -> Any:
    other = copy.copy(batch)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def other_prompt(batch: Any, row: int) -> Any:
    prompt = batch.prompt.copy()
    prompt[:, row] = np.random.default_rng(9).integers(1, 50, prompt[:, row].shape)
    return changed(batch, prompt=prompt)


def same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


def test_shapes_and_dtypes(make_small, make_batch):
    out = make_small()(make_batch())
    assert (out.landmark_logits.shape, out.landmark_logits.dtype) == ((3, 5), jnp.float32)
    assert (out.token_logits.shape, out.token_logits.dtype) == ((3, 3, 5, 56), jnp.float32)


def test_no_prompt_changes_another_output_bit_for_bit(make_small, make_batch):
    """Describe shares the landmarks row (0); row 1 is read by nobody."""
    small, batch = make_small(), make_batch()
    before = small(batch)
    for row, moves in ((0, (True, True, False, False)), (1, (False,) * 4), (2, (False, False, True, False)),
                       (3, (False, False, False, True))):  # fmt: skip
        after = small(other_prompt(batch, row))
        assert same(before.landmark_logits, after.landmark_logits) != moves[0], f"row {row}, landmarks"
        for r in range(3):
            equal = same(before.token_logits[:, r], after.token_logits[:, r])
            assert equal != moves[r + 1], f"row {row}, {TASKS[r + 1]}"


def test_targets_reach_only_their_own_later_positions(make_small, make_batch):
    small, batch = make_small(), make_batch()
    before = small(batch)
    target = batch.target.copy()
    target[:, 2, 3] = (target[:, 2, 3] + 1) % 50  # anticipate, token 3
    after = small(changed(batch, target=target))
    assert same(before.landmark_logits, after.landmark_logits)
    assert same(before.token_logits[:, ::2], after.token_logits[:, ::2])
    assert same(before.token_logits[:, 1, :3], after.token_logits[:, 1, :3])
    assert not np.allclose(before.token_logits[:, 1, 3:], after.token_logits[:, 1, 3:])


def test_the_last_target_token_is_never_read(make_small, make_batch):
    small, batch = make_small(), make_batch()
    target = batch.target.copy()
    target[..., -1] = 0
    assert same(small(batch).token_logits, small(changed(batch, target=target)).token_logits)


def test_examples_do_not_see_one_another(make_small, make_batch):
    small, batch = make_small(), make_batch()
    image = batch.image.copy()
    image[1] = 0
    before, after = small(batch), small(changed(batch, image=image))
    assert same(before.landmark_logits[::2], after.landmark_logits[::2])
    assert same(before.token_logits[::2], after.token_logits[::2])
    assert not np.allclose(before.landmark_logits[1], after.landmark_logits[1])


def test_padding_of_a_prompt_is_not_seen(make_small, make_batch):
    """The same prompt with two more columns of padding gives the same outputs."""
    small, batch = make_small(), make_batch()
    short = changed(batch, prompt=np.where(np.arange(7) < 5, batch.prompt, 0))
    wide = changed(batch, prompt=np.pad(short.prompt, ((0, 0), (0, 0), (0, 2))))
    a, b = small(short), small(wide)
    np.testing.assert_allclose(a.landmark_logits, b.landmark_logits, atol=1e-5)
    np.testing.assert_allclose(a.token_logits, b.token_logits, atol=2e-5)


@pytest.mark.parametrize("fusion", ["cross_attention", "concat", "pooled"])
def test_no_image_is_independent_of_the_image(make_small, make_batch, fusion):
    small, batch = make_small(no_image=True, fusion=fusion), make_batch()
    mask = np.zeros_like(batch.frame_mask)
    before = small(batch)
    after = small(changed(batch, image=255 - batch.image, frame_mask=mask))
    assert same(before.landmark_logits, after.landmark_logits)
    assert same(before.token_logits, after.token_logits)
    full = make_small(fusion=fusion)
    assert jax.tree.map(jnp.shape, small.params) == jax.tree.map(jnp.shape, full.params), "sizes unchanged"
    moved = full(changed(batch, image=255 - batch.image))
    assert not np.allclose(full(batch).landmark_logits, moved.landmark_logits)
    assert not np.allclose(full(batch).token_logits, moved.token_logits)


@pytest.mark.parametrize("fusion", ["cross_attention", "concat"])
def test_an_ablated_modality_shows_one_token(make_small, make_batch, fusion):
    """More copies of one embedding say no more, and would outvote the other modality in the decoder's softmax."""
    batch = make_batch()
    blind, full = make_small(no_image=True, fusion=fusion), make_small(fusion=fusion)
    absent = full(changed(batch, frame_mask=np.zeros_like(batch.frame_mask)))
    np.testing.assert_allclose(blind(batch).token_logits, absent.token_logits, atol=1e-5)  # records without an image
    for small in (blind, make_small(no_text=True, fusion=fusion)):
        memory = small.model.apply(
            {"params": small.params}, batch.image, batch.frame_mask, batch.prompt, method="encode"
        )
        mask = memory.image_mask if small is blind else memory.prompt_mask
        np.testing.assert_array_equal(np.asarray(mask).sum(-1), 1)


@pytest.mark.parametrize("fusion", ["cross_attention", "concat", "pooled"])
def test_no_text_is_independent_of_the_prompts_and_of_their_length(make_small, make_batch, fusion):
    small, batch = make_small(no_text=True, fusion=fusion), make_batch()
    prompt = np.zeros_like(batch.prompt)
    prompt[..., :2] = 3
    before, after = small(batch), small(changed(batch, prompt=prompt))
    assert same(before.landmark_logits, after.landmark_logits)
    assert same(before.token_logits, after.token_logits)
    full = make_small(fusion=fusion)
    assert jax.tree.map(jnp.shape, small.params) == jax.tree.map(jnp.shape, full.params), "sizes unchanged"
    moved = full(changed(batch, prompt=prompt))
    assert not np.allclose(full(batch).landmark_logits, moved.landmark_logits)
    assert not np.allclose(full(batch).token_logits, moved.token_logits)


def test_an_absent_image_is_the_null_embedding_not_the_pixels(make_small, make_batch):
    small, batch = make_small(), make_batch()
    mask = batch.frame_mask.copy()
    mask[1] = False
    absent = changed(batch, frame_mask=mask)
    other = batch.image.copy()
    other[1] = 255 - other[1]
    a, b = small(absent), small(changed(absent, image=other))
    assert same(a.landmark_logits, b.landmark_logits)
    assert same(a.token_logits, b.token_logits)
    assert np.isfinite(np.asarray(a.token_logits)).all()
    null = {**small.params, "null_image": small.params["null_image"][::-1]}
    moved = small(absent, null)
    assert not np.allclose(a.landmark_logits[1], moved.landmark_logits[1])
    assert same(a.landmark_logits[0], moved.landmark_logits[0])


def test_without_an_image_one_null_token_is_seen_and_it_is_a_patch(make_small, make_batch):
    """As many as a frame has would outvote the prompt in the decoder's softmax, and say no more."""
    small, two = make_small(), make_batch(frames=2)
    mask = two.frame_mask.copy()
    mask[1] = False
    seen = np.asarray(small.encode(changed(two, frame_mask=mask)).image_mask)
    assert seen[0].all() and seen[1].sum() == 1
    assert seen[1].reshape(2, 5)[0, -1]  # not the class token, which the landmark head leaves out


def test_frames_side_by_side(make_small, make_batch):
    """A missing frame beside a real one is not seen at all; two frames differ from one."""
    small, two = make_small(), make_batch(frames=2)
    mask = two.frame_mask.copy()
    mask[:, 1] = False
    first = changed(two, frame_mask=mask)
    one = changed(two, image=two.image[:, :1], frame_mask=mask[:, :1])
    np.testing.assert_allclose(small(first).landmark_logits, small(one).landmark_logits, atol=1e-5)
    np.testing.assert_allclose(small(first).token_logits, small(one).token_logits, atol=2e-5)
    assert not np.allclose(small(two).landmark_logits, small(one).landmark_logits)
    assert small.encode(two).image_mask.shape == (3, 10)


def test_pooled_leaves_the_decoder_one_vector_a_modality(make_small, make_batch):
    batch = make_batch()
    pooled = make_small(fusion="pooled").encode(batch)
    assert pooled.prompt_mask.shape == (3, 3, 1)
    assert pooled.image_mask.shape == (3, 1)
    concat = make_small(fusion="concat")
    assert concat.encode(batch).prompt_mask.shape == (3, 3, 7)
    assert not {"text_to_image", "image_to_text"} & set(concat.params)


@pytest.mark.parametrize(
    ("tasks", "missing"),
    [
        (("landmarks",), {"decoder", "text_to_image", "token_bias", "image_projection"}),
        (("report",), {"landmark_head", "image_to_text"}),
        (("describe", "anticipate"), {"landmark_head", "image_to_text"}),
    ],
)
def test_a_subset_of_tasks_answers_as_the_whole_does(make_small, make_batch, tasks, missing):
    """With the same parameters; what no task needs has none."""
    full, part, batch = make_small(), make_small(tasks), make_batch()
    assert set(full.params) - set(part.params) == missing
    params = {name: full.params[name] for name in part.params}
    expected, out = full(batch), part(batch, params)
    assert part.model.text_tasks == tuple(t for t in tasks if t != "landmarks")
    if "landmarks" in tasks:
        np.testing.assert_allclose(out.landmark_logits, expected.landmark_logits, atol=1e-5)
        assert out.token_logits is None
        assert part.encode(batch).layers == ()
    else:
        assert out.landmark_logits is None
        rows = [TASKS.index(t) - 1 for t in tasks]
        np.testing.assert_allclose(out.token_logits, np.asarray(expected.token_logits)[:, rows], atol=2e-5)


def test_padded_vocabulary_is_masked_and_gets_no_gradient(make_small, make_batch):
    small, batch = make_small(), make_batch()
    logits = np.asarray(small(batch).token_logits)
    assert (logits[..., 50:] <= -1e9).all()
    assert (np.abs(logits[..., :50]) < 1e3).all()
    assert np.asarray(jax.nn.softmax(logits))[..., 50:].max() == 0.0


def stacked(params: dict) -> dict:
    """Unrolled encoder parameters as a scanned stack has them."""
    out = dict(params)
    for name in ("image_encoder", "text_encoder"):
        blocks = params[name]["blocks"]
        layers = [blocks[f"layer_{i}"] for i in range(len(blocks))]
        out[name] = {**params[name], "blocks": {"layers": jax.tree.map(lambda *x: jnp.stack(x), *layers)}}
    return out


def test_remat_and_scan_change_nothing(make_small, make_batch):
    """The encoders' stacks have their own test, with more layers, in test_encoders.py."""
    plain, batch = make_small(decoder=ONE_LAYER), make_batch()
    other = make_small(remat=True, scan_layers=True, decoder=ONE_LAYER)
    value, gradient = plain.gradient(batch)
    params = stacked(plain.params)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, other.params)
    other_value, other_gradient = other.gradient(batch, params)
    np.testing.assert_allclose(value, other_value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4), stacked(gradient), other_gradient)


def test_every_parameter_learns(make_small, make_batch):
    """With one image absent, only the null text of a model that has its text gets no gradient."""
    small, batch = make_small(decoder=ONE_LAYER), make_batch()
    mask = batch.frame_mask.copy()
    mask[1] = False
    _, gradient = small.gradient(changed(batch, frame_mask=mask))
    still = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_flatten_with_path(gradient)[0]
        if np.abs(leaf).max() < 1e-7
    }
    still = {name for name in still if not name.endswith("/key/bias")}  # a constant on all scores of a query
    assert still == {"null_text"}


def test_separate_reads_landmarks_off_the_image_alone(make_small, make_batch):
    """EndoViT's head: a prompt moves no landmark, the image moves landmarks and text, and the bias starts as told."""
    small, batch = make_small(fusion="separate", head_bias=-2.0), make_batch()
    before, after = small(batch), small(other_prompt(batch, 0))
    assert same(before.landmark_logits, after.landmark_logits)
    assert not same(before.token_logits[:, 0], after.token_logits[:, 0])
    after = small(changed(batch, image=batch.image[::-1].copy()))
    assert not same(before.landmark_logits, after.landmark_logits)
    assert not same(before.token_logits, after.token_logits)
    assert not {"image_to_text", "text_to_image"} & small.params.keys()
    fresh = small._init(jax.random.key(0))
    np.testing.assert_array_equal(fresh["landmark_head"]["linear"]["bias"], -2.0)
